"""Lines to learn from as token ids: worked problems or a file's records, told as thoughts or plain text."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from llama_o1.errors import ConfigError
from llama_o1.format.budget import BudgetPlan
from llama_o1.format.encode import Codec
from llama_o1.format.line import template_texts
from llama_o1.format.thoughts import Thought
from llama_o1.learn.model import Loaded
from llama_o1.learn.rows import Line, endless_steps, epoch_steps
from llama_o1.play.line_script import LineScripts
from llama_o1.play.program import Calculator
from llama_o1.play.script import Script, fitting, script
from llama_o1.records import lines_of, read_records
from llama_o1.sft_config import SftConfig
from llama_o1.tasks.mixture import draw
from llama_o1.tasks.problem import Problem
from llama_o1.tasks.problems import GENERATED, STORED
from llama_o1.tasks.tellings import telling
from llama_o1.tasks.traces import KIND_WEIGHTS, Traced, TraceKind, rated_at_random, trace
from llama_o1.tasks.vary import vary
from tree.actions import MetaAction

log = logging.getLogger(__name__)

MOST_LEFT_OUT = 1000  # lines in a row that their budgets do not hold
# Plain text has no rating, and a line that ends in a wrong answer teaches nothing else.
TOLD_AS_TEXT: dict[TraceKind, int] = {kind: weight for kind, weight in KIND_WEIGHTS.items() if kind != "lost"}

Write = Callable[[list[Traced], BudgetPlan], Script]


class Material(NamedTuple):
    """What a fine-tuning learns from."""

    steps: Iterator[list[Line]]  # the lines of each optimizer step, always the same
    num_steps: int
    held_out: list[Line]
    words: str  # what it is, for the card


def material_of(config: SftConfig, loaded: Loaded) -> Material:
    """The lines of every step and the held-out ones; RecordError or ProblemError when there are none."""
    if config.data is not None:
        lines, held_out = _of_file(config, loaded)
        words = f"{len(lines)} lines of {config.data}, {len(held_out)} held out"
        return _fixed(lines, held_out, config, words)
    endless = written_lines(config, loaded)
    words = ", ".join(f"{one.label} ({one.weight:g})" for one in config.problems)
    held_out = list(_held_out(config, loaded))
    if config.examples is not None:
        lines = list(islice(endless, config.examples))
        return _fixed(lines, held_out, config, f"{len(lines)} lines of {words}")
    return Material(endless_steps(endless, config.sft, config.seed), config.sft.steps, held_out, words)


def written_lines(config: SftConfig, loaded: Loaded, split: str = "train") -> Iterator[Line]:
    """Ids of worked problems' lines and how much each counts, without end; the same for the same seed."""
    rng = random.Random(f"lines/{config.seed}" if split == "train" else f"lines/{split}/{config.seed}")
    drawn = draw(config.problems, split, config.seed, worked=True)
    return _weighed((_told(problem, config, rng) for problem in drawn), rng, config, loaded)


def _fixed(lines: list[Line], held_out: list[Line], config: SftConfig, words: str) -> Material:
    steps = epoch_steps(lines, config.sft, config.seed)
    if config.sft.epochs is None:
        return Material(steps, config.sft.steps, held_out, words)
    made = list(steps)
    return Material(iter(made), len(made), held_out, f"{words}, {config.sft.epochs} epochs")


def _of_file(config: SftConfig, loaded: Loaded) -> tuple[list[Line], list[Line]]:
    """Lines of a file to learn from, and those of the questions that are held out."""
    assert config.data is not None, "asked by material_of"
    parts: tuple[list[list[Thought]], list[list[Thought]]] = ([], [])
    for record in read_records(Path(config.data), config.columns, skip_bad_lines=config.skip_bad_lines):
        parts[_is_held_out(record[0].text, config.holdout)].append(record)
    if not parts[0]:
        raise ConfigError(f"holdout {config.holdout} leaves nothing of {config.data} to learn; lower it")
    learned, held = (
        list(_weighed(map(list, _paths(part, config)), random.Random(f"lines/{config.seed}"), config, loaded))
        for part in parts
    )
    if not learned:
        raise ConfigError(
            f"{config.data} has no line with a conclusion, which plain text needs; use thoughts"
        )
    return learned, held


