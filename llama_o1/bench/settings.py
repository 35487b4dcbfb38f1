"""What a bench is told: sizes of its model and its work. Must not import torch: `--help` reads this.

No slots here: jsonargparse reads defaults through `vars`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from llama_o1.errors import ConfigError
from llama_o1.learn.settings import LearnerSettings
from llama_o1.play.expand import ThoughtSettings
from llama_o1.play.methods import MethodSettings
from tree.search import SearchSettings

# Every bench there is: `llama_o1/bench/NAME.py` runs it, a class below holds its settings.
BENCHES = {
    "engine": "the local engine against transformers' generate, vLLM and itself under other conditions",
    "train": "a learner step from tries against separate padded passes for policy and value",
    "replay": "the durable replay buffer against cpprb's in RAM and a plain copy of its payloads",
    "search": "a tree search against its engine's own rate and against a plain batch-1 loop",
}

ENGINE_ROWS = {
    "generate_b1": "one prompt at a time",
    "generate_b16": "16 prompts at once",
    "generate_b64": "64 prompts at once",
    "generate_b64_padded": "64 prompts of ragged lengths at once, left-padded for generate",
    "generate_b256": "256 prompts at once",
    "nodes4": "4 samples of each of many nodes",
    "segments": "the tree workload: short segments with forced tokens between them, on long prefixes",
    "leaf_scoring": "values of many suffixes of a few prefixes that are already computed",
    "prefill": "prompts never seen before, one token each",
    "ragged": "lengths that nobody knows beforehand against equal ones, more requests than slots",
    "prefix_sharing": "samples of one node with the prefix cache against without",
    "forced": "a forced token every few tokens against none",
}


@dataclass(frozen=True)
class BenchModel:
    """A Llama with random weights, made in code, or a model of yours."""

    path: str | None = None
    """A folder, a Hugging Face name, or nano for the shipped one; null: a random Llama of the sizes below."""
    hidden: int = 256
    layers: int = 6
    head_dim: int = 64
    vocab: int = 4096
    """Of `bench engine`; `bench search` takes its tokenizer's."""
    seed: int = 0
    """Of the random weights."""

    def __post_init__(self) -> None:
        """Refuse sizes that make no model."""
        for name in ("hidden", "layers", "head_dim", "vocab"):
            if getattr(self, name) < 1:
                raise ConfigError(f"model.{name} must be at least 1, got {getattr(self, name)}")
        if self.head_dim % 2 or self.hidden % self.head_dim:
            raise ConfigError(
                f"model.head_dim must be even and divide model.hidden, got {self.head_dim} and {self.hidden}"
            )
        if self.vocab < 32:
            raise ConfigError(f"model.vocab must be at least 32, got {self.vocab}")


@dataclass(frozen=True)
class EngineBench:
    """`bench engine`. Lengths are tokens."""

    rows: str = "all"
    """Which rows to run, by name with commas between."""
    repeats: int = 3
    """Times each row is measured, its systems in turn; a ratio is the median of the pairwise ones."""
    threads: int = 1
    """CPU threads of every system."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0
    model: BenchModel = field(default_factory=BenchModel)
    slots: int = 64
    """Samples our engine works on at once."""
    cache_mb: int = 1024
    """Keys and values that may be kept, of ours and of vLLM."""
    vllm: bool = True
    """Measure vLLM too where it is installed."""
    vllm_slots: int = 256
    """Samples vLLM works on at once; it is fastest with many."""
    prompt: int = 64
    new: int = 64
    """Sampled after each prompt."""
    nodes: int = 64
    """Prompts of the rows that take several samples of each."""
    samples: int = 4
    prefix: int = 256
    """Prompts of `segments` and `prefill`, prefixes of `leaf_scoring`."""
    segment: int = 16
    """Sampled between forced tokens."""
    forced: int = 4
    """Forced after each segment but the last."""
    leaves: int = 16
    """Prefixes of `leaf_scoring`, and suffixes of each."""
    suffix: int = 24

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        _check_counts(self, _ENGINE_COUNTS)
        if self.new % self.segment:
            raise ConfigError(f"new must be a multiple of segment, got {self.new} and {self.segment}")
        for row in self.chosen:
            if row not in ENGINE_ROWS:
                close = get_close_matches(row, ENGINE_ROWS, n=1)
                guess = f", did you mean {close[0]!r}?" if close else f"; rows: {', '.join(ENGINE_ROWS)}"
                raise ConfigError(f"no row {row!r}{guess}")

    @property
    def chosen(self) -> list[str]:
        """The rows to run, in their order."""
        if self.rows == "all":
            return list(ENGINE_ROWS)
        return [row.strip() for row in self.rows.split(",")]

    @property
    def longest(self) -> int:
        """Positions that the model must have."""
        forced = self.forced * (self.new // self.segment)
        return max(self.prompt + 2 * self.new, self.prefix + max(self.new + forced, self.suffix)) + 1


@dataclass(frozen=True)
class SearchBench:
    """`bench search`. Lengths are tokens."""

    repeats: int = 5
    """Times each system is measured, in turn; a ratio is the median of the pairwise ones."""
    threads: int = 1
    """CPU threads of every system."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0
    model: BenchModel = field(default_factory=lambda: BenchModel(hidden=128, layers=4))
    trees: int = 256
    """Problems searched at once, so many that the last ones, which leave slots empty, weigh little."""
    loop_trees: int = 3
    """Problems searched by the batch-1 loop, one after the other."""
    slots: int = 128
    """As `--engine.slots` elsewhere, where it is 64 unless told: a small model on a CPU gains from more."""
    cache_mb: int = 1024
    search: MethodSettings = field(
        default_factory=lambda: MethodSettings(budget_tokens=1280, stop_decided=False)
    )
    """Trees as large as those of configs/nano.yaml, grown as in self-play."""
    thoughts: ThoughtSettings = field(default_factory=ThoughtSettings)

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        _check_counts(self, ("repeats", "threads", "trees", "loop_trees", "slots", "cache_mb"))


