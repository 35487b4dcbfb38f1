"""What each command reads from its arguments, what it calls, and what it prints."""

from __future__ import annotations

import json
import shlex
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from llama_o1.arguments import build, check_writable, nearest, parse, parser_of, value_of
from llama_o1.errors import ConfigError, ProblemError
from llama_o1.printed import printed as _print

if TYPE_CHECKING:
    from llama_o1.answer import Answers
    from llama_o1.config import RunConfig, TeachSettings
    from llama_o1.tasks.problem import Problem


def train(arguments: list[str]) -> int:
    """`llama-o1 train`: a self-play run."""
    from llama_o1.config import RunConfig

    parser = parser_of("train", "Self-play: search problems, learn from the trees, search again.", RunConfig)
    return _train(build(RunConfig, parse(parser, arguments)))


def rounds(arguments: list[str]) -> int:
    """`llama-o1 rounds`: self-training on paths, as AlphaMath."""
    from llama_o1.config import RunConfig

    words = "Rounds of self-training: search, keep right and wrong paths, fine-tune policy and value on them."
    parser = parser_of("rounds", words, RunConfig)
    parser.set_defaults({"learner.objective": "paths", "model.value": "head"})
    config = build(RunConfig, parse(parser, arguments))
    if config.learner.objective != "paths":
        raise ConfigError(
            f"rounds learn by learner.objective paths, got {config.learner.objective}; use `llama-o1 train`"
        )
    return _train(config)


def _train(config: RunConfig) -> int:
    from llama_o1.crew import assist, is_assistant
    from llama_o1.loop import Run

    if is_assistant():
        assist(config)
    else:
        _print(Run(config).train())
    return 0


def search(arguments: list[str]) -> int:
    """`llama-o1 search`: solve problems."""
    from llama_o1.config import RunConfig

    parser = parser_of("search", "Solve problems with a tree search, within a budget of tokens.", RunConfig)
    own = ("problem", "run", "budget_tokens", "limit", "json", "html")
    parser.add_argument("--problem", type=str | None, help="the problem to solve, as text")
    parser.add_argument("--run", type=str | None, help="a run folder: use its settings and last weights")
    parser.add_argument("--budget_tokens", type=int | None, help="short for --search.budget_tokens")
    parser.add_argument("--limit", type=int | None, help="search at most this many of --problems")
    parser.add_argument("--json", type=str | None, help="write one JSON line a problem to this file")
    parser.add_argument("--html", type=str | None, help="write one offline page with the trees to this file")
    parser.add_argument(
        "--plain", type=bool, nargs="?", const=True, default=False, help="ASCII without colours, for logs"
    )
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
    check_writable(extra["json"], extra["html"])
    from llama_o1.answer import answer
    from llama_o1.shown import answer_text

    answers = answer(config, problems, run=None if run is None else Path(run))
    for one in answers.answered:
        _print(answer_text(one, sys.stdout, plain=extra["plain"]))
    _print(f"engine: {answers.line}")
    _write(answers, extra["json"], extra["html"], config.teach)
    return 0


def sft(arguments: list[str]) -> int:
    """`llama-o1 sft`: a cold start."""
    from llama_o1.sft_config import SftConfig

    words = "Fine-tune on solutions, told as thoughts or as plain text: worked problems, or a file's records."
    config = build(SftConfig, parse(parser_of("sft", words, SftConfig), arguments))
    from llama_o1.sft import cold_start

    cold_start(config, shlex.join(["llama-o1", "sft", *arguments]))
    _print(f"wrote {config.out}; use it with --model.path {config.out}")
    return 0


def verify(arguments: list[str]) -> int:
    """`llama-o1 verify`: whether packing and engine are exact on the user's own model."""
    from llama_o1.config import RunConfig

    parser = parser_of(
        "verify",
        "Check on your own model that packing changes nothing and that engine and learner agree.",
        RunConfig,
    )
    parser.add_argument("--nodes", type=int, default=64, help="search at least so many nodes to check with")
    parser.add_argument("--steps", type=int, default=20, help="optimizer steps after which to look again")
    parser.add_argument(
        "--batch", type=str | None, help="instead: what is not finite where in a batch that stopped a run"
    )
    given = parse(parser, arguments)
    nodes, steps, batch = given.pop("nodes"), given.pop("steps"), given.pop("batch")
    if batch is not None:
        return _verify_batch(Path(batch))
    config = build(RunConfig, given)
    from llama_o1.exactness import maxima
    from llama_o1.exactness import verify as verified

    cases = []
    for case in verified(config, nodes=nodes, steps=steps):
        cases.append(case)
        _print(json.dumps(case))
    _print(maxima(cases))
    return int(any(case["verdict"] == "fail" for case in cases))


