"""Ragged records in RAM: pages of bytes, filled in turn, gathered by slot, moved together as records go.

Knows slots and bytes only: no ids, no priorities, no files. What is allocated stays below 1.25 times the
records' bytes: a page is a sixteenth of them at most, and pages with many gaps are emptied into a new one.
Letters of a shape: B slots of one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from replay.kernels import Kernels
from replay.ram import page_of_bytes

Int64 = npt.NDArray[np.int64]

_LEAST_PAGE, _MOST_PAGE = 1 << 14, 1 << 26
_PAGES = 16  # of the records' bytes, about
_WORD = 8  # records begin at multiples of it, so that their arrays are aligned
_PADS = [bytes(gap) for gap in range(_WORD)]


class Gathered(NamedTuple):
    """Records of one gather, one after another in memory of their own."""

    records: npt.NDArray[np.uint8]
    starts: Int64  # [B] where each record begins, a multiple of 8


class Arena:
    """The records of at most `num_slots` slots."""

    def __init__(
        self, num_slots: int, kernels: Kernels | None = None, places: npt.NDArray[np.int32] | None = None
    ) -> None:
        """Starts without pages. A record larger than a page gets a page of its own.

        `places`: memory for what is kept by slot, [S, 3]; None: memory of its own.
        """
        self._kernels = kernels
        self._pages: list[npt.NDArray[np.uint8]] = []  # empty arrays where a page was freed
        self._views: list[memoryview] = []  # of the pages
        self._addresses = np.zeros(0, dtype=np.int64)  # of the pages
        self._live = np.zeros(0, dtype=np.int64)  # bytes of records in each page
        self._current = -1  # the page that is filled now
        self._free = 0  # where it goes on
        # By slot: the page (-1: nothing there), where the record begins in words, its bytes padded to a word.
        self._places = np.zeros((num_slots, 3), dtype=np.int32) if places is None else places
        self._places[:, 0] = -1

    @property
    def num_bytes(self) -> int:
        """Bytes of the records held."""
        return int(self._live.sum())

    @property
    def num_allocated(self) -> int:
        """Bytes of the pages held."""
        return sum(len(page) for page in self._pages)

    @property
    def num_index_bytes(self) -> int:
        """Bytes of what is kept by slot."""
        return self._places.nbytes

    @property
    def arrays(self) -> tuple[npt.NDArray[np.int32], Int64]:
        """Where the record of each slot lies, and the addresses of the pages."""
        return self._places, self._addresses

    def add(self, slots: Int64, records: Sequence[bytes]) -> None:  # [B], B
        """Store records in slots that hold nothing."""
        lengths = np.fromiter(map(len, records), dtype=np.int64, count=len(records))
        gaps = -lengths % _WORD
        parts = [b""] * (2 * len(records))
        parts[::2], parts[1::2] = records, map(_PADS.__getitem__, gaps.tolist())
        self._store(slots, np.frombuffer(b"".join(parts), np.uint8), lengths + gaps)

    def remove(self, slots: Int64) -> None:  # [B], each once
        """Let go of records; pages that hold nothing else are freed."""
        pages = self._places[slots, 0]
        np.subtract.at(self._live, pages, self._places[slots, 2])
        self._places[slots, 0] = -1
        for page in np.unique(pages).tolist():
            if not self._live[page]:
                self._drop_page(page)
        self._close_gaps()

    def gather(self, slots: Int64) -> Gathered:  # [B]
        """Copies of the records in these slots, in this order; a slot may repeat."""
        if self._kernels is not None:
            return Gathered(*self._kernels.gather(slots, self._places, self._addresses))
        pages, words, lengths = self._places[slots].T.astype(np.int64)
        begins, views = words * _WORD, self._views
        bounds = zip(pages.tolist(), begins.tolist(), (begins + lengths).tolist(), strict=True)
        parts = [views[page][begin:end] for page, begin, end in bounds]
        return Gathered(np.frombuffer(bytearray().join(parts), np.uint8), lengths.cumsum() - lengths)

    def _store(self, slots: Int64, joined: npt.NDArray[np.uint8], lengths: Int64) -> None:
        """Put records that lie one after another into pages."""
        ends = lengths.cumsum()
        done, at = 0, 0
        while done < len(slots):
            room = len(self._pages[self._current]) - self._free if self._current >= 0 else 0
            fits = int(np.searchsorted(ends, at + room, side="right"))
            if fits == done:
                self._open_page(int(lengths[done]))
                continue
            end = int(ends[fits - 1])
            page, here = self._current, slots[done:fits]
            self._pages[page][self._free : self._free + end - at] = joined[at:end]
            self._places[here, 0] = page
            self._places[here, 1] = (ends[done:fits] - lengths[done:fits] - at + self._free) // _WORD
            self._places[here, 2] = lengths[done:fits]
            self._live[page] += end - at
            self._free += end - at
            done, at = fits, end

    def _open_page(self, least: int) -> None:
        size = min(max(self.num_bytes // _PAGES, _LEAST_PAGE), _MOST_PAGE) // _WORD * _WORD
        page = page_of_bytes(size) if least <= size // 2 else np.empty(max(size, least), np.uint8)
        freed = next((i for i, old in enumerate(self._pages) if not len(old)), None)
        if freed is None:
            freed = len(self._pages)
            self._pages.append(page)
            self._views.append(page.data)
            self._addresses = np.append(self._addresses, 0)
            self._live = np.append(self._live, 0)
        self._pages[freed], self._views[freed], self._addresses[freed] = page, page.data, page.ctypes.data
        self._current, self._free = freed, 0

    def _drop_page(self, page: int) -> None:
        self._pages[page] = np.empty(0, dtype=np.uint8)
        self._views[page] = self._pages[page].data
        if page == self._current:
            self._current, self._free = -1, 0

    def _close_gaps(self) -> None:
        """Empty pages with the most gaps into the current one while there are too many."""
        for _ in range(len(self._pages)):
            sizes = np.array([len(page) for page in self._pages])
            gaps = sizes - self._live
            if gaps.sum() <= self.num_bytes // 8 + _LEAST_PAGE:
                return
            full = gaps.copy()
            if self._current >= 0:
                full[self._current] = 0  # what is free at its end will be filled
            worst = int(full.argmax())
            if full[worst] * 32 <= sizes[worst]:
                if sizes[self._current] * 8 <= self.num_bytes:
                    return
                worst = self._current  # too large a page for what is left
            self._empty_page(worst)

    def _empty_page(self, page: int) -> None:
        moved = (self._places[:, 0] == page).nonzero()[0]
        records, _ = self.gather(moved)
        lengths = self._places[moved, 2].astype(np.int64)
        self._live[page] = 0
        self._drop_page(page)
        self._store(moved, records, lengths)
