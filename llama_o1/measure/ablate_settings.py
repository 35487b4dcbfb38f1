"""What can be switched off, and what an ablation is told. Must not import torch: `--help` reads this.

No slots here: jsonargparse reads defaults through `vars`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple

from llama_o1.arguments import nearest
from llama_o1.config import EngineSettings, ModelSettings, RunConfig
from llama_o1.errors import ConfigError
from llama_o1.measure.effects import Contrast
from llama_o1.play.expand import ThoughtSettings
from llama_o1.play.methods import Kind, MethodSettings
from llama_o1.tasks.mixture import Columns, ProblemSet, check_not_varied

WHOLE, TRAINED = "whole", "trained"  # the searches that nothing is taken from: shipped weights, a run's

# What may differ when ablations go on: it adds trials or says where they are, and changes none.
FREE = frozenset({"out", "ablations", "seeds", "limit", "engine"})


class Searched(NamedTuple):
    """How problems are searched."""

    thoughts: ThoughtSettings
    search: MethodSettings


class Inference(NamedTuple):
    """A part of a search that can be left out."""

    part: str
    without: Callable[[Searched], Searched]


class Training(NamedTuple):
    """A part of a self-play run that can be left out."""

    part: str
    without: Callable[[RunConfig], RunConfig]


def _without_kinds(*kinds: Kind) -> Callable[[Searched], Searched]:
    return lambda it: it._replace(search=replace(it.search, without=kinds))


def _drawn_by(source: Literal["uniform", "transitions"]) -> Callable[[Searched], Searched]:
    return lambda it: it._replace(search=replace(it.search, actions=source))


INFERENCE: Mapping[str, Inference] = {
    "no_critic": Inference("critic and refine", _without_kinds("critic", "refine")),
    "no_divide": Inference("sub-problems", _without_kinds("divide")),
    "uniform": Inference("kinds drawn by the model", _drawn_by("uniform")),
    "transitions": Inference("kinds drawn by the model", _drawn_by("transitions")),
    "no_marks": Inference(
        "budget tokens", lambda it: it._replace(thoughts=replace(it.thoughts, show_budget=False))
    ),
    "no_value": Inference(
        "value head", lambda it: it._replace(thoughts=replace(it.thoughts, read_value=False))
    ),
}
TRAINING: Mapping[str, Training] = {
    "no_priorities": Training(
        "replay priorities", lambda it: replace(it, replay=replace(it.replay, alpha=0.0))
    ),
    "no_value_loss": Training(
        "learning the value", lambda it: replace(it, learner=replace(it.learner, value_weight=0.0))
    ),
    "unpacked": Training(
        "trie packing", lambda it: replace(it, learner=replace(it.learner, packing="padded"))
    ),
}


@dataclass(frozen=True)
class AblateConfig:
    """A search, and what is left out of it or of the self-play run before it."""

    out: str = "runs/ablate"
    """Folder of the trials, the runs and what they came to; ablations that are there go on."""
    ablations: tuple[str, ...] = tuple(INFERENCE)
    """Of a search: `no_critic` (and no refine), `no_divide`, `uniform` and `transitions` (who draws the kind
    of a thought), `no_marks`, `no_value` (every thought is worth 0.5). Of training, by self-play runs of
    their own: `no_priorities`, `no_value_loss`, `unpacked`."""
    budget: int = 512
    """Tokens a problem."""
    seeds: tuple[int, ...] = (0,)
    """Each problem is searched once by each; a self-play run is made for each."""
    problems: tuple[ProblemSet, ...] = (ProblemSet("word"),)
    """Problem sets."""
    limit: int | None = None
    """At most so many problems of each set; short: `--problems.limit`."""
    split: Literal["dev", "test"] = "test"
    """Tune on dev, report on test."""
    columns: Columns = field(default_factory=Columns)
    skip_bad_lines: bool = False
    """Count broken lines of a problem file instead of stopping."""
    model: ModelSettings = field(default_factory=ModelSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    thoughts: ThoughtSettings = field(default_factory=ThoughtSettings)
    search: MethodSettings = field(default_factory=MethodSettings)
    """The whole search."""
    transitions_from: int = 16
    """Training problems of each set whose trees, grown with kinds drawn uniformly, teach `transitions`."""
    train: RunConfig = field(default_factory=RunConfig)
    """The self-play run of the ablations of training; its evaluations are left out."""
    train_iterations: int = 4
    """Of each such run."""

    def __post_init__(self) -> None:
        """Refuse names that nothing has, and counts that compare nothing."""
        check_not_varied(self.problems, "problems")
        known = (*INFERENCE, *TRAINING)
        for name in self.ablations:
            if name not in known:
                raise ConfigError(
                    f"no ablation {name!r}{nearest(name, known) or '; there are ' + ', '.join(known)}"
                )
        for name in ("ablations", "seeds", "problems"):
            values = [str(value) for value in getattr(self, name)]
            if not values or len(set(values)) < len(values):
                raise ConfigError(
                    f"{name} must name at least one, and each once, got {', '.join(values) or 'none'}"
                )
        for name, least in (("budget", 1), ("limit", 1), ("transitions_from", 1), ("train_iterations", 1)):
            count = getattr(self, name)
            if count is not None and count < least:
                raise ConfigError(f"{name} must be at least {least}, got {count}")
        if min(self.seeds) < 0:
            raise ConfigError(f"seeds must be at least 0, got {min(self.seeds)}")
        if self.search.method == "line":
            raise ConfigError("search.method line has no parts to leave out; choose a method with thoughts")

    @property
    def of_inference(self) -> list[str]:
        """Names of the ablations of a search."""
        return [name for name in self.ablations if name in INFERENCE]

    @property
    def of_training(self) -> list[str]:
        """Names of the ablations of training."""
        return [name for name in self.ablations if name in TRAINING]

    def searched(self, name: str) -> Searched:
        """How the trials of this name are searched."""
        whole = Searched(self.thoughts, replace(self.search, budget_tokens=self.budget))
        return INFERENCE[name].without(whole) if name in INFERENCE else whole

    def run_of(self, name: str, seed: int) -> RunConfig:
        """The self-play run that makes the weights of these trials; TRAINED: the whole one."""
        run = replace(
            self.train,
            run_dir=f"{self.out}/runs/{name}-{seed}",
            seed=seed,
            iterations=self.train_iterations,
            model=self.model,
            engine=self.engine,
            evaluation=replace(self.train.evaluation, problems=()),
        )
        return TRAINING[name].without(run) if name in TRAINING else run

    def contrasts(self) -> list[Contrast]:
        """What is compared with what."""
        found = [Contrast(INFERENCE[name].part, WHOLE, name) for name in self.of_inference]
        if {"uniform", "transitions"} <= set(self.ablations):
            found.append(Contrast("learned transitions", "transitions", "uniform"))
        return found + [Contrast(TRAINING[name].part, TRAINED, name) for name in self.of_training]

    def names(self) -> list[str]:
        """Names of all trials, in the order they are made."""
        inference, training = self.of_inference, self.of_training
        return [*([WHOLE, *inference] if inference else []), *([TRAINED, *training] if training else [])]

    def resolved(self) -> dict[str, Any]:
        """What trials depend on, as YAML holds it."""
        return asdict(self)
