"""What each part brings: trials with it less trials without it, on the same problems, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from llama_o1.measure.compare import ALL, Cells, method_figures
from llama_o1.measure.statistics import Floats, holm, paired_bootstrap, resamples, sign_test
from llama_o1.measure.trial import Key, Trial


class Contrast(NamedTuple):
    """Two names of trials that differ in one part."""

    part: str  # what the two differ in, in words
    with_it: str
    without: str


def effects(
    trials: Mapping[Key, Trial],
    contrasts: Sequence[Contrast],
    sets: Mapping[str, Sequence[str]],
    budget: int,
    seeds: Sequence[int],
) -> list[dict[str, Any]]:
    """One row a contrast and set, and one for all problems: accuracies, difference with interval, p.

    With several seeds a problem counts once, by its mean. `p_holm` is corrected for the contrasts of a set.
    """
    pooled = [(name, problem) for name, problems in sets.items() for problem in problems]
    groups = {ALL: pooled, **{name: [(name, p) for p in problems] for name, problems in sets.items()}}
    rows: list[dict[str, Any]] = []
    for name, ids in groups.items():
        weights = resamples(len(ids), 0)

        def cells(method: str, ids: list[tuple[str, str]] = ids) -> Cells:
            return [[trials[Key(s, p, method, budget, seed)] for seed in seeds] for s, p in ids]

        of_set = [
            {
                "set": name,
                **contrast._asdict(),
                **_effect(cells(contrast.with_it), cells(contrast.without), weights),
            }
            for contrast in contrasts
        ]
        for row, p in zip(of_set, holm([row["p"] for row in of_set]), strict=True):
            row["p_holm"] = p
        rows += of_set
    return rows


def _effect(with_it: Cells, without: Cells, weights: Floats) -> dict[str, Any]:
    first, second = (
        np.array([np.mean([t.correct for t in cell]) for cell in cells]) for cells in (with_it, without)
    )
    difference = paired_bootstrap(first, second, weights)
    wins, losses = int((first > second).sum()), int((first < second).sum())
    return {
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "wins": wins,
        "losses": losses,
        "p": sign_test(wins, losses),
        "verdict": verdict(difference.low, difference.high),
        "accuracy_with": float(first.mean()),
        "accuracy_without": float(second.mean()),
    }


def verdict(low: float, high: float) -> str:
    """What an interval of accuracy with a part less accuracy without it says."""
    least = 1e-9  # ends that are 0 but for rounding tell nothing
    return "pays" if low > least else "costs" if high < -least else "not told apart"


def figures_of(
    trials: Mapping[Key, Trial],
    names: Sequence[str],
    sets: Mapping[str, Sequence[str]],
    budget: int,
    seeds: Sequence[int],
) -> dict[str, dict[str, Any]]:
    """What each name came to on all problems, as measure/compare.py says it."""
    ids = [(name, problem) for name, problems in sets.items() for problem in problems]
    weights = resamples(len(ids), 0)
    return {
        name: method_figures(
            [[trials[Key(s, p, name, budget, seed)] for seed in seeds] for s, p in ids], weights
        )
        for name in names
    }
