"""Trial: what one method made of one problem at one budget with one seed; a line of an evaluation's file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, get_args

from llama_o1.engine.protocol import EngineFigures
from llama_o1.measure.lengths import Length
from llama_o1.tasks.problem import VerdictState
from tree.repairs import NO_REPAIRS, Repairs

VERDICTS: tuple[VerdictState, ...] = get_args(VerdictState)


class Key(NamedTuple):
    """Which trial."""

    set: str
    problem: str
    method: str
    budget: int
    seed: int


class Point(NamedTuple):
    """What a search would have answered had it ended here."""

    tokens: int  # spent so far
    answer: str | None
    verdict: VerdictState


class Found(NamedTuple):
    """One of the answers that a tree holds."""

    answer: str | None  # None: lines that ended without one
    lines: int  # that ended in it
    verdict: VerdictState


class Work(NamedTuple):
    """What the engine did since the trial before was over, whichever trees it did it for."""

    seconds: float
    sampled: int
    forced: int
    prefilled: int
    cached: int
    steps: int
    slot_steps: int
    slots: int

    @classmethod
    def of(cls, figures: EngineFigures, seconds: float) -> Work:
        """The engine's figures of so many seconds."""
        return cls(
            round(seconds, 6),
            figures.sampled_tokens,
            figures.forced_tokens,
            figures.prefilled_tokens,
            figures.cached_tokens,
            figures.steps,
            figures.slot_steps,
            figures.slots,
        )


@dataclass(frozen=True, slots=True)
class Trial:
    """A finished search, graded. Tokens count every thought, merged ones too; tokens = sampled + forced."""

    set: str
    problem: str  # id
    question: str  # checksum of question and gold answer: a trial is of this problem only
    method: str
    budget: int
    seed: int
    answer: str | None  # canonical; None: none was declared
    verdict: VerdictState
    confidence: float
    tokens: int
    sampled: int
    forced: int
    failed: int  # of the above, those of replies that gave no thought
    prefilled: int  # context tokens that went through the model
    cached: int  # context tokens that came from the engine's cache
    seconds: float  # from its first request to its end, other trees in flight beside it
    nodes: int
    events: int
    thinking: int  # tokens thought on the path to the answer; without one, on the path that thought most
    answer_tokens: int  # drawn for its conclusion
    ended: bool  # the model concluded it by itself, before the end was forced
    stopped: str | None  # why it ended before its budget; None: it did not
    curve: tuple[Point, ...]  # one entry where the answer changes
    found: tuple[Found, ...]
    work: Work
    repairs: Repairs = NO_REPAIRS  # what critic and refine came to

    @property
    def key(self) -> Key:
        """Which trial this is."""
        return Key(self.set, self.problem, self.method, self.budget, self.seed)

    @property
    def correct(self) -> bool:
        """Whether the answer is right."""
        return self.verdict == "correct"

    @property
    def length(self) -> Length:
        """How long it thought on the path to its answer."""
        return Length(self.thinking, self.answer_tokens, self.ended, self.answer is not None)

    def correct_at(self, tokens: int) -> bool:
        """Whether it would have answered right with so many tokens spent."""
        last = next((point for point in reversed(self.curve) if point.tokens <= tokens), None)
        return last is not None and last.verdict == "correct"

    def row(self) -> dict[str, Any]:
        """As JSON."""
        row = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**row, "work": self.work._asdict(), "repairs": self.repairs._asdict()}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Trial:
        """The trial of a row; TypeError, KeyError or ValueError when it is none."""
        trial = cls(
            **{
                **row,
                "curve": tuple(Point(*point) for point in row["curve"]),
                "found": tuple(Found(*one) for one in row["found"]),
                "work": Work(**row["work"]),
                "repairs": Repairs(**row.get("repairs", {})),  # older files have none
            }
        )
        for verdict in (trial.verdict, *(p.verdict for p in trial.curve), *(f.verdict for f in trial.found)):
            if verdict not in VERDICTS:
                raise ValueError(f"verdict must be one of {', '.join(VERDICTS)}, got {verdict!r}")
        return trial


def without_time(trial: Trial) -> Trial:
    """The trial with everything at zero that depends on the clock or on its neighbours."""
    return dataclasses.replace(
        trial, seconds=0.0, prefilled=0, cached=0, work=Work(0.0, 0, 0, 0, 0, 0, 0, trial.work.slots)
    )
