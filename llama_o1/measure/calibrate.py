"""How far values can be believed: Brier score, expected calibration error, area under the ROC curve.

A target may be soft: a thought whose answers below were right in 3 of 4 cases counts as 3/4 right and 1/4
wrong. With targets of 0 and 1 all three are the usual ones. Knows no trees and no models.
Letters of a shape: N thoughts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.ArrayLike  # [N]

NUM_BINS = 10


class Bin(NamedTuple):
    """Thoughts whose values lie in one tenth of [0, 1]."""

    num_thoughts: int
    value: float  # mean; 0 of none
    label: float  # mean; 0 of none


def brier(values: Floats, targets: Floats) -> float:
    """Mean of (value - target)^2 (Brier 1950), in [0, 1]; 0 is best. N at least 1."""
    v, t = _arrays(values, targets)
    return float(((v - t) ** 2).mean())


def calibration_error(values: Floats, targets: Floats) -> float:
    """Mean over thoughts of |mean value - mean target| of their bin, of 10 (Naeini et al. 2015)."""
    v, t = _arrays(values, targets)
    off = np.bincount(_bins(v), v - t, NUM_BINS)  # a bin's size times the distance of its means
    return float(np.abs(off).sum() / v.size)


def reliability(values: Floats, targets: Floats) -> list[Bin]:
    """The bins of `calibration_error`: what a reliability diagram shows."""
    v, t = _arrays(values, targets)
    bins = _bins(v)
    counts = np.bincount(bins, minlength=NUM_BINS)
    means = [np.bincount(bins, x, NUM_BINS) / np.maximum(counts, 1) for x in (v, t)]
    return [Bin(int(n), float(a), float(b)) for n, a, b in zip(counts, *means, strict=True)]


def area_under_curve(values: Floats, targets: Floats) -> float | None:
    """Chance that a right thought has a higher value than a wrong one, equal values counting half.

    Of soft targets each thought is right by t and wrong by 1 - t. None when all are right or all wrong.
    """
    v, t = _arrays(values, targets)
    _, rank = np.unique(v, return_inverse=True)
    return _area(np.bincount(rank, t), np.bincount(rank, 1 - t))


def effective_sample_size(weights: Floats) -> float:
    """(sum w)^2 / sum w^2 as a share of N (Kish 1965), in (0, 1]; 0 when all weights are 0."""
    w = np.asarray(weights, np.float64)
    squares = float((w**2).sum())
    return float(w.sum() ** 2 / squares / w.size) if squares else 0.0


def calibration(
    values: Floats, targets: Floats, depths: Sequence[int], actions: Sequence[str]
) -> dict[str, float]:
    """The three of all thoughts, of each depth (`brier_depth_2`) and of each meta-action (`auc_critic`).

    A figure that its thoughts do not allow is left out.
    """
    v, t = _arrays(values, targets)
    at, action = np.asarray(depths), np.asarray(actions)
    groups = {"": np.ones(v.size, np.bool_)}
    groups |= {f"_depth_{depth}": at == depth for depth in sorted(set(depths))}
    groups |= {f"_{name}": action == name for name in sorted(set(actions))}
    figures = {}
    for suffix, members in groups.items():
        figures[f"brier{suffix}"] = brier(v[members], t[members])
        figures[f"ece{suffix}"] = calibration_error(v[members], t[members])
        auc = area_under_curve(v[members], t[members])
        if auc is not None:
            figures[f"auc{suffix}"] = auc
    return figures


def intervals(
    values: Floats, targets: Floats, problems: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of `auc` and `ece` over resampled problems, where any resample allows one.

    `problems` [N] says of which problem a thought is, as a place in `weights` [R, P], which hold how often
    each was drawn (statistics.resamples): thoughts of one tree are no independent draws. The interval of the
    error lies somewhat high, as noise in a bin can only add to it.
    """
    v, t = _arrays(values, targets)
    num_problems = weights.shape[1]
    at = problems * NUM_BINS + _bins(v)
    off = np.bincount(at, v - t, num_problems * NUM_BINS).reshape(num_problems, NUM_BINS)
    errors = np.abs(weights @ off).sum(1) / (weights @ np.bincount(problems, minlength=num_problems))
    _, rank = np.unique(v, return_inverse=True)
    times = (drawn[problems] for drawn in weights)
    areas = [_area(np.bincount(rank, n * t), np.bincount(rank, n * (1 - t))) for n in times]
    found = {"ece": errors.tolist(), "auc": [area for area in areas if area is not None]}
    return {name: _ends(figures) for name, figures in found.items() if figures}


def _area(right_at: npt.NDArray[Any], wrong_at: npt.NDArray[Any]) -> float | None:
    """The area of right and wrong mass at each distinct value, ascending; None without one of the two."""
    right, wrong = right_at.sum(), wrong_at.sum()
    if not right > 0 or not wrong > 0:
        return None
    below = wrong_at.cumsum() - wrong_at
    return float((right_at * (below + wrong_at / 2)).sum() / (right * wrong))


def _ends(figures: Sequence[float]) -> tuple[float, float]:
    low, high = np.percentile(figures, (2.5, 97.5))
    return float(low), float(high)


def _bins(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Which tenth a value lies in; 1 lies in the last."""
    return np.minimum((values * NUM_BINS).astype(np.int64), NUM_BINS - 1)


def _arrays(values: Floats, targets: Floats) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    return np.asarray(values, np.float64), np.asarray(targets, np.float64)
