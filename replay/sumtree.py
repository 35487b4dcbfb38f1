"""Proportional sampling over slots: a flat tree of fp64 sums, 16 children a node, worked level by level.

Knows slots and priorities only: no ids, no payloads, no files. The level with at most a few hundred nodes
is the top: a draw adds it up once and searches it for all masses. Sixteen children lie in two cache
lines, so a draw among a million slots then reads three more places. kernels.py has the same steps compiled;
both add in the same order, so their sums are equal to the last bit.
Letters of a shape: B slots or masses of one call.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from replay.errors import ReplayError
from replay.kernels import Kernels
from replay.ram import zeros_in_lines

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

FANOUT = 16  # compiled.py counts on it
_TOP = 256  # nodes of the top level, at most


class SumTree:
    """Priorities by slot. Inner sums follow from the leaves alone, so equal leaves give equal draws.

    Every sum is its children added anew, four at a time and then the four sums, never corrected by a
    difference: nothing drifts, and the order of past updates leaves no trace.
    """

    def __init__(self, capacity: int, *, with_smallest: bool = False, kernels: Kernels | None = None) -> None:
        """All priorities start at 0. ReplayError when the capacity is below 1.

        `with_smallest` also keeps the least priority of every inner node, so that `smallest` is not a
        pass over all leaves. `kernels`: compiled steps; None: numpy alone.
        """
        if capacity < 1:
            raise ReplayError(f"capacity must be at least 1, got {capacity}")
        self.capacity = capacity
        self._kernels = kernels
        # Levels from the leaves up, one after another in one array; each a whole number of blocks.
        widths = [_blocks(capacity) * FANOUT]
        while widths[-1] > _TOP:
            widths.append(_blocks(widths[-1] // FANOUT) * FANOUT)
        self._starts = np.cumsum([0, *widths])
        self._sums: Float64 = zeros_in_lines(int(self._starts[-1]), np.float64)
        self._levels = _cut(self._sums, widths)
        least = np.full(self._starts[-1] - widths[0], np.inf) if with_smallest else np.zeros(0)
        self._least, self._least_levels = least, _cut(least, widths[1:]) if with_smallest else []
        self._top = self._levels[-1]
        self._ends = np.zeros(len(self._top))  # running sums of the top level

    @property
    def total(self) -> float:
        """Sum of all priorities."""
        return float(self._ends[-1])

    @property
    def num_bytes(self) -> int:
        """RAM of the tree."""
        return self._sums.nbytes + self._least.nbytes

    @property
    def arrays(self) -> tuple[Float64, Int64, Float64]:
        """The sums of all levels, leaves first; where each level starts; running sums of the top."""
        return self._sums, self._starts, self._ends

    @property
    def least(self) -> Float64:
        """The least positive priority below each inner node; empty when it is not kept."""
        return self._least

    def get(self, slots: Int64) -> Float64:  # [B] -> [B]
        """Priorities of these slots."""
        return self._sums[slots]

    def set(self, slots: Int64, priorities: Float64) -> None:  # [B], [B]
        """Give each slot its priority, finite and not negative; the last one wins where a slot repeats."""
        if self._kernels is not None:
            self._kernels.set_sums(self._sums, self._least, self._starts, self._ends, slots, priorities)
            return
        self._levels[0][slots] = priorities
        whole = len(slots) * 4 > self.capacity
        nodes = slots
        for i, (below, above) in enumerate(zip(self._levels, self._levels[1:], strict=False)):
            nodes = np.arange(len(below) // FANOUT) if whole else nodes >> 4
            children = _children(below, nodes)
            above[nodes] = _sum_of(children)
            if self._least_levels:
                if i:
                    children = _children(self._least_levels[i - 1], nodes)
                else:
                    children[children <= 0] = np.inf
                self._least_levels[i][nodes] = children.min(axis=0)
        np.cumsum(self._top, out=self._ends)

    def draw(self, masses: Float64) -> Int64:  # [B] -> [B]
        """Slots under these points of [0, total). Never a slot of priority 0, whatever rounding does.

        A point past the end of a block, which only rounding makes, falls on its last positive child. So
        the walk stays on positive sums. The total must be positive.
        """
        if self._kernels is not None:
            return self._kernels.draw(self._sums, self._starts, self._ends, masses)
        ends = self._ends
        nodes = np.searchsorted(ends, masses, side="right")
        past = nodes == len(ends)
        if past.any():
            nodes[past] = self._top.nonzero()[0][-1]
        masses = masses - np.where(nodes > 0, ends[nodes - 1], 0.0)
        columns = np.arange(len(masses))
        for level in self._levels[-2::-1]:
            ends = _running(level, nodes)
            chosen = np.add.reduce((ends[1:] <= masses).view(np.uint8), axis=0, dtype=np.uint8).astype(
                np.int64
            )
            if np.maximum.reduce(chosen) == FANOUT:
                past = chosen == FANOUT
                children = _children(level, nodes[past])
                chosen[past] = FANOUT - 1 - np.argmax(children[::-1] > 0, axis=0)
            masses = masses - ends[chosen, columns]
            nodes = nodes * FANOUT + chosen
        return nodes

    def smallest(self) -> float:
        """The least positive priority; inf when there is none."""
        if self._least_levels:  # empty for a tree of one level
            return float(self._least_levels[-1].min())
        leaves = self._levels[0]
        return float(np.min(leaves, initial=np.inf, where=leaves > 0))


def _blocks(width: int) -> int:
    return -(-width // FANOUT)


def _children(level: Float64, nodes: Int64) -> Float64:  # [B] -> [FANOUT, B]
    """The children of these nodes, first to last: in rows, so that many nodes are added up at once."""
    return np.ascontiguousarray(level.reshape(-1, FANOUT).take(nodes, axis=0).T)


def _sum_of(children: Float64) -> Float64:  # [FANOUT, B] -> [B]
    """Their sums: of four at a time, then of the four sums, first to last."""
    total: Float64 = np.add.reduce(np.add.reduce(children.reshape(4, 4, -1), axis=1), axis=0)
    return total


def _running(level: Float64, nodes: Int64) -> Float64:  # [B] -> [1 + FANOUT, B]
    """Running sums of the children of these nodes: 0 first, `_sum_of` last. They never fall."""
    ends = np.empty((1 + FANOUT, len(nodes)))
    ends[0] = 0.0
    children = ends[1:]
    children[:] = level.reshape(-1, FANOUT).take(nodes, axis=0).T
    rows = [*children]  # row by row is the fastest: few numbers that lie together
    for i in range(FANOUT):
        if i % 4:
            rows[i] += rows[i - 1]
    for i in range(4, FANOUT, 4):
        children[i : i + 4] += rows[i - 1]
    return ends


def _cut(array: Float64, widths: list[int]) -> list[Float64]:
    ends = np.cumsum(widths)
    return [array[end - width : end] for end, width in zip(ends, widths, strict=True)]
