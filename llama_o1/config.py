"""What a run is told: frozen dataclasses with their defaults, read from YAML and dotted overrides.

Must not import torch: the command line reads this for `--help`. No slots here and in the settings
this joins: jsonargparse reads defaults through `vars`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from llama_o1.errors import ConfigError
from llama_o1.learn.settings import LearnerSettings, LoraSettings, PathSettings, ValueSource
from llama_o1.play.curriculum import CurriculumSettings
from llama_o1.play.expand import ThoughtSettings
from llama_o1.play.methods import MethodSettings
from llama_o1.play.reward import RewardSettings
from llama_o1.tasks.mixture import Columns, ProblemSet, check_not_varied
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
    freeze_embeddings: bool = False
    """Leave the embeddings as they are, an output head tied to them too; with lora also the tokens' rows."""
    value: ValueSource = "rating"
    """Where values are read: logits of the `rating` tokens, or a linear + tanh `head` on the hidden state
    after a thought, saved beside the weights (AlphaMath). Only the local engine reads a head."""


@dataclass(frozen=True)
class EngineSettings:
    """Who samples thoughts, and how."""

    name: Literal["local", "vllm", "server"] = "local"
    """`local`: torch in this process, on the learner's own weights. `vllm`: vLLM in this process. `server`:
    OpenAI-compatible servers that run already, at `urls`."""
    slots: int = 64
    """Samples worked on at once."""
    cache_mb: int | None = None
    """Key-value cache of prefixes that may be continued; null: 1024, on a GPU an eighth of what is free if
    that is more, and for vllm there what `gpu_memory` leaves. Not of servers."""
    threads: int = 0
    """CPU threads of the local engine, small models are fastest with 1; 0: as many as there are cores."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Of the weights that sample; null: the learner's for local, for vllm float32 on a CPU and bfloat16 on a
    GPU. Servers have their own."""
    max_context: int | None = None
    """Tokens of a problem and one line of thoughts; null: all that the model or the server has room for."""
    urls: tuple[str, ...] = ()
    """Servers of one model: `--engine.urls http://a:8000,http://b:8000`."""
    timeout_s: float = 120.0
    """Seconds a server may take for one answer."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the servers' key, which itself is written nowhere."""
    gpu_memory: float = 0.9
    """Share of a GPU's memory that vllm takes; a learner on the same GPU needs the rest, or `sleep`."""
    sleep: bool = False
    """Let vllm free its GPU while the learner learns."""

    def __post_init__(self) -> None:
        """Refuse counts without a meaning and settings that the named engine does not have."""
        if self.slots < 1:
            raise ConfigError(f"engine.slots must be at least 1, got {self.slots}")
        for name, least in (("cache_mb", int(self.name == "vllm")), ("threads", 0), ("max_context", 1)):
            count = getattr(self, name)
            if count is not None and count < least:
                raise ConfigError(f"engine.{name} must be at least {least}, got {count}")
        if not 0 < self.gpu_memory <= 1:
            raise ConfigError(f"engine.gpu_memory must be above 0 and at most 1, got {self.gpu_memory}")
        if not 0 < self.timeout_s < float("inf"):
            raise ConfigError(f"engine.timeout_s must be above 0 and finite, got {self.timeout_s}")
        self._check_fields_of_the_engine()

    def _check_fields_of_the_engine(self) -> None:
        if self.name == "server" and not self.urls:
            raise ConfigError(
                "engine.name server needs engine.urls, got none; give --engine.urls http://localhost:8000"
            )
        owned = {"server": ("urls", "api_key_env"), "vllm": ("sleep",)}
        for owner, names in owned.items():
            for name in names:
                value = getattr(self, name)
                if self.name != owner and value:
                    raise ConfigError(
                        f"engine.{name} is for engine.name {owner}, got engine.name {self.name}; "
                        f"set engine.name {owner} or leave out engine.{name}"
                    )
        if self.name == "server" and self.dtype is not None:
            raise ConfigError(
                f"engine.dtype is chosen where a server is started, got {self.dtype} for a server; "
                "start it with --dtype and leave out engine.dtype"
            )


