"""Saves what is whole of a damaged buffer into a new one.

Works on a copy. A node is whole when its row and arrays match their checksum; priorities come from the newest
snapshot and the journal where those match theirs, else from the table for people. Marks are not taken over:
what they promise, everything as it was, can no longer be kept.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from replay.errors import ReplayError
from replay.file import FILE_NAME, FORMAT, SCHEMA, Position, read_position, read_record
from replay.journal import read_entry, read_snapshot
from replay.lock import WriterLock
from replay.record import COLUMNS, Row
from replay.store import Store

_CHUNK = 1024  # rows written at once
_MOST_PROBED = 1 << 24  # ids looked up one by one between two that were found
_ASK_NODE = (
    f"SELECT id, {', '.join(COLUMNS)}, payload, crc32 FROM nodes JOIN payloads USING (id) WHERE id = ?"
)
_ASK_ENTRY = "SELECT * FROM journal WHERE entry = ?"


class Salvaged(NamedTuple):
    """What was saved."""

    num_nodes: int
    lost: list[int]  # ids of live nodes that are damaged
    is_complete: bool  # all live ids are known; False: more nodes may have been lost than are named
    num_guessed: int  # nodes whose priority is the one they had at the last mark, or the highest

    def line(self, folder: Path, out: Path) -> str:
        """In one line."""
        first = ", ".join(map(str, self.lost[:20])) + (" ..." if len(self.lost) > 20 else "")
        lost = f"lost {len(self.lost)} ({first})" if self.lost else "lost none"
        more = "" if self.is_complete else "; the list of live nodes is damaged, there may have been more"
        guessed = f"; {self.num_guessed} have an older priority" if self.num_guessed else ""
        return f"saved {self.num_nodes} nodes of {folder} in {out}, {lost}{more}{guessed}"


def salvage(folder: str | Path, out: str | Path) -> Salvaged:
    """Write all whole live nodes of `folder` into a new buffer in the folder `out`, under their ids.

    `folder`: of a buffer or of a run. ReplayError when there is no file, a writer has it open, `out` has
    a buffer already, it is of another format, or nothing of it can be read.
    """
    source, target = Path(folder) / FILE_NAME, Path(out) / FILE_NAME
    if not source.is_file():
        source = Path(folder) / "replay" / FILE_NAME
    if not source.is_file():
        raise ReplayError(f"no replay buffer in {folder}: expected {FILE_NAME} or replay/{FILE_NAME} there")
    if target.exists():
        raise ReplayError(f"{target} is there already; name a folder without a buffer")
    lock = None
    if _may_write(source.parent):
        lock = WriterLock(source.with_suffix(".lock"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="salvage_") as scratch:
            copy = _copied(source, Path(scratch))
            with closing(_opened(copy, source)) as db:
                return _save(db, source, target)
    except OSError as error:
        raise ReplayError(f"cannot write in {target.parent}: {error.strerror}") from error
    finally:
        if lock is not None:
            lock.release()


def _may_write(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _copied(source: Path, scratch: Path) -> Path:
    copy = scratch / FILE_NAME
    shutil.copyfile(source, copy)
    log = source.with_name(f"{FILE_NAME}-wal")
    if log.exists():
        shutil.copyfile(log, copy.with_name(log.name))
    return copy


def _opened(copy: Path, source: Path) -> sqlite3.Connection:
    """A connection to the copy; where its first page is damaged, with the first page of a new buffer."""
    for attempt in range(2):
        db = sqlite3.connect(copy, isolation_level=None)
        try:
            db.execute("PRAGMA writable_schema = ON")  # also reads files that were cut short
            found = db.execute("SELECT format FROM meta").fetchone() if _has_our_schema(db) else None
            if found is not None and isinstance(found[0], int) and 0 < found[0] != FORMAT and not attempt:
                raise ReplayError(f"{source} has format {found[0]}, this program repairs format {FORMAT}")
            if _has_our_schema(db):
                return db
        except sqlite3.Error:
            pass
        except BaseException:
            db.close()
            raise
        db.close()
        if not attempt:
            _give_first_page(copy)
    raise ReplayError(f"nothing of {source} can be read")


def _has_our_schema(db: sqlite3.Connection) -> bool:
    found = {sql for (sql,) in db.execute("SELECT sql FROM sqlite_master")}
    return set(SCHEMA) <= found


def _give_first_page(copy: Path) -> None:
    """Tables of every buffer are made in the same order, so they begin at the same pages."""
    with tempfile.TemporaryDirectory(dir=copy.parent) as folder:
        model = Path(folder) / FILE_NAME
        Store(model).close()
        page = bytearray(model.read_bytes()[:4096])
    num_pages = copy.stat().st_size // len(page)
    page[28:32] = num_pages.to_bytes(4, "big")
    page[32:40] = bytes(8)  # no list of free pages
    page[92:96] = page[24:28]  # the size is valid for this change counter
    with copy.open("r+b") as file:
        file.write(page)


def _save(db: sqlite3.Connection, source: Path, target: Path) -> Salvaged:
    ids, is_complete = _live_ids(db)
    if not ids:
        raise ReplayError(f"{source} has no node that can be read; nothing was saved")
    shown, current = _priorities(db, source)
    position = _position(db, source)
    highest = max([*current.values(), *shown.values(), position.max_priority if position else 0.0, 1e-3])
    lost: list[int] = []
    num_nodes, num_guessed, newest = 0, 0, max(ids, default=-1)
    with closing(Store(target)) as store:
        for chunk in _chunks(db, source, ids, lost if is_complete else None):
            given = [current.get(i, shown.get(i, highest)) for i, _ in chunk]
            num_guessed += sum(i not in current for i, _ in chunk)
            num_nodes += len(chunk)
            after = _after(position, num_nodes, newest, min(ids), highest)
            new = np.array([i for i, _ in chunk], dtype=np.int64)
            nothing = np.zeros(0, dtype=np.int64)
            store.append(new, [row for _, row in chunk], np.array(given), nothing, after)
    return Salvaged(num_nodes, lost, is_complete, num_guessed)


def _chunks(
    db: sqlite3.Connection, source: Path, ids: list[int], lost: list[int] | None
) -> Iterator[list[tuple[int, Row]]]:
    """Whole nodes, some at once; the others' ids are added to `lost`."""
    chunk: list[tuple[int, Row]] = []
    for i in ids:
        try:
            line = db.execute(_ASK_NODE, (i,)).fetchone()
            if line is None:
                raise ReplayError(f"node {i} is missing")
            read_record(source, line)
            chunk.append((i, Row(*line[1:-1])))
        except (sqlite3.Error, ReplayError):
            if lost is not None:
                lost.append(i)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _live_ids(db: sqlite3.Connection) -> tuple[list[int], bool]:
    """Ids that live, ascending, and whether these are all and no more."""
    ids, is_whole = _walk(db, "priorities", "id")
    if is_whole and ids:
        return ids, True
    nodes, _ = _walk(db, "nodes", "id")
    gone, _ = _walk(db, "evicted", "id")
    return sorted((set(ids) | set(nodes)) - set(gone)), False


