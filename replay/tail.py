"""The journal's newest entries, in a file of their own beside the database, where one costs a single write.

Inside SQLite an entry costs pages, locks and a copy out of the log later. The tail goes on where the table
`journal` ends. Its number is that of the table's first entry, which is empty: whoever writes all priorities
into a snapshot gives the table a new first entry in the same transaction, and what the tail holds counts no
longer. The kernel keeps what was written when the process is killed. A write that was cut short leaves an end
that is not whole, which nobody acknowledged.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from replay.entry import Entry, entries_in
from replay.errors import ReplayError, damaged

_SUFFIX = ".tail"


class Tail:
    """The writer's side. The file is there while a buffer is open; closing it moves the tail to the table."""

    def __init__(self, path: Path, number: int, *, syncs: bool) -> None:
        """Go on behind what is whole of the tail of this number. OSError when the file cannot be written.

        `path`: of the database. `syncs`: an entry is on the disk when `append` returns.
        """
        _, self._end = read_tail(path, tail_bytes(path), number)
        self._path, self._number, self._syncs = tail_path(path), number, syncs
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        os.ftruncate(self._file, self._end)
        if syncs:
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)  # or a power cut could take the new file's name
            os.close(folder)

    @property
    def num_bytes(self) -> int:
        """Bytes of its entries."""
        return self._end

    def append(self, entry: Entry) -> None:
        """Add an entry; ReplayError, and nothing is added, when it cannot be written."""
        parts = entry.parts(self._number)
        size = sum(memoryview(part).nbytes for part in parts)
        try:
            if os.pwritev(self._file, parts, self._end) != size:
                raise OSError("the disk is full")
            if self._syncs:
                os.fdatasync(self._file)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file, self._end)
            raise ReplayError(f"{self._path}: {error}; nothing of this call was stored") from error
        self._end += size

    def restart(self, number: int) -> None:
        """Begin the tail of another number: the database holds what this one did."""
        self._number, self._end = number, 0
        with suppress(OSError):  # entries of another number do not count
            os.ftruncate(self._file, 0)

    def close(self) -> None:
        """Close the file, and remove it when it is empty. Twice is once."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            if not self._end:
                self._path.unlink(missing_ok=True)


def tail_path(path: Path) -> Path:
    """Where the tail of this database is."""
    return path.with_suffix(_SUFFIX)


def tail_bytes(path: Path) -> bytes:
    """What the tail of this database holds now; a reader reads it before it begins its transaction."""
    try:
        return tail_path(path).read_bytes()
    except FileNotFoundError:
        return b""


def read_tail(path: Path, data: bytes, number: int) -> tuple[list[Entry], int]:
    """Entries of the tail of this number, oldest first, and where they end; ReplayError: it is damaged."""
    entries, end = [], 0
    for begin, after, entry in entries_in(data, number):
        if begin != end:
            raise damaged(path, f"{tail_path(path).name} is not whole from byte {end} to {begin}")
        entries.append(entry)
        end = after
    return entries, end
