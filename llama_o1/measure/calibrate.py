"""How far values can be believed: Brier score, expected calibration error, area under the ROC curve.

A target may be soft: a thought whose answers below were right in 3 of 4 cases counts as 3/4 right and 1/4
wrong. With targets of 0 and 1 all three are the usual ones. Knows no trees and no models.
Letters of a shape: N thoughts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.ArrayLike  # [N]

NUM_BINS = 10


def brier(values: Floats, targets: Floats) -> float:
    """Mean of (value - target)^2 (Brier 1950), in [0, 1]; 0 is best. N at least 1."""
    v, t = _arrays(values, targets)
    return float(((v - t) ** 2).mean())


def calibration_error(values: Floats, targets: Floats) -> float:
    """Mean over thoughts of |mean value - mean target| of their bin, of 10 (Naeini et al. 2015)."""
    v, t = _arrays(values, targets)
    bins = np.minimum((v * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    off = np.bincount(bins, v - t, NUM_BINS)  # a bin's size times the distance of its means
    return float(np.abs(off).sum() / v.size)


def area_under_curve(values: Floats, targets: Floats) -> float | None:
    """Chance that a right thought has a higher value than a wrong one, equal values counting half.

    Of soft targets each thought is right by t and wrong by 1 - t. None when all are right or all wrong.
    """
    v, t = _arrays(values, targets)
    right, wrong = t.sum(), (1 - t).sum()
    if not right > 0 or not wrong > 0:
        return None
    _, rank = np.unique(v, return_inverse=True)
    right_at, wrong_at = np.bincount(rank, t), np.bincount(rank, 1 - t)
    below = wrong_at.cumsum() - wrong_at
    return float((right_at * (below + wrong_at / 2)).sum() / (right * wrong))


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


def _arrays(values: Floats, targets: Floats) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    return np.asarray(values, np.float64), np.asarray(targets, np.float64)
