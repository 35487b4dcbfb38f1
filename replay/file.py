"""The buffer's file as it lies on disk: its tables, its position, and how they are read and checked.

    meta        one row: format and position (which ids are live, what was counted)
    nodes       one row an experience, plain columns; payloads holds its arrays
    journal     priorities given since the newest snapshot, packed
    snapshots   the position and all priorities at one moment; a kept one can be gone back to
    draws       how often each item had been trained on at that moment
    priorities  the same for people: new nodes at once, updates when the journal is folded
    live        view: the nodes that may be drawn, with their priorities

Reads only. The one writer is in store.py.
"""

from __future__ import annotations

import json
import os
import sqlite3
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from replay.errors import ReplayError
from replay.record import Row, checksum, pack

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

FORMAT = 1
FILE_NAME = "replay.sqlite"
DRAWS_TABLE = """CREATE TABLE IF NOT EXISTS draws (snapshot INTEGER PRIMARY KEY, draws BLOB NOT NULL,
       crc32 INTEGER NOT NULL)"""
SCHEMA = (
    """CREATE TABLE meta (format INTEGER NOT NULL, next_id INTEGER NOT NULL, first_live INTEGER NOT NULL,
       min_version INTEGER, max_priority REAL NOT NULL, evicted INTEGER NOT NULL, dropped INTEGER NOT NULL,
       stale_updates INTEGER NOT NULL, crc32 INTEGER NOT NULL)""",
    """CREATE TABLE nodes (id INTEGER PRIMARY KEY, problem TEXT NOT NULL, tree TEXT NOT NULL,
       node INTEGER NOT NULL, parent INTEGER NOT NULL, action TEXT NOT NULL, version INTEGER NOT NULL,
       temperature REAL NOT NULL, advantage REAL NOT NULL, value REAL NOT NULL, value_target REAL NOT NULL,
       outcome REAL, num_context INTEGER NOT NULL, num_tokens INTEGER NOT NULL,
       num_sampled INTEGER NOT NULL, crc32 INTEGER NOT NULL)""",
    "CREATE TABLE payloads (id INTEGER PRIMARY KEY, payload BLOB NOT NULL)",
    """CREATE TABLE journal (entry INTEGER PRIMARY KEY, ids BLOB NOT NULL, priorities BLOB NOT NULL,
       crc32 INTEGER NOT NULL)""",
    """CREATE TABLE snapshots (snapshot INTEGER PRIMARY KEY, kept INTEGER NOT NULL, position TEXT NOT NULL,
       priorities BLOB NOT NULL, crc32 INTEGER NOT NULL)""",
    DRAWS_TABLE,
    "CREATE TABLE priorities (id INTEGER PRIMARY KEY, priority REAL NOT NULL)",
    """CREATE VIEW live AS SELECT nodes.*, priority FROM nodes JOIN priorities USING (id), meta
       WHERE id >= first_live AND (min_version IS NULL OR version >= min_version)""",
)


class Position(NamedTuple):
    """Where a buffer stands. Live are the ids from `first_live` up to `next_id` that are new enough."""

    next_id: int = 0
    first_live: int = 0
    min_version: int | None = None  # older versions are dropped; None: nothing is
    max_priority: float = 0.0  # the highest ever given; 0: none was
    evicted: int = 0
    dropped: int = 0
    stale_updates: int = 0


class Priorities(NamedTuple):
    """Priorities of the ids from `first_live` on."""

    current: Float64
    draws: Int64  # how often one was drawn and given a new priority
    unfolded: npt.NDArray[np.bool_]  # set since the newest snapshot
    num_journaled: int  # how often one was set since then


class Snapshot(NamedTuple):
    """Everything that changes, at one moment; arrays begin at the position's `first_live`."""

    position: Position
    priorities: Float64
    draws: Int64
    crc32: int  # of position and priorities


def connect_reader(path: Path) -> sqlite3.Connection:
    """A read-only connection to a buffer's file, which works while a writer writes."""
    if not path.is_file():
        raise ReplayError(f"no replay buffer at {path}")
    # In a folder we cannot write in, SQLite cannot make the files that readers of a WAL share. Without
    # a WAL there is no writer, and the file can be read as it lies.
    at_rest = not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists()
    mode = "immutable=1" if at_rest else "mode=ro"
    with named_errors(path):
        db = sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True, isolation_level=None)
        try:
            if not check_format(db, path):
                raise ReplayError(f"{path} is empty; its writer has not begun yet")
        except BaseException:
            db.close()
            raise
    return db


def read_position(db: sqlite3.Connection, path: Path) -> Position:
    """The position in the file; ReplayError when it does not match its checksum."""
    *values, crc = db.execute(f"SELECT {', '.join(Position._fields)}, crc32 FROM meta").fetchone()
    position = Position(*values)
    if crc != position_checksum(position):
        raise ReplayError(f"{path} is damaged: meta does not match its checksum")
    return position


