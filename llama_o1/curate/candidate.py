"""Candidate: a problem that may be selected, with its trace; how it is read and how it is written."""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llama_o1.curate.settings import CurateConfig
from llama_o1.errors import ProblemError
from llama_o1.tasks.generator import MAX_STEPS
from llama_o1.tasks.hub import Columns, Row
from llama_o1.tasks.mixture import ProblemSet
from llama_o1.tasks.problem import Problem
from llama_o1.tasks.problems import Source, problem_of_row, rows_of


@dataclass(frozen=True, slots=True)
class Candidate:
    """One problem of a set; made here, read by every stage."""

    set: str  # label of its problem set
    id: str  # `gsm8k/gsm8k-train-00000`: the set's short name and its own, unique
    problem: Problem
    trace: str  # the worked solution as written; empty: there is none
    domain: str | None  # as its column says; None: there is no such column

    @property
    def length(self) -> int:
        """Words, numbers and signs of the trace: s1's second signal of difficulty, there in tokens."""
        return len(_PIECE.findall(self.trace))

    def row(self, domain: str) -> dict[str, Any]:
        """As a line that `sft` and `train` read by their default columns."""
        problem = self.problem
        row: dict[str, Any] = {
            "id": self.id,
            "question": problem.question,
            "answer": problem.answer,
            "solution": self.trace,
            "domain": domain,
        }
        if problem.kind != "number":
            row["kind"] = problem.kind
        if problem.kind == "expression":
            row |= {"numbers": list(problem.numbers), "target": problem.target}
        if problem.options:
            row["options"] = dict(problem.options)
        return row


def line_of(candidate: Candidate, domain: str) -> str:
    """The row as JSON with its end of line."""
    return json.dumps(candidate.row(domain), ensure_ascii=False) + "\n"


def checksum(line: str) -> str:
    """What tells whether a line is the one it was."""
    return f"{zlib.crc32(line.encode()):08x}"


class Reading:
    """What was read so far, over all sets; changed by `candidates`."""

    def __init__(self) -> None:
        self.broken = 0  # lines that were left out
        self.ids: Counter[str] = Counter()


def candidates(wanted: ProblemSet, config: CurateConfig, reading: Reading) -> Iterator[Candidate]:
    """The training problems of a set; ProblemError for a broken line, unless those are to be counted."""
    if wanted.name in MAX_STEPS:
        raise ProblemError(
            f"problem set {wanted.name} is generated without end and needs no curation; name a stored set"
        )
    named = config.columns
    rows, source = rows_of(wanted.name, "train", Columns(named.question, named.answer, named.trace))
    taken = 0
    for number, row in enumerate(rows, start=1):
        if taken == wanted.limit:
            return
        try:
            problem = problem_of_row(row, source, number)
            domain = None if problem is None else _domain(row, named.domain)
        except ProblemError:
            if not config.skip_bad_lines:
                raise
            reading.broken += 1
            continue
        if problem is None or not wanted.fits(problem):
            continue
        assert row.fields is not None, "a row without fields is no problem"
        name = f"{problem.source}/{problem.id}"
        reading.ids[name] += 1
        again = f"#{reading.ids[name]}" if reading.ids[name] > 1 else ""
        taken += 1
        yield Candidate(wanted.label, name + again, problem, _trace(row.fields, source), domain)


def _trace(fields: Mapping[str, Any], source: Source) -> str:
    """The worked solution, or the text that declares the gold answer where that is more than the answer."""
    trace = fields.get(source.columns.solution)
    if isinstance(trace, str):
        return trace.strip()
    written = str(fields[source.columns.answer]).strip()
    return written if len(written.split()) > 1 else ""


def _domain(row: Row, column: str | None) -> str | None:
    if column is None or row.fields is None:
        return None
    value = row.fields.get(column)
    if not isinstance(value, str | int) or not str(value).strip():
        raise ProblemError(f"{row.where}: there is no domain in {column!r}; set columns.domain")
    return str(value).strip()


_PIECE = re.compile(r"\w+|[^\w\s]")
