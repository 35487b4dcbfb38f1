"""Problem: a question with its gold answer. Only tasks/ and measure/ ever read the gold answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

AnswerKind = Literal["number", "expression", "choice"]
VerdictState = Literal["correct", "wrong", "unparsed", "timeout"]


class WorkedStep(NamedTuple):
    """One step of a worked solution: a calculation and what it is about."""

    expression: str  # "48/2", calculator syntax without spaces
    result: str  # "24"
    unit: str = ""  # what is counted, may be empty: "clips"
    question: str = ""  # the sub-problem it answers, may be empty: "How many clips in May?"


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with its gold answer; the search is given `question` and nothing else of it."""

    id: str
    question: str
    answer: str
    source: str  # name of the problem set
    kind: AnswerKind = "number"
    numbers: tuple[int, ...] = ()  # an expression must use each of these once
    target: int | None = None  # what an expression must come to
    options: tuple[tuple[str, str], ...] = ()  # letters and texts of a multiple choice, where they are known
    num_steps: int | None = None  # calculations of the known solution; None: not known
    steps: tuple[WorkedStep, ...] = ()  # a worked solution, for cold-start traces only


class Verdict(NamedTuple):
    """What the checker says of one text."""

    verdict: VerdictState
    answer: str | None  # canonical declared answer; None when unparsed
    rule: str  # the rule that decided
