"""Enhanced Borda Count (LLaMA-Berry, section 3.3): preferences of pairs become a rank and a value of each.

Plain functions of numbers. P[i][j] is the probability that solution i is better than solution j; the
diagonal is never read. i beats j where P[i][j] >= 0.5, so an even comparison beats both ways; what is beaten
by the beaten is beaten (the transitive closure), so a comparison that contradicts others makes a cycle of
equals and no more. A solution has a point for each other one it beats. Equal points are ordered by P among
those that are equal; for two of them that is the paper's P[i][j] > P[j][i], for more it has no cycles. What
is still equal shares the mean of the ranks it takes up, where the paper leaves the order open.

Value = 0.9 * global + 0.1 * local. Global: 1 for the first of all, 0 for the last, even steps between. Local:
the share of the solutions written from it that it beats; where there are none, the global one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

GLOBAL_SHARE = 0.9  # of the paper's alpha

Matrix = Sequence[Sequence[float]]


class Standing(NamedTuple):
    """Where one solution stands among all."""

    points: int  # others it beats, directly or by others
    rank: float  # 1 for the best; the mean of their places where several are equal
    value: float  # in [0, 1]


def enhanced_borda(
    preferences: Matrix, children: Sequence[Sequence[int]] = (), global_share: float = GLOBAL_SHARE
) -> list[Standing]:
    """The standing of each solution; `children[i]` are the solutions written anew from solution i.

    ValueError when the preferences are not a square of probabilities.
    """
    _check(preferences)
    n = len(preferences)
    beats = closure([[i != j and preferences[i][j] >= 0.5 for j in range(n)] for i in range(n)])
    points = [sum(row) for row in beats]
    ranks = _ranks(points, preferences)
    below = children or [()] * n
    standings: list[Standing] = []
    for i in range(n):
        overall = 1.0 if n == 1 else 1.0 - (ranks[i] - 1.0) / (n - 1.0)
        local = sum(beats[i][j] for j in below[i]) / len(below[i]) if below[i] else overall
        standings.append(Standing(points[i], ranks[i], global_share * overall + (1.0 - global_share) * local))
    return standings


def closure(beats: Sequence[Sequence[bool]]) -> list[list[bool]]:
    """Who beats whom, directly or by others (Warshall 1962); nobody beats itself."""
    reached = [list(row) for row in beats]
    n = len(reached)
    for middle in range(n):
        for i in range(n):
            if reached[i][middle]:
                for j in range(n):
                    reached[i][j] = reached[i][j] or reached[middle][j]
    for i in range(n):
        reached[i][i] = False
    return reached


def _ranks(points: Sequence[int], preferences: Matrix) -> list[float]:
    """The place of each by points, then by preferences among equals; equal ones share the mean place."""
    n = len(points)
    equal = [[j for j in range(n) if j != i and points[j] == points[i]] for i in range(n)]
    liked = [sum(preferences[i][j] - preferences[j][i] for j in equal[i]) for i in range(n)]
    keys = [(points[i], round(liked[i], 9)) for i in range(n)]  # sums of equal numbers in another order
    return [1.0 + sum(k > key for k in keys) + (sum(k == key for k in keys) - 1) / 2.0 for key in keys]


def _check(preferences: Matrix) -> None:
    n = len(preferences)
    for i, row in enumerate(preferences):
        if len(row) != n:
            raise ValueError(f"preferences must be a square, got a row of {len(row)} among {n}")
        for j, p in enumerate(row):
            if i != j and not 0.0 <= p <= 1.0:
                raise ValueError(f"preference of {i} over {j} must be in [0, 1], got {p}")
