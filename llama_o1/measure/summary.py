"""What a run came to, in plain words: held-out accuracy before and after, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from llama_o1.measure.cells import Table, aligned, percent, points
from llama_o1.measure.intervals import paired_difference, wilson
from tree.node import Tree


class Looked(NamedTuple):
    """One look at one held-out set."""

    when: str  # before, during, after
    iteration: int
    method: str
    set: str
    correct: tuple[bool, ...]  # by problem, the same problems at every look
    tokens: int


@dataclass(slots=True)
class History:
    """All looks of a run and what self-play spent."""

    looks: list[Looked] = field(default_factory=list)
    trees: int = 0
    nodes: int = 0
    tokens: int = 0

    def played(self, trees: Sequence[Tree]) -> None:
        """Count an iteration's trees."""
        self.trees += len(trees)
        self.nodes += sum(len(tree.nodes) - 1 for tree in trees)
        self.tokens += sum(tree.tokens_used for tree in trees)

    def accuracy(self, method: str, iteration: int) -> float | None:
        """Share of right answers of a method at one iteration, over all sets; None: not looked at."""
        looks = [look for look in self.looks if (look.method, look.iteration) == (method, iteration)]
        correct = _joined([look.correct for look in looks])
        return sum(correct) / len(correct) if correct else None

    def state(self) -> dict[str, Any]:
        """As JSON."""
        looks = [{**look._asdict(), "correct": "".join("01"[c] for c in look.correct)} for look in self.looks]
        return {"looks": looks, "trees": self.trees, "nodes": self.nodes, "tokens": self.tokens}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> History:
        """The history that `state` described."""
        looks = [
            Looked(**{**look, "correct": tuple(c == "1" for c in look["correct"])}) for look in state["looks"]
        ]
        return cls(looks, state["trees"], state["nodes"], state["tokens"])


def summarise(history: History, folder: Path, stored: int, values: Sequence[str] = ()) -> str:
    """The closing summary of a run; `values` says how good they are."""
    lines = ["Held-out accuracy, % right with 95 % interval:", ""]
    lines += _table(history.looks)
    lines += _best(history)
    evaluated = sum(look.tokens for look in history.looks)
    lines += [
        "",
        f"Self-play: {history.trees} trees, {history.nodes} nodes, {history.tokens} tokens; "
        f"evaluation: {evaluated} tokens.",
        *values,
        f"Replay holds {stored} nodes. The run is in {folder}.",
        "",
        "Look into what it learned from:",
        f"  llama-o1 inspect {folder}",
        "See its curves:",
        f"  llama-o1 report {folder}",
        "Let it solve a problem of yours:",
        f'  llama-o1 search --run {folder} --problem "Tom has 3 boxes with 8 pens in each. '
        'He gives away 5 pens. How many pens does Tom have left?"',
    ]
    return "\n".join(lines)


def _best(history: History) -> list[str]:
    """How far below its best the run ended, in words; nothing where it ended at its best."""
    iterations = sorted({look.iteration for look in history.looks if look.method == "greedy"})
    found = [(history.accuracy("greedy", iteration) or 0.0, iteration) for iteration in iterations]
    if not found or max(found)[0] == found[-1][0]:
        return []
    (best, when), (last, end) = max(found), found[-1]
    return [
        "",
        f"Greedy on all sets: best {best * 100:.1f} % after iteration {when}, {last * 100:.1f} % after "
        f"iteration {end}.",
    ]


def _table(looks: Sequence[Looked]) -> list[str]:
    rows: Table = [("method", "set", "problems", "before", "after", "change")]
    for method, name in dict.fromkeys((look.method, look.set) for look in looks):
        before = _find(looks, method, name, "before")
        after = _find(looks, method, name, "after")
        if before is not None:
            rows.append((method, name, *_cells(before, after)))
    for method in dict.fromkeys(look.method for look in looks):
        names = [look.set for look in looks if look.method == method and look.when == "before"]
        befores = [_find(looks, method, name, "before") for name in names]
        afters = [_find(looks, method, name, "after") for name in names]
        if len(names) > 1:
            rows.append((method, "all", *_cells(_joined(befores), _joined(afters))))
    return aligned(rows, left=range(len(rows[0]))).split("\n")


def _cells(before: Sequence[bool] | None, after: Sequence[bool] | None) -> tuple[str, ...]:
    if not before:
        return ("0", "-", "-", "-")
    first = percent(*wilson(sum(before), len(before)))
    if not after:
        return (str(len(before)), first, "-", "-")
    change = paired_difference(before, after)
    last = percent(*wilson(sum(after), len(after)))
    return (str(len(before)), first, last, points(*change))


def _find(looks: Sequence[Looked], method: str, name: str, when: str) -> tuple[bool, ...] | None:
    """The last such look: a run that went on was over before."""
    found = [k.correct for k in looks if (k.method, k.set, k.when) == (method, name, when)]
    return found[-1] if found else None


def _joined(parts: Sequence[tuple[bool, ...] | None]) -> tuple[bool, ...]:
    return tuple(c for part in parts if part is not None for c in part)
