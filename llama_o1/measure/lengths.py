"""What lengths of thinking say of a budget: s1's three measures and BudgetThinker's two.

Plain functions of numbers. Letters of a shape: P points (one method at several budgets), `...` what stands
before them (resamples).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class Length(NamedTuple):
    """How long one trial thought and answered."""

    thinking: int  # tokens, control tokens included
    answer: int  # tokens drawn for the answer
    ended: bool  # the thinking came to its end by itself; False: it was cut, or nothing concluded it
    declared: bool  # an answer can be read

    def follows(self, budget: int) -> bool:
        """Whether it ended by itself within the budget."""
        return self.ended and self.thinking <= budget


def control(lengths: Sequence[int], least: int, most: int) -> float:
    """s1's Control (section 3.2, eq. 1): share of runs that thought so many tokens; not empty, not in %."""
    return sum(least <= length <= most for length in lengths) / len(lengths)


def scaling(lengths: npt.ArrayLike, accuracies: npt.ArrayLike) -> Any:
    """s1's Scaling (section 3.2, eq. 2) of points [..., P]: the mean slope over all pairs of them.

    In shares of right answers a thinking token. Runs of equal length have no slope between them and make no
    pair; NaN where there is no pair.
    """
    a, f = np.asarray(lengths, np.float64), np.asarray(accuracies, np.float64)
    total, pairs = np.zeros(a.shape[:-1]), np.zeros(a.shape[:-1])
    for i, j in combinations(range(a.shape[-1]), 2):
        run, rise = a[..., j] - a[..., i], f[..., j] - f[..., i]
        differ = run != 0
        total += np.where(differ, rise / np.where(differ, run, 1.0), 0.0)
        pairs += differ
    return np.where(pairs > 0, total / np.maximum(pairs, 1), np.nan)[()]


def performance(accuracies: npt.ArrayLike) -> Any:
    """s1's Performance (section 3.2, eq. 3) of points [..., P]: the best accuracy of any of them."""
    return np.asarray(accuracies, np.float64).max(axis=-1)


def following(lengths: Sequence[Length], budget: int) -> float:
    """BudgetThinker's following ratio: share that ends by itself within the budget; not empty."""
    return sum(length.follows(budget) for length in lengths) / len(lengths)


def utilisation(lengths: Sequence[Length], budget: int) -> float | None:
    """BudgetThinker's utilisation: mean share of the budget thought by those that follow; None: none does."""
    used = [length.thinking / budget for length in lengths if length.follows(budget)]
    return sum(used) / len(used) if used else None


def length_figures(lengths: Sequence[Length], budget: int) -> dict[str, float]:
    """Statistics of thinking lengths as s1 counts them for a file of samples; not empty."""
    thought = [length.thinking for length in lengths]
    return {
        "least": min(thought),
        "most": max(thought),
        "mean": float(np.mean(thought)),
        "answer_tokens": float(np.mean([length.answer for length in lengths])),
        "over_limit": sum(tokens > budget for tokens in thought),
        "cut": sum(not length.ended for length in lengths),
        "without_answer": sum(not length.declared for length in lengths),
        "without_thinking": sum(not tokens for tokens in thought),
    }
