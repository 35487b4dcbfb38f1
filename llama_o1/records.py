"""Lines of thought out of files: OpenLongCoT records, and questions with their thinking and answer.

A record is a tree; its root-to-leaf lines are what a search would hold, so they are what is learned. Thoughts
rated negative are not imitated, unknown ratings are not learned, and what several lines share counts in the
first. LLaMA-O1 trains on the whole tree as one text, which no search ever shows.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llama_o1.errors import RecordError
from llama_o1.format.marks import MARK
from llama_o1.format.thoughts import Rating, Thought, parse
from llama_o1.tasks.traces import Traced
from tree.actions import MetaAction

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecordColumns:
    """Where a file keeps what is learned from it: records, or questions, thinking and answers."""

    record: str = "text"
    """An OpenLongCoT record; a row without it is read by the other three."""
    question: str = "question"
    """What is asked."""
    thinking: str = "thinking"
    """What comes before the answer, as text or a list whose first text counts."""
    answer: str = "answer"
    """What the conclusion puts in a box."""


def read_records(file: Path, columns: RecordColumns, *, skip_bad_lines: bool) -> list[list[Thought]]:
    """The thoughts of each record of a .jsonl or .json file.

    RecordError for a record that does not parse, unless it is to be skipped and counted in the log, and
    when none is left.
    """
    records: list[list[Thought]] = []
    num_skipped = 0
    for where, row in _rows(file):
        try:
            records.append(_thoughts(row, columns))
        except RecordError as error:
            if not skip_bad_lines:
                raise RecordError(
                    f"{file}, {where}: {error}; mend it, or leave such records out by --skip_bad_lines true"
                ) from None
            num_skipped += 1
    if num_skipped:
        log.warning("%s: skipped %d broken records, kept %d", file, num_skipped, len(records))
    if not records:
        raise RecordError(f"{file} holds no whole record; expected lines of OpenLongCoT records")
    return records


def lines_of(record: list[Thought]) -> Iterator[list[Traced]]:
    """The root-to-leaf lines of a record, in the order of their leaves; control tokens are taken out."""
    by_id = {thought.local: thought for thought in record}
    fathers = {thought.father for thought in record}
    counted: set[int] = set()
    for leaf in record:
        if leaf.local in fathers or leaf.father == -1:
            continue
        path = [leaf]
        while path[-1].father != -1:
            path.append(by_id[path[-1].father])
        yield [_traced(thought, counted) for thought in reversed(path)]
        counted |= {thought.local for thought in path}


def _traced(thought: Thought, counted: set[int]) -> Traced:
    shown = replace(thought, text=MARK.sub("", thought.text))
    if thought.father == -1 or thought.local in counted:
        return Traced(shown, imitate=False, rate=False)
    rated = thought.rating in (Rating.POSITIVE, Rating.NEGATIVE)
    return Traced(shown, imitate=thought.rating is not Rating.NEGATIVE, rate=rated)


def _rows(file: Path) -> Iterator[tuple[str, Any]]:
    """The rows of a file and where each stands; a row that is no JSON is given as None."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise RecordError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RecordError(f"{file} is no text in UTF-8: {error.reason} at byte {error.start}") from None
    if file.suffix == ".json":
        try:
            rows = json.loads(text)
        except ValueError as error:
            raise RecordError(f"{file} is no JSON: {error}") from None
        if not isinstance(rows, list):
            raise RecordError(f"{file} must hold a list of records, found {type(rows).__name__}")
        yield from ((f"record {number}", row) for number, row in enumerate(rows, start=1))
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"line {number}", _json(line)


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _thoughts(row: Any, columns: RecordColumns) -> list[Thought]:
    if isinstance(row, str):
        return _record(row)
    if not isinstance(row, Mapping):
        raise RecordError("no JSON object or text")
    if isinstance(row.get(columns.record), str):
        return _record(row[columns.record])
    return _solution(row, columns)


def _record(text: str) -> list[Thought]:
    thoughts = parse(text)
    if len(thoughts) == 1:
        raise RecordError("the record holds its problem only; expected a thought below it")
    return thoughts


def _solution(row: Mapping[str, Any], columns: RecordColumns) -> list[Thought]:
    """A question, what was thought, a text line a thought, and the conclusion."""
    found = []
    for name in (columns.question, columns.thinking, columns.answer):
        value = row.get(name)
        text = value[0] if isinstance(value, list) and value else value
        if not isinstance(text, str | int | float) or not str(text).strip():
            raise RecordError(
                f"no column {columns.record!r} with a record, and none {name!r} with a text; name the file's "
                "own by --columns.record, or --columns.question, --columns.thinking and --columns.answer"
            )
        found.append(str(text).strip())
    question, thinking, answer = found
    steps = [step for step in thinking.split("\n") if step.strip()]
    texts = [*((MetaAction.EXPAND, step) for step in steps), (MetaAction.CONCLUDE, f"\\boxed{{{answer}}}")]
    return [
        Thought(-1, 0, MetaAction.PROBLEM, question),
        *(Thought(i, i + 1, action, text, Rating.POSITIVE) for i, (action, text) in enumerate(texts)),
    ]
