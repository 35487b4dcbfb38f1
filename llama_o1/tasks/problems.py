"""Where problems come from: built-in sets, generated ones, JSONL files and Hugging Face datasets.

The built-in sets are split by a hash of the question with names and the order of numbers taken out, so that
no held-out problem is a renaming or a reordering of a trained one.
"""

from __future__ import annotations

import difflib
import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

from llama_o1.errors import ProblemError
from llama_o1.tasks.generator import MAX_STEPS, generate
from llama_o1.tasks.hub import SPLIT_NAMES, Columns, Row, dataset_rows, is_hub_name, known_columns
from llama_o1.tasks.problem import AnswerKind, Problem
from llama_o1.tasks.split import SPLITS, split_of
from llama_o1.tasks.verify import declared_answer
from llama_o1.tasks.worked import worked_steps

STORED = ("gsm8k", "svamp", "game24", "aqua")
GENERATED = tuple(MAX_STEPS)
GENERATED_COUNT = 500  # problems of a generated set when no limit is given


class Loaded(NamedTuple):
    """Problems in the order of their source, and how many rows were left out as broken."""

    problems: list[Problem]
    num_skipped: int


class Source(NamedTuple):
    """How the rows of a set are read."""

    name: str  # without folders and endings
    split: str
    columns: Columns


def load_problems(
    name: str,
    *,
    split: str = "train",
    question_column: str = "question",
    answer_column: str = "answer",
    solution_column: str = "solution",
    limit: int | None = None,
    skip_bad_lines: bool = False,
) -> Loaded:
    r"""At most `limit` problems of a split.

    `name` is a built-in set (`gsm8k`, `svamp`, `game24`, `aqua`), a generated one (`word`, `chain`,
    `countdown`; always the same problems), a JSONL file (`.gz` too), a dataset folder, or a Hugging Face
    dataset `owner/name` or `owner/name:configuration`; the columns of some well-known ones are known
    (hub.py). A file or dataset without splits of its own belongs whole to
    every split; a row with a field `split` belongs to its own only. A gold answer like "... #### 72" or
    "\boxed{72}" is reduced to 72. Raises ProblemError for an unknown name, a missing file or split, and a
    broken row, unless `skip_bad_lines` counts it instead.
    """
    if split not in SPLITS:
        raise ProblemError(f"split must be one of train, dev, test, got {split!r}")
    if limit is not None and limit < 1:
        raise ProblemError(f"limit must be at least 1, got {limit}")
    if name in GENERATED:
        return Loaded(generate(name, split, limit or GENERATED_COUNT, 0, 1, MAX_STEPS[name]), 0)
    rows, source = rows_of(name, split, Columns(question_column, answer_column, solution_column))
    return _collect(rows, source, limit, skip_bad_lines)


def rows_of(name: str, split: str, columns: Columns) -> tuple[Iterator[Row], Source]:
    """The rows of a set that is stored, and how to read them; ProblemError when there is none."""
    if name in STORED:
        rows, columns = _stored_rows(name, split), Columns()
    elif Path(name).is_dir() or is_hub_name(name):
        columns = known_columns(name, columns)
        rows = dataset_rows(name, split)
    elif Path(name).is_file():
        rows = jsonl_rows(Path(name))
    else:
        raise ProblemError(_unknown(name))
    return rows, Source(Path(name).name.partition(".")[0], split, columns)


def problem_of_row(row: Row, source: Source, number: int) -> Problem | None:
    """A row as a problem, None when it belongs to another split; ProblemError that says where it is broken.

    `number` counts from 1 and names a row without an id.
    """
    try:
        if row.fields is None:
            raise ProblemError(row.fault)
        if not _belongs(row.fields.get("split"), source.split):
            return None
        return _problem(row.fields, source, number)
    except ProblemError as error:
        raise ProblemError(f"{row.where}: {error}") from error


def canonical(question: str) -> str:
    """The question with names masked and numbers sorted; equal for renamings and reorderings."""
    numbers = sorted(number.replace(",", "") for number in _NUMBER.findall(question))
    return f"{_masked(question)} {' '.join(numbers)}"


_BUILTIN = Path(__file__).parent / "builtin"
_OPTION = re.compile(r"\s*\(?([A-Za-z])[).:]\s*(.*)", re.DOTALL)
_NUMBER = re.compile(r"[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?")
_NAME = re.compile(r"\b(?:[A-Z][\w'’]*|he|she|him|his|her|hers)\b(?:\s+[A-Z][\w'’]*)*")


def _masked(text: str) -> str:
    """Text in lower case with names, pronouns and numbers replaced and spaces folded."""
    text = _NUMBER.sub("#", _NAME.sub("_", text))
    return " ".join(text.lower().split())


def _stored_rows(name: str, split: str) -> Iterator[Row]:
    """Rows of a built-in set that belong to a split."""
    if name == "gsm8k":
        rows = jsonl_rows(_BUILTIN / f"gsm8k_{'test' if split == 'test' else 'train'}.jsonl.gz")
    else:
        rows = jsonl_rows(_BUILTIN / f"{name}.jsonl.gz")
    for row in rows:
        if row.fields is not None and _stored_split(name, row.fields, split) == split:
            yield row


