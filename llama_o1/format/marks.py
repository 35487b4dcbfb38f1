"""Families of control tokens that tell a model how much of its budget remains (BudgetThinker section 3.1).

Must not import torch: the command line reads the settings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from llama_o1.errors import ConfigError

MARK = re.compile(r"<remaining>[0-9]+(?:/[0-9]+)?</remaining>")


@dataclass(frozen=True)
class MarkSettings:
    """Which control tokens stand in a path's thinking; the model's vocabulary must hold them."""

    mode: Literal["ratio", "every"] = "ratio"
    """`ratio`: between equal parts of the budget, `<remaining>7/8</remaining>`; `every`: each so many
    tokens, `<remaining>150</remaining>`."""
    size: int = 8
    """Parts of a budget, or tokens from mark to mark (BudgetThinker: 50 or 250)."""
    longest: int = 2000
    """Mode `every`: the longest budget that `init` adds tokens for."""

    def __post_init__(self) -> None:
        """Refuse families without a token."""
        if self.size < 2:
            raise ConfigError(f"marks.size must be at least 2, got {self.size}")
        if self.mode == "every" and self.longest < 2 * self.size:
            raise ConfigError(f"marks.longest must be at least twice marks.size, got {self.longest}")

    @property
    def least_budget(self) -> int:
        """Tokens of the smallest budget: room for a token beside each mark; at least one mark."""
        return 2 * self.size

    def name(self, number: int) -> str:
        """The token for `number` parts, or `number` times `size` tokens, that remain."""
        left = f"{number}/{self.size}" if self.mode == "ratio" else str(number * self.size)
        return f"<remaining>{left}</remaining>"

    def names(self) -> tuple[str, ...]:
        """The tokens that `init` adds, in the order in which a path meets them."""
        most = self.size - 1 if self.mode == "ratio" else (self.longest - 1) // self.size
        return tuple(self.name(number) for number in range(most, 0, -1))

    @property
    def flags(self) -> str:
        """How a command line asks for this family."""
        return f"--marks.mode {self.mode} --marks.size {self.size}"
