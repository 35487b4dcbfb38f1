"""The live items in RAM: their ids, versions, priorities, chances and records.

Says what a change would leave behind (`plan`, `after_...`) before the change is made, so that the buffer
can commit it first. Knows no files. The place of an id is slot id % num_slots: an id never repeats, and a
new one is the next whose slot is free. N items given, B items of a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from replay.arena import Arena
from replay.batch import Experiences
from replay.checks import HIGHEST, checked_priorities
from replay.evict import NOTHING, Eviction, Keys, Victims
from replay.file import Position
from replay.journal import Priorities, Snapshot
from replay.kernels import Kernels
from replay.ram import zeros_in_lines
from replay.sumtree import SumTree

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


# What a cycle touches of an item lies in one cache line. "place" is the arena's.
_ITEM = np.dtype([("id", np.int64), ("priority", np.float64), ("place", np.int32, 3), ("draws", np.uint32)])


class Plan(NamedTuple):
    """What adding items would do."""

    ids: Int64  # [N] of the items
    stays: Bools  # [N] False: too old already, or pushed out by the items after it
    evicted: Int64  # ids that make room, ascending
    position: Position  # afterwards


class Drawn(NamedTuple):
    """Items that were drawn; one may come twice."""

    ids: Int64  # [B]
    chances: Float64  # [B] of the item in one draw
    multiples: Float64  # [B] how many times the least chance that is
    experiences: Experiences  # B, in memory of their own


class Found(NamedTuple):
    """Where items lie that are to have new priorities."""

    slots: Int64  # [B] -1 where one lives no longer
    priorities: Float64  # [B] none below eps
    num_stale: int  # how many live no longer
    highest: float  # priority of those that live; 0 when none does


class Memory:
    """At most `capacity` items, in as many slots or more; all of them can be drawn."""

    def __init__(
        self,
        position: Position,
        capacity: int,
        alpha: float,
        eviction: Eviction = "oldest",
        *,
        with_smallest: bool = False,
        kernels: Kernels | None = None,
    ) -> None:
        """Room for the items of a position, which `load` then brings."""
        num_slots = position.num_slots
        self.position = position
        self.chances = SumTree(num_slots, with_smallest=with_smallest, kernels=kernels)  # priority^alpha
        self.num_journaled = 0  # priorities set since the newest snapshot
        self._capacity, self._alpha, self._kernels = capacity, alpha, kernels
        items = zeros_in_lines(num_slots, _ITEM)
        self._arena = Arena(num_slots, kernels, items["place"])
        self._ids, self._priorities, self._draws = items["id"], items["priority"], items["draws"]
        self._ids[:] = NOTHING
        self._versions = np.zeros(num_slots, dtype=np.int64)
        self._unshown = np.zeros(num_slots, dtype=np.bool_)  # set since the last mark
        self._tree = self.chances.arrays
        self._written = self._priorities, self._unshown, self._draws, *self._tree, self.chances.least
        self._victims = Victims()
        keys: dict[str, Keys] = {
            "oldest": self._ids,
            "lowest_priority": self._priorities,
            "oldest_version": self._versions,
        }
        self._keys: Keys = keys[eviction]

    def __len__(self) -> int:
        """Items that live."""
        return self.position.num_live

    def ids(self) -> Int64:
        """All live ids, ascending."""
        return np.sort(self._ids[self._ids != NOTHING])

    def draw(self, points: Float64, *, stratified: bool, least: float | None = None) -> Drawn:  # [B]
        """Items under points of [0, 1): of the sum of all chances, or each of its own equal stratum of it.

        `least`: a chance before division by the sum, to count in multiples of; None: the least drawn.
        """
        if self._kernels is not None:
            ids, drawn, multiples, records, starts = self._kernels.sample(
                *self._tree, self._ids, *self._arena.arrays, points, stratified, least or 0.0
            )
            return Drawn(ids, drawn, multiples, Experiences(records, starts))
        total, num = self.chances.total, len(points)
        masses = (np.arange(num) + points) * (total / num) if stratified else points * total
        slots = self.chances.draw(masses)
        drawn = self.chances.get(slots)
        multiples = drawn / (np.minimum.reduce(drawn) if least is None else least)
        return Drawn(self._ids[slots], drawn / total, multiples, self.experiences_at(slots))

    def look_up(self, ids: Int64, priorities: Float64, eps: float) -> Found:  # [B], [B]
        """The slots of these ids, for these priorities; ReplayError when one is out of range."""
        if self._kernels is not None:
            slots, given, num_stale, highest, fits = self._kernels.look_up(
                self._ids, ids, priorities, eps, HIGHEST
            )
            if fits:
                return Found(slots, given, num_stale, highest)
        given = checked_priorities(priorities, eps)
        slots = ids % len(self._ids)
        is_live = (self._ids[slots] == ids) & (ids >= 0)
        num_stale = len(ids) - int(np.count_nonzero(is_live))
        if num_stale:
            slots[~is_live] = -1
            highest = np.maximum.reduce(given, initial=0.0, where=is_live)
        else:
            highest = np.maximum.reduce(given, initial=0.0)
        return Found(slots, given, num_stale, float(highest))

    def priorities(self, ids: Int64) -> Float64:  # [B] -> [B]
        """Priorities of live ids as they were set."""
        return self._priorities[ids % len(self._ids)]

    def ages(self, ids: Int64) -> Int64:  # [B] -> [B]
        """How many versions live ids lie behind the newest of them."""
        versions: Int64 = self._versions[ids % len(self._ids)]
        return np.asarray(versions.max(initial=0) - versions, np.int64)

    def chances_of(self, ids: Int64) -> Float64:  # [B] -> [B]
        """Chances of live ids, before they are divided by their sum."""
        return self.chances.get(ids % len(self._ids))

    def experiences_at(self, slots: Int64) -> Experiences:  # [B] -> B
        """The experiences in these slots, in memory of their own."""
        return Experiences(*self._arena.gather(slots))

    def num_bytes(self) -> int:
        """Bytes of the records held."""
        return self._arena.num_bytes

    def num_allocated(self) -> int:
        """Bytes of RAM that hold records, gaps among them, and of everything by slot."""
        arrays = (self._ids, self._priorities, self._versions, self._draws, self._unshown)
        by_slot = sum(array.nbytes for array in arrays) + self.chances.num_bytes + self._arena.num_index_bytes
        return self._arena.num_allocated + by_slot

    def plan(self, versions: Int64, highest: float) -> Plan:  # [N]
        """What it would do to add items of these versions, whose highest priority is given."""
        now = self.position
        welcome = np.ones(len(versions), np.bool_) if now.min_version is None else versions >= now.min_version
        stays = welcome & (welcome[::-1].cumsum()[::-1] <= self._capacity)
        num_over = max(0, len(self) + int(stays.sum()) - self._capacity)
        evicted = self._victims.choose(num_over, self._keys, self._ids)
        ids = self._next_ids(stays, evicted)
        position = now._replace(
            next_id=int(ids.max()) + 1,
            added=now.added + len(ids),
            max_priority=max(now.max_priority, highest),
            evicted=now.evicted + len(evicted) + int((welcome & ~stays).sum()),
            dropped=now.dropped + int((~welcome).sum()),
        )
        return Plan(ids, stays, evicted, position)

    def over(self) -> Int64:
        """Ids beyond the capacity, which go first."""
        return self._victims.choose(max(0, len(self) - self._capacity), self._keys, self._ids)

    def forget_plan(self) -> None:
        """What was planned did not happen."""
        self._victims.forget()

    def older_than(self, version: int) -> Int64:
        """Live ids that weights before `version` made, ascending."""
        return np.sort(self._ids[(self._ids != NOTHING) & (self._versions < version)])

    def add(
        self, ids: Int64, versions: Int64, records: Sequence[bytes], priorities: Float64
    ) -> None:  # [B] each
        """Take in items whose slots are free."""
        self.load(ids, versions, records)
        slots = ids % len(self._ids)
        self._draws[slots] = 0
        if self._keys is self._versions:
            self._victims.note(versions, ids)
        self.set_priorities(slots, priorities, drawn=False)

    def load(self, ids: Int64, versions: Int64, records: Sequence[bytes]) -> None:  # [B] each
        """Take in items of a file, whose priorities `loaded` then brings all at once."""
        slots = ids % len(self._ids)
        self._ids[slots] = ids
        self._versions[slots] = versions
        self._arena.add(slots, records)

    def remove(self, ids: Int64) -> None:  # [B], each once
        """Let go of live items."""
        if not len(ids):
            return
        slots = ids % len(self._ids)
        self._ids[slots] = NOTHING
        self._unshown[slots] = False
        self.chances.set(slots, np.zeros(len(slots)))
        self._arena.remove(slots)

    def set_priorities(self, slots: Int64, priorities: Float64, *, drawn: bool) -> None:  # [B], [B]
        """Set priorities of live slots, the last one where a slot repeats; `drawn`: each counts as a draw."""
        chances = self._chances(priorities)
        if self._kernels is None:
            self._priorities[slots] = priorities
            self._unshown[slots] = True
            if drawn:
                np.add.at(self._draws, slots, np.uint32(1))  # of its own type: ten times as fast
            self.chances.set(slots, chances)
        else:
            self._kernels.set_priorities(*self._written, slots, priorities, chances, drawn)
        self.num_journaled += len(slots)
        if self._keys is self._priorities:
            self._victims.note(self._priorities[slots], self._ids[slots])

    def folded(self, *, shown: bool) -> None:
        """Note that a snapshot holds all priorities; `shown`: so does the table for people."""
        self.num_journaled = 0
        if shown:
            self._unshown[:] = False

    def snapshot(self) -> tuple[Snapshot, Bools]:
        """Everything that changes as it is now, and which priorities were set since the last mark."""
        ids = self.ids()
        slots = ids % len(self._ids)
        draws = self._draws[slots].astype(np.int64)
        return Snapshot(self.position, ids, self._priorities[slots], draws), self._unshown[slots]

    def loaded(self, priorities: Priorities) -> None:
        """Take how things stood in the file whose items were loaded."""
        slots = priorities.ids % len(self._ids)
        self._priorities[slots] = priorities.current
        self.chances.set(slots, self._chances(priorities.current))
        self.num_journaled = priorities.num_journaled
        self._draws[slots] = priorities.draws
        self._unshown[slots] = priorities.unshown

    def _chances(self, priorities: Float64) -> Float64:
        if self._alpha == 0:
            return (priorities > 0).astype(np.float64)
        return priorities if self._alpha == 1 else priorities**self._alpha

    def _next_ids(self, stays: Bools, evicted: Int64) -> Int64:  # [N], [E] -> [N]
        """Consecutive ids where their slots are free, as when the oldest go; else the next that fit."""
        now, num_slots = self.position.next_id, len(self._ids)
        ids = np.arange(now, now + len(stays))
        here = self._ids[ids[stays] % num_slots]
        free = (here == NOTHING) | np.isin(here, evicted)
        if free.all() and (not len(here) or np.ptp(ids[stays]) < num_slots):
            return ids
        num_staying = int(stays.sum())
        ids[~stays] = np.arange(now, now + len(stays) - num_staying)
        begin = now + len(stays) - num_staying
        empty = (self._ids == NOTHING).nonzero()[0]
        waits = np.sort((np.concatenate((empty, evicted % num_slots)) - begin) % num_slots)
        ids[stays] = begin + waits[:num_staying]
        return ids
