"""95 % intervals of accuracies and of their differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

Z = 1.959963984540054  # 97.5 % quantile of the normal distribution

# 97.5 % quantiles of Student's t for 1 to 30 degrees of freedom.
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


class Interval(NamedTuple):
    """An estimate with its 95 % interval."""

    mean: float
    low: float
    high: float


def wilson(successes: float, count: int) -> Interval:
    """Share of successes with Wilson's score interval (Wilson 1927), in [0, 1]; count at least 1."""
    p = successes / count
    centre = (p + Z * Z / (2 * count)) / (1 + Z * Z / count)
    half = Z / (1 + Z * Z / count) * math.sqrt(p * (1 - p) / count + Z * Z / (4 * count * count))
    return Interval(p, max(0.0, centre - half), min(1.0, centre + half))


def paired_difference(before: Sequence[bool], after: Sequence[bool]) -> Interval:
    """Mean of after - before over the same problems, with its normal interval; not empty."""
    differences = [int(b) - int(a) for a, b in zip(before, after, strict=True)]
    count = len(differences)
    mean = sum(differences) / count
    variance = sum((d - mean) ** 2 for d in differences) / max(1, count - 1)
    half = Z * math.sqrt(variance / count)
    return Interval(mean, mean - half, mean + half)


def over_seeds(figures: Sequence[float]) -> Interval:
    """Mean over runs with its interval by Student's t (1908), which knows how few they are; at least two.

    It tells how far runs differ from each other, not how far the problems they share are from others.
    """
    count = len(figures)
    mean = sum(figures) / count
    variance = sum((figure - mean) ** 2 for figure in figures) / (count - 1)
    quantile = _T[count - 2] if count - 2 < len(_T) else Z
    half = quantile * math.sqrt(variance / count)
    return Interval(mean, mean - half, mean + half)
