"""The buffer's file as it lies on disk: its tables, its position, and how they are read and checked.

    meta        one row: format and position (which ids are live, what was counted)
    nodes       one row an experience, plain columns; payloads holds its arrays
    journal     priorities given since the newest snapshot, packed
    snapshots   the position and all priorities at one moment; a kept one can be gone back to
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


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turn an SQLite error into a ReplayError that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        found = "is damaged" if type(error) is sqlite3.DatabaseError else "cannot be used"
        raise ReplayError(f"{path} {found}: {error}") from error