def _walk(db: sqlite3.Connection, table: str, key: str) -> tuple[list[int], bool]:
    """All keys that can be read, ascending, and whether nothing was in the way.

    What lies between the keys that are reached from both ends is looked up one by one.
    """
    upward, is_whole = _run(db, f"SELECT {key} FROM {table} WHERE {key} > ? ORDER BY {key} LIMIT ?", -1)
    if is_whole:
        return upward, True
    downward, _ = _run(db, f"SELECT {key} FROM {table} WHERE {key} < ? ORDER BY {key} DESC LIMIT ?", 2**62)
    low, high = max(upward, default=-1), min(downward, default=0)
    between = []
    for i in range(low + 1, min(high, low + _MOST_PROBED)):
        with suppress(sqlite3.Error):
            if db.execute(f"SELECT {key} FROM {table} WHERE {key} = ?", (i,)).fetchone() == (i,):
                between.append(i)
    return sorted({*upward, *between, *downward}), False


def _run(db: sqlite3.Connection, sql: str, start: int) -> tuple[list[int], bool]:
    found: list[int] = []
    limit = _CHUNK
    while limit:
        try:
            lines = db.execute(sql, (found[-1] if found else start, limit)).fetchall()
        except sqlite3.Error:
            limit //= 4
            continue
        if not lines:
            return found, True
        keys = [line[0] for line in lines]
        distances = [abs(key - start) if isinstance(key, int) else -1 for key in [*found[-1:], *keys]]
        if any(b <= a for a, b in pairwise(distances)) or distances[0] < 0:
            return found, False  # out of order: a damaged key
        found += keys
    return found, False


def _priorities(db: sqlite3.Connection, source: Path) -> tuple[dict[int, float], dict[int, float]]:
    """Priorities by id: as shown to people, and as the snapshot and the journal have them."""
    shown: dict[int, float] = {}
    current: dict[int, float] = {}
    for i in _walk(db, "priorities", "id")[0]:
        with suppress(sqlite3.Error, TypeError):
            (priority,) = db.execute("SELECT priority FROM priorities WHERE id = ?", (i,)).fetchone()
            if isinstance(priority, float) and 0 <= priority < 1e100:
                shown[i] = priority
    for number in reversed(_walk(db, "snapshots", "snapshot")[0]):
        with suppress(sqlite3.Error, ReplayError, TypeError):
            snapshot = read_snapshot(db, source, number)
            if snapshot is not None:
                current.update(zip(snapshot.ids.tolist(), snapshot.priorities.tolist(), strict=True))
                break
    for number in _walk(db, "journal", "entry")[0]:
        with suppress(sqlite3.Error, ReplayError, TypeError):
            entry = read_entry(source, db.execute(_ASK_ENTRY, (number,)).fetchone())
            current.update(zip(entry.ids.tolist(), entry.priorities.tolist(), strict=True))
    return shown, current


def _position(db: sqlite3.Connection, source: Path) -> Position | None:
    with suppress(sqlite3.Error, ReplayError, TypeError):
        return read_position(db, source)
    return None


def _after(position: Position | None, num_nodes: int, newest: int, oldest: int, highest: float) -> Position:
    """A position that holds so many nodes, under which ids go on where they were."""
    if position is None:
        return Position(
            next_id=newest + 1, num_slots=newest + 1 - oldest, added=num_nodes, max_priority=highest
        )
    added = num_nodes + position.evicted + position.dropped
    return position._replace(next_id=max(position.next_id, newest + 1), added=added, max_priority=highest)
