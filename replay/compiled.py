"""The loops of kernels.py, written for numba. Imported by kernels.py only.

Letters of a shape: B slots, masses or records of one call.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_FANOUT = 16  # as in sumtree.py
_LOG2_FANOUT = 4
_LINE = 64  # bytes of a cache line
_TOGETHER = 8  # records copied at once, a piece of each in turn, while as many more are asked for
_PIECE = 2 * _LINE
_AHEAD = 32  # items between the one that is looked at and the one that is asked for
_Index = np.uint64  # spares the test whether an index counts from the end


@intrinsic
def _copy(typing: Any, to: Any, start: Any, length: Any) -> Any:
    """Copy bytes from one address to another."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = cgutils.voidptr_t
        target, source = (builder.inttoptr(a, byte) for a in arguments[:2])
        cgutils.raw_memcpy(builder, target, source, arguments[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def _copy_piece(typing: Any, to: Any, start: Any) -> Any:
    """Copy a piece, whose length the compiler knows."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, source = (builder.inttoptr(a, cgutils.voidptr_t) for a in arguments)
        cgutils.raw_memcpy(builder, target, source, context.get_constant(types.int64, _PIECE), 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def _prefetch(typing: Any, address: Any) -> Any:
    """Ask for a cache line; an address that is not there does no harm.

    Into the level 2 cache, not the first: more of them can be under way.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, number = cgutils.voidptr_t, ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        to_read, keep, data = number(0), number(2), number(1)
        builder.call(prefetch, [builder.inttoptr(arguments[0], byte), to_read, keep, data])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@njit(cache=True, nogil=True)
def sample(
    sums: Any,
    starts: Any,
    ends: Any,
    held: Any,
    places: Any,
    addresses: Any,
    points: Any,
    stratified: Any,
    least: float,
) -> Any:  # points [B] -> [B], [B], [B], bytes, [B]
    """As Memory.draw: ids, chances, multiples of the least chance, the records and where each begins."""
    num_items, total = len(points), ends[-1]
    masses = np.empty(num_items)
    for i in range(num_items):
        masses[i] = (i + points[i]) * (total / num_items) if stratified else points[i] * total
    slots = draw(sums, starts, ends, masses)
    ids, chances, multiples = np.empty(num_items, np.int64), np.empty(num_items), np.empty(num_items)
    smallest = np.inf
    for i in range(num_items):
        if i + _AHEAD < num_items:
            _prefetch(held.ctypes.data + slots[i + _AHEAD] * held.strides[0])
        slot = _Index(slots[i])
        ids[i], chances[i] = held[slot], sums[slot] / total
        multiples[i] = sums[slot]
        smallest = min(smallest, sums[slot])
    if least > 0.0:
        smallest = least
    for i in range(num_items):
        multiples[i] /= smallest
    records, begins = gather(slots, places, addresses)
    return ids, chances, multiples, records, begins


@njit(cache=True, nogil=True)
def draw(sums: Any, starts: Any, ends: Any, masses: Any) -> Any:  # [B] -> [B]
    """As SumTree.draw. Level by level, so that the reads of different masses overlap."""
    num_levels = len(starts) - 1
    nodes, left = np.empty(len(masses), np.int64), np.empty(len(masses))
    ascending = _ascend(masses)
    node = 0
    for i in range(len(masses)):
        if ascending:  # as in strata: the next one is near
            while node < len(ends) and ends[_Index(node)] <= masses[i]:
                node += 1
        else:
            node = _first_above(ends, masses[i])
        if node == len(ends):
            node -= 1
            while sums[starts[num_levels - 1] + node] <= 0.0:
                node -= 1
        nodes[i] = node
        left[i] = masses[i] - ends[node - 1] if node > 0 else masses[i]
        if num_levels > 1:
            _prefetch_block(sums, starts[num_levels - 2] + (node << _LOG2_FANOUT))
    for level in range(num_levels - 2, -1, -1):
        for i in range(len(masses)):
            first = _Index(starts[level] + (nodes[i] << _LOG2_FANOUT))
            chosen, before = _under(sums, first, left[i])
            left[i] -= before
            node = (nodes[i] << _LOG2_FANOUT) + chosen
            nodes[i] = node
            if level > 0:
                _prefetch_block(sums, starts[level - 1] + (node << _LOG2_FANOUT))
    return nodes


@njit(cache=True, nogil=True, forceinline=True)
def _under(sums: Any, first: Any, mass: float) -> Any:
    """The child of a block that lies under a mass, and the sum of those before it."""
    end_0 = _four(sums, first)
    end_1 = end_0 + _four(sums, first + _Index(4))
    end_2 = end_1 + _four(sums, first + _Index(8))
    end_3 = end_2 + _four(sums, first + _Index(12))
    if end_3 <= mass:
        return _last_positive(sums, first)
    before = end_0 if end_0 <= mass else 0.0
    before = end_1 if end_1 <= mass else before
    before = end_2 if end_2 <= mass else before
    chosen = ((end_0 <= mass) + (end_1 <= mass) + (end_2 <= mass)) << 2
    at = first + _Index(chosen)
    one = sums[at]
    two = one + sums[at + _Index(1)]
    three = two + sums[at + _Index(2)]
    one, two, three = before + one, before + two, before + three
    chosen += (one <= mass) + (two <= mass) + (three <= mass)
    before = one if one <= mass else before
    before = two if two <= mass else before
    before = three if three <= mass else before
    return chosen, before


@njit(cache=True, nogil=True, forceinline=True)
def _four(sums: Any, first: Any) -> Any:
    return sums[first] + sums[first + _Index(1)] + sums[first + _Index(2)] + sums[first + _Index(3)]


@njit(cache=True, nogil=True, forceinline=True)
def _sum_of(sums: Any, first: Any) -> Any:
    total = _four(sums, first) + _four(sums, first + _Index(4))
    return total + _four(sums, first + _Index(8)) + _four(sums, first + _Index(12))


@njit(cache=True, nogil=True)
def _ascend(masses: Any) -> Any:
    ascending = True
    for i in range(1, len(masses)):
        ascending &= masses[i - 1] <= masses[i]
    return ascending


@njit(cache=True, nogil=True)
def _first_above(ends: Any, mass: Any) -> Any:
    """As np.searchsorted(ends, mass, "right"), without a branch that cannot be foreseen."""
    at, width = _Index(0), _Index(len(ends))
    while width > _Index(1):
        half = width >> _Index(1)
        at = at + half if ends[at + half - _Index(1)] <= mass else at
        width -= half
    return np.int64(at) + (1 if ends[at] <= mass else 0)


@njit(cache=True, nogil=True)
def _prefetch_block(sums: Any, first: int) -> None:
    address = sums.ctypes.data + 8 * first
    _prefetch(address)
    _prefetch(address + _LINE)


@njit(cache=True, nogil=True)
def _last_positive(sums: Any, first: Any) -> Any:
    """The last child with a positive sum, and the sum of those before it."""
    last, before, end, part = 0, 0.0, 0.0, 0.0
    for j in range(_FANOUT):
        if j & 3 == 0:
            end, part = end + part, 0.0
        child = sums[first + _Index(j)]
        if child > 0.0:
            last, before = j, end + part
        part += child
    return last, before


@njit(cache=True, nogil=True)
def set_sums(sums: Any, least: Any, starts: Any, ends: Any, slots: Any, priorities: Any) -> None:
    """As SumTree.set; slots and priorities [B]."""
    for i in range(len(slots)):
        if i + _AHEAD < len(slots):
            _prefetch_block(sums, slots[i + _AHEAD] >> _LOG2_FANOUT << _LOG2_FANOUT)
        sums[_Index(slots[i])] = priorities[i]
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
            sums[_Index(starts[level + 1] + node)] = _sum_of(sums, _Index(first))
            if len(least):
                smallest = np.inf
                for j in range(_FANOUT):
                    child = sums[first + j] if level == 0 else least[first - num_leaves + j]
                    if child > 0.0 and child < smallest:
                        smallest = child
                least[starts[level + 1] - num_leaves + node] = smallest
    end, first = 0.0, starts[len(starts) - 2]
    for i in range(len(ends)):
        end += sums[first + i]
        ends[i] = end


@njit(cache=True, nogil=True)
def gather(slots: Any, places: Any, addresses: Any) -> Any:  # [B], [S, 3] -> bytes, [B]
    """As Arena.gather: the records and where each begins."""
    starts, sources = np.empty(len(slots), np.int64), np.empty(len(slots), np.int64)
    lengths = np.zeros(len(slots) + _TOGETHER, np.int64)
    end = 0
    for i in range(len(slots)):
        if i + _AHEAD < len(slots):
            _prefetch(places.ctypes.data + slots[i + _AHEAD] * places.strides[0])
        slot = _Index(slots[i])
        page, word, length = places[slot, _Index(0)], places[slot, _Index(1)], places[slot, _Index(2)]
        starts[i], sources[i], lengths[i] = end, addresses[page] + (np.int64(word) << 3), length
        end += length
    records = np.empty(end, np.uint8)
    _copy_all(sources, lengths, starts, records.ctypes.data)
    return records, starts


@njit(cache=True, nogil=True)
def _copy_all(sources: Any, lengths: Any, starts: Any, to: Any) -> None:
    """Copy records from these addresses; `lengths` goes on with zeros.

    A round copies some of them and asks for the next ones; the first only asks.
    """
    for first in range(-_TOGETHER, len(sources), _TOGETHER):
        last = min(first + _TOGETHER, len(sources))
        longest = 0
        for i in range(max(first, 0), min(last + _TOGETHER, len(sources))):
            longest = max(longest, lengths[i])
        for at in range(0, longest, _PIECE):
            for i in range(first, last):
                if at < lengths[i + _TOGETHER]:
                    for byte in range(at, at + _PIECE, _LINE):
                        _prefetch(sources[i + _TOGETHER] + byte)
                left = lengths[i] - at if i >= 0 else 0
                if left >= _PIECE:
                    _copy_piece(to + starts[i] + at, sources[i] + at)
                elif left > 0:
                    _copy(to + starts[i] + at, sources[i] + at, left)


@njit(cache=True, nogil=True)
def look_up(held: Any, ids: Any, priorities: Any, eps: float, most: float) -> Any:  # [S], [B], [B]
    """As Memory.look_up: slots, priorities, how many are stale, the highest, and whether all are in range."""
    slots, given, num_slots = np.empty(len(ids), np.int64), np.empty(len(ids)), _Index(len(held))
    num_stale, highest, fits = 0, 0.0, True
    for i in range(len(ids)):
        if i + _AHEAD < len(ids):
            _prefetch(held.ctypes.data + np.int64(_Index(ids[i + _AHEAD]) % num_slots) * held.strides[0])
        slot = _Index(ids[i]) % num_slots
        is_live = ids[i] >= 0 and held[slot] == ids[i]
        slots[i] = np.int64(slot) if is_live else -1
        priority = priorities[i]
        fits = fits and priority >= 0.0 and priority <= most  # a comparison with NaN is false
        given[i] = max(priority, eps)
        if is_live:
            highest = max(highest, given[i])
        else:
            num_stale += 1
    return slots, given, num_stale, highest, fits


@njit(cache=True, nogil=True)
def set_priorities(
    held: Any,
    unshown: Any,
    draws: Any,
    sums: Any,
    starts: Any,
    ends: Any,
    least: Any,
    slots: Any,
    priorities: Any,
    chances: Any,
    drawn: Any,
) -> None:  # [S], [S], [S]; the tree; [B], [B], [B]
    """As Memory.set_priorities: hold them as unshown, count the draws, set the chances."""
    for i in range(len(slots)):
        if i + _AHEAD < len(slots):
            _prefetch(held.ctypes.data + slots[i + _AHEAD] * held.strides[0])
            _prefetch(unshown.ctypes.data + slots[i + _AHEAD])
        slot = _Index(slots[i])
        held[slot] = priorities[i]
        unshown[slot] = True
        if drawn:
            draws[slot] += np.uint32(1)
    set_sums(sums, least, starts, ends, slots, chances)
