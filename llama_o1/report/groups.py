"""Runs beside each other: what each came to, and runs that differ by their seed as one.

Plain records in, plain records out; knows no files and no pictures.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from llama_o1.measure.intervals import Interval, over_seeds, paired_difference, wilson
from llama_o1.report.record import RunRecord

ALL = "all"  # every set of a method as one

Kind = tuple[str, str]  # method and set


class Outcome(NamedTuple):
    """What a method got on a set before and at the last look, and the difference on the same problems."""

    problems: int
    before: Interval
    after: Interval | None  # None: there was one look only
    change: Interval | None
    iteration: int  # of the last look


class MeanOutcome(NamedTuple):
    """The same over runs that differ by their seed; intervals over seeds, None of one run."""

    runs: int
    before: Interval
    after: Interval
    change: Interval


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run has spent; None: it did not write that down."""

    trees: int
    nodes: int
    tokens: int  # of self-play
    evaluation_tokens: int
    cpu_s: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """Runs with the same settings but for the seed."""

    runs: list[RunRecord]
    differs: dict[str, Any]  # settings in which the groups differ, by dotted name

    @property
    def name(self) -> str:
        """The names of its runs."""
        return ", ".join(run.name for run in self.runs)


def outcomes(run: RunRecord) -> dict[Kind, Outcome]:
    """By method and set, and for each method with several sets over all of them."""
    looks = run.history.looks
    kinds = list(dict.fromkeys((look.method, look.set) for look in looks))
    found: dict[Kind, Outcome] = {}
    for method in dict.fromkeys(method for method, _ in kinds):
        sets = [name for other, name in kinds if other == method]
        for name in [*sets, *([ALL] if len(sets) > 1 else [])]:
            by_iteration = correct_by_iteration(run, method, sets if name == ALL else [name])
            if by_iteration:
                found[method, name] = _outcome(by_iteration)
    return found


def correct_by_iteration(run: RunRecord, method: str, sets: Iterable[str]) -> dict[int, tuple[bool, ...]]:
    """Right or wrong of each problem of these sets at every iteration that looked at all of them."""
    wanted = list(sets)
    looked: dict[int, dict[str, tuple[bool, ...]]] = {}
    for look in run.history.looks:
        if look.method == method:
            looked.setdefault(look.iteration, {})[look.set] = look.correct
    return {
        iteration: tuple(one for name in wanted for one in found[name])
        for iteration, found in sorted(looked.items())
        if all(name in found for name in wanted)
    }


def _outcome(by_iteration: Mapping[int, Sequence[bool]]) -> Outcome:
    first, last = min(by_iteration), max(by_iteration)
    before, after = by_iteration[first], by_iteration[last]
    share = wilson(sum(before), len(before))
    if first == last or len(before) != len(after):
        return Outcome(len(before), share, None, None, first)
    change = paired_difference(before, after)
    return Outcome(len(before), share, wilson(sum(after), len(after)), change, last)


def cost(run: RunRecord) -> Cost:
    """What a run has spent so far."""
    history = run.history
    evaluated = sum(look.tokens for look in history.looks)
    return Cost(history.trees, history.nodes, history.tokens, evaluated, run.total("clock", "cpu_s"))


def groups(runs: Sequence[RunRecord]) -> list[Group]:
    """The runs by their settings, in the order given, and the settings that not all groups share."""
    found: dict[str, list[RunRecord]] = {}
    for run in runs:
        found.setdefault(json.dumps(run.setup, sort_keys=True, default=str), []).append(run)
    setups = [members[0].setup for members in found.values()]
    names = dict.fromkeys(name for setup in setups for name in setup)
    differing = [name for name in names if any(s.get(name) != setups[0].get(name) for s in setups)]
    return [
        Group(members, {name: members[0].setup.get(name) for name in differing}) for members in found.values()
    ]


def mean_outcomes(group: Group) -> dict[Kind, MeanOutcome]:
    """Means over the seeds of a group with at least two of them; of runs that have a change alone.

    Of runs with one and the same seed the first counts: the others are no further samples.
    """
    each = [outcomes(run) for run in {run.seed: run for run in reversed(group.runs)}.values()]
    found: dict[Kind, MeanOutcome] = {}
    for kind in dict.fromkeys(kind for one in each for kind in one):
        held = [one[kind] for one in each if kind in one]
        changed = [(o.before.mean, o.after.mean, o.change.mean) for o in held if o.after and o.change]
        if len(changed) > 1:
            before, after, change = (over_seeds(figures) for figures in zip(*changed, strict=True))
            found[kind] = MeanOutcome(len(changed), before, after, change)
    return found


def last_values(run: RunRecord, method: str) -> dict[str, Any]:
    """The newest figures of the values on held-out problems; empty when there are none."""
    found: dict[str, Any] = {}
    for line in run.lines("evaluate_values", method=method):
        if line.get("count"):
            found = line
    return found
