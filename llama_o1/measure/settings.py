"""What an evaluation is told. Must not import torch: `--help` reads this.

No slots here: jsonargparse reads defaults through `vars`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Literal, cast, get_args

from llama_o1.config import EngineSettings, ModelSettings
from llama_o1.errors import ConfigError
from llama_o1.measure.ways import WAYS, Way
from llama_o1.play.expand import ThoughtSettings
from llama_o1.play.methods import Method, MethodSettings
from llama_o1.tasks.mixture import Columns, ProblemSet, check_not_varied

METHODS: tuple[Method, ...] = get_args(Method)

# What may differ when an evaluation goes on: it adds trials or says how they are shown, and changes none.
FREE = frozenset({"out", "methods", "baselines", "budgets", "seeds", "limit", "engine"})


@dataclass(frozen=True)
class EvalConfig:
    """Methods on the same problems, with the same model, engine, seeds and budgets of tokens."""

    out: str = "runs/eval"
    """Folder of the trials and of what they came to; an evaluation that is there goes on."""
    methods: tuple[str, ...] = ("greedy", "majority", "best_of_n", "mcts")
    """Which: the methods of `search.method`, names of `variants`, or ways to be told a thinking budget:
    `none`, `prompt`, `ratio`, `every_50`, `every_250`, `forcing`, `forcing_wait`, `forcing_least` (lines of
    plain text), `thoughts_none`, `thoughts_ratio`, `thoughts_forcing`, `tree`, and names of `thinking`."""
    baselines: tuple[str, ...] = ("greedy", "majority", "best_of_n", "value_vote")
    """Methods without a tree: each of the others is tested against the best of them."""
    budgets: tuple[int, ...] = (512,)
    """Tokens a problem, sampled and forced; each is searched for itself, and hard. Of a way to be told a
    thinking budget: thinking tokens of a path."""
    seeds: tuple[int, ...] = (0,)
    """Each problem is searched once by each."""
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
    """Of every method; `method` and `budget_tokens` are given by `methods` and `budgets`."""
    variants: dict[str, MethodSettings] = field(default_factory=dict)
    """Methods with settings of their own: by a new name, or in place of `search` by their own."""
    thinking: dict[str, Way] = field(default_factory=dict)
    """Ways to be told a thinking budget, by a new name or in place of one that is there."""

    def __post_init__(self) -> None:
        """Refuse what compares nothing, and names that no method has."""
        check_not_varied(self.problems, "problems")
        for name in ("methods", "budgets", "seeds", "problems"):
            values = getattr(self, name)
            if not values:
                raise ConfigError(f"{name} must name at least one, got none")
            shown = [value.label if isinstance(value, ProblemSet) else str(value) for value in values]
            if len(set(shown)) < len(shown):
                raise ConfigError(f"{name} must differ from each other, got {', '.join(shown)}")
        for name, least in (("budgets", 1), ("seeds", 0)):
            if min(getattr(self, name)) < least:
                raise ConfigError(f"{name} must be at least {least}, got {min(getattr(self, name))}")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit must be at least 1, got {self.limit}")
        self._check_methods()
        for name in self.methods:
            try:
                self.thoughts_of(name, min(self.budgets))
            except ConfigError as error:
                raise ConfigError(f"{name} at a budget of {min(self.budgets)} tokens: {error}") from None

    @property
    def ways(self) -> Mapping[str, Way]:
        """Every way to be told a thinking budget, by name."""
        return {**WAYS, **self.thinking}

    def thoughts_of(self, method: str, budget: int) -> ThoughtSettings:
        """How a method writes at a budget; ConfigError when it is too small for the control tokens."""
        way = self.ways.get(method)
        return self.thoughts if way is None else way.thoughts(self.thoughts, budget)

    def settings_of(self, method: str, budget: int) -> MethodSettings:
        """The settings of a method at a budget."""
        way = self.ways.get(method)
        if way is not None:
            return way.search(self.search)
        variant = self.variants.get(method)
        if variant is not None:
            return replace(variant, budget_tokens=budget)
        return replace(self.search, method=cast(Method, method), budget_tokens=budget)

    def resolved(self) -> dict[str, Any]:
        """What trials depend on, as YAML holds it; each method's settings by its name."""
        plain = asdict(self)
        for unused in ("method", "budget_tokens"):
            del plain["search"][unused]
        plain["thinking"] = {name: asdict(way) for name, way in self.ways.items()}
        return plain

    def _check_methods(self) -> None:
        known = (*METHODS, *self.variants, *self.ways)
        for name in self.thinking:
            if name in METHODS or name in self.variants:
                raise ConfigError(f"thinking.{name} has the name of a method; choose another")
        for name in (*self.methods, *self.baselines):
            if name not in known:
                raise ConfigError(f"no method {name!r}{_guess(name, known)}")
        for name, variant in {"search": self.search, **self.variants}.items():
            if name in METHODS and variant.method != name:
                raise ConfigError(f"variants.{name} has the name of a method and is {variant.method}")
            shared = [
                key for key, value in vars(variant).items() if key.startswith("run_") and value is not None
            ]
            if shared:
                raise ConfigError(
                    f"{name}.{shared[0]} is shared by all problems, and a trial must not depend on others; "
                    "leave it out"
                )
        if self.search.budget_tokens != MethodSettings.budget_tokens:
            raise ConfigError(
                f"an evaluation takes its budgets from budgets, got search.budget_tokens "
                f"{self.search.budget_tokens}; give --budgets {self.search.budget_tokens}"
            )


def _guess(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f", did you mean {close[0]!r}?" if close else f"; methods: {', '.join(known)}"
