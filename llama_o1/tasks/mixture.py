"""Which problems, from where, how many: the part of a configuration that names problem sets."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llama_o1.errors import ConfigError, ProblemError
from llama_o1.tasks.generator import MAX_STEPS, generate, stream
from llama_o1.tasks.problem import Problem
from llama_o1.tasks.problems import GENERATED_COUNT, load_problems
from llama_o1.tasks.vary import vary
from llama_o1.tasks.verify import failing_golds

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Columns:
    """Where a file or data set of one's own keeps questions and answers."""

    question: str = "question"
    """Name of the column with the question."""
    answer: str = "answer"
    """Name of the column with the gold answer."""


@dataclass(frozen=True)
class ProblemSet:
    """One source of problems."""

    name: str
    """A built-in set, a JSONL file, or a Hugging Face dataset."""
    weight: float = 1.0
    """Share of the draws, relative to the other sets."""
    min_steps: int = 1
    """Calculations of the known solution; sets without one ignore it."""
    max_steps: int | None = None
    """None: any number."""
    limit: int | None = None
    """None: all there are."""
    vary: float = 0.0
    """Share of the problems drawn to learn from that are told with other numbers; those alone that have a
    worked solution to follow."""

    def __post_init__(self) -> None:
        """Refuse settings that can name no problem."""
        if self.weight <= 0:
            raise ConfigError(f"weight of problem set {self.name} must be above 0, got {self.weight}")
        if self.min_steps < 1 or (self.max_steps is not None and self.max_steps < self.min_steps):
            raise ConfigError(
                f"steps of problem set {self.name} must be 1 <= min_steps <= max_steps, "
                f"got {self.min_steps} to {self.max_steps}"
            )
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit of problem set {self.name} must be at least 1, got {self.limit}")
        if not 0 <= self.vary <= 1:
            raise ConfigError(f"vary of problem set {self.name} must be in [0, 1], got {self.vary}")

    @property
    def label(self) -> str:
        """How the set is called in tables: `word 4-5`."""
        if self.max_steps is None:
            return self.name
        steps = (
            f"{self.min_steps}" if self.min_steps == self.max_steps else f"{self.min_steps}-{self.max_steps}"
        )
        return f"{self.name} {steps}"

    def fits(self, problem: Problem) -> bool:
        """Whether the problem has a number of steps that this set asks for."""
        if self.min_steps == 1 and self.max_steps is None:
            return True
        if problem.num_steps is None:
            return False
        return self.min_steps <= problem.num_steps <= (self.max_steps or problem.num_steps)


def check_not_varied(sets: Sequence[ProblemSet], name: str) -> None:
    """ConfigError when one of these held-out sets, which the setting `name` holds, is to be varied."""
    for one in sets:
        if one.vary:
            raise ConfigError(
                f"{name}: held-out problems are told as they are, but {one.name} has vary {one.vary:g}; "
                "leave it out"
            )


def draw(
    sets: Sequence[ProblemSet],
    split: str,
    seed: int,
    columns: Columns = Columns(),
    skip_bad_lines: bool = False,
    *,
    worked: bool = False,
) -> Iterator[Problem]:
    """Problems of these sets by weight, without end, varied as the sets say.

    `worked`: only such as have a worked solution.
    """
    rng = random.Random(f"mixture/{split}/{seed}")
    sources = [
        _generated(s, split, seed)
        if s.name in MAX_STEPS and s.limit is None
        else _shuffled(select(s, split, columns, skip_bad_lines, worked=worked), f"{s.name}/{split}/{seed}")
        for s in sets
    ]
    sources = [
        _varied(source, s.vary, f"{s.name}/{split}/{seed}") if s.vary else source
        for source, s in zip(sources, sets, strict=True)
    ]
    weights = [s.weight for s in sets]
    while True:
        yield next(rng.choices(sources, weights)[0])


def select(
    wanted: ProblemSet,
    split: str,
    columns: Columns = Columns(),
    skip_bad_lines: bool = False,
    *,
    worked: bool = False,
    check: bool = True,
) -> list[Problem]:
    """The problems of one set, at most its limit; ProblemError when none is left.

    ProblemError also when a gold answer does not verify against itself, unless `check` is off. Broken lines
    and such answers that are skipped are counted in the log.
    """
    if wanted.name in MAX_STEPS:
        most = wanted.max_steps or MAX_STEPS[wanted.name]
        return generate(wanted.name, split, wanted.limit or GENERATED_COUNT, 0, wanted.min_steps, most)
    problems, skipped = load_problems(
        wanted.name,
        split=split,
        question_column=columns.question,
        answer_column=columns.answer,
        skip_bad_lines=skip_bad_lines,
    )
    if skipped:
        log.warning("%s: skipped %d broken lines, kept %d", wanted.name, skipped, len(problems))
    if check:
        problems = _checked(problems, skip_bad_lines)
    fitting = [p for p in problems if wanted.fits(p) and (p.steps or not worked)][: wanted.limit]
    if not fitting:
        raise ProblemError(
            f"problem set {wanted.name} has no {split} problem of {wanted.min_steps} to "
            f"{wanted.max_steps or 'any number of'} steps ({len(problems)} in all)"
        )
    return fitting


def _checked(problems: list[Problem], skip_bad_lines: bool) -> list[Problem]:
    """The problems whose gold answer verifies against itself; ProblemError that lists the others."""
    bad = failing_golds(problems)
    if not bad:
        return problems
    listed = "; ".join(
        f"{problem.id} of {problem.source}: {problem.answer[:60]!r} is {verdict.verdict} ({verdict.rule})"
        for problem, verdict in bad[:SHOWN]
    )
    more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    found = f"gold answers that do not verify against themselves: {listed}{more}"
    if not skip_bad_lines:
        raise ProblemError(
            f"{len(bad)} {found}; mend these rows or leave them out by --skip_bad_lines true, "
            "`llama-o1 grade --problems FILE` lists all of them"
        )
    log.warning("skipped %d %s", len(bad), found)
    failing = {id(problem) for problem, _ in bad}
    return [problem for problem in problems if id(problem) not in failing]


SHOWN = 5  # bad gold answers that a message lists


def _generated(wanted: ProblemSet, split: str, seed: int) -> Iterator[Problem]:
    """A generated set's problems without end, anew when it holds no more."""
    most = wanted.max_steps or MAX_STEPS[wanted.name]
    while True:
        yield from stream(wanted.name, split, seed, wanted.min_steps, most)


def _varied(problems: Iterator[Problem], share: float, seed: str) -> Iterator[Problem]:
    """The problems, this share of them with other numbers where their solution follows."""
    rng = random.Random(f"{seed}/vary")
    for problem in problems:
        told = vary(problem, rng) if rng.random() < share else None
        yield told or problem


def _shuffled(stored: list[Problem], seed: str) -> Iterator[Problem]:
    """Stored problems without end, in a new order each time."""
    rng = random.Random(f"{seed}/order")
    while True:
        rng.shuffle(stored)
        yield from stored
