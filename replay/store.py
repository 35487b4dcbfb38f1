"""Writes the buffer's one file: SQLite in WAL mode, node rows that never change, a priority journal.

A call that returned is committed. Knows rows and priorities by id; capacity and sampling are the
buffer's business. What the tables hold is written in file.py.
"""

from __future__ import annotations

import gc
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from replay.errors import ReplayError, damaged
from replay.file import (
    FORMAT,
    SCHEMA,
    Nodes,
    Position,
    check_format,
    named_errors,
    position_checksum,
    read_nodes,
)
from replay.journal import (
    Entry,
    Priorities,
    Snapshot,
    read_priorities,
    read_snapshot,
    read_whole_position,
)
from replay.lock import WriterLock
from replay.record import COLUMNS, Row, checksum, pack
from replay.wal import Checkpointer

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Durability = Literal["process", "power"]

_MAPPED = 1 << 40  # bytes of the file, at most; SQLite has a limit of its own
KEPT_MARKS = 8  # snapshots one can go back to; older ones and their evicted nodes are deleted

_ADD_NODE = f"INSERT INTO nodes VALUES ({', '.join('?' * (len(COLUMNS) + 2))})"
_ADD_ENTRY = (
    "INSERT INTO journal (ids, priorities, stale_updates, max_priority, crc32) VALUES (?, ?, ?, ?, ?)"
)
_SET_META = f"UPDATE meta SET {', '.join(f'{name} = ?' for name in Position._fields)}, crc32 = ?"


