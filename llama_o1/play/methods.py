"""The search methods by name: each a generator over a tree, all driven alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from llama_o1.errors import ConfigError
from tree.actions import ActionDraw, Transitions, by_model, uniformly
from tree.baselines import lines
from tree.budget import Limits
from tree.interleave import Search
from tree.node import Tree
from tree.search import SearchSettings, mcts
from tree.vote import Weighting

Method = Literal["mcts", "greedy", "best_of_n", "majority", "value_vote"]
ActionSource = Literal["model", "uniform", "transitions"]

WEIGHTINGS: Mapping[Method, Weighting] = {
    "mcts": "value",
    "greedy": "count",
    "best_of_n": "best",
    "majority": "count",
    "value_vote": "value",
}
"""How the conclusions of each method become its answer."""


@dataclass(frozen=True)
class MethodSettings:
    """Which search grows a tree, and with how much."""

    method: Method = "mcts"
    """Grown as a tree: `mcts`. Independent lines: `greedy` (one, the likeliest tokens), `best_of_n`,
    `majority` and `value_vote`, which differ in how the answer is chosen."""
    budget_tokens: int = 2048
    """Every token of the tree; hard."""
    actions: ActionSource = "model"
    """Who draws the kind of the next thought."""
    num_lines: int = 16
    """Independent lines of `best_of_n`, `majority` and `value_vote`; fewer where tokens are short."""
    tree: SearchSettings = field(default_factory=SearchSettings)

    def __post_init__(self) -> None:
        """Refuse counts that grow nothing."""
        for name in ("budget_tokens", "num_lines"):
            if getattr(self, name) < 1:
                raise ConfigError(f"search.{name} must be at least 1, got {getattr(self, name)}")

    @property
    def weighting(self) -> Weighting:
        """How the conclusions become the answer."""
        return WEIGHTINGS[self.method]


def start(tree: Tree, settings: MethodSettings, limits: Limits, draw: ActionDraw) -> Search:
    """The search that these settings name, ready to grow the tree."""
    if settings.method == "mcts":
        return mcts(tree, settings.tree, limits, draw)
    num_lines = 1 if settings.method == "greedy" else settings.num_lines
    return lines(tree, num_lines, settings.tree.max_depth, limits, draw)


def action_draw(source: ActionSource, transitions: Transitions) -> ActionDraw:
    """Who draws the kinds."""
    draws: dict[ActionSource, ActionDraw] = {
        "model": by_model,
        "uniform": uniformly,
        "transitions": transitions,
    }
    return draws[source]
