"""What a run is told: frozen dataclasses with their defaults, read from YAML and dotted overrides.

Must not import torch: the command line reads this for `--help`. No slots here and in the settings
this joins: jsonargparse reads defaults through `vars`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from llama_o1.errors import ConfigError
from llama_o1.format.budget import LEAST_BUDGET
from llama_o1.learn.settings import ColdstartSettings, LearnerSettings, LoraSettings
from llama_o1.play.expand import ThoughtSettings
from llama_o1.play.methods import MethodSettings
from llama_o1.tasks.mixture import Columns, ProblemSet
from tree.targets import AdvantageMode

BUILTIN_MODEL = "nano"


@dataclass(frozen=True)
class ModelSettings:
    """Which language model, and what of it is trained."""

    path: str = BUILTIN_MODEL
    """The shipped model, a folder, or a Hugging Face name."""
    adapter: Literal["none", "lora"] = "none"
    """None: full fine-tuning."""
    lora: LoraSettings = field(default_factory=LoraSettings)


@dataclass(frozen=True)
class EngineSettings:
    """How thoughts are sampled."""

    slots: int = 64
    """Samples worked on at once."""
    cache_mb: int = 1024
    """Key-value cache of prefixes that may be continued."""
    threads: int = 0
    """CPU threads while sampling, small models are fastest with 1; 0: as many as there are cores."""

    def __post_init__(self) -> None:
        """Refuse an engine without a slot."""
        if self.slots < 1:
            raise ConfigError(f"engine.slots must be at least 1, got {self.slots}")
        if self.cache_mb < 0 or self.threads < 0:
            raise ConfigError(
                f"engine.cache_mb and engine.threads must be at least 0, got {self.cache_mb}, {self.threads}"
            )


@dataclass(frozen=True)
class TeachSettings:
    """What a finished tree teaches (tree/targets.py)."""

    advantage: AdvantageMode = "tree"
    mix: float = 0.5
    """Weight of Q in the value target; the rest is the mean grade of the leaves below."""
    discount: float = 1.0
    """Of a value one thought later, for GAE."""
    trace: float = 0.95
    """Lambda of GAE."""

    def __post_init__(self) -> None:
        """Refuse weights outside [0, 1]."""
        for name in ("mix", "discount", "trace"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"teach.{name} must be in [0, 1], got {getattr(self, name)}")


@dataclass(frozen=True)
class ReplaySettings:
    """Prioritized replay (Schaul et al. 2016)."""

    capacity: int = 100_000
    """Experiences kept; the oldest go first."""
    alpha: float = 0.6
    """Exponent of the priorities; 0 draws uniformly."""
    beta: float = 0.4
    """Of the importance weights at the first iteration; 1 at the last."""
    max_lag: int = 4
    """Experiences made by weights more versions old are dropped."""
    durability: Literal["process", "power"] = "process"
    """What an acknowledged experience survives: a killed process, or a power cut (slower)."""

    def __post_init__(self) -> None:
        """Refuse a buffer that can hold or draw nothing."""
        if self.capacity < 1 or self.max_lag < 0:
            raise ConfigError(
                "replay.capacity must be at least 1 and replay.max_lag at least 0, "
                f"got {self.capacity}, {self.max_lag}"
            )
        if not 0 <= self.alpha <= 1 or not 0 <= self.beta <= 1:
            raise ConfigError(
                f"replay.alpha and replay.beta must be in [0, 1], got {self.alpha}, {self.beta}"
            )


@dataclass(frozen=True)
class EvaluationSettings:
    """Held-out problems and when they are looked at."""

    problems: tuple[ProblemSet, ...] = ()
    """Held-out problem sets."""
    split: Literal["dev", "test"] = "test"
    """Tune on dev, report on test."""
    every: int = 4
    """Iterations between evaluations; also before the first and after the last."""
    search: int = 100
    """Before and after, also evaluate the tree search, on at most so many problems of each set; 0: never."""

    def __post_init__(self) -> None:
        """Refuse evaluations that never come."""
        if self.every < 1:
            raise ConfigError(f"evaluation.every must be at least 1, got {self.every}")
        if self.search < 0:
            raise ConfigError(f"evaluation.search must be at least 0, got {self.search}")


@dataclass(frozen=True)
class RunConfig:
    """A self-play run, or a search with the same model and settings."""

    run_dir: str = "runs/run"
    """Where everything of the run is written."""
    resume: bool = False
    """Go on with the run in run_dir."""
    seed: int = 0
    iterations: int = 10
    """Rounds of search, learn, search again."""
    problems_per_iteration: int = 32
    """Problems searched at once in one iteration."""
    steps_per_iteration: int = 16
    """Learner steps."""
    checkpoint_every: int = 1
    """Iterations."""
    keep_checkpoints: int = 3
    """Newest checkpoints kept."""
    skip_bad_lines: bool = False
    """Count broken lines of a problem file instead of stopping."""
    model: ModelSettings = field(default_factory=ModelSettings)
    problems: tuple[ProblemSet, ...] = (ProblemSet("word"),)
    """What to train on: sets as YAML, or names: `--problems gsm8k,svamp` or a JSONL file."""
    columns: Columns = field(default_factory=Columns)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    thoughts: ThoughtSettings = field(default_factory=ThoughtSettings)
    search: MethodSettings = field(default_factory=MethodSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    teach: TeachSettings = field(default_factory=TeachSettings)
    replay: ReplaySettings = field(default_factory=ReplaySettings)
    learner: LearnerSettings = field(default_factory=LearnerSettings)

    def __post_init__(self) -> None:
        """Refuse counts that make no run."""
        for name in (
            "problems_per_iteration",
            "steps_per_iteration",
            "checkpoint_every",
            "keep_checkpoints",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.iterations < 0:
            raise ConfigError(f"iterations must be at least 0, got {self.iterations}")
        if not self.problems:
            raise ConfigError("problems must name at least one problem set, got none")


@dataclass(frozen=True)
class SftConfig:
    """A cold start: a model taught to write our thoughts from worked problems."""

    out: str = "runs/coldstart"
    """Folder of the finished model."""
    seed: int = 0
    model: str | None = None
    """What to start from; null: a new nano model with a tokenizer of its own."""
    adapter: Literal["none", "lora"] = "none"
    lora: LoraSettings = field(default_factory=LoraSettings)
    problems: tuple[ProblemSet, ...] = (ProblemSet("word", max_steps=3),)
    """Problems with worked solutions."""
    budgets: tuple[int, ...] = (64, 96, 128, 192, 256)
    """Path budgets, one drawn for each line."""
    calculator: bool = True
    """Leave results of `<<48/2=` to the calculator."""
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
        if not self.budgets or min(self.budgets) < LEAST_BUDGET:
            raise ConfigError(
                f"budgets must each be at least {LEAST_BUDGET} tokens, got {list(self.budgets)}"
            )
        if not self.problems:
            raise ConfigError("problems must name at least one problem set, got none")
