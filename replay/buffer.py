"""PrioritizedReplayBuffer: experiences in, prioritized batches out, priorities back.

Proportional prioritization of Schaul et al. (1511.05952, section 3.3), on disk before a call
returns. Knows no trees and no models. Letters of a shape: N ids given, B items of a batch.

What is on disk is the Store, what is in RAM the Memory; every change is committed to the Store first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from replay.batch import Batch, Update
from replay.checks import check, check_choice, checked_priorities, row_of_priorities
from replay.errors import ReplayError
from replay.evict import Eviction
from replay.experience import Experience
from replay.file import FILE_NAME, Position
from replay.kernels import Backend, kernels_of
from replay.memory import Memory
from replay.record import row_of
from replay.store import Durability, Store

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

_LEAST_FOLD = 65_536  # journaled priorities kept before they are folded, at least


class PrioritizedReplayBuffer:
    """At most `capacity` experiences of one folder; one writer at a time, any number of readers.

    Every call that changes something has been committed when it returns. Ids are 64-bit and never
    repeat, also across reopening; the one exception is `rewind`, which gives the ids after the mark
    again, because that future never happened.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        capacity: int,
        alpha: float = 0.6,
        eps: float = 1e-3,
        max_lag: int | None = None,
        eviction: Eviction = "oldest",
        durability: Durability = "process",
        draws: Literal["stratified", "independent"] = "stratified",
        normalise: Literal["batch", "buffer"] = "batch",
        backend: Backend = "auto",
    ) -> None:
        """Open the folder's buffer, or begin one.

        `alpha` 0 draws uniformly. A priority below `eps` counts as `eps`, so that no item is out of
        reach. `max_lag`: versions an item may lie behind the newest; None: any. `eviction`: who goes
        when the buffer is full, or opened with a smaller capacity. `draws`: one item from each of equal
        strata of the sum, or each on its own. `normalise`: weights are divided by the largest of the
        batch, or of the whole buffer. `backend`: loops in numba or numpy, with equal results; "auto":
        numba where it is installed. ReplayError: a setting out of range, or see Store.
        """
        check("capacity", capacity, capacity >= 1, "at least 1")
        check("alpha", alpha, 0 <= alpha <= 1, "in [0, 1]")
        check("eps", eps, 0 <= eps < np.inf, "finite and not negative")
        check("max_lag", max_lag, max_lag is None or max_lag >= 0, "None or at least 0")
        check_choice("eviction", eviction, Eviction)
        check_choice("draws", draws, Literal["stratified", "independent"])
        check_choice("normalise", normalise, Literal["batch", "buffer"])
        self.capacity, self.alpha, self.eps = capacity, alpha, eps
        self.max_lag, self.eviction, self.draws, self.normalise = max_lag, eviction, draws, normalise
        self._kernels = kernels_of(backend)
        self._store = Store(Path(folder) / FILE_NAME, durability)
        try:
            self._memory = self._load(self._store.position())
        except BaseException:
            self._store.close()
            raise

    def __len__(self) -> int:
        """Items that can be drawn."""
        return len(self._memory)

    def extend(
        self, experiences: Iterable[Experience], priorities: npt.ArrayLike | None = None
    ) -> Int64:  # [N]
        """Add experiences and return their ids; who must go for them is evicted with them.

        Without priorities they enter at the highest priority ever given, 1.0 at the beginning.
        """
        rows = [row_of(experience) for experience in experiences]
        if not rows:
            return np.zeros(0, dtype=np.int64)
        entering = np.full(len(rows), self._memory.position.max_priority or 1.0)
        wanted = entering if priorities is None else priorities
        given = checked_priorities(row_of_priorities(wanted, len(rows)), self.eps)
        versions = np.array([row.version for row in rows], dtype=np.int64)
        plan = self._memory.plan(versions, float(given.max()))
        staying = [row for row, stays in zip(rows, plan.stays.tolist(), strict=True) if stays]
        ids, given = plan.ids[plan.stays], given[plan.stays]
        try:
            records = self._store.append(ids, staying, given, plan.evicted, plan.position)
        except BaseException:
            self._memory.forget_plan()
            raise
        self._memory.position = plan.position
        self._memory.remove(plan.evicted)
        self._memory.add(ids, versions[plan.stays], records, given)
        if self.max_lag is not None:
            self.drop_older_than(int(versions.max()) - self.max_lag)
        self._fold_if_long()
        return plan.ids

    def sample(self, batch_size: int, beta: float, rng: np.random.Generator) -> Batch:
        """Draw with P = priority^alpha / sum, with replacement.

        weights = (size * P)^-beta, divided by the largest. ReplayError when there is nothing to draw.
        """
        check("batch_size", batch_size, batch_size >= 1, "at least 1")
        check("beta", beta, 0 <= beta < np.inf, "finite and not negative")
        if not self._memory.chances.total > 0:
            found = f"all {len(self)} priorities are 0" if len(self) else "the buffer is empty"
            raise ReplayError(f"nothing to sample: {found}; add experiences first")
        drawn = self._memory.draw(
            rng.random(batch_size),
            stratified=self.draws == "stratified",
            least=None if self.normalise == "batch" else self._memory.chances.smallest(),
        )
        # Size and sum cancel: the largest weight has the least P.
        return Batch(drawn.ids, drawn.experiences, drawn.multiples**-beta, drawn.chances)

    def update_priority(self, ids: npt.ArrayLike, priorities: npt.ArrayLike) -> Update:  # [N], [N]
        """Give items new priorities; the last one wins where an id repeats.

        Ids that are no longer in the buffer are counted and nothing else. ReplayError, and no
        change at all, when a priority is negative or not finite.
        """
        wanted = np.asarray(ids)
        if wanted.ndim != 1 or (wanted.size and wanted.dtype.kind not in "iu"):
            raise ReplayError(f"ids must be one row of int64, got {wanted.dtype} of shape {wanted.shape}")
        wanted = wanted.astype(np.int64, copy=False)
        given = row_of_priorities(priorities, len(wanted))
        if not len(wanted):
            return Update(applied=0, stale=0)
        memory = self._memory
        slots, given, num_stale, highest = memory.look_up(wanted, given, self.eps)
        update = Update(len(wanted) - num_stale, num_stale)
        if num_stale:
            alive = slots >= 0
            wanted, given, slots = wanted[alive], given[alive], slots[alive]
        position = memory.position
        if num_stale or highest > position.max_priority:
            position = position._replace(
                stale_updates=position.stale_updates + num_stale,
                max_priority=max(highest, position.max_priority),
            )
        self._store.record_priorities(wanted, given, position)
        memory.position = position
        memory.set_priorities(slots, given, drawn=True)
        self._fold_if_long()
        return update

    def drop_older_than(self, version: int) -> int:
        """Drop what weights before `version` made, now and whenever it is added; how many were dropped."""
        now = self._memory.position
        if now.min_version is not None and version <= now.min_version:
            return 0
        dropped = self._memory.older_than(version)
        position = now._replace(min_version=version, dropped=now.dropped + len(dropped))
        self._remove(dropped, position)
        return len(dropped)

    def mark(self) -> dict[str, Any]:
        """Write a snapshot of everything through to the disk; what `rewind` needs to come back to it.

        Store it in a checkpoint (it is JSON). The last KEPT_MARKS marks can be gone back to; what was
        evicted before the oldest of them is deleted now.
        """
        number, crc = self._fold(keep=True)
        return {"mark": number, "next_id": self._memory.position.next_id, "crc32": crc}

    def rewind(self, mark: Mapping[str, Any]) -> None:
        """Go back to a mark exactly: items added later are deleted, evicted and dropped ones are back.

        The same calls then have the same results as if nothing had come after the mark. ReplayError
        when the mark is of another buffer or no longer kept.
        """
        number, crc = mark.get("mark"), mark.get("crc32")
        if not isinstance(number, int) or not isinstance(crc, int):
            raise ReplayError(f"expected a mark made by mark(), got {dict(mark)}")
        position = self._store.restore(number, crc)
        try:
            self._memory = self._load(position)
        except BaseException:
            self.close()  # what is in RAM is no longer what is in the file
            raise

    def stats(self) -> dict[str, float]:
        """Flat numbers for a log line. Priorities are those of the live items, before alpha.

        Ages are in versions behind the newest live item.
        """
        position, ids = self._memory.position, self._memory.ids()
        priorities = self._memory.priorities(ids)
        chances, ages = self._memory.chances_of(ids), self._memory.ages(ids)
        squares = float((chances**2).sum())
        return {
            "size": len(self),
            "capacity": self.capacity,
            "added": position.added,
            "evicted": position.evicted,
            "dropped": position.dropped,
            "stale_updates": position.stale_updates,
            "priority_max": float(priorities.max(initial=0.0)),
            "priority_mean": float(priorities.mean()) if len(priorities) else 0.0,
            "effective_sample_size": float(chances.sum() ** 2 / squares) if squares else 0.0,
            "age_mean": float(ages.mean()) if len(ages) else 0.0,
            "age_max": int(ages.max(initial=0)),
            "payload_bytes": self._memory.num_bytes(),
            "ram_bytes": self._memory.num_allocated(),
        }

    def close(self) -> None:
        """Close the file and let the next writer in. Twice is once."""
        self._store.close()

    def __enter__(self) -> Self:
        """The buffer itself; it is closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _load(self, stored: Position) -> Memory:
        # Ids keep their places only when the number of slots grows by a whole factor.
        factor = -(-self.capacity // stored.num_slots)
        position = stored._replace(num_slots=stored.num_slots * factor)
        memory = Memory(
            position,
            self.capacity,
            self.alpha,
            self.eviction,
            with_smallest=self.normalise == "buffer",
            kernels=self._kernels,
        )
        priorities = self._store.priorities(position.num_live)
        for ids, versions, records in self._store.nodes(priorities.ids):
            memory.load(ids, versions, records)
        memory.loaded(priorities)
        self._memory = memory
        over = memory.over()
        fitted = position._replace(evicted=position.evicted + len(over))
        if fitted != stored:
            self._remove(over, fitted)
        return memory

    def _remove(self, ids: Int64, position: Position) -> None:
        try:
            self._store.remove(ids, position)
        except BaseException:
            self._memory.forget_plan()
            raise
        self._memory.position = position
        self._memory.remove(ids)

    def _fold_if_long(self) -> None:
        if self._memory.num_journaled > max(_LEAST_FOLD, self.capacity):
            self._fold(keep=False)

    def _fold(self, *, keep: bool) -> tuple[int, int]:
        now, changed = self._memory.snapshot()
        folded = self._store.snapshot(now, changed, keep=keep)
        self._memory.folded(shown=keep)
        return folded
