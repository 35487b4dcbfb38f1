"""Proportional sampling over slots: a binary tree of fp64 sums, worked level by level.

Knows slots and priorities only: no ids, no payloads, no files.
Letters of a shape: B slots or masses of one call.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from replay.errors import ReplayError

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


class SumTree:
    """Priorities by slot. Inner sums follow from the leaves alone, so equal leaves give equal draws.

    Every sum is its two children added anew, never corrected by a difference: nothing drifts, and
    the order of past updates leaves no trace.
    """

    def __init__(self, capacity: int) -> None:
        """All priorities start at 0. ReplayError when the capacity is below 1."""
        if capacity < 1:
            raise ReplayError(f"capacity must be at least 1, got {capacity}")
        self.capacity = capacity
        self._num_leaves = 1 << (capacity - 1).bit_length()
        # The root is 1, the children of n are 2n and 2n + 1, slot s is the leaf num_leaves + s.
        self._sums = np.zeros(2 * self._num_leaves, dtype=np.float64)

    @property
    def total(self) -> float:
        """Sum of all priorities."""
        return float(self._sums[1])

    def get(self, slots: Int64) -> Float64:  # [B] -> [B]
        """Priorities of these slots."""
        return self._sums[slots + self._num_leaves]

    def set(self, slots: Int64, priorities: Float64) -> None:  # [B], [B]
        """Give each slot its priority, finite and not negative; the last one wins where a slot repeats."""
        nodes = slots + self._num_leaves
        self._sums[nodes] = priorities
        if len(slots) * 4 > self._num_leaves:
            self._rebuild()
            return
        for _ in range(self._num_leaves.bit_length() - 1):
            nodes = nodes >> 1
            self._sums[nodes] = self._sums[2 * nodes] + self._sums[2 * nodes + 1]

    def draw(self, masses: Float64) -> Int64:  # [B] -> [B]
        """Slots under these points of [0, total). Never a slot of priority 0, whatever rounding does.

        A step to the right needs weight on the right; a step to the left is taken only without it or
        below the left sum. So the walk stays on positive sums. The total must be positive.
        """
        nodes = np.ones(len(masses), dtype=np.int64)
        masses = masses.copy()
        for _ in range(self._num_leaves.bit_length() - 1):
            nodes <<= 1
            left = self._sums[nodes]
            right = (masses >= left) & (self._sums[nodes + 1] > 0)
            masses -= np.where(right, left, 0.0)
            nodes += right
        return nodes - self._num_leaves

    def smallest(self) -> float:
        """The least positive priority, by a pass over all leaves; inf when there is none."""
        leaves = self._sums[self._num_leaves :]
        return float(np.min(leaves, initial=np.inf, where=leaves > 0))

    def _rebuild(self) -> None:
        width = self._num_leaves
        while width > 1:
            level = self._sums[width : 2 * width]
            self._sums[width // 2 : width] = level[0::2] + level[1::2]
            width //= 2
