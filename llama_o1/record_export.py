"""Saved trees as OpenLongCoT records: `llama-o1 inspect RUN --export openlongcot FILE`. Loads no torch.

One line a tree, `{"text": record}`, which `llama-o1 sft --data FILE` reads. Ratings are those that the search
froze.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llama_o1.errors import RecordError, RunError
from llama_o1.format.thoughts import Rating, Thought, render
from llama_o1.run import write_lines
from llama_o1.saved import rows_of
from llama_o1.texts import run_of
from tree.actions import MetaAction


def export_records(place: Path, file: Path) -> str:
    """Write a record of each tree of a run, or of a file of trees; what became of them.

    RunError where there are no trees, RecordError where none can be a record.
    """
    files = _files(place)
    if not files:
        raise RunError(f"no trees in {place}: expected a run folder, or a file of trees (.jsonl)")
    left_out: list[str] = []

    def lines() -> Iterator[str]:
        for found in files:
            for number, row in enumerate(rows_of(found), start=1):
                try:
                    yield json.dumps({"text": record_of(row)}, ensure_ascii=False) + "\n"
                except RecordError as error:
                    left_out.append(f"{found.name}:{number}: {error}")

    num_lines = write_lines(file, lines())
    if left_out and not num_lines:
        file.unlink()
        raise RecordError(f"no tree of {place} can be a record, the first is {left_out[0]}")
    rest = f"; left out {len(left_out)}, the first {left_out[0]}" if left_out else ""
    return f"wrote {num_lines:,} records to {file}{rest}"


def record_of(row: Mapping[str, Any]) -> str:
    """The record of a tree's row; RecordError when a text holds a token that stands between texts."""
    return render(_thought(node) for node in row["nodes"])


def _thought(node: Mapping[str, Any]) -> Thought:
    value = node["value"]
    rating = None if node["parent"] == -1 else Rating.UNKNOWN if value is None else Rating.of(value)
    return Thought(node["parent"], node["id"], MetaAction(node["action"]), node["text"], rating)


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    return sorted(place.glob("[0-9]*.jsonl")) or sorted((run_of(place) / "trees").glob("[0-9]*.jsonl"))