def _paths(records: Iterable[list[Thought]], config: SftConfig) -> Iterator[list[Traced]]:
    for record in records:
        for line in lines_of(record):
            if config.form == "thoughts" or line[-1].thought.action is MetaAction.CONCLUDE:
                yield line


def _is_held_out(question: str, share: float) -> bool:
    """Whether a question belongs to the held-out share: a hash of it, so that no order changes it."""
    folded = " ".join(question.lower().split())
    return int.from_bytes(hashlib.sha256(folded.encode()).digest()[:8], "big") < share * 2.0**64


def _held_out(config: SftConfig, loaded: Loaded) -> Iterator[Line]:
    """Lines of the dev split; none where nothing is evaluated, and none of files without splits."""
    look = config.evaluation
    split = tuple(one for one in config.problems if one.name in (*STORED, *GENERATED))
    if not look.problems or not look.lines or not split:
        return
    yield from islice(written_lines(replace(config, problems=split), loaded, "dev"), look.lines)


def _weighed(
    told: Iterable[list[Traced]], rng: random.Random, config: SftConfig, loaded: Loaded
) -> Iterator[Line]:
    """Written lines with the weight of each token, cut where they are too long."""
    marks, weight = frozenset(loaded.special.remaining), config.sft.special_token_weight
    for ids, learn, _, given in _scripts(told, rng, config, loaded):
        weights = [weight if i in marks else float(wanted) for i, wanted in zip(ids, learn, strict=True)]
        weights = [0.0] * given + weights[given:]  # a prompt in words names the control tokens
        yield Line(ids[: config.sft.max_length], weights[: config.sft.max_length])


def texts_of(problem: Problem, config: SftConfig) -> Iterator[str]:
    """The texts of all thoughts a problem's traces can hold, and of plain text what stands around them."""
    rng = random.Random(problem.id)
    if config.telling == "paces":
        yield from (traced.thought.text for _ in range(2) for traced in telling(problem, rng))
    for kind in ("divided", "repaired"):
        yield from (traced.thought.text for traced in trace(problem, rng, kind))
    if config.form == "line":
        yield from template_texts(config.line, config.marks)


def _scripts(
    told: Iterable[list[Traced]], rng: random.Random, config: SftConfig, loaded: Loaded
) -> Iterator[Script]:
    codec = Codec(loaded.tokenizer, loaded.special)
    remaining = loaded.special.remaining if config.show_budget else ()
    plans = [BudgetPlan(budget, remaining, config.marks) for budget in config.budgets]
    write = _writer(config, codec)
    left_out = 0
    for line in told:
        if config.budget_step is not None:
            yield fitting(partial(write, line), config.budget_step, remaining, config.marks)
            continue
        plan = rng.choice(plans)
        written = write(line, plan)
        if config.form == "thoughts" or written.thinking <= plan.total:
            left_out = 0
            yield written
            continue
        left_out += 1
        if left_out == MOST_LEFT_OUT:
            raise ConfigError(
                f"budgets are {', '.join(map(str, config.budgets))}, the last {left_out} lines take more; "
                "raise them or give each line its own by budget_step"
            )


def _told(problem: Problem, config: SftConfig, rng: random.Random) -> list[Traced]:
    """A trace of the problem or of a variation, as the configuration wants it."""
    if problem.source in STORED and rng.random() < config.vary:
        problem = vary(problem, rng) or problem
    if config.telling == "paces":
        return telling(problem, rng)
    if config.form == "line":
        return trace(problem, rng, rng.choices(list(TOLD_AS_TEXT), list(TOLD_AS_TEXT.values()))[0])
    line = trace(problem, rng)
    return rated_at_random(line, rng) if rng.random() < config.unsure else line


def _writer(config: SftConfig, codec: Codec) -> Write:
    calculator = Calculator(codec) if config.calculates else None
    if config.form == "line":
        return LineScripts(codec, config.line, calculator)
    return lambda line, plan: script(line, codec, plan, calculator)
