"""Saved trees, found again by name: those of a file, and those of a run with what its replay buffer holds.

The files of a run's trees hold no tokens; the replay buffer does, with the priorities of the moment, for as
long as it keeps a thought.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from llama_o1.config import TeachSettings
from llama_o1.errors import RecordError, RunError
from llama_o1.format.tokens import END_OF_RATING, NEGATIVE, POSITIVE, START_OF_RATING
from llama_o1.play.lessons import with_lessons
from llama_o1.play.pieces import Decode, pieces, with_pieces
from llama_o1.run import RunFolder
from replay.errors import ReplayError
from replay.inspect.items import Kept
from replay.inspect.query import ReplayReader
from tree.pieces import Piece
from tree.record import read_rows

Row = dict[str, Any]
DecoderOf = Callable[[Path], Decode | None]


def saved_tree(place: Path, name: str, decoder_of: DecoderOf) -> Row:
    """One tree: ITERATION/NUMBER of the run at `place`, or a line of the file there; PATH:NAME is elsewhere.

    It is named, with what its thoughts teach, and with their tokens where they are known. RunError when
    there is none of that name, RecordError when the file is damaged.
    """
    path, colon, rest = name.rpartition(":")
    place, name = (Path(path), rest) if colon else (place, name)
    return _of_file(place, name) if place.is_file() else _of_run(place, name, decoder_of)


def saved_trees(file: Path) -> list[Row]:
    """Every tree of a file, as `saved_tree`."""
    rows = rows_of(file)
    if not rows:
        raise RunError(f"{file} holds no trees")
    return [_named(row, f"{file.name}:{line}") for line, row in enumerate(rows, start=1)]


def trees_of_iteration(run: Path, iteration: int) -> list[Row]:
    """Every tree of an iteration of the run, named, with what its thoughts teach and without their tokens."""
    teach, rows = teach_of(run), rows_of(RunFolder(run).trees_of(iteration))
    return [_named(row, f"{iteration:06d}/{number:04d}", teach) for number, row in enumerate(rows)]


def taught(row: Row, teach: TeachSettings) -> Row:
    """The row with what its thoughts teach under these settings."""
    return with_lessons(
        row,
        mode=teach.advantage,
        mix=teach.mix,
        discount=teach.discount,
        trace=teach.trace,
        by_deviation=teach.by_deviation,
    )


def _of_file(file: Path, name: str) -> Row:
    rows = rows_of(file)
    if not name.isdecimal() or not 1 <= int(name) <= len(rows):
        raise RunError(f"no tree {name!r} in {file}: it has trees 1 to {len(rows)}, one a line")
    return _named(rows[int(name) - 1], f"{file.name}:{int(name)}")


def _named(row: Row, name: str, teach: TeachSettings | None = None) -> Row:
    return taught(row | {"name": name}, teach or TeachSettings())


def _of_run(run: Path, name: str, decoder_of: DecoderOf) -> Row:
    folder = RunFolder(run)
    if not folder.trees.is_dir():
        raise RunError(f"no trees in {run}: expected a run folder, or a file of trees (.jsonl)")
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", name)
    file = folder.trees_of(int(found[1])) if found else None
    if found is None or file is None or not file.is_file():
        raise RunError(f"no tree {name!r} in {run}; {_known(folder)}")
    rows, number = rows_of(file), int(found[2])
    if number >= len(rows):
        raise RunError(f"no tree {name!r} in {run}: iteration {int(found[1])} has trees 0 to {len(rows) - 1}")
    known_as = f"{int(found[1]):06d}/{number:04d}"
    row = _named(rows[number], known_as, teach_of(run))
    return _with_replay(row, run, known_as, decoder_of(run))


def _known(folder: RunFolder) -> str:
    files = sorted(folder.trees.glob("[0-9]*.jsonl"))
    if not files:
        return "the run has made none yet"
    last = f"{int(files[-1].stem)}/{len(rows_of(files[-1])) - 1}"
    return f"expected ITERATION/NUMBER, {int(files[0].stem)}/0 to {last}"


def rows_of(file: Path) -> list[Row]:
    """Every tree of a file; RecordError when it cannot be read or is damaged."""
    try:
        return list(read_rows(file))
    except OSError as error:
        raise RecordError(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:
        raise RecordError(str(error)) from None


def teach_of(run: Path) -> TeachSettings:
    """What the trees of a run taught by, the defaults where there is no run."""
    try:
        settings = yaml.safe_load(RunFolder(run).config.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return TeachSettings()
    known = TeachSettings.__dataclass_fields__.keys() - {"reward"}  # the rows hold what it came to
    return TeachSettings(**{key: value for key, value in settings.get("teach", {}).items() if key in known})


def _with_replay(row: Row, run: Path, name: str, decode: Decode | None) -> Row:
    """The row with priorities and tokens as far as the run's buffer still has them."""
    try:
        with ReplayReader(run) as reader:
            kept = {item.experience.node: item for item in reader.tree(name)}
    except ReplayError:
        return row  # the trees are there to be seen, with or without a buffer
    records = []
    for record in row["nodes"]:
        item = kept.get(record["id"])
        known = {} if item is None or item.priority is None else {"priority": item.priority}
        records.append(record | known)
    row = row | {"nodes": records}
    return row if decode is None else with_pieces(row, _pieces(records, kept, decode))


def _pieces(records: Sequence[Row], kept: Mapping[int, Kept], decode: Decode) -> list[list[Piece] | None]:
    made: list[list[Piece] | None] = []
    question = next((item for item in kept.values() if item.experience.parent == 0), None)
    for record in records:
        item = kept.get(record["id"])
        if record["parent"] == -1 and question is not None:
            context = question.experience.context.tolist()
            made.append(pieces(decode, [], context, [None] * len(context)))
        elif item is None:
            made.append(None)
        else:
            e = item.experience
            drawn = [
                float(logprob) if sampled else None
                for logprob, sampled in zip(e.logprobs, e.sampled, strict=True)
            ]
            own = pieces(decode, e.context.tolist(), e.ids.tolist(), drawn)
            rating = POSITIVE if e.value >= 0.5 else NEGATIVE  # as format/encode.py freezes it
            rated = own[-1].text.endswith(START_OF_RATING)  # a plain line has no ratings
            made.append([*own, Piece(rating, None), Piece(END_OF_RATING, None)] if rated else own)
    return made
