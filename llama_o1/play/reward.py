"""What an answer is worth to the policy: that it is right, is one, and that its thinking kept to a budget.

BudgetThinker (its reward of RL): 0.7 correct + 0.15 format + 0.15 max(1 - g ((B - n) / B)^2, 0) with g = 1
for n up to B and 16 above. Ours: thinking that its hard limit cut gets nothing for its length, since it would
have gone on; and only advantages are made of rewards (tree/targets.py). Values, Q, votes and ratings stay
with the grade, which is a probability of being right.

Must not import torch: the command line reads the settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np

from llama_o1.errors import ConfigError
from llama_o1.play.expand import ThoughtSettings, trail_of
from tree.node import Node, Tree


@dataclass(frozen=True)
class RewardSettings:
    """Weights of the parts of a reward; BudgetThinker: 0.7, 0.15, 0.15."""

    correct: float = 1.0
    """For an answer that is right."""
    format: float = 0.0
    """For an answer that is declared, right or wrong."""
    length: float = 0.0
    """For thinking as long as the path's budget, at most."""
    below: float = 1.0
    """g of the length where the budget is kept."""
    above: float = 16.0
    """g above it: 16 leaves nothing a quarter above. Paths get there by `thoughts.overrun`."""

    def __post_init__(self) -> None:
        """Refuse weights that reward nothing."""
        for name in ("correct", "format", "length", "below", "above"):
            if not 0 <= getattr(self, name) < inf:
                raise ConfigError(
                    f"teach.reward.{name} must be finite and at least 0, got {getattr(self, name)}"
                )
        if not self.correct + self.format + self.length:
            raise ConfigError("teach.reward must weigh correct, format or length above 0, got 0 for all")

    @property
    def is_grade(self) -> bool:
        """Whether a reward is nothing but the grade."""
        return (self.correct, self.format, self.length) == (1.0, 0.0, 0.0)


def length_reward(thinking: int, budget: int, below: float = 1.0, above: float = 16.0) -> float:
    """1 for thinking as long as the budget, less by the square of the relative distance; never below 0."""
    off = (budget - thinking) / budget
    return max(1.0 - (below if thinking <= budget else above) * off * off, 0.0)


def rewards(tree: Tree, settings: RewardSettings, thoughts: ThoughtSettings) -> dict[int, float] | None:
    """The reward of every graded node, by index; None: their grades are.

    `thoughts` with the path budget under which the tree was grown.
    """
    if settings.is_grade:
        return None
    found = {}
    for node in tree.nodes:
        if node.outcome is not None:
            found[node.index] = (
                settings.correct * node.outcome
                + settings.format * (node.answer is not None)
                + settings.length * _kept(tree, node, settings, thoughts)
            )
    return found


def budget_figures(
    trees: Sequence[Tree], budgets: Sequence[int], thoughts: ThoughtSettings
) -> dict[str, float]:
    """How the answers of these trees kept to their trees' path budgets, as flat numbers.

    `thinking_share`: thinking over budget. `following`: share whose thinking ended by itself within the
    budget; `utilisation`: thinking over budget of those (BudgetThinker section 4.1), as in
    measure/lengths.py. An answer counts as often as it came.
    """
    used, follows, counts = [], [], []
    for tree, budget in zip(trees, budgets, strict=True):
        for node in tree.nodes:
            if node.outcome is not None:
                spent = trail_of(tree, node.index).spent
                used.append(spent / budget)
                follows.append(
                    spent <= budget and spent < replace(thoughts, path_budget=budget).thinking_limit
                )
                counts.append(node.count)
    if not counts:
        return {}
    kept = np.multiply(follows, counts)
    figures = {
        "path_budget": float(np.mean(budgets)),
        "thinking_share": float(np.average(np.multiply(used, 1.0), weights=counts)),
        "following": float(kept.sum() / np.sum(counts)),
    }
    return figures | ({"utilisation": float(np.average(used, weights=kept))} if kept.any() else {})


def budget_row(tree: Tree, budget: int, worth: Mapping[int, float] | None) -> dict[str, Any]:
    """What a tree's row says of its budget, and of its rewards by local id where they are not the grades."""
    told: dict[str, Any] = {"path_budget": budget}
    if worth is not None:
        told["rewards"] = {str(tree.nodes[i].local_id): reward for i, reward in worth.items()}
    return told


def _kept(tree: Tree, node: Node, settings: RewardSettings, thoughts: ThoughtSettings) -> float:
    budget, spent = thoughts.path_budget, trail_of(tree, node.index).spent
    if spent >= thoughts.thinking_limit:
        return 0.0
    return length_reward(spent, budget, settings.below, settings.above)
