"""Arguments to frozen configurations: YAML files, dotted overrides, and one clear line for a mistake."""

from __future__ import annotations

import json
import re
from argparse import ArgumentError
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from llama_o1.errors import ConfigError, RunError

C = TypeVar("C")

set_parsing_settings(docstring_parse_attribute_docstrings=True)  # they become the help of each setting


def parser_of(command: str, description: str, config: type[object] | None = None) -> ArgumentParser:
    """A parser that reads `--config FILE` and every field of a configuration by dotted name."""
    parser = ArgumentParser(
        prog=f"llama-o1 {command}", description=description, exit_on_error=False, allow_abbrev=False
    )
    if config is not None:
        parser.add_argument(
            "--config", action="config", help="YAML file; may be given several times, later wins"
        )
        parser.add_class_arguments(config, as_group=False)
    return parser


def parse(parser: ArgumentParser, arguments: list[str]) -> Namespace:
    """The arguments as given; ConfigError with one line, naming the nearest key for an unknown one."""
    try:
        return parser.parse_args(_written_out(arguments))
    except ArgumentError as error:
        raise ConfigError(_one_line(str(error), parser)) from None


def build(config: type[C], given: Namespace) -> C:
    """The configuration of these arguments; ConfigError when a value is out of range."""
    builder = ArgumentParser(exit_on_error=False)
    builder.add_class_arguments(config, "it")
    given = Namespace(**{key: value for key, value in vars(given).items() if key != "config"})
    try:
        made: C = builder.instantiate(Namespace(it=given)).it
    except (ArgumentError, ValueError) as error:
        raise ConfigError(" ".join(str(error).split())) from None
    return made


def value_of(arguments: list[str], flag: str) -> str | None:
    """The last value given to a flag, before anything is parsed; None when it was not given."""
    found = None
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        if argument == flag:
            found = following
        elif argument.startswith(f"{flag}="):
            found = argument.partition("=")[2]
    return found


def nearest(word: str, known: Iterable[str]) -> str:
    """`, did you mean X?` for the closest known word, or nothing."""
    close = get_close_matches(word, list(known), n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def check_writable(*files: str | None) -> None:
    """RunError when the folder of a file that is to be written is not there; None stands for no file."""
    for file in files:
        if file is not None and not Path(file).resolve().parent.is_dir():
            raise RunError(f"cannot write {file}: there is no folder {Path(file).resolve().parent}")


def _written_out(arguments: list[str]) -> list[str]:
    """`--problems a,b` and `--engine.urls a,b` as the lists they are short for."""
    out: list[str] = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if equals and flag in _LISTS:
            out += [flag, _listed(flag, value)]
        elif out and out[-1] in _LISTS:
            out.append(_listed(out[-1], argument))
        else:
            out.append(argument)
    return out


def _listed(flag: str, value: str) -> str:
    if value.lstrip().startswith(("[", "{")):
        return value
    key = _LISTS[flag]
    words = [item.strip() for item in value.split(",") if item.strip()]
    items = [int(word) if key is None and word.lstrip("-").isdecimal() else word for word in words]
    return json.dumps(items if key is None else [{key: item} for item in items])


# Flags of lists, and the key that an item of each is short for.
_LISTS = {
    "--problems": "name",
    "--evaluation.problems": "name",
    "--engine.urls": None,
    "--trackers": None,
    "--methods": None,
    "--ablations": None,
    "--baselines": None,
    "--budgets": None,
    "--curriculum.budgets": None,
    "--folders": None,
    "--seeds": None,
    "--against": None,
    "--rules": None,
    "--solutions": None,
}
_UNKNOWN = (
    re.compile(r"unrecognized arguments: (?:--)?(?P<key>[\w.+-]+)"),
    re.compile(r"Option '(?P<key>[^']+)' is not accepted"),
    re.compile(r"Group '(?P<group>[^']+)' does not accept option '(?P<key>[^']+)'"),
    re.compile(r"[Kk]ey '(?P<key>[^']+)' is not expected"),
    re.compile(r"No action for key \W?(?P<key>[\w.]+)"),
    re.compile(r"Unrecognized option(?:s|\(s\))?:? '?(?P<key>[\w.]+)"),
)
_KEY = re.compile(r'Parser key "([^"]+)"')  # of a setting within another one there are several
_CHOICES = re.compile(r"Literal\[([^]]*)\]")
_TYPE = re.compile(r"Expected a <class '(\w+)'>")
_VALUE = re.compile(r"(?:Got|Given) value: (.*)", re.DOTALL)
_TYPE_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "tuple": "a list",
    "list": "a list",
    "dict": "settings by name",
    "NoneType": "null",
}


def _one_line(message: str, parser: ArgumentParser) -> str:
    """The parser's message in one line; an unknown key is named with the nearest known one."""
    for pattern in _UNKNOWN:
        match = pattern.search(message)
        if match is not None:
            group = match.groupdict().get("group")
            key = (f"{group}." if group else "") + match["key"].removesuffix("+")
            known = _keys(parser)
            first, dot, _ = key.partition(".")
            if dot and not _KEY.search(message) and not nearest(first, {n.partition(".")[0] for n in known}):
                return f"unknown setting {first!r}; `--help` lists the settings"  # of another command
            parts = {part for name in known for part in name.split(".")} | _SET_KEYS
            guess = nearest(key, known) or nearest(key.rpartition(".")[2], parts)
            return f"unknown setting {key!r}{guess or '; `--help` lists the settings'}"
    expected, value = _expected(message), _VALUE.search(message)
    if expected and value is not None:
        key = ".".join(_KEY.findall(message))
        return " ".join(f"{key} must be {expected}, got {value[1]}".split())
    return " ".join(message.split())


def _expected(message: str) -> str:
    """What a value should have been, in words; nothing where the message does not tell."""
    choices = _CHOICES.search(message)
    if choices is not None:
        return f"one of {choices[1]}".replace("'", "")
    types = _TYPE.findall(message)
    return " or ".join(_TYPE_WORDS.get(name, name) for name in dict.fromkeys(types))


_SET_KEYS = {"name", "weight", "min_steps", "max_steps", "limit"}


def _keys(parser: ArgumentParser) -> list[str]:
    return [action.dest for action in parser._actions if action.dest not in ("help", "print_config")]
