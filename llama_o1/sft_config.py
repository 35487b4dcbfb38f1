"""What a fine-tuning is told. Must not import torch: the command line reads it for `--help`."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from llama_o1.errors import ConfigError
from llama_o1.format.budget import BudgetPlan
from llama_o1.format.line import LineSettings
from llama_o1.format.marks import MarkSettings
from llama_o1.learn.settings import ColdstartSettings, LoraSettings, NewModelSettings
from llama_o1.records import RecordColumns
from llama_o1.tasks.mixture import ProblemSet, check_not_varied


@dataclass(frozen=True)
class Lengths:
    """How long what the model writes may become, in tokens."""

    path_budget: int = 128
    """Thinking tokens of one answer."""
    max_text: int = 64
    """Of one thought."""
    max_answer: int = 32
    """Of one conclusion."""


@dataclass(frozen=True)
class SftEvaluation(Lengths):
    """What is looked at before, while it goes and after; without problems and `data` nothing is."""

    problems: tuple[ProblemSet, ...] = ()
    """Held-out problem sets, answered greedily: those of dev while it goes, those of `split` at the end."""
    split: Literal["dev", "test"] = "test"
    """Asked at the end; tune on dev, report on test."""
    every: int = 500
    """Steps between evaluations."""
    lines: int = 128
    """Held-out lines of worked problems whose loss is looked at; of a file it is the `holdout`."""

    def __post_init__(self) -> None:
        """Refuse evaluations that never come, and held-out problems told anew."""
        check_not_varied(self.problems, "evaluation.problems")
        for name, least in (("every", 1), ("lines", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"evaluation.{name} must be at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True)
class OwnLineSettings(Lengths):
    """A second stage, in which the model learns to rate lines of its own; without problems there is none."""

    problems: tuple[ProblemSet, ...] = ()
    """What it writes about; answers are enough."""
    count: int = 6000
    """Problems."""
    samples: int = 4
    """Lines of each."""
    temperature: float = 0.8
    """At which they are drawn."""
    share: float = 0.5
    """Of the lines of a step; the others are those of the first stage, so that nothing is forgotten."""
    sft: ColdstartSettings = field(
        default_factory=lambda: ColdstartSettings(steps=1000, learning_rate=8e-4, warmup_steps=50)
    )
    """Of the second stage."""

    def __post_init__(self) -> None:
        """Refuse counts that make no line."""
        for name in ("count", "samples"):
            if getattr(self, name) < 1:
                raise ConfigError(f"own_lines.{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.share <= 1:
            raise ConfigError(f"own_lines.share must be above 0 and at most 1, got {self.share}")
        if not 0 < self.temperature < inf:
            raise ConfigError(f"own_lines.temperature must be finite and above 0, got {self.temperature}")
        if self.sft.epochs is not None:
            raise ConfigError("own_lines.sft takes steps, not epochs")


@dataclass(frozen=True)
class SftConfig:
    """Supervised fine-tuning: a model is taught to write our thoughts, or plain text, from solutions."""

    out: str = "runs/coldstart"
    """Folder of the finished model, its card, its metrics and its checkpoints."""
    resume: bool = False
    """Go on with the fine-tuning in `out` from its last checkpoint."""
    checkpoint_every: int = 500
    """Steps; also after the last."""
    keep_checkpoints: int = 2
    """Newest checkpoints kept, and the best by accuracy on dev."""
    seed: int = 0
    """Of problems, lines, new weights and adapters."""
    model: str | None = None
    """What to start from: a folder, a Hugging Face name, or `nano`, the shipped one; null: a new model with a
    tokenizer of its own."""
    new_model: NewModelSettings = field(default_factory=NewModelSettings)
    """The size of a new model; by default the nano model's."""
    adapter: Literal["none", "lora"] = "none"
    """`lora`: train low-rank adapters, which are merged when the model is written."""
    lora: LoraSettings = field(default_factory=LoraSettings)
    problems: tuple[ProblemSet, ...] = (ProblemSet("word", max_steps=3),)
    """Problems with worked solutions."""
    examples: int | None = None
    """Learn from a fixed set of so many lines of these problems; null: from ever new ones."""
    data: str | None = None
    """Instead of problems a file (.jsonl, .json): OpenLongCoT records, or questions, thinking and answers."""
    columns: RecordColumns = field(default_factory=RecordColumns)
    holdout: float = 0.02
    """Share of the file's questions that is not learned from; its loss is looked at."""
    skip_bad_lines: bool = False
    """Count broken records of a file instead of stopping."""
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
    """Leave results of `<<48/2=` to the calculator; null: in thoughts on worked problems only."""
    vary: float = 0.6
    """Share of stored problems that are told again with other numbers."""
    unsure: float = 0.4
    """Share of lines whose ratings are random and not learned, so that the policy does not hang on them."""
    show_ratings: bool = True
    """In lines that the model writes itself, as `--thoughts.show_ratings`; worked lines show theirs."""
    threads: int = 0
    """CPU threads of torch; 0: as many as there are cores."""
    sft: ColdstartSettings = field(default_factory=ColdstartSettings)
    own_lines: OwnLineSettings = field(default_factory=OwnLineSettings)
    evaluation: SftEvaluation = field(default_factory=SftEvaluation)

    def __post_init__(self) -> None:
        """Refuse shares outside [0, 1] and a cold start without a budget."""
        for name in ("vary", "unsure", "holdout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("checkpoint_every", "keep_checkpoints", "examples"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ConfigError(f"{name} must be at least 1, got {count}")
        if self.sft.epochs is not None and self.data is None and self.examples is None:
            raise ConfigError(
                f"sft.epochs is {self.sft.epochs}, but worked problems are ever new; give examples, the "
                "lines of an epoch, or a file by data"
            )
        if self.budget_step is not None and self.budget_step < 1:
            raise ConfigError(f"budget_step must be at least 1, got {self.budget_step}")
        if not self.budgets:
            raise ConfigError("budgets must name at least one path budget, got none")
        BudgetPlan(min(self.budgets), (), self.marks)
        if self.own_lines.problems and self.form == "line":
            raise ConfigError("own_lines are for ratings, which plain text has not; use form thoughts")
        if not self.problems:
            raise ConfigError("problems must name at least one problem set, got none")

    @property
    def calculates(self) -> bool:
        """Whether results of `<<48/2=` are the calculator's."""
        if self.calculator is None:
            return self.form == "thoughts" and self.data is None
        return self.calculator
