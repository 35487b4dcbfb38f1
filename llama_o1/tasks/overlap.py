"""Decontamination: problems of one set that share eight words in a row with another.

As s1 does (Muennighoff et al. 2025, section 2): word n-grams of the question in lower case, spaces
folded. A question of fewer words has no n-gram and overlaps nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from llama_o1.errors import ProblemError
from llama_o1.tasks.problems import jsonl_rows, load_problems
from llama_o1.tasks.split import Split

WORDS = 8


class Question(NamedTuple):
    """A problem's text and its name."""

    id: str
    text: str


class Overlap(NamedTuple):
    """Two questions with words in common."""

    eval: str  # id
    train: str  # id
    ngrams: int  # how many different ones they share
    text: str  # the first of them


def overlaps(
    train: Iterable[Question], held_out: Iterable[Question], words: int = WORDS
) -> Iterator[Overlap]:
    """Every pair of questions that share an n-gram, in the order of `train`; `held_out` is kept in memory."""
    held = list(held_out)
    places: defaultdict[str, list[int]] = defaultdict(list)
    for i, question in enumerate(held):
        for ngram in dict.fromkeys(ngrams(question.text, words)):
            places[ngram].append(i)
    for question in train:
        shared: dict[int, list[str]] = {}
        for ngram in dict.fromkeys(ngrams(question.text, words)):
            for i in places.get(ngram, ()):
                shared.setdefault(i, []).append(ngram)
        for i, found in shared.items():
            yield Overlap(held[i].id, question.id, len(found), found[0])


def ngrams(text: str, words: int = WORDS) -> list[str]:
    """Runs of so many words, in lower case with spaces folded."""
    parts = text.lower().split()
    return [" ".join(parts[i : i + words]) for i in range(len(parts) - words + 1)]


def questions(name: str, split: Split, column: str = "question") -> Iterator[Question]:
    """The questions of a problem set or of a JSONL file, which needs no answers; else ProblemError."""
    if not Path(name).is_file():
        for problem in load_problems(name, split=split, question_column=column).problems:
            yield Question(problem.id, problem.question)
        return
    for number, row in enumerate(jsonl_rows(Path(name)), start=1):
        if row.fields is None:
            raise ProblemError(f"{row.where}: {row.fault}")
        text = row.fields.get(column)
        if not isinstance(text, str):
            raise ProblemError(
                f"{row.where}: there is no text in {column!r} among {', '.join(map(str, row.fields))}; "
                "set --column"
            )
        yield Question(str(row.fields.get("id", number)), text)