@dataclass(frozen=True)
class TeachSettings:
    """What a finished tree teaches (tree/targets.py)."""

    advantage: AdvantageMode = "tree"
    """Of a thought over what was expected: `relative`, `tree`, `gae`, `siblings`; of independent lines over
    their mean grade: `group`; the share of right answers it led to: `right`."""
    mix: float = 0.5
    """Weight of Q in the value target; the rest is the mean grade of the leaves below."""
    discount: float = 1.0
    """Of a value one thought later, for GAE."""
    trace: float = 0.95
    """Lambda of GAE."""
    grades: Literal["during", "after"] = "during"
    """A search goes where grades are good (`during`), or sees none, as at inference, and its tree is graded
    when it is over (`after`): values are then learned on what a search that trusts them looks at."""
    by_deviation: bool = False
    """Divide the advantages of `group` by the standard deviation of the grades, as GRPO does."""
    skip_zero: bool = False
    """Leave out thoughts whose advantage is 0; without a value loss they teach nothing."""
    reward: RewardSettings = field(default_factory=RewardSettings)
    """What an answer is worth to the policy; by default, that it is right, which alone teaches values."""

    def __post_init__(self) -> None:
        """Refuse weights outside [0, 1]."""
        for name in ("mix", "discount", "trace"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"teach.{name} must be in [0, 1], got {getattr(self, name)}")


@dataclass(frozen=True)
class ReplaySettings:
    """Prioritized replay (Schaul et al. 2016)."""

    capacity: int = 100_000
    """Experiences kept."""
    eviction: Literal["oldest", "lowest_priority", "oldest_version"] = "oldest"
    """Who goes when the buffer is full; `oldest_version`: what the oldest weights made."""
    alpha: float = 0.6
    """Exponent of the priorities; 0 draws uniformly."""
    beta: float = 0.4
    """Of the importance weights at the first iteration; 1 at the last."""
    max_lag: int = 4
    """Experiences made by weights more versions old are dropped."""
    draws: Literal["stratified", "independent"] = "stratified"
    """One item from each of equal strata of all priorities, or each `independent` of the others."""
    normalise: Literal["batch", "buffer"] = "batch"
    """Importance weights are divided by the largest of their `batch`, or of the whole `buffer`."""
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
        """Refuse evaluations that never come, and held-out problems told anew."""
        check_not_varied(self.problems, "evaluation.problems")
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
    """Of every draw; the same run again needs the same."""
    iterations: int = 10
    """Rounds of search, learn, search again."""
    max_tokens: int | None = None
    """End the run when self-play has generated so many tokens, forced ones included; null: `iterations` end
    it. Runs that are compared are given the same."""
    problems_per_iteration: int = 32
    """Problems searched at once in one iteration."""
    steps_per_iteration: int = 16
    """Learner steps on prioritized draws from the replay buffer."""
    fresh_epochs: int = 0
    """Before them, passes over all that this iteration's trees teach, whole trees in a step, which costs a
    fraction of as many draws: what thoughts of one tree share is computed once."""
    checkpoint_every: int = 1
    """Iterations."""
    keep_checkpoints: int = 3
    """Newest checkpoints kept, and the best by held-out accuracy."""
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Where metrics go beside `metrics.jsonl`: `--trackers tensorboard,wandb`."""
    report: bool = True
    """At each evaluation draw curves and a page into `report/`; `llama-o1 report RUN` does it at any time."""
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
    curriculum: CurriculumSettings = field(default_factory=CurriculumSettings)
    """Path budgets over the iterations, in place of `thoughts.path_budget`."""
    teach: TeachSettings = field(default_factory=TeachSettings)
    replay: ReplaySettings = field(default_factory=ReplaySettings)
    learner: LearnerSettings = field(default_factory=LearnerSettings)
    paths: PathSettings = field(default_factory=PathSettings)

    def __post_init__(self) -> None:
        """Refuse counts that make no run."""
        for name in (
            "problems_per_iteration",
            "checkpoint_every",
            "keep_checkpoints",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ConfigError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if self.learner.objective == "imitation" and self.teach.advantage != "right":
            raise ConfigError(
                "learner.objective imitation teaches right lines only, got teach.advantage "
                f"{self.teach.advantage}; set teach.advantage right"
            )
        for name in ("iterations", "fresh_epochs", "steps_per_iteration"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not self.fresh_epochs and not self.steps_per_iteration:
            raise ConfigError("steps_per_iteration must be at least 1 where fresh_epochs is 0, got 0")
        if not self.problems:
            raise ConfigError("problems must name at least one problem set, got none")
