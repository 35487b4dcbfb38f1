"""The search methods by name: each a generator over a tree, all driven alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Literal

from llama_o1.errors import ConfigError
from llama_o1.play.purse import Share
from tree.actions import ActionDraw, MetaAction, Transitions, by_model, omitting, refining, uniformly
from tree.baselines import lines
from tree.beam import beam
from tree.best_first import best_first
from tree.budget import Limits, Stop
from tree.gumbel import gumbel
from tree.interleave import Search
from tree.node import Tree
from tree.pairwise import ranked
from tree.rank import by_ucb
from tree.search import SearchSettings, mcts
from tree.stop import Decided, Hopeless
from tree.vote import Same, Weighting

Method = Literal[
    "mcts",
    "ucb",
    "gumbel",
    "best_first",
    "refine",
    "beam",
    "dvts",
    "greedy",
    "best_of_n",
    "majority",
    "value_vote",
    "line",
]
Kind = Literal["divide", "critic", "refine"]  # of thoughts that a search can do without
ActionSource = Literal["model", "uniform", "transitions"]

WEIGHTINGS: Mapping[Method, Weighting] = {
    "mcts": "value",
    "ucb": "value",
    "gumbel": "value",
    "best_first": "value",
    "refine": "value",
    "beam": "best",
    "dvts": "value",
    "greedy": "count",
    "best_of_n": "best",
    "majority": "count",
    "value_vote": "value",
    "line": "count",
}
"""How the conclusions of each method become its answer, where the settings do not say."""


WHOLE_SOLUTIONS = {"whole_solutions": True, "prune": True}  # what makes the tree one of SR-MCTS


@dataclass(frozen=True)
class MethodSettings:
    """Which search grows a tree, and with how much."""

    method: Method = "mcts"
    """`mcts` (PUCT), `ucb` (as LLaMA-O1), `gumbel`, `best_first`, `refine` (whole solutions, as SR-MCTS),
    `beam` (step level), `dvts`; independent lines: `greedy` (one), `best_of_n`, `majority`, `value_vote`;
    `line`: lines of plain text between delimiters (`--thoughts.line.*`), for any model that thinks."""
    budget_tokens: int = 2048
    """Every token of the tree; hard."""
    budget_nodes: int | None = None
    """Thoughts of a tree; null: no limit but `tree.simulations`."""
    budget_s: float | None = None
    """Seconds of a tree; after them nothing but a last conclusion is begun. Makes results depend on speed."""
    run_budget_tokens: int | None = None
    """Tokens of all problems searched together. What a tree leaves is there for those after it."""
    run_budget_nodes: int | None = None
    """Thoughts of all problems searched together; needs `budget_nodes`, the most that one may take."""
    run_budget_simulations: int | None = None
    """Simulations of all problems searched together."""
    run_budget_s: float | None = None
    """Seconds of all problems searched together."""
    answer: Weighting | None = None
    """How conclusions become the answer: votes by `value` or `count`, by `likelihood` (squared values times
    the probability of their lines, each line once: for trees), the `best` one, the one at the end
    of the path with most `visits`, or the one that the model ranks first when it compares them in pairs
    (`pairwise`, for a model that `llama-o1 prefer` made); null: as suits the method."""
    compared: int = 16
    """Solutions of a tree that are compared, the most valuable; n take n (n - 1) forward passes."""
    stop_decided: bool = True
    """End a search whose answer the rest of its budget cannot overturn. Never in self-play, nor by
    `likelihood` where the model does not draw the kinds."""
    hopeless: float = 0.0
    """End a search in which no thought was worth so much, in [0, 1]; 0: never."""
    hopeless_after: int = 16
    """Thoughts before a search may be called hopeless."""
    actions: ActionSource = "model"
    """Who draws the kind of the next thought."""
    without: tuple[Kind, ...] = ()
    """Kinds of thoughts that are switched off. One that the model draws all the same is over with its tag,
    which costs its header; a line of `majority` and the like ends there."""
    num_lines: int | None = None
    """Lines of `best_of_n`, `majority` and `value_vote`, subtrees of `dvts`, null: 16; plain lines of `line`,
    which vote by majority, null: 1. Fewer where tokens are short."""
    beam_width: int = 3
    """Lines that `beam` goes on with, B1; below each, `tree.max_children` thoughts are tried, B2."""
    tree: SearchSettings = field(default_factory=SearchSettings)

    def __post_init__(self) -> None:
        """Refuse counts that grow nothing."""
        counts = ("budget_tokens", "budget_nodes", "run_budget_tokens", "num_lines", "beam_width", "compared")
        for name in (*counts, "run_budget_nodes", "run_budget_simulations", "hopeless_after"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ConfigError(f"search.{name} must be at least 1, got {count}")
        if self.method == "refine" and {"critic", "refine"} & set(self.without):
            raise ConfigError(
                f"search.method refine is made of critics and refines, got search.without {self.without[0]}"
            )
        if self.run_budget_nodes is not None and self.budget_nodes is None:
            raise ConfigError(
                f"search.run_budget_nodes needs search.budget_nodes, got {self.run_budget_nodes} and none; "
                "say how many thoughts one problem may take"
            )
        for name in ("budget_s", "run_budget_s"):
            seconds = getattr(self, name)
            if seconds is not None and not 0 < seconds < inf:
                raise ConfigError(f"search.{name} must be above 0 and finite, got {seconds}")
        if not 0 <= self.hopeless <= 1:
            raise ConfigError(f"search.hopeless must be in [0, 1], got {self.hopeless}")

    def stops(self, same: Same) -> Iterator[Stop]:
        """Reasons to end a tree before its budget, new ones for each tree."""
        if self.stop_decided and not (self.weighting == "likelihood" and self.actions != "model"):
            yield Decided(self.weighting, same)
        if self.hopeless:
            yield Hopeless(self.hopeless, self.hopeless_after)

    @property
    def kinds_off(self) -> frozenset[MetaAction]:
        """Kinds of thoughts that are switched off."""
        return frozenset(map(MetaAction, self.without))

    @property
    def most_lines(self) -> int:
        """Independent lines or subtrees, where tokens are enough."""
        return self.num_lines or (1 if self.method == "line" else 16)

    @property
    def of_a_tree(self) -> Share:
        """What one tree may spend."""
        return Share(self.budget_tokens, self.budget_nodes, self.tree.simulations)

    @property
    def of_a_run(self) -> Share:
        """What all trees together may spend."""
        return Share(self.run_budget_tokens, self.run_budget_nodes, self.run_budget_simulations)

    @property
    def growth(self) -> MethodSettings:
        """Without what only chooses among conclusions: where that is equal, so are the trees."""
        if self.stop_decided or self.weighting == "pairwise":
            return self
        counted = self.method in ("best_of_n", "value_vote")
        return replace(self, method="majority" if counted else self.method, answer=None)

    @property
    def weighting(self) -> Weighting:
        """How the conclusions become the answer."""
        return WEIGHTINGS[self.method] if self.answer is None else self.answer


def start(tree: Tree, settings: MethodSettings, limits: Limits, draw: ActionDraw) -> Search:
    """The search that these settings name, ready to grow the tree."""
    shape, depth = settings.tree, settings.tree.max_depth
    searches: dict[Method, Callable[[], Search]] = {
        "mcts": lambda: mcts(tree, shape, limits, draw),
        "ucb": lambda: mcts(tree, shape, limits, draw, by_ucb),
        "gumbel": lambda: gumbel(tree, shape, limits, draw),
        "best_first": lambda: best_first(tree, shape, limits, draw),
        "refine": lambda: mcts(tree, replace(shape, **WHOLE_SOLUTIONS), limits, refining(draw)),
        "beam": lambda: beam(tree, settings.beam_width, shape.max_children, depth, limits, draw),
        "dvts": lambda: beam(tree, 1, shape.max_children, depth, limits, draw, settings.most_lines),
        "greedy": lambda: lines(tree, 1, depth, limits, draw),
        "line": lambda: lines(tree, settings.most_lines, depth, limits, by_model),
    }
    search = searches.get(settings.method, lambda: lines(tree, settings.most_lines, depth, limits, draw))()
    return ranked(search, tree, settings.compared) if settings.weighting == "pairwise" else search


def action_draw(settings: MethodSettings, transitions: Transitions) -> ActionDraw:
    """Who draws the kinds, and among which."""
    draws: dict[ActionSource, ActionDraw] = {
        "model": by_model,
        "uniform": uniformly,
        "transitions": transitions,
    }
    draw = draws[settings.actions]
    return omitting(settings.kinds_off, draw) if settings.without else draw
