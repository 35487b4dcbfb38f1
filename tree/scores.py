"""Scores that pick a child: plain functions of numbers."""

from __future__ import annotations

import math


def puct(q: float, prior: float, parent_visits: int, visits: int, exploration: float) -> float:
    """Q + c * P * sqrt(N_parent) / (1 + N).

    Silver et al. 2017 (AlphaGo Zero), Methods, "Select". q in [0, 1], prior in [0, 1] normalised over
    siblings; visits may include simulations in flight (virtual loss).
    """
    return q + exploration * prior * math.sqrt(parent_visits) / (1 + visits)
