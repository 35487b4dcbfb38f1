"""Keys and values of all rows and all cached prefixes, in one memory; a sequence is a list of ranges in it.

Nothing is ever copied to be shared: whoever continues a prefix reads its ranges where they lie, and what a
row computed becomes a cached prefix by changing owners. A row may take a copy of many small ranges, because
one large range is read faster.

Letters of a shape: N new tokens, K key-value heads, E head_dim, C positions of the memory.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

Range = tuple[int, int]  # [start, end) of the memory's positions

_LINE = 16  # float32 of a cache line
_LEAST_PIECE = 8  # positions; a row is not put together from smaller ones


class KeyValues:
    """The memory, [2 * layers, C, K, E]: keys of a layer, then its values; and which of it is free."""

    def __init__(
        self, layers: int, kv_heads: int, head_dim: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Empty; it grows as it must, or ahead by `reserve`."""
        if device.type == "cpu":
            dtype = torch.float32  # single queries in bfloat16 are slower there than in float32
        self.dtype = dtype
        self.device = device
        self._hold(_zeros((2 * layers, 0, kv_heads, head_dim), dtype, device))
        self._free: list[Range] = []  # in order, none touching the next
        self._next = 0  # where the search for a free range goes on

    @property
    def token_bytes(self) -> int:
        """Memory of one token."""
        layers, _, heads, dim = self._held.shape
        return layers * heads * dim * self._held.element_size()

    def reserve(self, count: int) -> None:
        """Hold so many positions; those that are never written cost nothing on a CPU."""
        if count > self._held.shape[1]:
            self._grow(count - self._held.shape[1])

    def take(self, count: int) -> list[Range]:
        """Free positions, in one range where there is one, else in several."""
        for step in range(len(self._free)):
            i = (self._next + step) % len(self._free)
            start, end = self._free[i]
            if end - start >= count:
                self._free[i : i + 1] = [(start + count, end)] if end - start > count else []
                self._next = i
                return [(start, start + count)]
        pieces = [one for one in self._free if one[1] - one[0] >= _LEAST_PIECE]
        if sum(end - start for start, end in pieces) < count:
            self._grow(max(count, self._held.shape[1] // 4))
            return self.take(count)
        taken: list[Range] = []
        for start, end in pieces:
            self._free.remove((start, end))
            taken.append((start, min(end, start + count)))
            count -= taken[-1][1] - start
            if not count:
                self.give([(taken[-1][1], end)])
                break
        return taken

    def give(self, ranges: Iterable[Range]) -> None:
        """Let others have these positions."""
        for start, end in ranges:
            i = bisect_left(self._free, (start, end))
            if i < len(self._free) and self._free[i][0] == end:
                end = self._free.pop(i)[1]
            if i and self._free[i - 1][1] == start:
                i -= 1
                start = self._free.pop(i)[0]
            if end > start:
                self._free.insert(i, (start, end))
        if len(self._free) == 1:
            self._next = 0  # memory that was written before costs no page fault

    def layer(self, number: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer, [C, K, E] each."""
        return self._layers[number]

    def arrays(self, number: int) -> tuple[Any, Any]:
        """`layer` as numpy's arrays, on a CPU."""
        return self._arrays[number]

    def write(self, layer: int, positions: Tensor, key: Tensor, value: Tensor) -> None:
        """Add keys and values [N, K, E] of new tokens at their positions [N]."""
        for held, new in zip(self.layer(layer), (key, value), strict=True):
            held.index_copy_(0, positions, new.to(self.dtype))

    def copy(self, ranges: Sequence[Range], start: int) -> None:
        """Copy what lies in some ranges of all layers, in order, to where `start` begins; on a CPU."""
        _copy(self._held.numpy(), np.array(ranges, np.int64).reshape(-1, 2), start)

    def _grow(self, count: int) -> None:
        layers, held, heads, dim = self._held.shape
        grown = _zeros((layers, held + count, heads, dim), self.dtype, self.device)
        grown[:, :held] = self._held
        self._hold(grown)
        self.give([(held, grown.shape[1])])

    def _hold(self, memory: Tensor) -> None:
        self._held = memory
        self._layers = [(memory[i], memory[i + 1]) for i in range(0, len(memory), 2)]
        if memory.device.type == "cpu":
            self._arrays = [(keys.numpy(), values.numpy()) for keys, values in self._layers]


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros, because a masked position still meets its value: 0 times what memory held may be NaN.

    On a CPU they come from numpy, whose large arrays cost nothing until touched and sit in huge pages; they
    begin where a cache line does, because a product of matrices may depend on that in its last bits.
    """
    if device.type == "cpu":
        count = math.prod(shape)
        held = np.zeros(count + _LINE, dtype=np.float32)
        first = -held.ctypes.data % (4 * _LINE) // 4
        return torch.from_numpy(held[first : first + count].reshape(shape))
    return torch.zeros(shape, dtype=dtype, device=device)


@njit(cache=True, nogil=True)
def _copy(held: Any, ranges: Any, start: int) -> None:
    """Copy `ranges` [S, 2] of `held` [2 * layers, C, K, E] to where `start` begins."""
    layers, _, heads, dim = held.shape
    for layer in range(layers):
        to = start
        for s in range(len(ranges)):
            for t in range(ranges[s, 0], ranges[s, 1]):
                for head in range(heads):
                    for e in range(dim):
                        held[layer, to, head, e] = held[layer, t, head, e]
                to += 1


def cut(ranges: Sequence[Range], count: int) -> tuple[list[Range], list[Range]]:
    """The first `count` positions of some ranges, and the others."""
    first: list[Range] = []
    for i, (start, end) in enumerate(ranges):
        if end - start > count:
            head = [(start, start + count)] if count else []
            return first + head, [(start + count, end), *ranges[i + 1 :]]
        first.append((start, end))
        count -= end - start
    return first, []


def positions_of(ranges: Sequence[Range], first: int, end: int) -> list[int]:
    """The memory's positions of tokens `first` to `end` of a sequence."""
    out: list[int] = []
    before = 0
    for start, stop in ranges:
        after = before + stop - start
        if after > first:
            out += range(start + max(first - before, 0), start + min(end, after) - before)
            if after >= end:
                break
        before = after
    return out
