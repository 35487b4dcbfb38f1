"""What lives in a buffer's file, with priorities and draws, read without a pass over its tables.

The newest snapshot and the journal name every id that may live and what it was given; the table
`priorities` says which do. Its rows are only read where counting and the ends leave that open.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from replay.errors import damaged
from replay.file import Position
from replay.journal import read_journal, read_snapshot

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


class Live(NamedTuple):
    """The live items at one moment."""

    ids: Int64  # [L] ascending
    priorities: Float64  # [L]
    draws: Int64  # [L] how often each was drawn and given a new priority

    def places(self, ids: Int64) -> Int64:  # [N] -> [N]
        """Where live ids stand."""
        return np.arange(len(ids)) if ids is self.ids else _places(self.ids, ids)


def read_live(db: sqlite3.Connection, path: Path, position: Position) -> Live:
    """The live items with current priorities and draws; ReplayError when one has no priority."""
    newest = db.execute("SELECT max(snapshot) FROM snapshots").fetchone()[0]
    then = None if newest is None else read_snapshot(db, path, newest)
    old = np.zeros(0, dtype=np.int64) if then is None else then.ids
    entries = list(read_journal(db, path))
    given = np.concatenate([old[:0], *(entry.ids for entry in entries)])
    fresh = np.unique(given[~_within(old, given)])
    named = np.concatenate([old, fresh])
    priorities, draws = np.full(len(named), np.nan), np.zeros(len(named), dtype=np.int64)
    draws[len(old) :] = -1  # the first priority of an item is not a draw
    if then is not None:
        priorities[: len(old)], draws[: len(old)] = then.priorities, then.draws
    if len(old) and len(fresh) and fresh[0] < old[-1]:
        order = np.argsort(named, kind="stable")
        named, priorities, draws = named[order], priorities[order], draws[order]
    if entries:
        places = _places(named, given)
        priorities[places] = np.concatenate([entry.priorities for entry in entries])
        draws += np.bincount(places, minlength=len(named))
    lives = _which_live(db, named, position.num_live)
    if int(lives.sum()) != position.num_live:
        raise damaged(path, f"{position.num_live} nodes live, {int(lives.sum())} have a priority")
    return Live(named[lives], priorities[lives], draws[lives])


def _which_live(db: sqlite3.Connection, named: Int64, num_live: int) -> npt.NDArray[np.bool_]:
    """Which of these ids live: those from the lowest on, less the evicted, when their number is right."""
    lowest = db.execute("SELECT min(id) FROM priorities").fetchone()[0]
    lives = named >= (np.iinfo(np.int64).max if lowest is None else lowest)
    if int(lives.sum()) == num_live:
        return lives
    lives &= ~_within(_ids(db, "evicted"), named)
    return lives if int(lives.sum()) == num_live else _within(_ids(db, "priorities"), named)


def _places(ids: Int64, wanted: Int64) -> Int64:
    """Where the wanted ids stand among `ids`, which ascend and hold them all."""
    places: Int64 = wanted - ids[0] if _has_no_gap(ids) else np.searchsorted(ids, wanted)
    return places


def _ids(db: sqlite3.Connection, table: str) -> Int64:
    return np.fromiter((i for (i,) in db.execute(f"SELECT id FROM {table} ORDER BY id")), dtype=np.int64)


def _within(ids: Int64, wanted: Int64) -> npt.NDArray[np.bool_]:
    """Which of the wanted are among `ids`, which ascend."""
    if not len(ids):
        return np.zeros(len(wanted), dtype=np.bool_)
    if _has_no_gap(ids):
        inside: npt.NDArray[np.bool_] = (wanted >= ids[0]) & (wanted <= ids[-1])
        return inside
    found: npt.NDArray[np.bool_] = ids[np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)] == wanted
    return found


def _has_no_gap(ids: Int64) -> bool:
    """Whether these ids, which ascend, are consecutive, as where the oldest are evicted."""
    return len(ids) > 0 and int(ids[-1] - ids[0]) == len(ids) - 1
