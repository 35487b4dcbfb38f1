"""What a tree would have answered at each earlier budget, from the order in which its thoughts came in."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from operator import eq
from typing import NamedTuple

from tree.node import Arrival, Tree
from tree.vote import NO_VOTE, Same, Tally, Vote, Weighting, by_visits


class Point(NamedTuple):
    """The answer once so many tokens were spent."""

    tokens: int  # spent until then, forced ones and those of failed requests included
    nodes: int  # thoughts in the tree then
    answer: str | None  # None: no line had declared one
    confidence: float  # the answer's share of all weight, in [0, 1]
    leaf: int | None  # index of its best conclusion so far


def curve(tree: Tree, weighting: Weighting = "value", same: Same = eq) -> list[Point]:
    """One point for each request that came back, in order; the last is the tree's own vote.

    Independent lines are laid one after the other, though they were written at once: what n lines cost
    and answer is then what a search for n lines would have. A search with the smaller budget might, with its
    last tokens, have asked for a conclusion that this one had no need of yet; so a point without an answer
    is a lower bound.
    """
    points: list[Point] = []
    tokens, thoughts = 0, set[int]()
    arrivals = sorted(tree.arrivals, key=lambda arrival: arrival.line)  # stable
    for arrival, vote in zip(arrivals, _votes(tree, arrivals, weighting, same), strict=True):
        tokens += arrival.tokens
        thoughts |= {arrival.node} if arrival.node >= 0 else set()
        points.append(Point(tokens, len(thoughts), vote.answer, vote.confidence, vote.leaf))
    return points


def changes(points: Sequence[Point]) -> list[Point]:
    """The points at which answer or confidence change, and the last."""
    before = (None, *points)
    kept = [
        point
        for old, point in zip(before, points, strict=False)
        if point.answer is not None and (old is None or old[2:] != point[2:])
    ]
    return [*kept, *(points[-1:] if kept[-1:] != [*points[-1:]] else ())]


def at_budget(points: Sequence[Point], tokens: int) -> Point:
    """What the tree had answered when at most so many tokens were spent."""
    found = bisect_right(points, tokens, key=lambda point: point.tokens)
    return points[found - 1] if found else Point(0, 0, None, 0.0, None)


def _votes(tree: Tree, arrivals: Sequence[Arrival], weighting: Weighting, same: Same) -> Iterator[Vote]:
    """The vote after each arrival."""
    current = NO_VOTE
    tally = Tally(weighting, same)
    visits = [0] * len(tree.nodes)
    for arrival in arrivals:
        node = tree.nodes[arrival.node] if arrival.node >= 0 else None
        if node is not None:
            for index in tree.path(node.index):
                visits[index] += 1
        if node is not None and node.answer is not None and weighting != "visits":
            tally.add(node)
            current = tally.vote()
        elif node is not None and weighting == "visits":
            current = by_visits(tree.nodes, visits, same)
        yield current
