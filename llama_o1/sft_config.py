"""What a fine-tuning is told. Must not import torch: the command line reads it for `--help`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from llama_o1.errors import ConfigError
from llama_o1.format.budget import BudgetPlan
from llama_o1.format.line import LineSettings
from llama_o1.format.marks import MarkSettings
from llama_o1.learn.settings import ColdstartSettings, LoraSettings, NewModelSettings
from llama_o1.tasks.mixture import ProblemSet


@dataclass(frozen=True)
class SftConfig:
    """A cold start: a model taught to write our thoughts from worked problems."""

    out: str = "runs/coldstart"
    """Folder of the finished model."""
    seed: int = 0
    model: str | None = None
    """What to start from; null: a new model with a tokenizer of its own."""
    new_model: NewModelSettings = field(default_factory=NewModelSettings)
    """The size of a new model; by default the nano model's."""
    adapter: Literal["none", "lora"] = "none"
    lora: LoraSettings = field(default_factory=LoraSettings)
    problems: tuple[ProblemSet, ...] = (ProblemSet("word", max_steps=3),)
    """Problems with worked solutions."""
    form: Literal["thoughts", "line"] = "thoughts"
    """`thoughts`: as a tree search writes them; `line`: plain text, as `--search.method line` writes it."""
    line: LineSettings = field(default_factory=LineSettings)
    """Delimiters of the form `line`; a search must be given the same as `--thoughts.line`."""
    telling: Literal["traces", "paces"] = "traces"
    """`traces`: with sub-problems, critics and repairs; `paces`: right solutions told briefly or at length,
    so that budgets can be kept."""
    budgets: tuple[int, ...] = (64, 96, 128, 192, 256)
    """Path budgets, one drawn for each line; a line of plain text that is longer is left out."""
    budget_step: int | None = None
    """Instead: each line's own thinking tokens, rounded up to a multiple of this (BudgetThinker: 50)."""
    show_budget: bool = True
    """Write control tokens."""
    marks: MarkSettings = field(default_factory=MarkSettings)
    """Control tokens that the model is taught."""
    calculator: bool | None = None
    """Leave results of `<<48/2=` to the calculator; null: in thoughts, not in lines of plain text."""
    vary: float = 0.6
    """Share of stored problems that are told again with other numbers."""
    unsure: float = 0.4
    """Share of lines whose ratings are random and not learned, so that the policy does not hang on them."""
    threads: int = 0
    """CPU threads of torch; 0: as many as there are cores."""
    sft: ColdstartSettings = field(default_factory=ColdstartSettings)

    def __post_init__(self) -> None:
        """Refuse shares outside [0, 1] and a cold start without a budget."""
        for name in ("vary", "unsure"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.budget_step is not None and self.budget_step < 1:
            raise ConfigError(f"budget_step must be at least 1, got {self.budget_step}")
        if not self.budgets:
            raise ConfigError("budgets must name at least one path budget, got none")
        BudgetPlan(min(self.budgets), (), self.marks)
        if not self.problems:
            raise ConfigError("problems must name at least one problem set, got none")
