"""Keys and values of all rows and all cached prefixes, in one memory; a sequence is a list of ranges in it.

Nothing is ever copied to be shared: whoever continues a prefix reads its ranges where they lie, and what a
row computed becomes a cached prefix by changing owners. What lies in many ranges may be moved into one, which
is read faster.

Letters of a shape: N new tokens, K key-value heads, E head_dim, C positions of the memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from llama_o1.engine.places import Places, Range

_LINE = 16  # float32 of a cache line


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
        self._free = Places()

    @property
    def token_bytes(self) -> int:
        """Memory of one token."""
        layers, _, heads, dim = self._held.shape
        return layers * heads * dim * self._held.element_size()

    def reserve(self, count: int) -> None:
        """Hold so many positions; those that are never written cost nothing on a CPU."""
        if count > self._held.shape[1]:
            self._grow(count - self._held.shape[1])

    def take(self, count: int, spare: int = 0, after: int = -1) -> list[Range]:
        """`count` free positions and up to `spare` more, the first of them at `after` if that is free."""
        taken = self._free.take(count, spare, after)
        if not taken:
            self._grow(max(count + spare, self._held.shape[1] // 4))
            taken = self._free.take(count, spare, after)
        return taken

    def take_whole(self, count: int) -> Range | None:
        """`count` free positions in one range; None where there is none so long."""
        return self._free.take_whole(count)

    def give(self, ranges: Iterable[Range]) -> None:
        """Let others have these positions."""
        self._free.give(ranges)

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
