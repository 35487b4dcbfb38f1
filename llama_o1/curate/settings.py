"""What a curation is told. Must not import torch: `--help` reads this.

No slots here: jsonargparse reads defaults through `vars`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from llama_o1.arguments import nearest
from llama_o1.config import EngineSettings, ModelSettings
from llama_o1.curate.quality import RULES
from llama_o1.errors import ConfigError
from llama_o1.play.expand import ThoughtSettings
from llama_o1.play.methods import MethodSettings
from llama_o1.tasks.mixture import ProblemSet


@dataclass(frozen=True)
class TraceColumns:
    """Where a file or data set of one's own keeps a problem, its trace and its domain."""

    question: str = "question"
    """Name of the column with the question."""
    answer: str = "answer"
    """Name of the column with the gold answer, or with a text that declares it."""
    trace: str = "solution"
    """Name of the column with the worked solution; where there is none, the answer column's text."""
    domain: str | None = None
    """Name of the column with the domain; for `domains.by column`."""


@dataclass(frozen=True)
class DomainSettings:
    """What a domain is, over which the selection is uniform."""

    by: Literal["clusters", "column", "set"] = "clusters"
    """`clusters` of the questions (extra `curate`: scikit-learn), a `column` (`columns.domain`), the problem
    `set`."""
    clusters: int = 12
    """How many domains there are."""
    embedding: Literal["tfidf", "model"] = "tfidf"
    """What questions are clustered by: their words, or the mean of a model's last hidden states."""
    model: str | None = None
    """Of embedding `model`: a folder, or a Hugging Face name, with or without our tokens."""

    def __post_init__(self) -> None:
        """Refuse clusters of nothing."""
        if self.clusters < 1:
            raise ConfigError(f"domains.clusters must be at least 1, got {self.clusters}")
        if (self.embedding == "model") != (self.model is not None):
            raise ConfigError(
                f"domains.model belongs to domains.embedding model, got {self.model} and {self.embedding}; "
                "give both or neither"
            )


@dataclass(frozen=True)
class SolverSettings:
    """A model that problems are given to: what it solves is too easy."""

    model: ModelSettings = field(default_factory=ModelSettings)
    attempts: int = 1
    """Tries of each problem; one right answer is enough to drop it."""
    search: MethodSettings = field(default_factory=lambda: MethodSettings(method="greedy"))
    thoughts: ThoughtSettings = field(default_factory=ThoughtSettings)

    def __post_init__(self) -> None:
        """Refuse no attempt, and budgets that problems share."""
        if self.attempts < 1:
            raise ConfigError(f"attempts must be at least 1, got {self.attempts}")
        if self.attempts > 1 and self.search.method == "greedy":
            raise ConfigError(
                f"attempts of a greedy line are all the same, got {self.attempts}; set search.method"
            )
        shared = [key for key, value in vars(self.search).items() if key.startswith("run_") and value]
        if shared:
            raise ConfigError(f"search.{shared[0]} is shared by all problems; leave it out for a solver")


@dataclass(frozen=True)
class CurateConfig:
    """A small set of good, hard and varied problems out of a large one (s1, Muennighoff et al. 2025)."""

    out: str = "runs/curate"
    """Folder of the data set, the manifest and the funnel; a curation that was stopped goes on there."""
    count: int = 1000
    """Problems that are selected."""
    seed: int = 0
    """Of the clusters and of what is drawn."""
    problems: tuple[ProblemSet, ...] = (ProblemSet("gsm8k"),)
    """Stored sets, files or data sets to choose from, their training split."""
    columns: TraceColumns = field(default_factory=TraceColumns)
    skip_bad_lines: bool = False
    """Count broken lines instead of stopping."""
    against: tuple[str, ...] = ("gsm8k", "svamp", "aqua")
    """Evaluation sets or files, their test split: what shares `words` words in a row with them is dropped."""
    against_column: str = "question"
    """Where files of `against` keep their questions."""
    words: int = 8
    """How many words in a row are too many to share."""
    duplicates: Literal["text", "story"] = "text"
    """What is the same question: the same words, or also other names and another order of numbers."""
    rules: tuple[str, ...] = tuple(RULES)
    """Format rules; a problem that breaks one is dropped."""
    least_words: int = 5
    """Of a question, for the rule `short question`."""
    longest_trace: int = 20_000
    """Words, numbers and signs, for the rule `long trace`."""
    solvers: dict[str, SolverSettings] = field(default_factory=dict)
    """Models by a name, asked in this order; what one solves the next ones are not asked."""
    least_trace: int = 0
    """Words, numbers and signs; problems with shorter traces are too easy."""
    domains: DomainSettings = field(default_factory=DomainSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)

    def __post_init__(self) -> None:
        """Refuse what selects nothing, and rules that there are not."""
        for name, least in (("count", 1), ("words", 1), ("least_words", 0), ("longest_trace", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not self.problems:
            raise ConfigError("problems must name at least one problem set, got none")
        labels = [wanted.label for wanted in self.problems]
        if len(set(labels)) < len(labels):
            raise ConfigError(f"problems must differ from each other, got {', '.join(labels)}")
        for rule in self.rules:
            if rule not in RULES:
                raise ConfigError(f"no rule {rule!r}{nearest(rule, RULES)}; rules: {', '.join(RULES)}")
        for name in self.solvers:
            if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
                raise ConfigError(f"a solver's name is a folder's: letters, digits, - _ ., got {name!r}")
        if self.domains.by == "column" and self.columns.domain is None:
            raise ConfigError("domains.by column needs columns.domain, got none")
