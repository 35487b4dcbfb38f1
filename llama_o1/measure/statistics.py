"""What right and wrong answers say and how sure it is: resampling, paired tests, pass@k and maj@k.

Plain functions of numbers; intervals of single shares are in intervals.py. Letters of a shape: R resamples,
N problems, C columns (methods, or points of a curve).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import comb
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from llama_o1.measure.intervals import Interval

Floats = npt.NDArray[np.float64]
RESAMPLES = 10_000


class Answers(NamedTuple):
    """Equal answers among the samples of one problem."""

    answer: str | None  # None: none was declared; it has no vote
    samples: int
    correct: bool


def resamples(problems: int, seed: int, count: int = RESAMPLES) -> Floats:
    """Weights [R, N] of a bootstrap over problems (Efron 1979): how often each was drawn, over N.

    One matrix serves every method on these problems, so that their intervals and differences are paired.
    """
    rng = np.random.default_rng([seed, problems])
    drawn: Floats = rng.multinomial(problems, np.full(problems, 1 / problems), size=count) / problems
    return drawn


def bootstrap(values: npt.ArrayLike, weights: Floats) -> tuple[Any, Any]:
    """Ends of the 95 % percentile interval of the mean of values [N], or of each column of [N, C]."""
    means = weights @ np.asarray(values, np.float64)
    low, high = np.percentile(means, (2.5, 97.5), axis=0)
    return low, high


def paired_bootstrap(first: npt.ArrayLike, second: npt.ArrayLike, weights: Floats) -> Interval:
    """Mean of first - second over the same problems [N] with its 95 % percentile interval."""
    differences = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    low, high = bootstrap(differences, weights)
    return Interval(float(differences.mean()), float(low), float(high))


def sign_test(wins: int, losses: int) -> float:
    """Two-sided p of so many wins and losses, ties left out, were both as likely: the exact binomial test.

    With one seed a win is a problem that only one of two methods solved: McNemar's test in its exact form.
    """
    count = wins + losses
    tail = sum(comb(count, i) for i in range(min(wins, losses) + 1))
    return float(min(Fraction(1), Fraction(2 * tail, 2**count)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for being several (Holm 1979), in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, greatest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        greatest = max(greatest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = greatest
    return corrected


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Chance that one of k samples is right, without bias from `samples` >= k (Chen et al. 2021, eq. 1)."""
    return float(1 - Fraction(comb(samples - correct, k), comb(samples, k)))


def majority_at_k(groups: Sequence[Answers], k: int) -> float:
    """Chance that the majority of k samples, drawn from all without replacement, is right; exact.

    Ties are broken evenly; samples without an answer have no vote. `groups` hold at least k samples.
    """
    right = Fraction(0)
    for i, (answer, samples, correct) in enumerate(groups):
        if answer is None or not correct:
            continue
        for votes in range(1, min(samples, k) + 1):
            ways = {(k - votes, 0): comb(samples, votes)}  # by samples left to draw and answers that tie
            for other in (*groups[:i], *groups[i + 1 :]):
                ways = _with(other, votes, ways)
            right += sum((Fraction(n, ties + 1) for (left, ties), n in ways.items() if not left), Fraction(0))
    return float(right / comb(sum(group.samples for group in groups), k))


def _with(other: Answers, votes: int, ways: dict[tuple[int, int], int]) -> dict[tuple[int, int], int]:
    """The ways that go on when some of the other answers, no more than `votes` of them, are drawn too."""
    out: dict[tuple[int, int], int] = {}
    for (left, ties), n in ways.items():
        most = min(other.samples, left)
        for drawn in range((most if other.answer is None else min(most, votes)) + 1):
            tied = other.answer is not None and drawn == votes
            key = (left - drawn, ties + tied)
            out[key] = out.get(key, 0) + n * comb(other.samples, drawn)
    return out
