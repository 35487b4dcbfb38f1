"""The live items in RAM: which ids they are, their versions, priorities, chances and records.

Says what a change would leave behind (`after_...`) before the change is made, so that the buffer
can commit it first. Knows no files. The place of an id is slot id % capacity; B items of a call.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from replay.arena import Arena
from replay.experience import Experience
from replay.file import Position
from replay.record import unpack
from replay.sumtree import SumTree

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


class Memory:
    """At most `capacity` consecutive ids; those with a chance above 0 can be drawn."""

    def __init__(self, capacity: int, alpha: float, position: Position) -> None:
        """Room for the items of a position, which `add` then brings."""
        self.position = position
        self.chances = SumTree(capacity)  # priority^alpha; 0 where nothing lives
        self.num_journaled = 0  # priorities set since the newest snapshot
        self._capacity, self._alpha = capacity, alpha
        self._arena = Arena(capacity)
        self._priorities = np.zeros(capacity)
        self._draws = np.zeros(capacity, dtype=np.uint32)
        self._versions = np.zeros(capacity, dtype=np.int64)
        self._unfolded = np.zeros(capacity, dtype=np.bool_)  # set since the newest snapshot

    def __len__(self) -> int:
        """Items that live."""
        return self.position.next_id - self.position.evicted - self.position.dropped

    def ids(self) -> Int64:
        """All ids from `first_live` on, dropped ones among them."""
        return np.arange(self.position.first_live, self.position.next_id)

    def alive(self, ids: Int64) -> npt.NDArray[np.bool_]:  # [B] -> [B]
        """Which of these ids live."""
        inside = (ids >= self.position.first_live) & (ids < self.position.next_id)
        if self.position.min_version is not None:
            inside &= self._versions[ids % self._capacity] >= self.position.min_version
        return inside

    def priorities(self, ids: Int64) -> Float64:  # [B] -> [B]
        """Priorities as they were set."""
        return self._priorities[ids % self._capacity]

    def draws(self, ids: Int64) -> Int64:  # [B] -> [B]
        """How often items were drawn and given a new priority."""
        return self._draws[ids % self._capacity].astype(np.int64)

    def add_draws(self, ids: Int64, draws: Int64 | int = 1) -> None:  # [B], [B]
        """Count draws of live ids; an id may repeat."""
        np.add.at(self._draws, ids % self._capacity, draws)

    def unfolded(self, ids: Int64) -> npt.NDArray[np.bool_]:  # [B] -> [B]
        """Which priorities were set since the newest snapshot."""
        return self._unfolded[ids % self._capacity]

    def ids_at(self, slots: Int64) -> Int64:  # [B] -> [B]
        """The ids whose places these are."""
        return self.position.first_live + (slots - self.position.first_live) % self._capacity

    def experiences(self, ids: Int64) -> tuple[Experience, ...]:  # [B] -> B
        """The experiences of live ids, in memory of their own."""
        records, starts = self._arena.gather(ids)
        return tuple([unpack(records, start) for start in starts.tolist()])

    def num_bytes(self) -> int:
        """Bytes of the records held."""
        return self._arena.num_bytes(self.position.first_live, self.position.next_id)

    def after_adding(self, versions: Int64, highest: float) -> Position:  # [B]
        """The position when items of these versions join and the oldest beyond capacity go."""
        now = self.position
        next_id = now.next_id + len(versions)
        first_live = max(now.first_live, next_id - self._capacity)
        pushed_out = self.alive(np.arange(now.first_live, min(first_live, now.next_id)))
        welcome = np.ones(len(versions), np.bool_) if now.min_version is None else versions >= now.min_version
        overflow = np.arange(now.next_id, next_id) < first_live
        return now._replace(
            next_id=next_id,
            first_live=first_live,
            max_priority=max(now.max_priority, highest),
            evicted=now.evicted + int(pushed_out.sum()) + int((overflow & welcome).sum()),
            dropped=now.dropped + int((~welcome).sum()),
        )

    def after_dropping(self, version: int) -> Position:
        """The position when everything older than `version` goes."""
        ids = self.ids()
        was_alive = self.alive(ids)
        stays = was_alive & (self._versions[ids % self._capacity] >= version)
        return self.position._replace(
            min_version=version,
            first_live=int(ids[np.argmax(stays)]) if stays.any() else self.position.next_id,
            dropped=self.position.dropped + int(was_alive.sum() - stays.sum()),
        )

    def move(self, position: Position) -> None:
        """Take a position reached by dropping: what no longer lives cannot be drawn."""
        ids = self.ids()
        self.position = position
        self._clear(ids[~self.alive(ids)])
        self._arena.forget(position.first_live)

    def add(
        self, first_id: int, versions: Int64, records: Sequence[bytes], priorities: Float64
    ) -> None:  # [B]
        """Take in items under consecutive ids; those that do not live at the position stay out."""
        skip = max(self.position.first_live - first_id, 0)
        ids = np.arange(first_id + skip, first_id + len(records))
        self._versions[ids % self._capacity] = versions[skip:]
        self._draws[ids % self._capacity] = 0
        self._arena.add(first_id + skip, records[skip:])
        self._arena.forget(self.position.first_live)
        self.set_priorities(ids, priorities[skip:])
        self._clear(ids[~self.alive(ids)])

    def set_priorities(self, ids: Int64, priorities: Float64) -> None:  # [B], [B]
        """Set priorities of live ids."""
        slots = ids % self._capacity
        self._priorities[slots] = priorities
        self._unfolded[slots] = True
        self.num_journaled += len(ids)
        self.chances.set(slots, np.where(priorities > 0, priorities**self._alpha, 0.0))

    def fold(self, unfolded: Int64 | None = None, num_journaled: int = 0) -> None:
        """Note that the newest snapshot holds all priorities but those of `unfolded` ids."""
        self._unfolded[:] = False
        if unfolded is not None:
            self._unfolded[unfolded % self._capacity] = True
        self.num_journaled = num_journaled

    def _clear(self, ids: Int64) -> None:
        if len(ids):
            self.chances.set(ids % self._capacity, np.zeros(len(ids)))
