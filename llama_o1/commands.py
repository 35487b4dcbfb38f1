"""What each command reads from its arguments, what it calls, and what it prints."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_o1.arguments import build, nearest, parse, parser_of, value_of
from llama_o1.config import RunConfig, SftConfig
from llama_o1.errors import ConfigError, ProblemError, RunError

if TYPE_CHECKING:
    from llama_o1.answer import Answered, Answers
    from llama_o1.tasks.problem import Problem


def train(arguments: list[str]) -> int:
    """`llama-o1 train`: a self-play run."""
    parser = parser_of("train", "Self-play: search problems, learn from the trees, search again.", RunConfig)
    config = build(RunConfig, parse(parser, arguments))
    from llama_o1.loop import Run

    _print(Run(config).train())
    return 0


def search(arguments: list[str]) -> int:
    """`llama-o1 search`: solve problems."""
    parser = parser_of("search", "Solve problems with a tree search, within a budget of tokens.", RunConfig)
    own = ("problem", "run", "budget_tokens", "limit", "json", "html")
    parser.add_argument("--problem", type=str | None, help="the problem to solve, as text")
    parser.add_argument("--run", type=str | None, help="a run folder: use its settings and last weights")
    parser.add_argument("--budget_tokens", type=int | None, help="short for --search.budget_tokens")
    parser.add_argument("--limit", type=int | None, help="search at most this many of --problems")
    parser.add_argument("--json", type=str | None, help="write one JSON line a problem to this file")
    parser.add_argument("--html", type=str | None, help="write one offline page with the trees to this file")
    parser.add_argument("--plain", type=bool, default=False, help="ASCII without colours, for logs")
    run = value_of(arguments, "--run")
    if run is not None:
        from llama_o1.answer import settings_of_run

        parser.set_defaults(settings_of_run(Path(run)))
    given = parse(parser, arguments)
    extra = {key: given.pop(key) for key in (*own, "plain")}
    if extra["budget_tokens"] is not None:
        given.search.budget_tokens = extra["budget_tokens"]
    config = build(RunConfig, given)
    named = value_of(arguments, "--problems") is not None
    problems = _asked(config, extra["problem"], named=named, limit=extra["limit"])
    outputs = [Path(extra[key]) for key in ("json", "html") if extra[key] is not None]
    _check_writable(outputs)
    from llama_o1.answer import answer

    answers = answer(config, problems, run=None if run is None else Path(run))
    for one in answers.answered:
        _print(_shown(one, plain=extra["plain"]))
    _print(f"engine: {answers.line}")
    _write(answers, extra["json"], extra["html"])
    return 0


def inspect(arguments: list[str]) -> int:
    """`llama-o1 inspect`: what a replay buffer holds."""
    parser = parser_of("inspect", "Look into a run's replay buffer, also while the run goes on.")
    parser.add_argument("folder", type=str, help="a run folder or a replay folder")
    parser.add_argument("--node", type=int | None, help="show one node with its path, tokens and targets")
    parser.add_argument(
        "--where", type=str | None, help="only these nodes: \"action = 'critic' and value > 0.9\""
    )
    parser.add_argument("--sort", type=str, default="priority", help="column that orders the nodes")
    parser.add_argument("--limit", type=int, default=10, help="how many nodes to list")
    given = parse(parser, arguments)
    from replay.inspect.summary import render_node, render_summary

    folder = Path(given.folder)
    decode = _decoder(folder)
    if given.node is not None:
        _print(render_node(folder, given.node, decode))
    else:
        _print(render_summary(folder, decode, limit=given.limit, where=given.where, sort=given.sort))
    return 0


def init(arguments: list[str]) -> int:
    """`llama-o1 init`: add the special tokens to a model."""
    parser = parser_of("init", "Add the special tokens to any Hugging Face causal LM.")
    parser.add_argument("model", type=str, help="a model folder or a Hugging Face name")
    parser.add_argument("out", type=str, help="the folder to write")
    parser.add_argument("--seed", type=int, default=0, help="of the noise that tells the new rows apart")
    given = parse(parser, arguments)
    from llama_o1.learn.model import init_model

    added = init_model(given.model, given.out, seed=given.seed)
    _print(f"added {len(added)} tokens to {given.model}: {' '.join(added)}\nwrote {given.out}")
    return 0


def sft(arguments: list[str]) -> int:
    """`llama-o1 sft`: a cold start."""
    parser = parser_of(
        "sft", "Cold start: teach a model to write our thoughts from worked problems.", SftConfig
    )
    config = build(SftConfig, parse(parser, arguments))
    from llama_o1.sft import cold_start

    cold_start(config)
    _print(f"wrote {config.out}; use it with --model.path {config.out}")
    return 0


def bench(arguments: list[str]) -> int:
    """`llama-o1 bench`: speed, as ratios measured in one run."""
    from llama_o1.bench.settings import BENCHES, SETTINGS

    if not arguments or arguments[0] in ("-h", "--help"):
        lines = [f"  {name:<8} {words}" for name, words in BENCHES.items()]
        _print("\n".join(["usage: llama-o1 bench NAME [--NAME VALUE ...] [--json FILE]", "", *lines, ""]))
        _print("`llama-o1 bench NAME --help` lists a bench's settings.")
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in BENCHES:
        raise ConfigError(f"no bench {name!r}{nearest(name, BENCHES)}; `llama-o1 bench --help` lists them")
    parser = parser_of(f"bench {name}", f"Measure {BENCHES[name]}.", SETTINGS[name])
    parser.add_argument("--json", type=str | None, help="write ratios and figures to this file")
    given = parse(parser, rest)
    file = given.pop("json")
    settings = build(SETTINGS[name], given)
    _check_writable([] if file is None else [Path(file)])
    report = import_module(f"llama_o1.bench.{name}").run(settings)
    _print(report.table())
    if file is not None:
        report.write(Path(file))
        _print(f"wrote {file}")
    return 0


def _asked(config: RunConfig, problem: str | None, *, named: bool, limit: int | None) -> list[Problem]:
    """The problem given as text, or the sets given by `--problems`."""
    from llama_o1.tasks.mixture import select
    from llama_o1.tasks.problem import Problem

    if (problem is None) != named:
        raise ConfigError("search needs either --problem TEXT or --problems SET, and not both")
    if problem is not None:
        if not problem.strip():
            raise ProblemError("--problem is empty; give the problem as text")
        return [Problem(id="asked", question=problem, answer="", source="asked")]
    split = config.evaluation.split
    found = [
        p for wanted in config.problems for p in select(wanted, split, config.columns, config.skip_bad_lines)
    ]
    return found[:limit]


def _check_writable(paths: Sequence[Path]) -> None:
    for path in paths:
        if not path.resolve().parent.is_dir():
            raise RunError(f"cannot write {path}: there is no folder {path.resolve().parent}")


def _shown(one: Answered, *, plain: bool) -> str:
    """Answer, confidence, winning line and tree, for a terminal."""
    from tree.terminal import one_line, terminal_tree, wants_colour, writes_signs

    tree, vote, ascii_only = one.tree, one.vote, plain or not writes_signs(sys.stdout)
    line = [] if vote.leaf is None else tree.path(vote.leaf)
    thoughts = [
        f"  {tree.nodes[i].action:<9} {one_line(tree.nodes[i].text, plain=ascii_only)}" for i in line[1:]
    ]
    drawn = terminal_tree(
        tree.nodes,
        colour=not plain and wants_colour(sys.stdout, os.environ),
        width=shutil.get_terminal_size((110, 40)).columns,
        best=set(line),
        plain=ascii_only,
    )
    answer = "no answer was declared" if vote.answer is None else one_line(vote.answer, plain=ascii_only)
    return "\n".join(
        [
            drawn,
            "",
            *(["line of thought:", *thoughts, ""] if thoughts else []),
            f"answer: {answer}",
            f"confidence: {vote.confidence:.2f}",
            f"spent: {tree.tokens_used} tokens, {len(tree.nodes) - 1} thoughts, {one.seconds:.1f} s",
        ]
    )


def _write(answers: Answers, json_file: str | None, html_file: str | None) -> None:
    from llama_o1.run import write_whole
    from tree.page import html_page
    from tree.record import write_rows

    rows = [one.row() for one in answers.answered]
    if json_file is not None:
        write_rows(json_file, ({**row, "engine": answers.engine} for row in rows))
        _print(f"wrote {json_file}")
    if html_file is not None:
        write_whole(Path(html_file), html_page(rows, "LLaMA-O1 search"))
        _print(f"wrote {html_file}")


def _decoder(folder: Path) -> Callable[[list[int]], str] | None:
    """The run's own tokenizer, without torch or transformers; None when the folder has none."""
    checkpoints = sorted((folder / "checkpoints").glob("[0-9]*/tokenizer.json"))
    if not checkpoints:
        return None
    from tokenizers import Tokenizer

    tokenizer: Any = Tokenizer.from_file(str(checkpoints[-1]))
    return lambda ids: str(tokenizer.decode(ids, skip_special_tokens=False))


def _print(text: str) -> None:
    encoding = sys.stdout.encoding or "ascii"  # what it cannot hold is written as an escape
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
