"""Priorities and draws as they lie on disk: packed snapshots, and a journal of what came after the newest.

Reads and packs; the one writer is in store.py. Letters of a shape: L live items.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from replay.entry import Entry, merged, read_entry
from replay.errors import ReplayError, damaged
from replay.file import Position, read_position
from replay.tail import read_tail, tail_bytes

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

_ID, _PRIORITY = np.dtype("<i8"), np.dtype("<f8")
ADD_ENTRY = "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?)"


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


def read_journal(db: sqlite3.Connection, path: Path, tail: bytes | None = None) -> list[Entry]:
    """Every journal entry, oldest first, checked. `tail`: what its file held before; None: it is read now."""
    entries = [read_entry(path, line) for line in db.execute("SELECT * FROM journal ORDER BY entry")]
    data = tail_bytes(path) if tail is None else tail
    return entries + read_tail(path, data, tail_number(db))[0]


def tail_number(db: sqlite3.Connection) -> int:
    """The number of the entries in the tail that count."""
    found: int | None = db.execute("SELECT min(entry) FROM journal").fetchone()[0]
    return found or 0


def begin_journal(db: sqlite3.Connection, entries: Sequence[Entry] = ()) -> int:
    """Empty the journal, or leave these entries in it as one; the number of its tail from now on."""
    (last,) = db.execute("SELECT coalesce(max(entry), 0) FROM journal").fetchone()
    db.execute("DELETE FROM journal")
    stale_updates, max_priority = entries[-1][2:] if entries else (0, 0.0)
    nothing = Entry(np.zeros(0, np.int64), np.zeros(0), stale_updates, max_priority)
    for number, entry in enumerate([nothing, *entries], last + 1):
        db.execute(ADD_ENTRY, (number, *entry.columns()))
    return int(last) + 1


def read_whole_position(db: sqlite3.Connection, path: Path, journal: Sequence[Entry]) -> Position:
    """The position with what the journal has counted since."""
    position = read_position(db, path)
    if not journal:
        return position
    return position._replace(
        stale_updates=max(position.stale_updates, journal[-1].stale_updates),
        max_priority=max(position.max_priority, journal[-1].max_priority),
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


def read_mark(db: sqlite3.Connection, path: Path, number: int) -> Snapshot:
    """The snapshot of this number; ReplayError when the file does not keep it."""
    found = read_snapshot(db, path, number)
    if found is None:
        kept = [str(n) for (n,) in db.execute("SELECT snapshot FROM snapshots WHERE kept")]
        raise ReplayError(f"mark {number} is not in {path}; kept are: {', '.join(kept) or 'none'}")
    return found


def read_priorities(db: sqlite3.Connection, path: Path, journal: Sequence[Entry]) -> Priorities:
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
    draws[np.isnan(current)] = -1  # the first priority of an item is not a draw
    num_journaled = 0
    if journal:
        later = merged(journal)
        num_journaled = len(later.ids)
        places, given = _places(ids, later.ids)
        current[places] = later.priorities[given]
        draws += np.bincount(places, minlength=len(ids))
    lost = np.isnan(current)
    if lost.any():
        raise damaged(path, f"node {ids[lost][0]} has no priority")
    return Priorities(ids, current, draws, current != shown, num_journaled)


def _places(ids: Int64, wanted: Int64) -> tuple[Int64, npt.NDArray[np.bool_]]:
    """Where in `ids`, which ascend, the wanted ones stand that are there; and which of them are."""
    if not len(ids):
        return np.zeros(0, dtype=np.int64), np.zeros(len(wanted), dtype=np.bool_)
    places = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    there = ids[places] == wanted
    return places[there], there


def _snapshot_checksum(text: str, ids: bytes, priorities: bytes, draws: bytes) -> int:
    return zlib.crc32(draws, zlib.crc32(priorities, zlib.crc32(ids, zlib.crc32(text.encode()))))