class Store:
    """The one writer of a buffer's file. Every method that writes is one transaction."""

    def __init__(self, path: Path, durability: Durability = "process") -> None:
        """Open or create the file and lock it.

        `process` survives the kill of the process, `power` also a power cut (one fsync a call).
        ReplayError: another writer, another format, a damaged file, a folder that cannot be written.
        """
        if durability not in ("process", "power"):
            raise ReplayError(f"durability must be 'process' or 'power', got {durability!r}")
        self.path = path
        self._process, self._writing = os.getpid(), threading.Lock()
        self._checkpointer: Checkpointer | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ReplayError(f"cannot make the folder {path.parent}: {error.strerror}") from error
        self._lock = WriterLock(path.with_suffix(".lock"))
        try:
            if path.exists() and not os.access(path, os.W_OK):
                raise ReplayError(f"cannot write {path}: it is read-only; allow it, or use another folder")
            with named_errors(path):
                self._db = sqlite3.connect(path, isolation_level=None, cached_statements=64)
        except BaseException:
            self._lock.release()
            raise
        try:
            with named_errors(path):
                self._open(durability)
            self._checkpointer = Checkpointer(path, self._writing)
        except BaseException:
            self.close()
            raise

    def position(self) -> Position:
        """The position as of the last transaction."""
        with named_errors(self.path):
            return read_whole_position(self._db, self.path)

    def append(
        self, ids: Int64, rows: Sequence[Row], priorities: Float64, evicted: Int64, position: Position
    ) -> list[bytes]:
        """Add rows under these ids, let the evicted ones go and take the position; the rows' records.

        What is evicted is deleted in the same transaction, unless a mark may bring it back.
        """
        records = [pack(row) for row in rows]
        nodes = (
            (i, *row[:-1], checksum(record))
            for i, row, record in zip(ids.tolist(), rows, records, strict=True)
        )
        payloads = ((i, row.payload) for i, row in zip(ids.tolist(), rows, strict=True))
        with self._transaction(sum(map(len, records))):
            self._remove(evicted)
            self._db.executemany(_ADD_NODE, nodes)
            self._db.executemany("INSERT INTO payloads VALUES (?, ?)", payloads)
            self._show(ids, priorities)
            self._journal(ids, priorities, position)
            self._take(position)
        return records

    def record_priorities(self, ids: Int64, priorities: Float64, position: Position) -> None:
        """Append priorities to the journal, with what the position counts of them."""
        entry = Entry(ids, priorities, position.stale_updates, position.max_priority).columns()
        self._check_process()
        with self._writing:  # no transaction around it: SQLite commits a single statement by itself
            try:
                self._db.execute(_ADD_ENTRY, entry)
            except sqlite3.Error as error:
                raise self._nothing_stored(error) from error
        if self._checkpointer is not None:
            self._checkpointer.wrote(len(ids) * 16 + 4096)

    def remove(self, ids: Int64, position: Position) -> None:
        """Let these ids go and take the position."""
        with self._transaction(4096):
            self._remove(ids)
            self._take(position)

    def snapshot(self, now: Snapshot, changed: npt.NDArray[np.bool_], *, keep: bool) -> tuple[int, int]:
        """Fold the journal into a snapshot; its number and checksum.

        A kept snapshot can be restored until KEPT_MARKS newer ones are kept; with it the `changed`
        priorities are shown.
        """
        columns = now.columns()
        with self._transaction(sum(map(len, columns[:-1]))):
            (number,) = self._db.execute("SELECT coalesce(max(snapshot), 0) + 1 FROM snapshots").fetchone()
            self._db.execute("DELETE FROM journal")
            self._db.execute("DELETE FROM snapshots WHERE kept = 0")
            self._db.execute("INSERT INTO snapshots VALUES (?, ?, ?, ?, ?, ?, ?)", (number, keep, *columns))
            if keep:
                self._show(now.ids[changed], now.priorities[changed])
                self._forget_marks()
            self._take(now.position)
        if keep and self._checkpointer is not None:
            self._checkpointer.wake()
        return number, columns[-1]

    def restore(self, number: int, crc: int) -> Position:
        """Go back to a kept snapshot: later nodes, priorities and snapshots are deleted."""
        with self._transaction(0):
            then = self._snapshot(number)
            if then.crc32 != crc:
                raise ReplayError(
                    f"mark {number} of {self.path} is not the one asked for; use its own buffer"
                )
            for table in ("nodes", "payloads"):
                self._db.execute(f"DELETE FROM {table} WHERE id >= ?", (then.position.next_id,))
            self._db.execute("DELETE FROM evicted WHERE snapshot >= ?", (number,))
            self._db.execute("DELETE FROM snapshots WHERE snapshot > ?", (number,))
            self._db.execute("DELETE FROM journal")
            self._db.execute("DELETE FROM priorities")
            self._show(then.ids, then.priorities)
            self._take(then.position)
        return then.position

    def priorities(self, num_live: int) -> Priorities:
        """Current priorities and draws of what lives; ReplayError when that are not so many."""
        with named_errors(self.path):
            found = read_priorities(self._db, self.path)
        if len(found.ids) != num_live:
            raise damaged(self.path, f"it holds {len(found.ids)} live nodes, meta says {num_live}")
        return found

    def nodes(self, ids: Int64) -> Iterator[Nodes]:
        """The live nodes, whose ids are given, checked, in chunks; ReplayError names a damaged one."""
        with named_errors(self.path), self._reading_much():
            yield from read_nodes(self._db, self.path, ids)

    def close(self) -> None:
        """Close the file and let the next writer in. Twice is once."""
        if self._checkpointer is not None:
            self._checkpointer.close()
        self._db.close()
        self._lock.release()

    def _open(self, durability: Durability) -> None:
        is_buffer = check_format(self._db, self.path)
        self._db.execute("PRAGMA journal_mode = WAL").fetchall()
        self._db.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
        self._db.execute("PRAGMA secure_delete = OFF").fetchall()  # zeroing what is freed is a write a page
        self._db.execute(f"PRAGMA synchronous = {'FULL' if durability == 'power' else 'NORMAL'}")
        self._db.execute(f"PRAGMA fullfsync = {int(durability == 'power')}")
        if not is_buffer:
            with self._transaction(0):
                for statement in SCHEMA:
                    self._db.execute(statement)
                start = Position()
                marks = ", ".join("?" * (len(start) + 2))
                self._db.execute(
                    f"INSERT INTO meta VALUES ({marks})", (FORMAT, *start, position_checksum(start))
                )

    @contextmanager
    def _reading_much(self) -> Iterator[None]:
        """Read the file where it lies in memory, and look for no cycles among rows that hold none."""
        was_collecting = gc.isenabled()
        gc.disable()
        self._db.execute(f"PRAGMA mmap_size = {_MAPPED}").fetchall()
        try:
            yield
        finally:
            if was_collecting:
                gc.enable()
            with suppress(sqlite3.Error):  # of a damaged file, which is named already
                self._db.execute("PRAGMA mmap_size = 0").fetchall()

    @contextmanager
    def _transaction(self, num_bytes: int) -> Iterator[None]:
        """All of the block or nothing."""
        self._check_process()
        with self._writing:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except BaseException as error:
                self._roll_back()
                if isinstance(error, sqlite3.Error):
                    raise self._nothing_stored(error) from error
                raise
        if self._checkpointer is not None:
            self._checkpointer.wrote(num_bytes)

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise ReplayError(f"{self.path} was opened by another process; open it in the one that writes")

    def _nothing_stored(self, error: sqlite3.Error) -> ReplayError:
        return ReplayError(f"{self.path}: {error}; nothing of this call was stored")

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):  # the error that led here is the one to show
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _take(self, position: Position) -> None:
        self._db.execute(_SET_META, (*position, position_checksum(position)))

    def _remove(self, ids: Int64) -> None:
        """Ids that are live no longer; their nodes go unless the newest mark has them."""
        if not len(ids):
            return
        newest = self._db.execute(
            "SELECT snapshot, position FROM snapshots WHERE kept ORDER BY snapshot DESC LIMIT 1"
        ).fetchone()
        self._delete(ids, ("priorities",))
        if newest is not None:
            needed = ids < Position(*json.loads(newest[1])).next_id
            lines = ((i, newest[0]) for i in ids[needed].tolist())
            self._db.executemany("INSERT INTO evicted VALUES (?, ?)", lines)
            ids = ids[~needed]
        self._delete(ids, ("nodes", "payloads"))

    def _delete(self, ids: Int64, tables: Sequence[str]) -> None:
        """Delete rows, a run of consecutive ids at once."""
        breaks = (np.diff(ids) != 1).nonzero()[0] + 1
        runs = [(int(run[0]), int(run[-1])) for run in np.split(ids, breaks) if len(run)]
        for table in tables:
            self._db.executemany(f"DELETE FROM {table} WHERE id BETWEEN ? AND ?", runs)

    def _forget_marks(self) -> None:
        """Delete all marks but the newest, and the evicted nodes that only they needed."""
        self._db.execute(
            "DELETE FROM snapshots WHERE kept AND snapshot NOT IN "
            "(SELECT snapshot FROM snapshots WHERE kept ORDER BY snapshot DESC LIMIT ?)",
            (KEPT_MARKS,),
        )
        (oldest,) = self._db.execute("SELECT min(snapshot) FROM snapshots WHERE kept").fetchone()
        for table in ("nodes", "payloads"):
            self._db.execute(
                f"DELETE FROM {table} WHERE id IN (SELECT id FROM evicted WHERE snapshot < ?)", (oldest,)
            )
        self._db.execute("DELETE FROM evicted WHERE snapshot < ?", (oldest,))

    def _show(self, ids: Int64, priorities: Float64) -> None:
        lines = zip(ids.tolist(), priorities.tolist(), strict=True)
        self._db.executemany("INSERT OR REPLACE INTO priorities VALUES (?, ?)", lines)

    def _journal(self, ids: Int64, priorities: Float64, position: Position) -> None:
        entry = Entry(ids, priorities, position.stale_updates, position.max_priority)
        self._db.execute(_ADD_ENTRY, entry.columns())

    def _snapshot(self, number: int) -> Snapshot:
        found = read_snapshot(self._db, self.path, number)
        if found is None:
            kept = [str(n) for (n,) in self._db.execute("SELECT snapshot FROM snapshots WHERE kept")]
            raise ReplayError(f"mark {number} is not in {self.path}; kept are: {', '.join(kept) or 'none'}")
        return found
