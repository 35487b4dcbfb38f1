"""Keys and values of the running rows' own tokens, padded to one length.

Letters of a shape: K key-value heads, E head_dim, L positions, N new tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_LENGTH_STEP = 64  # the pool grows by multiples of it


class RowPool:
    """One place a row, [2 * layers, places, K, L, E]: keys of a layer, then its values."""

    def __init__(
        self, layers: int, places: int, kv_heads: int, head_dim: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        if device.type == "cpu":
            dtype = torch.float32  # single queries in bfloat16 are slower there than in float32
        self.dtype = dtype
        self.device = device
        self._held = _zeros((2 * layers, places, kv_heads, 0, head_dim), dtype, device)

    def reserve(self, length: int) -> None:
        """Make room for rows of so many tokens."""
        layers, places, heads, held, dim = self._held.shape
        if length > held:
            grown = max(-(-length // _LENGTH_STEP) * _LENGTH_STEP, 2 * held)
            pool = _zeros((layers, places, heads, grown, dim), self.dtype, self.device)
            pool[:, :, :, :held] = self._held
            self._held = pool

    def put(self, place: int, pieces: Sequence[Tensor]) -> None:
        """Start a row with these keys and values, each [2 * layers, K, length, E]."""
        start = 0
        for piece in pieces:
            end = start + piece.shape[2]
            self._held[:, place, :, start:end] = piece
            start = end

    def read(self, place: int, start: int, end: int) -> Tensor:
        """A copy of a row's keys and values, [2 * layers, K, end - start, E]."""
        return self._held[:, place, :, start:end].clone()

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a row's first `length` positions over another row's."""
        self._held[:, target, :, :length] = self._held[:, source, :, :length]

    def slots(self, places: np.ndarray, positions: np.ndarray) -> Tensor:
        """Where `write` puts the heads of N tokens: [N * K] rows of E numbers."""
        _, _, heads, length, _ = self._held.shape
        slots = (places[:, None] * heads + np.arange(heads)) * length + positions[:, None]
        return torch.from_numpy(slots.reshape(-1)).to(self.device)

    def write(self, layer: int, slots: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add keys and values [K, N, E] of new tokens; all of the layer's, [places, K, L, E] each."""
        dim = key.shape[-1]
        for held, new in ((self._held[2 * layer], key), (self._held[2 * layer + 1], value)):
            held.view(-1, dim).index_copy_(0, slots, new.transpose(0, 1).reshape(-1, dim).to(self.dtype))
        return self._held[2 * layer], self._held[2 * layer + 1]


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros, because a masked position still meets its value: 0 times what memory held may be NaN.

    On a CPU they come from numpy, whose large arrays cost nothing until touched and sit in huge pages.
    """
    if device.type == "cpu":
        return torch.from_numpy(np.zeros(shape, dtype=np.float32))
    return torch.zeros(shape, dtype=dtype, device=device)
