"""Priorities and draws as they lie on disk: packed snapshots, and a journal of what came after the newest.

Reads and packs; the one writer is in store.py. Letters of a shape: L live items, E items of an entry.
"""

from __future__ import annotations

import json
import sqlite3
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from replay.errors import damaged
from replay.file import Position, read_position

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

_ID, _PRIORITY = np.dtype("<i8"), np.dtype("<f8")
_COUNTS = struct.Struct("<qd")


class Entry(NamedTuple):
    """One journal entry: priorities given in one call."""

    ids: Int64  # [E]
    priorities: Float64  # [E]
    stale_updates: int  # of the buffer, after it
    max_priority: float  # likewise

    def columns(self) -> tuple[bytes, bytes, int, float, int]:
        """As in the table, the entry's number left out."""
        ids = self.ids.astype(_ID, copy=False).tobytes()
        priorities = self.priorities.astype(_PRIORITY, copy=False).tobytes()
        crc = _entry_checksum(ids, priorities, self.stale_updates, self.max_priority)
        return ids, priorities, self.stale_updates, self.max_priority, crc


class Snapshot(NamedTuple):
    """Everything that changes, at one moment."""

    position: Position
    ids: Int64  # [L] ascending
    priorities: Float64  # [L]
    draws: Int64  # [L] how often each was drawn and given a new priority

    def columns(self) -> tuple[str, bytes, bytes, bytes, int]:
        """As in the table, its number and whether it is kept left out."""
        blobs = (
            self.ids.astype(_ID, copy=False).tobytes(),
            self.priorities.astype(_PRIORITY, copy=False).tobytes(),
            self.draws.astype("<u4").tobytes(),
        )
        text = json.dumps(self.position)
        return text, *blobs, _snapshot_checksum(text, *blobs)

    @property
    def crc32(self) -> int:
        """The checksum in the table."""
        return self.columns()[-1]


class Priorities(NamedTuple):
    """Priorities of what lives now."""

    ids: Int64  # [L] ascending
    current: Float64  # [L]
    draws: Int64  # [L] how often each was drawn and given a new priority
    unshown: npt.NDArray[np.bool_]  # [L] the table `priorities` has another one
    num_journaled: int  # priorities set since the newest snapshot


def read_journal(db: sqlite3.Connection, path: Path) -> Iterator[Entry]:
    """Every journal entry, oldest first, checked."""
    for line in db.execute("SELECT * FROM journal ORDER BY entry"):
        yield read_entry(path, line)


def read_entry(path: Path, line: tuple[Any, ...]) -> Entry:
    """The entry of one line of the table; ReplayError when it does not match its checksum."""
    number, ids, priorities, stale_updates, max_priority, crc = line
    try:
        fits = crc == _entry_checksum(ids, priorities, stale_updates, max_priority)
    except (TypeError, struct.error):
        fits = False
    if not fits:
        raise damaged(path, f"journal entry {number} does not match its checksum")
    return Entry(np.frombuffer(ids, "<i8"), np.frombuffer(priorities, "<f8"), stale_updates, max_priority)


def read_whole_position(db: sqlite3.Connection, path: Path) -> Position:
    """The position with what the journal has counted since."""
    position = read_position(db, path)
    last = db.execute("SELECT * FROM journal ORDER BY entry DESC LIMIT 1").fetchone()
    if last is None:
        return position
    entry = read_entry(path, last)
    return position._replace(
        stale_updates=max(position.stale_updates, entry.stale_updates),
        max_priority=max(position.max_priority, entry.max_priority),
    )


def read_snapshot(db: sqlite3.Connection, path: Path, number: int) -> Snapshot | None:
    """The snapshot of this number, checked; None: the file does not keep it."""
    line = db.execute(
        "SELECT position, ids, priorities, draws, crc32 FROM snapshots WHERE snapshot = ?", (number,)
    ).fetchone()
    if line is None:
        return None
    try:
        fits = line[-1] == _snapshot_checksum(*line[:-1])
    except (TypeError, AttributeError):
        fits = False
    if not fits:
        raise damaged(path, f"snapshot {number} does not match its checksum")
    text, ids, priorities, draws, _ = line
    return Snapshot(
        Position(*json.loads(text)),
        np.frombuffer(ids, "<i8"),
        np.frombuffer(priorities, "<f8"),
        np.frombuffer(draws, "<u4").astype(np.int64),
    )


def read_priorities(db: sqlite3.Connection, path: Path) -> Priorities:
    """Current priorities and draws: the newest snapshot, then the journal. ReplayError when one is lost."""
    cursor = db.execute("SELECT id, priority FROM priorities ORDER BY id")
    try:
        found = np.fromiter(cursor, dtype=[("id", np.int64), ("priority", np.float64)])
    except (TypeError, ValueError, OverflowError) as error:
        raise damaged(path, f"priorities cannot be read: {error}") from error
    ids, shown = found["id"].copy(), found["priority"]
    current, draws = np.full(len(ids), np.nan), np.zeros(len(ids), dtype=np.int64)
    newest = db.execute("SELECT max(snapshot) FROM snapshots").fetchone()[0]
    then = None if newest is None else read_snapshot(db, path, newest)
    if then is not None:
        places, given = _places(ids, then.ids)
        current[places], draws[places] = then.priorities[given], then.draws[given]
    entries = list(read_journal(db, path))
    draws[np.isnan(current)] = -1  # the first priority of an item is not a draw
    if entries:
        places, given = _places(ids, np.concatenate([entry.ids for entry in entries]))
        current[places] = np.concatenate([entry.priorities for entry in entries])[given]
        draws += np.bincount(places, minlength=len(ids))
    lost = np.isnan(current)
    if lost.any():
        raise damaged(path, f"node {ids[lost][0]} has no priority")
    return Priorities(ids, current, draws, current != shown, sum(len(entry.ids) for entry in entries))


def _places(ids: Int64, wanted: Int64) -> tuple[Int64, npt.NDArray[np.bool_]]:
    """Where in `ids`, which ascend, the wanted ones stand that are there; and which of them are."""
    if not len(ids):
        return np.zeros(0, dtype=np.int64), np.zeros(len(wanted), dtype=np.bool_)
    places = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    there = ids[places] == wanted
    return places[there], there


def _entry_checksum(ids: bytes, priorities: bytes, stale_updates: int, max_priority: float) -> int:
    return zlib.crc32(_COUNTS.pack(stale_updates, max_priority), zlib.crc32(priorities, zlib.crc32(ids)))


def _snapshot_checksum(text: str, ids: bytes, priorities: bytes, draws: bytes) -> int:
    return zlib.crc32(draws, zlib.crc32(priorities, zlib.crc32(ids, zlib.crc32(text.encode()))))
