"""An entry of the journal: priorities given in one call, packed for the table or for the tail (tail.py).

Knows bytes only. Ids are packed as little-endian int64, priorities as float64. Letters of a shape: E items of
one entry.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from replay.errors import damaged

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

_ID, _PRIORITY = np.dtype("<i8"), np.dtype("<f8")
_COUNTS = struct.Struct("<qd")
_HEAD = struct.Struct("<Iqqd")  # E, number of the tail, stale updates, highest priority; then a CRC-32 of all
_CRC = struct.Struct("<I")
_NUMBER, _AT_NUMBER = struct.Struct("<q"), 4  # in the head
_HEAD_BYTES = _HEAD.size + _CRC.size


class Entry(NamedTuple):
    """Priorities given in one call."""

    ids: Int64  # [E]
    priorities: Float64  # [E]
    stale_updates: int  # of the buffer, after it
    max_priority: float  # likewise

    def columns(self) -> tuple[bytes, bytes, int, float, int]:
        """As in the table, the entry's number left out."""
        ids, priorities, stale_updates, max_priority = self
        packed = ids.astype(_ID, copy=False).tobytes(), priorities.astype(_PRIORITY, copy=False).tobytes()
        return *packed, stale_updates, max_priority, _checksum(*packed, stale_updates, max_priority)

    def parts(self, number: int) -> tuple[bytes, memoryview, memoryview]:
        """As in the tail of this number: to be written one after another."""
        ids = np.ascontiguousarray(self.ids, _ID).data
        priorities = np.ascontiguousarray(self.priorities, _PRIORITY).data
        head = _HEAD.pack(len(ids), number, self.stale_updates, self.max_priority)
        crc = zlib.crc32(priorities, zlib.crc32(ids, zlib.crc32(head)))
        return head + _CRC.pack(crc), ids, priorities


def merged(entries: Sequence[Entry]) -> Entry:
    """At least one entry as one, with the same result."""
    ids = np.concatenate([entry.ids for entry in entries])
    priorities = np.concatenate([entry.priorities for entry in entries])
    return Entry(ids, priorities, entries[-1].stale_updates, entries[-1].max_priority)


def read_entry(path: Path, line: tuple[Any, ...]) -> Entry:
    """The entry of one line of the table; ReplayError when it does not match its checksum."""
    number, ids, priorities, stale_updates, max_priority, crc = line
    try:
        fits = crc == _checksum(ids, priorities, stale_updates, max_priority)
    except (TypeError, struct.error):
        fits = False
    if not fits:
        raise damaged(path, f"journal entry {number} does not match its checksum")
    return Entry(np.frombuffer(ids, _ID), np.frombuffer(priorities, _PRIORITY), stale_updates, max_priority)


def entries_in(data: bytes, number: int) -> Iterator[tuple[int, int, Entry]]:
    """Begin, end and content of the whole entries of the tail of this number; all else is passed over."""
    at, mark = 0, _NUMBER.pack(number)
    while at >= 0:
        found = _entry_at(data, at, number)
        if found is not None:
            end = at + _HEAD_BYTES + found.ids.nbytes + found.priorities.nbytes
            yield at, end, found
            at = end
        else:
            at = data.find(mark, at + 1 + _AT_NUMBER) - _AT_NUMBER


def _entry_at(data: bytes, at: int, number: int) -> Entry | None:
    begin = at + _HEAD_BYTES
    if begin > len(data):
        return None
    count, whose, stale_updates, max_priority = _HEAD.unpack_from(data, at)
    middle = begin + count * _ID.itemsize
    end = middle + count * _PRIORITY.itemsize
    if whose != number or end > len(data):
        return None
    view = memoryview(data)
    (crc,) = _CRC.unpack_from(data, begin - _CRC.size)
    if zlib.crc32(view[begin:end], zlib.crc32(view[at : at + _HEAD.size])) != crc:
        return None
    ids, priorities = np.frombuffer(data, _ID, count, begin), np.frombuffer(data, _PRIORITY, count, middle)
    return Entry(ids, priorities, stale_updates, max_priority)


def _checksum(ids: bytes, priorities: bytes, stale_updates: int, max_priority: float) -> int:
    return zlib.crc32(_COUNTS.pack(stale_updates, max_priority), zlib.crc32(priorities, zlib.crc32(ids)))
