"""Ragged records in RAM: pages of bytes, filled in id order, gathered by id, freed from the oldest.

Knows ids and bytes only: no priorities, no files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
PAGE_BYTES = 1 << 20


class Gathered(NamedTuple):
    """Records of one gather, one after another in memory of their own."""

    records: npt.NDArray[np.uint8]
    starts: Int64  # [B] where each record begins, a multiple of 8


class Arena:
    """The records of at most `capacity` consecutive ids; the place of an id is slot id % capacity."""

    def __init__(self, capacity: int, page_bytes: int = PAGE_BYTES) -> None:
        """Starts without pages. A record larger than a page gets a page of its own."""
        self.capacity = capacity
        self._page_bytes = page_bytes
        self._pages: dict[int, npt.NDArray[np.uint8]] = {}
        self._last_ids: deque[int] = deque()  # the last id of each page, oldest page first
        self._oldest_page = 0
        self._free = 0  # where the newest page goes on
        self._page = np.zeros(capacity, dtype=np.int32)
        self._start = np.zeros(capacity, dtype=np.int64)
        self._length = np.zeros(capacity, dtype=np.int32)  # padded to 8

    @property
    def num_pages(self) -> int:
        """Pages held now."""
        return len(self._pages)

    def add(self, first_id: int, records: Sequence[bytes]) -> None:
        """Store records under consecutive ids. Ids come in rising order over the life of the arena."""
        for record_id, record in enumerate(records, start=first_id):
            length = -(-len(record) // 8) * 8
            page = self._page_for(length)
            slot = record_id % self.capacity
            self._page[slot], self._start[slot], self._length[slot] = page, self._free, length
            self._pages[page][self._free : self._free + len(record)] = np.frombuffer(record, np.uint8)
            self._free += length
            self._last_ids[-1] = record_id

    def gather(self, ids: Int64) -> Gathered:  # [B]
        """Copies of the records of these ids, in this order; an id may repeat."""
        slots = ids % self.capacity
        lengths = self._length[slots]
        ends = np.cumsum(lengths, dtype=np.int64)
        starts = ends - lengths
        records = np.empty(int(ends[-1]) if len(ends) else 0, dtype=np.uint8)
        places = (self._page[slots], self._start[slots], self._start[slots] + lengths, starts, ends)
        for page, start, end, to_start, to_end in zip(*(p.tolist() for p in places), strict=True):
            records[to_start:to_end] = self._pages[page][start:end]
        return Gathered(records, starts)

    def forget(self, first_live: int) -> None:
        """Free the pages whose ids all lie before `first_live`."""
        while self._last_ids and self._last_ids[0] < first_live:
            self._last_ids.popleft()
            del self._pages[self._oldest_page]
            self._oldest_page += 1

    def num_bytes(self, first_id: int, end_id: int) -> int:
        """Bytes of the records of the ids from `first_id` up to `end_id`."""
        slots = np.arange(first_id, end_id) % self.capacity
        return int(self._length[slots].sum(dtype=np.int64))

    def _page_for(self, length: int) -> int:
        newest = self._oldest_page + len(self._pages) - 1
        if not self._pages or self._free + length > len(self._pages[newest]):
            newest += 1
            self._pages[newest] = np.empty(max(self._page_bytes, length), dtype=np.uint8)
            self._last_ids.append(-1)
            self._free = 0
        return newest