def _stored_split(name: str, fields: Mapping[str, Any], wanted: str) -> str:
    """The split of a built-in row; `wanted` tells which of the two GSM8K files it is from."""
    if name == "gsm8k":
        if wanted == "test":
            return "test"
        return "dev" if split_of(canonical(fields["question"])) == "dev" else "train"
    if name == "aqua":  # an evaluation set: there is nothing to train on
        return "dev" if split_of(canonical(fields["question"])) == "dev" else "test"
    if name == "game24":
        return fields.get("split") or split_of(" ".join(map(str, sorted(fields["numbers"]))))
    # The problems of SVAMP are variations: one story with other numbers or another question.
    story = re.split(r"(?<=[.?!])\s+", fields["question"].strip())
    return split_of(_masked(" ".join(story[:-1] or story)))


def jsonl_rows(path: Path) -> Iterator[Row]:
    """The lines of a JSONL file that are not blank."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _jsonl_row(f"{path}, line {number}", line)
    except (OSError, EOFError, zlib.error) as error:
        raise ProblemError(f"problem file {path} cannot be read: {error}") from error


def _jsonl_row(where: str, line: bytes) -> Row:
    try:
        # Numbers with a point stay text, so that a gold answer of 2.50 is exact.
        fields = json.loads(line.decode("utf-8-sig"), parse_float=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        return Row(where, None, f"not a line of JSON in UTF-8: {error}")
    if not isinstance(fields, dict):
        return Row(where, None, f"expected a JSON object, found {type(fields).__name__}")
    return Row(where, fields)


def _collect(rows: Iterable[Row], source: Source, limit: int | None, skip_bad_lines: bool) -> Loaded:
    """Problems of the rows until there are `limit`."""
    problems: list[Problem] = []
    num_skipped = 0
    for number, row in enumerate(rows, start=1):
        if len(problems) == limit:
            break
        try:
            problem = problem_of_row(row, source, number)
        except ProblemError:
            if not skip_bad_lines:
                raise
            num_skipped += 1
        else:
            problems += [] if problem is None else [problem]
    return Loaded(problems, num_skipped)


def _belongs(named: object, split: str) -> bool:
    """Whether a row that names this split, or none that we know, is part of `split`."""
    return named in SPLIT_NAMES[split] or not any(named in names for names in SPLIT_NAMES.values())


def _problem(fields: Mapping[str, Any], source: Source, number: int) -> Problem:
    """A row as a problem; ProblemError when it is not one."""
    question = _text(fields, source.columns.question, "columns.question")
    written = _text(fields, source.columns.answer, "columns.answer")
    answer = declared_answer(written) or written
    kind = answer_kind(fields, answer)
    solution = fields.get(source.columns.solution)
    if not isinstance(solution, str):
        solution = written
    num_steps, steps = worked_steps(solution, answer)
    numbers, target = numbers_and_target(fields) if kind == "expression" else ((), None)
    return Problem(
        id=str(fields.get("id", f"{source.name}-{number}")),
        question=question,
        answer=answer,
        source=source.name,
        kind=kind,
        numbers=numbers,
        target=target,
        options=_options(fields) if kind == "choice" else (),
        num_steps=num_steps,
        steps=steps,
    )


def _text(fields: Mapping[str, Any], column: str, option: str) -> str:
    """A field that must hold text or a number, as text."""
    if column not in fields:
        raise ProblemError(f"there is no {column!r} among {', '.join(map(str, fields))}; set {option}")
    value = fields[column]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ProblemError(f"{column!r} must be text or a number, found {type(value).__name__}")
    text = str(value).strip()
    if not text:
        raise ProblemError(f"{column!r} is empty")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ProblemError(f"{column!r} is no Unicode text: {error.reason}") from error
    return text


def answer_kind(fields: Mapping[str, Any], answer: str) -> AnswerKind:
    """The kind a row names, else what its fields show."""
    for kind in get_args(AnswerKind):
        if kind in (fields.get("kind"), fields.get("answer_type")):
            named: AnswerKind = kind
            return named
    if "numbers" in fields and "target" in fields:
        return "expression"
    return "choice" if "options" in fields and re.fullmatch(r"\(?[A-Za-z]\)?", answer) else "number"


def _options(fields: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Letters and texts of the choices, where a row has them: as an object, or as texts like `A)21`."""
    options = fields.get("options")
    if isinstance(options, list):
        matches = [_OPTION.fullmatch(str(option)) for option in options]
        return tuple((match[1].upper(), match[2]) for match in matches if match)
    return tuple((str(k), str(v)) for k, v in options.items()) if isinstance(options, Mapping) else ()


def numbers_and_target(fields: Mapping[str, Any]) -> tuple[tuple[int, ...], int]:
    """What an expression must use and come to."""
    numbers, target = fields.get("numbers"), fields.get("target")
    if not isinstance(numbers, list) or not numbers or not all(type(n) is int for n in numbers):
        raise ProblemError("an expression needs 'numbers', a list of whole numbers")
    if type(target) is not int:
        raise ProblemError("an expression needs 'target', a whole number")
    return tuple(numbers), target


def _unknown(name: str) -> str:
    """What to say of a name that is no set, file or dataset."""
    if "/" in name or name.endswith((".jsonl", ".jsonl.gz", ".json")):
        return f"problem file {name} is not there"
    known = (*STORED, *GENERATED)
    close = difflib.get_close_matches(name, known, n=1)
    guess = f"; did you mean {close[0]!r}?" if close else "."
    return (
        f"no problem set is called {name!r}{guess} There are {', '.join(known)}, "
        "JSONL files, dataset folders and Hugging Face datasets as owner/name"
    )
