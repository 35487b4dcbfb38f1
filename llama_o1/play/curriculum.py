"""Which path budget each problem of an iteration is searched under.

BudgetThinker (its curriculum of RL) goes down by stages and closes with a mixture, one budget a batch.
Ours: in a mixture each problem draws its own, so that one batch holds several. Budgets follow from seed,
iteration and place alone, so a resumed run draws the same.

Must not import torch: the command line reads the settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Literal

from llama_o1.errors import ConfigError

Order = Literal["fixed", "decreasing", "mixed", "decreasing_then_mixed"]


@dataclass(frozen=True)
class CurriculumSettings:
    """Path budgets over the iterations of self-play."""

    order: Order = "fixed"
    """`fixed`: `thoughts.path_budget` always; `decreasing`: each of `budgets` for some iterations, the last
    one from then on; `mixed`: each problem draws one; `decreasing_then_mixed`: both in turn."""
    budgets: tuple[int, ...] = ()
    """Thinking tokens of a path."""
    iterations_each: int = 2
    """Iterations of one budget while they decrease."""

    def __post_init__(self) -> None:
        """Refuse orders without their budgets."""
        shown = ", ".join(map(str, self.budgets)) or "none"
        if self.order == "fixed" and self.budgets:
            raise ConfigError(
                f"curriculum.order fixed takes thoughts.path_budget, got curriculum.budgets {shown}; "
                "leave them out or choose another order"
            )
        if self.order != "fixed" and (len(self.budgets) < 2 or min(self.budgets) < 1):
            raise ConfigError(f"curriculum.budgets must be at least two budgets above 0, got {shown}")
        if self.order.startswith("decreasing") and any(a <= b for a, b in pairwise(self.budgets)):
            raise ConfigError(f"curriculum.budgets must decrease, got {shown}; sort them, or choose mixed")
        if self.iterations_each < 1:
            raise ConfigError(f"curriculum.iterations_each must be at least 1, got {self.iterations_each}")

    def of_iteration(self, iteration: int, num_problems: int, seed: int, fixed: int) -> list[int]:
        """The path budget of each problem of an iteration, counted from 1; `fixed` where none is listed."""
        if self.order == "fixed":
            return [fixed] * num_problems
        stage = (iteration - 1) // self.iterations_each
        if self.order == "decreasing" or (self.order != "mixed" and stage < len(self.budgets)):
            return [self.budgets[min(stage, len(self.budgets) - 1)]] * num_problems
        return [Random(f"budget/{seed}/{iteration}/{i}").choice(self.budgets) for i in range(num_problems)]

    def all(self, fixed: int) -> tuple[int, ...]:
        """Every path budget that can come, the longest first."""
        return tuple(sorted({*(self.budgets or (fixed,))}, reverse=True))
