"""Ways to tell a model a budget of thinking tokens and to hold it to it, by name. Must not import torch.

A way takes the place of a method in an evaluation, whose budgets are then thinking tokens of a path, not all
tokens of a tree. Some tell the budget, some force it: s1 (section 3.1) and BudgetThinker compare both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, inf

from llama_o1.errors import ConfigError
from llama_o1.format.marks import MarkSettings
from llama_o1.play.expand import ThoughtSettings
from llama_o1.play.methods import Method, MethodSettings

UNLIMITED = 1 << 30  # tokens; one path is limited by the model's context
ONE_PATH: tuple[Method, ...] = ("line", "greedy")
BEYOND = 0.02  # BudgetThinker's B + B // 50


@dataclass(frozen=True)
class Way:
    """How a budget of thinking tokens is told and held."""

    method: Method = "line"
    """Who writes: `line`, plain text between delimiters, or a search over thoughts."""
    words: bool = False
    """Tell the budget in words after the question; of `line` only."""
    marks: MarkSettings | None = None
    """Control tokens in the thinking; null: none."""
    overrun: float = BEYOND
    """Share of the budget that may be thought beyond it before the end is forced; 0: held to the budget."""
    least: float = 0.0
    """Share of the budget before which no end is taken, but the wait of `thoughts.line` appended."""
    waits: int = 0
    """How many ends are not taken, but the wait appended (s1)."""
    tokens: int | None = None
    """Of the whole tree, hard; null: no limit, for ways of one path."""

    def __post_init__(self) -> None:
        """Refuse ways that cannot be gone."""
        if not 0 <= self.overrun < inf:
            raise ConfigError(f"thinking: overrun must be finite and at least 0, got {self.overrun}")
        if not 0 <= self.least <= 1:
            raise ConfigError(
                f"thinking: least must be in [0, 1], got {self.least}; the minimum is a share of the budget, "
                "which is the maximum"
            )
        if self.waits < 0:
            raise ConfigError(f"thinking: waits must be at least 0, got {self.waits}")
        if self.method != "line" and (self.words or self.least or self.waits):
            raise ConfigError(
                f"thinking: words, least and waits are for lines of plain text, got method {self.method}; "
                "leave them out or set method line"
            )
        if self.tokens is None and self.method not in ONE_PATH:
            raise ConfigError(
                f"thinking: method {self.method} grows a tree of any size; give tokens, the most it may take"
            )
        if self.tokens is not None and self.tokens < 1:
            raise ConfigError(f"thinking: tokens must be at least 1, got {self.tokens}")

    def least_of(self, budget: int) -> int:
        """The fewest thinking tokens that count as within a budget."""
        return ceil(self.least * budget)

    def thoughts(self, given: ThoughtSettings, budget: int) -> ThoughtSettings:
        """How thoughts are written under this budget; ConfigError when it is too small for the marks."""
        return replace(
            given,
            path_budget=budget,
            overrun=self.overrun,
            show_budget=self.marks is not None,
            marks=self.marks or given.marks,
            line=replace(
                given.line, tell_budget=self.words, waits=self.waits, min_thinking=self.least_of(budget)
            ),
        )

    def search(self, given: MethodSettings) -> MethodSettings:
        """The search that writes them."""
        return replace(given, method=self.method, budget_tokens=self.tokens or UNLIMITED)


WAYS: Mapping[str, Way] = {
    "none": Way(),
    "prompt": Way(words=True),
    "ratio": Way(words=True, marks=MarkSettings()),
    "every_50": Way(words=True, marks=MarkSettings("every", 50)),
    "every_250": Way(words=True, marks=MarkSettings("every", 250)),
    "forcing": Way(overrun=0.0),
    "forcing_wait": Way(overrun=0.0, waits=2),
    "forcing_least": Way(overrun=0.0, least=0.5),
    "thoughts_none": Way("greedy"),
    "thoughts_ratio": Way("greedy", marks=MarkSettings()),
    "thoughts_forcing": Way("greedy", overrun=0.0),
    "tree": Way("mcts", marks=MarkSettings(), overrun=0.0, tokens=1024),
}
"""No budget told; told in words; in words and by control tokens; the end forced, and forced not to come
early; the same for thoughts; and a tree with a budget along each path."""
