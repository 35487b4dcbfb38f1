"""Pairs of a better and a worse solution of one question: read from files, or made of saved trees."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from llama_o1.errors import RecordError, RunError
from llama_o1.tree_export import is_of_trees, lines_of_trees

_KEYS = ("prompt", "chosen", "rejected")


class Pair(NamedTuple):
    """Two whole solutions as text."""

    question: str
    better: str
    worse: str


class Pairs(NamedTuple):
    """What is learned from, and what is only looked at; no question is in both."""

    learned: list[Pair]
    held_out: list[Pair]


def read_pairs(sources: Sequence[str], held_out: float) -> Pairs:
    """The pairs of all sources, equal ones once; RunError when there are none to learn from."""
    found = list(dict.fromkeys(pair for source in sources for pair in _of(Path(source))))
    pairs = Pairs([], [])
    for pair in found:
        aside = crc32(pair.question.encode()) % 1000 < 1000 * held_out
        (pairs.held_out if aside else pairs.learned).append(pair)
    if not pairs.learned:
        raise RunError(
            f"no pair of a right and a wrong solution in {', '.join(sources)}; "
            "give trees that were graded, as a run's are, of problems that are neither too easy nor too hard"
        )
    return pairs


def _of(place: Path) -> Iterator[Pair]:
    if not place.exists():
        raise RunError(f"there is no {place}; give a run, its trees/, or a JSONL of pairs or trees")
    trees = place / "trees" if (place / "trees").is_dir() else place
    if trees.is_file() and _is_of_pairs(trees):
        yield from _of_file(trees)
    elif is_of_trees(trees):
        for line in lines_of_trees(trees, "pairs"):
            yield Pair(*(line[key] for key in _KEYS))
    else:
        raise RunError(f"no trees in {place}; give a run, its trees/, or a JSONL of pairs or trees")


def _is_of_pairs(file: Path) -> bool:
    with file.open(encoding="utf-8", errors="replace") as lines:
        first = next((line for line in lines if line.strip()), "")
    return '"nodes"' not in first


def _of_file(file: Path) -> Iterator[Pair]:
    with file.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                pair = Pair(*(row[key] for key in _KEYS))
            except (ValueError, TypeError, KeyError, RecursionError):
                pair = None
            if pair is None or not all(isinstance(text, str) for text in pair):
                raise RecordError(f"{file}, line {number}: expected texts {', '.join(_KEYS)}")
            yield pair
