"""The buffer's file as it lies on disk: its tables, its position, and how they are read and checked.

    meta        one row: format and position (next id, what was counted)
    nodes       one row an experience, plain columns; payloads holds its arrays
    priorities  one row a live node, and the priority it had when it came or at the last mark
    journal     priorities given since the newest snapshot, packed; a later entry wins
    snapshots   the position, all priorities and how often each item had been trained on at one moment; a
                kept one (a mark) can be gone back to
    evicted     nodes that are no longer live, kept for the marks up to `snapshot`
    live        view: the live nodes, with their priorities as in the table of that name

Packed ids are little-endian int64, packed priorities float64, packed draws uint32. Journal and snapshots are
read in journal.py, whole files written in store.py.
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

from replay.errors import ReplayError, damaged
from replay.record import COLUMNS, checksum, pack

Int64 = npt.NDArray[np.int64]

FORMAT = 2
FILE_NAME = "replay.sqlite"
SCHEMA = (
    """CREATE TABLE meta (format INTEGER NOT NULL, next_id INTEGER NOT NULL, num_slots INTEGER NOT NULL,
       added INTEGER NOT NULL, min_version INTEGER, max_priority REAL NOT NULL, evicted INTEGER NOT NULL,
       dropped INTEGER NOT NULL, stale_updates INTEGER NOT NULL, crc32 INTEGER NOT NULL)""",
    """CREATE TABLE nodes (id INTEGER PRIMARY KEY, problem TEXT NOT NULL, tree TEXT NOT NULL,
       node INTEGER NOT NULL, parent INTEGER NOT NULL, action TEXT NOT NULL, version INTEGER NOT NULL,
       temperature REAL NOT NULL, advantage REAL NOT NULL, value REAL NOT NULL, value_target REAL NOT NULL,
       outcome REAL, num_context INTEGER NOT NULL, num_tokens INTEGER NOT NULL,
       num_sampled INTEGER NOT NULL, crc32 INTEGER NOT NULL)""",
    "CREATE TABLE payloads (id INTEGER PRIMARY KEY, payload BLOB NOT NULL)",
    """CREATE TABLE journal (entry INTEGER PRIMARY KEY, ids BLOB NOT NULL, priorities BLOB NOT NULL,
       stale_updates INTEGER NOT NULL, max_priority REAL NOT NULL, crc32 INTEGER NOT NULL)""",
    """CREATE TABLE snapshots (snapshot INTEGER PRIMARY KEY, kept INTEGER NOT NULL, position TEXT NOT NULL,
       ids BLOB NOT NULL, priorities BLOB NOT NULL, draws BLOB NOT NULL, crc32 INTEGER NOT NULL)""",
    "CREATE TABLE priorities (id INTEGER PRIMARY KEY, priority REAL NOT NULL)",
    "CREATE TABLE evicted (id INTEGER PRIMARY KEY, snapshot INTEGER NOT NULL)",
    "CREATE VIEW live AS SELECT nodes.*, priority FROM nodes JOIN priorities USING (id)",
)
TABLES = {"meta", "nodes", "payloads", "journal", "snapshots", "priorities", "evicted"}


_CHUNK = 256  # rows read at once: what is copied of them stays in the processor's cache
_ASK_NODES = (
    f"SELECT id, {', '.join(COLUMNS)}, payload, crc32 FROM priorities CROSS JOIN nodes USING (id) "
    "LEFT JOIN payloads USING (id) ORDER BY priorities.id"
)


class Position(NamedTuple):
    """Where a buffer stands. Which ids are live is in the table `priorities`."""

    next_id: int = 0
    num_slots: int = 1  # places in RAM; the place of an id is id % num_slots
    added: int = 0  # items ever given
    min_version: int | None = None  # older versions are dropped; None: nothing is
    max_priority: float = 0.0  # the highest ever given; 0: none was
    evicted: int = 0
    dropped: int = 0
    stale_updates: int = 0

    @property
    def num_live(self) -> int:
        """Items that live."""
        return self.added - self.evicted - self.dropped


class Nodes(NamedTuple):
    """Live nodes as they were read back."""

    ids: Int64
    versions: Int64
    records: list[bytes]


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
    """The position in `meta`, as of the last change of what lives; ReplayError when it is damaged."""
    line = db.execute(f"SELECT {', '.join(Position._fields)}, crc32 FROM meta").fetchone()
    if line is None:
        raise damaged(path, "meta is empty")
    position = Position(*line[:-1])
    if line[-1] != position_checksum(position):
        raise damaged(path, "meta does not match its checksum")
    return position


def read_nodes(db: sqlite3.Connection, path: Path, ids: Int64) -> Iterator[Nodes]:
    """The live nodes, whose ascending ids are given, checked, in chunks; ReplayError names a damaged one."""
    version = 1 + COLUMNS.index("version")
    cursor = db.execute(_ASK_NODES)
    for done in range(0, len(ids), _CHUNK):
        chunk, expected = cursor.fetchmany(_CHUNK), ids[done : done + _CHUNK]
        found = np.array([line[0] for line in chunk], dtype=np.int64)
        if not np.array_equal(found, expected):
            missing = np.setdiff1d(expected, found)[0]
            raise damaged(path, f"node {missing} is missing")
        records = [read_record(path, line) for line in chunk]
        yield Nodes(found, np.array([line[version] for line in chunk], dtype=np.int64), records)


def read_record(path: Path, line: tuple[Any, ...]) -> bytes:
    """The record of one line (id, columns, payload, crc32); ReplayError when it is not what was written."""
    try:
        record = pack(line[1:-1])
    except (ReplayError, TypeError, struct.error) as error:
        raise damaged(path, f"node {line[0]} cannot be read: {error}") from error
    if checksum(record) != line[-1]:
        raise damaged(path, f"node {line[0]} does not match its checksum")
    return record


def check_format(db: sqlite3.Connection, path: Path) -> bool:
    """Whether the file holds a buffer (False: it is empty); ReplayError when it cannot be read by us."""
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return False
    if not {"meta", "nodes", "payloads"} <= tables:
        raise ReplayError(f"{path} is an SQLite file but not a replay buffer; use another folder")
    found = db.execute("SELECT format FROM meta").fetchone()
    if found is None or not isinstance(found[0], int):
        raise damaged(path, "meta holds no format")
    if found[0] > FORMAT:
        raise ReplayError(
            f"{path} has format {found[0]}, this program reads format {FORMAT}; install a newer llama-o1"
        )
    if found[0] < FORMAT:
        raise ReplayError(
            f"{path} has format {found[0]}, this program reads format {FORMAT}; use the "
            "llama-o1 that wrote it, or another folder"
        )
    if not tables >= TABLES:
        raise damaged(path, f"it has no table {min(TABLES - tables)}")
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
        if type(error) is sqlite3.DatabaseError:
            raise damaged(path, str(error)) from error
        raise ReplayError(f"{path} cannot be used: {error}") from error
