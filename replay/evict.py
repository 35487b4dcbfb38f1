"""Who goes when a buffer is full: the oldest, the lowest priority, or the oldest weights version.

Knows keys and ids only. Among a million items the next ones to go are kept in a heap of a few: items up
to a bound, found by one pass over all when the heap runs empty. What changed since is noticed when it
comes up. Letters of a shape: S slots, B ids of one call.
"""

from __future__ import annotations

import heapq
from typing import Literal

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Keys = Int64 | Float64
Eviction = Literal["oldest", "lowest_priority", "oldest_version"]

NOTHING = -1  # the id of an empty slot
_LEAST_FOUND = 1024  # items a pass finds, at least
_SHARE_FOUND = 64  # one of so many


class Victims:
    """The order in which items go: by key, the oldest of equals first."""

    def __init__(self) -> None:
        """Nothing is known yet; the first `choose` looks at all items."""
        self._heap: list[tuple[float, int]] = []
        self._bound = (-np.inf, NOTHING)  # every item up to it is in the heap

    def choose(self, count: int, keys: Keys, ids: Int64) -> Int64:  # [S], [S] -> [count]
        """The next `count` ids to go, of all that `ids` holds; the caller lets them go, or forgets."""
        chosen: dict[int, None] = {}
        while len(chosen) < count:
            if not self._heap:
                self._find(max(_LEAST_FOUND, count), keys, ids)
            key, one = heapq.heappop(self._heap)
            slot = one % len(ids)
            if ids[slot] == one and keys[slot] == key:
                chosen[one] = None
        return np.array(sorted(chosen), dtype=np.int64)

    def note(self, keys: Keys, ids: Int64) -> None:  # [B], [B]
        """Items whose keys are new."""
        key, newest = self._bound
        for i in ((keys < key) | ((keys == key) & (ids <= newest))).nonzero()[0].tolist():
            heapq.heappush(self._heap, (float(keys[i]), int(ids[i])))

    def forget(self) -> None:
        """Begin anew: what was chosen stayed after all."""
        self._heap, self._bound = [], (-np.inf, NOTHING)

    def _find(self, count: int, keys: Keys, ids: Int64) -> None:
        slots = (ids != NOTHING).nonzero()[0]
        count = min(len(slots), max(count, len(slots) // _SHARE_FOUND))
        live = keys[slots]
        near = slots[live <= np.partition(live, count - 1)[count - 1]]
        first = near[np.lexsort((ids[near], keys[near]))][:count]
        self._heap = list(zip(keys[first].astype(np.float64).tolist(), ids[first].tolist(), strict=True))
        self._bound = self._heap[-1]
