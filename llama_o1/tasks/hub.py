"""Datasets in folders and on the Hugging Face hub as rows, with the columns of well-known evaluation sets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from llama_o1.errors import ProblemError

SPLIT_NAMES = {"train": ("train",), "dev": ("validation", "dev", "valid", "val"), "test": ("test",)}


class Columns(NamedTuple):
    """Where a source keeps what a problem is made of."""

    question: str = "question"
    answer: str = "answer"
    solution: str = "solution"


class Row(NamedTuple):
    """One row of a source."""

    where: str  # for messages: "problems.jsonl, line 3"
    fields: Mapping[str, Any] | None  # None: it cannot be read, see `fault`
    fault: str = ""


# Sets that are evaluated on and not shipped: columns as published. Their answers are checked like any other.
_PROBLEM = Columns("problem", "answer", "solution")
KNOWN = {
    "HuggingFaceH4/MATH-500": _PROBLEM,
    "HuggingFaceH4/aime_2024": _PROBLEM,
    "Maxwell-Jia/AIME_2024": Columns("Problem", "Answer", "Solution"),
    "AI-MO/aimo-validation-aime": _PROBLEM,
    "AI-MO/aimo-validation-amc": _PROBLEM,
    "math-ai/math500": _PROBLEM,
    "math-ai/aime24": _PROBLEM,
    "math-ai/aime25": _PROBLEM,
    "math-ai/amc23": Columns(),
    "openai/gsm8k": Columns(),
    "deepmind/aqua_rat": Columns("question", "correct", "rationale"),
}


def known_columns(name: str, given: Columns) -> Columns:
    """The columns of a well-known set, unless others were asked for."""
    return KNOWN.get(name.partition(":")[0], given) if given == Columns() else given


def dataset_rows(name: str, split: str) -> Iterator[Row]:
    """Rows of a dataset folder or of a dataset on the Hugging Face hub."""
    try:
        import datasets
    except ImportError as error:
        raise ProblemError(
            f"problem set {name} is a dataset, and the datasets library is not there; "
            'install it with pip install "llama-o1[datasets]"'
        ) from error
    is_saved = any((Path(name) / mark).is_file() for mark in ("dataset_dict.json", "state.json"))
    path, _, configuration = (name, "", "") if Path(name).is_dir() else name.partition(":")
    try:
        found = (
            datasets.load_from_disk(path) if is_saved else datasets.load_dataset(path, configuration or None)
        )
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise ProblemError(f"dataset {name} cannot be loaded: {error}") from error
    if isinstance(found, datasets.DatasetDict):
        names = [n for n in SPLIT_NAMES[split] if n in found]
        if not names and split != "train" and path in KNOWN:
            names = list(found)[:1]  # a set for evaluation, whatever its one split is called
        if not names:
            raise ProblemError(f"dataset {name} has no {split} split; it has {', '.join(found)}")
        found = found[names[0]]
    for number, fields in enumerate(found, start=1):
        yield Row(f"{name}, row {number}", fields)


def is_hub_name(name: str) -> bool:
    """Whether a name can only be a dataset on the hub."""
    looks_like_file = name.endswith((".jsonl", ".jsonl.gz", ".json")) or name.startswith((".", "/", "~"))
    return not looks_like_file and not Path(name).exists() and _HUB_NAME.fullmatch(name) is not None


_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(?::[\w.-]+)?")
