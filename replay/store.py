"""Writes the buffer's one file: SQLite in WAL mode, node rows that never change, a priority journal.

A call that returned is committed. Knows rows and priorities by id; capacity and sampling are the
buffer's business. What the tables hold is written in file.py.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from replay.errors import ReplayError
from replay.file import (
    DRAWS_TABLE,
    FORMAT,
    SCHEMA,
    Position,
    Priorities,
    Snapshot,
    check_format,
    named_errors,
    position_checksum,
    read_position,
    read_priorities,
    read_record,
    read_snapshot,
)
from replay.lock import WriterLock
from replay.record import COLUMNS, Row, checksum, pack

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Durability = Literal["process", "power"]

KEPT_MARKS = 8  # snapshots one can go back to; older ones and their evicted nodes are deleted
_CHUNK = 1024  # rows read at once

_ADD_NODE = f"INSERT INTO nodes VALUES ({', '.join('?' * (len(COLUMNS) + 2))})"


_SET_META = f"UPDATE meta SET {', '.join(f'{name} = ?' for name in Position._fields)}, crc32 = ?"


class Stored(NamedTuple):
    """Consecutive nodes as they were read back."""

    first_id: int
    versions: list[int]
    records: list[bytes]


class Store:
    """The one writer of a buffer's file. Every method that writes is one transaction."""

    def __init__(self, path: Path, durability: Durability = "process") -> None:
        """Open or create the file and lock it.

        `process` survives the kill of the process, `power` also a power cut (one fsync a call).
        ReplayError: another writer, a newer format, a damaged file, a folder that cannot be written.
        """
        if durability not in ("process", "power"):
            raise ReplayError(f"durability must be 'process' or 'power', got {durability!r}")
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ReplayError(f"cannot make the folder {path.parent}: {error.strerror}") from error
        self._lock = WriterLock(path.with_suffix(".lock"))
        try:
            with named_errors(path):
                self._db = sqlite3.connect(path, isolation_level=None)
        except BaseException:
            self._lock.release()
            raise
        try:
            with named_errors(path):
                self._open(durability)
        except BaseException:
            self.close()
            raise

    def position(self) -> Position:
        """The position as of the last transaction."""
        with named_errors(self.path):
            return read_position(self._db, self.path)

    def append(
        self, first_id: int, rows: Sequence[Row], priorities: Float64, position: Position
    ) -> list[bytes]:
        """Add rows under consecutive ids and take the position; the rows' records.

        What lies before the new `first_live` is deleted in the same transaction, unless a mark
        may bring it back.
        """
        records = [pack(row) for row in rows]
        ids = np.arange(first_id, first_id + len(rows))
        nodes = (
            (i, *row[:-1], checksum(record))
            for i, row, record in zip(ids.tolist(), rows, records, strict=True)
        )
        payloads = ((i, row.payload) for i, row in zip(ids.tolist(), rows, strict=True))
        with self._transaction():
            self._db.executemany(_ADD_NODE, nodes)
            self._db.executemany("INSERT INTO payloads VALUES (?, ?)", payloads)
            self._show(ids, priorities)
            self._journal(ids, priorities)
            self._take(position)
            self._evict(position)
        return records

    def record_priorities(self, ids: Int64, priorities: Float64, position: Position) -> None:
        """Append priorities to the journal and take the position."""
        with self._transaction():
            if len(ids):
                self._journal(ids, priorities)
            self._take(position)

    def move(self, position: Position) -> None:
        """Take a position: ids that are no longer live are gone."""
        with self._transaction():
            self._take(position)
            self._evict(position)

    def snapshot(
        self, priorities: Float64, draws: Int64, changed: Int64, position: Position, *, keep: bool
    ) -> tuple[int, int]:
        """Fold the journal: all live ids' priorities and draws, priorities that `changed` shown.

        Number and checksum come back.

        A kept snapshot can be restored until KEPT_MARKS newer ones are kept.
        """
        text, blob = json.dumps(position), priorities.astype("<f8").tobytes()
        counted = draws.astype("<u4").tobytes()
        crc = zlib.crc32(blob, zlib.crc32(text.encode()))
        with self._transaction():
            (number,) = self._db.execute("SELECT coalesce(max(snapshot), 0) + 1 FROM snapshots").fetchone()
            self._show(changed, priorities[changed - position.first_live])
            self._db.execute("DELETE FROM journal")
            self._db.execute("DELETE FROM snapshots WHERE kept = 0")
            self._db.execute("INSERT INTO snapshots VALUES (?, ?, ?, ?, ?)", (number, keep, text, blob, crc))
            self._db.execute(
                "DELETE FROM snapshots WHERE kept AND snapshot NOT IN "
                "(SELECT snapshot FROM snapshots WHERE kept ORDER BY snapshot DESC LIMIT ?)",
                (KEPT_MARKS,),
            )
            self._db.execute("INSERT INTO draws VALUES (?, ?, ?)", (number, counted, zlib.crc32(counted)))
            self._db.execute("DELETE FROM draws WHERE snapshot NOT IN (SELECT snapshot FROM snapshots)")
            self._take(position)
            self._evict(position)
        if keep:
            with named_errors(self.path):
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        return number, crc

    def restore(self, number: int, crc: int) -> Position:
        """Go back to a kept snapshot: later nodes, priorities and snapshots are deleted."""
        with self._transaction():
            then = self._snapshot(number)
            position = then.position
            if then.crc32 != crc:
                raise ReplayError(
                    f"mark {number} of {self.path} is not the one asked for; use its own buffer"
                )
            for table in ("nodes", "payloads"):
                self._db.execute(f"DELETE FROM {table} WHERE id >= ?", (position.next_id,))
            for table in ("snapshots", "draws"):
                self._db.execute(f"DELETE FROM {table} WHERE snapshot > ?", (number,))
            self._db.execute("DELETE FROM journal")
            self._db.execute("DELETE FROM priorities")
            self._show(np.arange(position.first_live, position.next_id), then.priorities)
            self._take(position)
        return position

    def priorities(self, position: Position) -> Priorities:
        """Current priorities and draws: the newest snapshot, then the journal."""
        with named_errors(self.path):
            return read_priorities(self._db, self.path, position)

    def nodes(self, first_id: int, end_id: int) -> Iterator[Stored]:
        """The nodes from `first_id` up to `end_id`, checked, in chunks; ReplayError names a damaged one."""
        with named_errors(self.path):
            cursor = self._db.execute(
                f"SELECT id, {', '.join(COLUMNS)}, payload, crc32 FROM nodes LEFT JOIN payloads USING (id) "
                "WHERE id >= ? AND id < ? ORDER BY id",
                (first_id, end_id),
            )
            while first_id < end_id:
                chunk = cursor.fetchmany(_CHUNK)
                records = [read_record(self.path, line) for line in chunk]
                ids = [line[0] for line in chunk]
                if not ids or ids[-1] - first_id + 1 != len(ids):
                    missing = next((i for i, found in enumerate(ids, first_id) if i != found), first_id)
                    raise ReplayError(f"{self.path} is damaged: node {missing} is missing")
                yield Stored(first_id, [line[1 + COLUMNS.index("version")] for line in chunk], records)
                first_id = ids[-1] + 1

    def count(self, first_id: int, end_id: int, min_version: int | None) -> int:
        """How many nodes of this range are at least that new; None: all of them."""
        with named_errors(self.path):
            found: int = self._db.execute(
                "SELECT count(*) FROM nodes WHERE id >= ? AND id < ? AND version >= ?",
                (first_id, end_id, -(2**63) if min_version is None else min_version),
            ).fetchone()[0]
        return found

    def close(self) -> None:
        """Close the file and let the next writer in. Twice is once."""
        self._db.close()
        self._lock.release()

    def _open(self, durability: Durability) -> None:
        is_buffer = check_format(self._db, self.path)
        self._db.execute("PRAGMA journal_mode = WAL").fetchall()
        self._db.execute(f"PRAGMA synchronous = {'FULL' if durability == 'power' else 'NORMAL'}")
        self._db.execute(f"PRAGMA fullfsync = {int(durability == 'power')}")
        if is_buffer:
            self._db.execute(DRAWS_TABLE)  # which files of 0.1.0 lack
        else:
            with self._transaction():
                for statement in SCHEMA:
                    self._db.execute(statement)
                start = Position()
                self._db.execute(
                    "INSERT INTO meta VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (FORMAT, *start, position_checksum(start)),
                )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            self._roll_back()
            if isinstance(error, sqlite3.Error):
                raise ReplayError(f"{self.path}: {error}; nothing of this call was stored") from error
            raise

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):  # the error that led here is the one to show
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _take(self, position: Position) -> None:
        self._db.execute(_SET_META, (*position, position_checksum(position)))

    def _evict(self, position: Position) -> None:
        self._db.execute("DELETE FROM priorities WHERE id < ?", (position.first_live,))
        oldest = self._db.execute(
            "SELECT position FROM snapshots WHERE kept ORDER BY snapshot LIMIT 1"
        ).fetchone()
        first_needed = position.first_live if oldest is None else Position(*json.loads(oldest[0])).first_live
        for table in ("nodes", "payloads"):
            self._db.execute(f"DELETE FROM {table} WHERE id < ?", (first_needed,))

    def _show(self, ids: Int64, priorities: Float64) -> None:
        lines = zip(ids.tolist(), priorities.tolist(), strict=True)
        self._db.executemany("INSERT OR REPLACE INTO priorities VALUES (?, ?)", lines)

    def _journal(self, ids: Int64, priorities: Float64) -> None:
        packed = ids.astype("<i8").tobytes(), priorities.astype("<f8").tobytes()
        crc = zlib.crc32(packed[1], zlib.crc32(packed[0]))
        self._db.execute("INSERT INTO journal (ids, priorities, crc32) VALUES (?, ?, ?)", (*packed, crc))

    def _snapshot(self, number: int) -> Snapshot:
        found = read_snapshot(self._db, self.path, number)
        if found is None:
            kept = [str(n) for (n,) in self._db.execute("SELECT snapshot FROM snapshots WHERE kept")]
            raise ReplayError(f"mark {number} is not in {self.path}; kept are: {', '.join(kept) or 'none'}")
        return found