@dataclass(frozen=True)
class TrainBench:
    """`bench train`. The nodes are searched with the model that learns from them."""

    repeats: int = 5
    """Batches each learner takes a step on, in turn; a ratio is the median of the pairwise ones."""
    threads: int = 1
    """CPU threads of search and learners."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0
    model: BenchModel = field(default_factory=lambda: BenchModel(path="nano"))
    trees: int = 48
    """Problems searched for nodes, as many as in an iteration of configs/nano.yaml."""
    slots: int = 64
    search: MethodSettings = field(
        default_factory=lambda: MethodSettings(
            budget_tokens=1280, actions="model", tree=SearchSettings(simulations=64, max_children=4, follow=0)
        )
    )
    """As in configs/nano.yaml."""
    thoughts: ThoughtSettings = field(
        default_factory=lambda: ThoughtSettings(path_budget=128, max_text=40, max_answer=24, calculator=True)
    )
    """As in configs/nano.yaml."""
    learner: LearnerSettings = field(default_factory=lambda: LearnerSettings(batch_size=64))

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        _check_counts(self, ("repeats", "threads", "trees", "slots"))


@dataclass(frozen=True)
class ReplayBench:
    """`bench replay`."""

    entries: int = 1_000_000
    """Experiences in each buffer; a million need about 7 GB of RAM and 6 GB of disk."""
    tokens: int = 256
    """Ids and log-probs of each."""
    repeats: int = 3
    cycles: int = 200
    """Of each batch size and system a repeat, in turn."""
    append: int = 100_000
    """Nodes of about 3 KB that are appended in batches of 64."""
    backend: Literal["auto", "numba", "numpy"] = "auto"
    """Ours; auto: numba where it is installed."""
    durability: Literal["process", "power"] = "process"
    cpprb: bool = True
    """Measure cpprb too where it is installed."""
    folder: str | None = None
    """Where the files are written for the time of the bench; null: the system's folder for such files."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        _check_counts(self, ("entries", "tokens", "repeats", "cycles", "append"))
        if self.folder is not None and not Path(self.folder).is_dir():
            raise ConfigError(f"folder must be one that is there, got {self.folder}")


SETTINGS: dict[str, type[object]] = {
    "engine": EngineBench,
    "replay": ReplayBench,
    "search": SearchBench,
    "train": TrainBench,
}

_ENGINE_COUNTS = (
    "repeats",
    "threads",
    "slots",
    "cache_mb",
    "vllm_slots",
    "prompt",
    "new",
    "nodes",
    "samples",
    "prefix",
    "segment",
    "forced",
    "leaves",
    "suffix",
)


def _check_counts(settings: object, names: tuple[str, ...]) -> None:
    for name in names:
        if getattr(settings, name) < 1:
            raise ConfigError(f"{name} must be at least 1, got {getattr(settings, name)}")
