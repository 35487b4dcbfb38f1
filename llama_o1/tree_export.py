"""Saved trees as data sets: `llama-o1 inspect RUN/trees --export KIND FILE`, also of a file of trees.

A run keeps every tree, its replay buffer only the newest thoughts. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llama_o1.config import TeachSettings
from llama_o1.errors import ConfigError
from llama_o1.format.compare import plain
from llama_o1.run import write_lines
from llama_o1.saved import rows_of, taught, teach_of
from replay.inspect.datasets import KINDS, MARGIN, Counts, Line, Thought, said
from replay.inspect.export import EVERYTHING, check_kind, written

EXPORTS = (*KINDS, EVERYTHING, "openlongcot")


def check_export(asked: Any) -> None:
    """Refuse an export of no known kind, and one of whole trees that is to pick thoughts."""
    kind, _ = asked.export
    if kind not in EXPORTS:
        raise ConfigError(f"export must be one of {', '.join(EXPORTS)}, got {kind!r}")
    for name in ("where", "limit", "node"):
        if kind == "openlongcot" and getattr(asked, name) is not None:
            raise ConfigError(f"--{name} picks thoughts, and openlongcot writes whole trees; leave it out")


def is_of_trees(place: Path) -> bool:
    """Whether this is a file of trees or a folder of such files."""
    return place.is_file() or (place.is_dir() and bool(_files(place)))


def export_trees(place: Path, asked: Any) -> str:
    """Write the data set that `llama-o1 inspect` was asked for; what became of the trees.

    Value targets are those that the run's own settings give, the defaults where a file is of no run.
    ReplayError for an unknown kind, ConfigError where nodes of a buffer are picked.
    """
    for name in ("where", "limit", "node"):
        value = getattr(asked, name)
        if value is not None:
            raise ConfigError(
                f"--{name} picks nodes of a replay buffer, got {value!r} for trees; "
                "leave it out, or name the run"
            )
    kind, file = asked.export
    if kind == EVERYTHING:
        raise ConfigError(
            f"{place} holds trees, which are JSON lines already; {kind} is of a buffer, so name the run"
        )
    check_kind(kind, asked.margin)
    counts = Counts()
    num_lines = write_lines(Path(file), written(kind, _trees(place), counts, asked.margin))
    return f"wrote {num_lines:,} lines to {file}: {said(kind, counts, asked.margin)}"


def lines_of_trees(place: Path, kind: str) -> Iterator[Line]:
    """The lines of a data set, of all trees there."""
    for thoughts in _trees(place):
        yield from KINDS[kind].lines(thoughts, Counts(), MARGIN)


def _files(place: Path) -> list[Path]:
    return sorted(place.glob("[0-9]*.jsonl"))


def _trees(place: Path) -> Iterator[list[Thought]]:
    run = place.resolve().parent
    files, teach = ([place], TeachSettings()) if place.is_file() else (_files(place), teach_of(run))
    for file in files:
        for row in rows_of(file):
            yield thoughts_of(taught(row, teach))


def thoughts_of(row: Mapping[str, Any]) -> list[Thought]:
    """The thoughts of a tree's row below its root, with value targets where the row was taught."""
    above: dict[int, tuple[str, ...]] = {-1: ()}
    thoughts: list[Thought] = []
    for record in row["nodes"]:
        line = above[record["parent"]]
        text = plain(record["text"])
        above[record["id"]] = (*line, text)
        if line:
            thoughts.append(
                Thought(
                    record["id"],
                    record["parent"],
                    record["action"],
                    text,
                    line,
                    record["outcome"],
                    record.get("value_target"),
                )
            )
    return thoughts
