"""The search methods by name: each a generator over a tree, all driven alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from llama_o1.errors import ConfigError
from tree.actions import ActionDraw, Transitions, by_model, uniformly
from tree.baselines import lines
from tree.budget import Limits
from tree.interleave import Search
from tree.node import Tree
from tree.search import SearchSettings, mcts

Method = Literal["mcts", "line"]
ActionSource = Literal["model", "uniform", "transitions"]


@dataclass(frozen=True)
class MethodSettings:
    """Which search grows a tree, and with how much."""

    method: Method = "mcts"
    budget_tokens: int = 2048
    """Every token of the tree; hard."""
    actions: ActionSource = "model"
    """Who draws the kind of the next thought."""
    num_lines: int = 1
    """Lines of thought of the method `line`."""
    tree: SearchSettings = field(default_factory=SearchSettings)

    def __post_init__(self) -> None:
        """Refuse counts that grow nothing."""
        for name in ("budget_tokens", "num_lines"):
            if getattr(self, name) < 1:
                raise ConfigError(f"search.{name} must be at least 1, got {getattr(self, name)}")


def start(tree: Tree, settings: MethodSettings, limits: Limits, draw: ActionDraw) -> Search:
    """The search that these settings name, ready to grow the tree."""
    if settings.method == "line":
        return lines(tree, settings.num_lines, settings.tree.max_depth, limits, draw)
    return mcts(tree, settings.tree, limits, draw)


def action_draw(source: ActionSource, transitions: Transitions) -> ActionDraw:
    """Who draws the kinds."""
    draws: dict[ActionSource, ActionDraw] = {
        "model": by_model,
        "uniform": uniformly,
        "transitions": transitions,
    }
    return draws[source]
