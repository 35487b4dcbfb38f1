"""Moves what SQLite's write-ahead log holds into the database, in a thread of its own.

A commit appends to the log; copying the log into the database costs two syncs of the disk, which no call
of the buffer should wait for. Knows the file only. SQLite keeps the log whole until it is copied, so a kill
at any moment loses nothing.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from pathlib import Path

_DUE_BYTES = 8 << 20  # written since the last copy
_RESTART_PAGES = 1 << 13  # of the log, beyond which the writer waits a moment so that it starts anew: a log
# that stays small is written over where it is in RAM and on disk already

log = logging.getLogger(__name__)


class Checkpointer:
    """Copies the log whenever enough was written, until it is closed."""

    def __init__(self, path: Path, writing: threading.Lock) -> None:
        """`writing`: held by the writer during a transaction."""
        self._path, self._writing = path, writing
        self._written = 0
        self._due = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="replay checkpointer", daemon=True)
        self._thread.start()

    def wrote(self, num_bytes: int) -> None:
        """So many bytes, about, were committed."""
        self._written += num_bytes
        if self._written >= _DUE_BYTES:
            self.wake()

    def wake(self) -> None:
        """Copy the log soon."""
        self._written = 0
        self._due.set()

    def close(self) -> None:
        """Stop and wait for the copy in progress. Twice is once."""
        self._closing = True
        self._due.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        db = sqlite3.connect(self._path, isolation_level=None, timeout=0)
        try:
            db.execute("PRAGMA synchronous = NORMAL")
            while self._due.wait() and not self._closing:
                self._due.clear()
                self._copy(db)
        finally:
            db.close()

    def _copy(self, db: sqlite3.Connection) -> None:
        try:
            _, num_pages, _ = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if num_pages < _RESTART_PAGES or self._closing:
                return
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()  # what came meanwhile: little
            with self._writing:
                db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        except sqlite3.Error as error:  # what was committed is in the log; the next copy brings it over
            log.warning("%s: the write-ahead log could not be copied yet: %s", self._path, error)