def grade(arguments: list[str]) -> int:
    """`llama-o1 grade`: the answer checker on one's own data; 1 when a gold answer fails against itself."""
    from llama_o1.tasks.grade import GradeSettings
    from llama_o1.tasks.grade import grade as graded

    words = "Check answers (--pairs) or the gold answers of problems (--problems), one JSON line a case."
    settings = build(GradeSettings, parse(parser_of("grade", words, GradeSettings), arguments))
    failed = 0
    for row in graded(settings):
        failed += row["verdict"] != "correct"
        _print(json.dumps(row))
    return 1 if failed and settings.problems else 0


def export(arguments: list[str]) -> int:
    """`llama-o1 export`: plain Hugging Face weights of a run."""
    parser = parser_of("export", "Write a run's model as plain Hugging Face weights, an adapter merged.")
    parser.add_argument("run", type=str, help="a run folder, or one of its checkpoints")
    parser.add_argument("out", type=str, help="the folder to write, new or empty")
    parser.add_argument(
        "--checkpoint", type=str, default="last", help="last, best (by held-out accuracy) or an iteration"
    )
    given = parse(parser, arguments)
    from llama_o1.export import export_run

    source = export_run(Path(given.run), Path(given.out), given.checkpoint)
    _print(f"wrote {given.out} from {source}; AutoModelForCausalLM.from_pretrained reads it")
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
    check_writable(file)
    report = import_module(f"llama_o1.bench.{name}").run(settings)
    _print(report.table())
    if file is not None:
        report.write(Path(file))
        _print(f"wrote {file}")
    return 0


def evaluate(arguments: list[str]) -> int:
    """`llama-o1 eval`: methods at equal tokens."""
    from llama_o1.measure.settings import EvalConfig

    if "--ablate" in arguments:
        from llama_o1.ablate_command import ablate_command

        _print(ablate_command([argument for argument in arguments if argument != "--ablate"]))
        return 0
    words = (
        "Compare methods on the same problems, with the same model, seeds and budgets of tokens. With "
        "--ablate: one search and what its parts bring, by settings of its own (eval --ablate --help)."
    )
    parser = parser_of("eval", words, EvalConfig)
    parser.add_argument("--json", type=str | None, help="write the result to this file too")
    given = parse(parser, [a.replace("--problems.limit", "--limit", 1) for a in arguments])
    file = given.pop("json")
    config = build(EvalConfig, given)
    check_writable(file)
    from llama_o1.evaluation import evaluate_methods
    from llama_o1.measure.table import terminal_table
    from llama_o1.run import write_whole

    result = evaluate_methods(config)
    _print(terminal_table(result))
    if file is not None:
        write_whole(Path(file), json.dumps(result, indent=1) + "\n")
        _print(f"wrote {file}")
    _print(f"wrote {config.out}: result.json, table.md, trials.jsonl and pictures")
    return 0


def _verify_batch(file: Path) -> int:
    """Show what is not finite in a stopped step; 1 when it stops again."""
    from llama_o1.learning import look_into_stopped

    cases, line = look_into_stopped(file)
    for case in cases:
        _print(json.dumps(case))
    _print(line)
    return int(bool(cases))


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


def _write(answers: Answers, json_file: str | None, html_file: str | None, teach: TeachSettings) -> None:
    from llama_o1.saved import taught
    from llama_o1.shown import page_of
    from tree.record import write_rows

    rows = [one.row() for one in answers.answered]
    if json_file is not None:
        write_rows(json_file, ({**row, "engine": answers.engine} for row in rows))
        _print(f"wrote {json_file}")
    if html_file is not None:
        page_of([taught(row, teach) for row in rows], Path(html_file))
        _print(f"wrote {html_file}")