def read_journal(db: sqlite3.Connection, path: Path) -> Iterator[tuple[Int64, Float64]]:
    """Ids and priorities of every journal entry, oldest first, checked."""
    for entry, ids, priorities, crc in db.execute("SELECT * FROM journal ORDER BY entry"):
        if crc != zlib.crc32(priorities, zlib.crc32(ids)):
            raise ReplayError(f"{path} is damaged: journal entry {entry} does not match its checksum")
        yield np.frombuffer(ids, "<i8"), np.frombuffer(priorities, "<f8")


def read_snapshot(db: sqlite3.Connection, path: Path, number: int) -> Snapshot | None:
    """The snapshot of this number, checked; None: the file does not keep it."""
    line = db.execute(
        "SELECT position, priorities, crc32 FROM snapshots WHERE snapshot = ?", (number,)
    ).fetchone()
    if line is None:
        return None
    text, blob, crc = line
    if crc != zlib.crc32(blob, zlib.crc32(text.encode())):
        raise ReplayError(f"{path} is damaged: snapshot {number} does not match its checksum")
    priorities = np.frombuffer(blob, "<f8")
    draws = _read_draws(db, path, number, len(priorities))
    return Snapshot(Position(*json.loads(text)), priorities, draws, crc)


def read_priorities(db: sqlite3.Connection, path: Path, position: Position) -> Priorities:
    """Current priorities and draws: the newest snapshot, then the journal."""
    current = np.zeros(position.next_id - position.first_live)
    draws = np.zeros(len(current), dtype=np.int64)
    unfolded = np.zeros(len(current), dtype=np.bool_)
    newest = db.execute("SELECT max(snapshot) FROM snapshots").fetchone()[0]
    then = None if newest is None else read_snapshot(db, path, newest)
    snapshot_end = 0
    if then is not None:
        gone = position.first_live - then.position.first_live
        snapshot_end = then.position.next_id
        current[: max(len(then.priorities) - gone, 0)] = then.priorities[gone:]
        draws[: max(len(then.draws) - gone, 0)] = then.draws[gone:]
    num_journaled = 0
    for ids, priorities in read_journal(db, path):
        alive = ids >= position.first_live
        places = ids[alive] - position.first_live
        current[places] = priorities[alive]
        unfolded[places] = True
        np.add.at(draws, places, 1)
        num_journaled += len(ids)
    draws[max(snapshot_end - position.first_live, 0) :] -= 1  # the first priority of an item is not a draw
    return Priorities(current, draws, unfolded, num_journaled)


def read_record(path: Path, line: tuple[Any, ...]) -> bytes:
    """The record of one line (id, columns, payload, crc32); ReplayError when it is not what was written."""
    node_id, *fields, crc = line
    try:
        record = pack(Row(*fields))
    except (ReplayError, TypeError, struct.error) as error:
        raise ReplayError(f"{path} is damaged: node {node_id} cannot be read: {error}") from error
    if checksum(record) != crc:
        raise ReplayError(f"{path} is damaged: node {node_id} does not match its checksum")
    return record


def check_format(db: sqlite3.Connection, path: Path) -> bool:
    """Whether the file holds a buffer (False: it is empty); ReplayError when it cannot be read by us."""
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and not {"meta", "nodes", "payloads"} <= tables:
        raise ReplayError(f"{path} is an SQLite file but not a replay buffer; use another folder")
    if not tables:
        return False
    found = db.execute("SELECT format FROM meta").fetchone()
    if found is None or not isinstance(found[0], int):
        raise ReplayError(f"{path} is damaged: meta holds no format")
    if found[0] > FORMAT:
        raise ReplayError(
            f"{path} has format {found[0]}, this program reads up to {FORMAT}; install a newer llama-o1"
        )
    return True


def position_checksum(position: Position) -> int:
    """CRC-32 of a position."""
    return zlib.crc32(json.dumps(position).encode())


def _read_draws(db: sqlite3.Connection, path: Path, number: int, num_ids: int) -> Int64:
    """Draws as of a snapshot; none where a release before this table wrote it."""
    table = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'draws'").fetchone()
    sql = "SELECT draws, crc32 FROM draws WHERE snapshot = ?"
    line = db.execute(sql, (number,)).fetchone() if table else None
    if line is None:
        return np.zeros(num_ids, dtype=np.int64)
    if line[1] != zlib.crc32(line[0]):
        raise ReplayError(f"{path} is damaged: draws of snapshot {number} do not match their checksum")
    return np.frombuffer(line[0], "<u4").astype(np.int64)


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turn an SQLite error into a ReplayError that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        found = "is damaged" if type(error) is sqlite3.DatabaseError else "cannot be used"
        raise ReplayError(f"{path} {found}: {error}") from error
