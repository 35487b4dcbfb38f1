"""Reasons to end a search before its budget is spent. Time is not among them: a clock is the caller's.

One object watches one tree; it reads only what came in since it was asked last.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import eq

from tree.budget import Limits
from tree.node import Tree
from tree.vote import Same, Tally, Weighting


@dataclass(slots=True)
class Decided:
    """Ends a search whose answer nothing that is still to come can overturn.

    A conclusion adds at most 1 to a vote. So the first answer stands once it leads the second by more than
    the number of conclusions that tokens, thoughts and the method itself still allow; with `best`, once it
    is worth 1; with `likelihood`, once it leads by more than the probability of all lines that were not found
    (which sampling at a temperature above 1 beside likeliest thoughts would understate). An answer by visits,
    or by comparisons with what is still to come, may always turn.
    """

    weighting: Weighting
    same: Same = eq
    _seen: int = 0  # arrivals that were counted
    _tally: Tally = field(init=False)

    def __post_init__(self) -> None:
        self._tally = Tally(self.weighting, self.same)

    def __call__(self, tree: Tree, limits: Limits, most: int) -> str | None:
        """`decided`, or None."""
        if self.weighting in ("visits", "pairwise"):
            return None
        for arrival in tree.arrivals[self._seen :]:
            if arrival.node >= 0 and tree.nodes[arrival.node].answer is not None:
                self._tally.add(tree.nodes[arrival.node])
        self._seen = len(tree.arrivals)
        if not self._tally.weights:
            return None
        first, second, *_ = [*sorted(self._tally.weights.values(), reverse=True), 0.0]
        if self.weighting == "best":
            return "decided" if first >= 1.0 else None
        if self.weighting == "likelihood":
            return "decided" if first - second > self._tally.open_probability() else None
        in_flight = tree.root.pending
        still = min(most, in_flight + limits.left(tree) // limits.least, in_flight + limits.room(tree))
        return "decided" if first - second > still else None


@dataclass(slots=True)
class Hopeless:
    """Ends a search in which no thought came near an answer, so that its budget is left for others."""

    below: float  # hopeless while every evaluation is below this
    after: int  # thoughts that came in before it may be said
    _seen: int = 0
    _best: float = 0.0

    def __call__(self, tree: Tree, limits: Limits, most: int) -> str | None:
        """`hopeless`, or None."""
        for node in tree.nodes[max(1, self._seen) :]:
            self._best = max(self._best, node.evaluation or 0.0)
        self._seen = len(tree.nodes)
        return "hopeless" if len(tree.arrivals) >= self.after and self._best < self.below else None
