"""One writer at a time: an advisory lock on a file beside the buffer.

A POSIX record lock, because a child process does not inherit it: a worker that outlives a killed
trainer cannot keep the buffer from being opened again.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from replay.errors import ReplayError

# Record locks are silent inside one process, so that a process knows its own; the process id is
# part of the entry, because a forked child has the set but not the locks.
_held: set[tuple[int, str]] = set()


class WriterLock:
    """Held from the constructor to `release`, or to the end of the process."""

    def __init__(self, path: Path) -> None:
        """Take the lock at once; ReplayError when a writer holds it, or the folder cannot be written."""
        self._entry = (os.getpid(), str(path.resolve()))
        if self._entry in _held:
            raise ReplayError(f"{path.parent} is already open for writing in this process; close it first")
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ReplayError(f"cannot write in {path.parent}: {error.strerror}") from error
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            if isinstance(error, BlockingIOError | PermissionError):
                found = "is open for writing in another process; stop it, or use another folder"
            else:
                found = f"cannot be locked: {error.strerror}"
            raise ReplayError(f"{path.parent} {found}") from error
        _held.add(self._entry)

    def release(self) -> None:
        """Let the next writer in. Twice is once."""
        if self._entry in _held:
            _held.remove(self._entry)
            os.close(self._file)
