"""The loops of kernels.py, written for numba. Imported by kernels.py only.

Letters of a shape: B slots, masses or records of one call.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_FANOUT = 16  # as in sumtree.py
_LOG2_FANOUT = 4


@intrinsic
def _copy(typing: Any, to: Any, start: Any, length: Any) -> Any:
    """Copy bytes from one address to another."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = cgutils.voidptr_t
        target, source = (builder.inttoptr(a, byte) for a in arguments[:2])
        cgutils.raw_memcpy(builder, target, source, arguments[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@njit(cache=True, nogil=True)
def draw(sums: Any, starts: Any, masses: Any) -> Any:  # [B] -> [B]
    """As SumTree.draw."""
    slots = np.empty(len(masses), np.int64)
    for i in range(len(masses)):
        mass = masses[i]
        node = 0
        for level in range(len(starts) - 2, -1, -1):
            first = starts[level] + (node << _LOG2_FANOUT)
            before, end, chosen, last = 0.0, 0.0, -1, 0
            for j in range(_FANOUT):
                child = sums[first + j]
                end += child
                if child > 0.0:
                    last = j
                if mass < end:
                    chosen = j
                    break
                before = end
            if chosen < 0:
                chosen, before = last, 0.0
                for j in range(last):
                    before += sums[first + j]
            mass -= before
            node = (node << _LOG2_FANOUT) + chosen
        slots[i] = node
    return slots


@njit(cache=True, nogil=True)
def set_priorities(sums: Any, least: Any, starts: Any, slots: Any, priorities: Any) -> None:  # [B], [B]
    """As SumTree.set."""
    for i in range(len(slots)):
        sums[slots[i]] = priorities[i]
    num_leaves = starts[1]
    nodes = slots.copy()
    for level in range(len(starts) - 2):
        previous = -1
        for i in range(len(nodes)):
            node = nodes[i] >> _LOG2_FANOUT
            nodes[i] = node
            if node == previous:
                continue
            previous = node
            first = starts[level] + (node << _LOG2_FANOUT)
            total, smallest = 0.0, np.inf
            for j in range(_FANOUT):
                total += sums[first + j]
            sums[starts[level + 1] + node] = total
            if len(least):
                for j in range(_FANOUT):
                    child = sums[first + j] if level == 0 else least[first - num_leaves + j]
                    if child > 0.0 and child < smallest:
                        smallest = child
                least[starts[level + 1] - num_leaves + node] = smallest


@njit(cache=True, nogil=True)
def gather(addresses: Any, lengths: Any, to: Any, starts: Any) -> None:  # [B], [B], bytes, [B]
    """Copy the records at these addresses to their places in `to`."""
    base = to.ctypes.data
    for i in range(len(addresses)):
        _copy(base + starts[i], addresses[i], lengths[i])
