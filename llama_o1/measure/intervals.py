"""95 % intervals of accuracies and of their differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

Z = 1.959963984540054  # 97.5 % quantile of the normal distribution


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
