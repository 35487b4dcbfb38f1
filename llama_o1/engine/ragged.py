"""One forward pass over rows of different lengths, through the model's own modules.

All new tokens of all rows go through the model as one flat sequence, so no token is padding; our
attention function, registered with transformers, writes keys and values into a pool and lets every
token see its own row only.

Letters of a shape: N new tokens, R rows, K key-value heads, G query heads to each, E head_dim,
L positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

_NAME = "llama_o1_ragged"
ROWS_PER_CALL = 8  # attention of last tokens is padded to the longest row among so many
_LENGTH_STEP = 64  # the pool grows by multiples of it
_UNSUPPORTED = ("softcap", "s_aux", "position_bias")  # change the scores in ways not done here


class Feed(NamedTuple):
    """One row's share of a forward pass: `tokens[start:]` are new, those before are in the pool."""

    tokens: list[int]
    start: int


class RaggedForward:
    """Keys and values of `slots` rows, and the forward pass that extends them."""

    def __init__(self, model: nn.Module, slots: int) -> None:
        """Whatever a model that does not fit raises comes through; `make_forward` asks first."""
        self._model = model
        self._device = next(model.parameters()).device
        probe = _Probe([])
        self._run(probe, [0, 0], [0, 1], 1)
        if len(set(probe.shapes)) != 1:
            raise ValueError(f"layers with unlike keys and values: {probe.shapes}")
        kv_heads, head_dim, dtype = probe.shapes[0]
        if self._device.type == "cpu":
            dtype = torch.float32  # single queries in bfloat16 are slower there than in float32
        shape = (2 * len(probe.shapes), slots, kv_heads, 0, head_dim)
        self._pool = _zeros(shape, dtype, self._device)  # [2 * layers, slots, K, L, E]

    def reserve(self, length: int) -> None:
        """Make room for rows of so many tokens."""
        layers, slots, heads, held, dim = self._pool.shape
        if length > held:
            grown = max(-(-length // _LENGTH_STEP) * _LENGTH_STEP, 2 * held)
            pool = _zeros((layers, slots, heads, grown, dim), self._pool.dtype, self._device)
            pool[:, :, :, :held] = self._pool
            self._pool = pool

    def write(self, row: int, pieces: Sequence[Tensor]) -> None:
        """Start a row with the keys and values of a cached prefix."""
        start = 0
        for piece in pieces:
            end = start + piece.shape[2]
            self._pool[:, row, :, start:end] = piece
            start = end

    def read(self, row: int, start: int, end: int) -> Tensor:
        """A copy of a row's keys and values, [2 * layers, K, end - start, E]."""
        return self._pool[:, row, :, start:end].clone()

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a row's first `length` positions over another row's."""
        self._pool[:, target, :, :length] = self._pool[:, source, :, :length]

    def logits(self, feeds: Sequence[Feed]) -> Tensor:
        """Logits [R, V] after each row's last token; feed i goes to the pool's row i."""
        plan = _Plan(self._pool, feeds)
        return self._run(plan, plan.flat, plan.positions, len(feeds))

    def _run(self, attention: _Attention, flat: list[int], positions: list[int], keep: int) -> Tensor:
        token = _ACTIVE.set(attention)
        try:
            with _implementation(self._model, _NAME):
                output = self._model(
                    input_ids=torch.tensor([flat], device=self._device),
                    position_ids=torch.tensor([positions], device=self._device),
                    use_cache=False,
                    logits_to_keep=keep,
                )
        finally:
            _ACTIVE.reset(token)
        logits: Tensor = output.logits[0]
        return logits


class _Chunk(NamedTuple):
    """New tokens of one row but its last: `flat[offset:offset + end - start]`."""

    row: int
    offset: int
    start: int
    end: int


class _Plan:
    """The attention of one forward pass: what is where in the flat sequence and in the pool.

    The last token of each row comes at the end, in order of rows, so single tokens are one batch.
    """

    def __init__(self, pool: Tensor, feeds: Sequence[Feed]) -> None:
        self.flat: list[int] = []
        self.positions: list[int] = []
        rows: list[int] = []
        self._chunks: list[_Chunk] = []
        for row, (tokens, start) in enumerate(feeds):
            end = len(tokens) - 1
            if start < end:
                self._chunks.append(_Chunk(row, len(rows), start, end))
                self.flat += tokens[start:end]
                self.positions += range(start, end)
                rows += [row] * (end - start)
        lengths = [len(feed.tokens) for feed in feeds]
        self.flat += [feed.tokens[-1] for feed in feeds]
        self.positions += [length - 1 for length in lengths]
        rows += range(len(feeds))
        self._pool = pool
        self._layer = 0
        self._rows = torch.tensor(rows, device=pool.device)
        self._places = torch.tensor(self.positions, device=pool.device)
        self._lengths = torch.tensor(lengths, device=pool.device)
        self._spans = [
            (first, min(first + ROWS_PER_CALL, len(feeds)), max(lengths[first : first + ROWS_PER_CALL]))
            for first in range(0, len(feeds), ROWS_PER_CALL)
        ]
        self._masks: dict[int | None, tuple[list[Tensor | None], Tensor]] = {}  # by sliding window

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None
    ) -> Tensor:
        """Attention output [1, N, K * G, E]; the keys and values of the new tokens enter the pool."""
        keys, values = self._pool[2 * self._layer], self._pool[2 * self._layer + 1]  # [slots, K, L, E]
        self._layer += 1
        dtype, query = query.dtype, query.to(keys.dtype)
        keys[self._rows, :, self._places] = key[0].transpose(0, 1).to(keys.dtype)
        values[self._rows, :, self._places] = value[0].transpose(0, 1).to(values.dtype)
        chunk_masks, mask = self._masks_of(window)
        grouped = query.shape[1] != keys.shape[1]
        parts = []
        for chunk, chunk_mask in zip(self._chunks, chunk_masks, strict=True):
            part = scaled_dot_product_attention(
                query[:, :, chunk.offset : chunk.offset + chunk.end - chunk.start],
                keys[chunk.row, None, :, : chunk.end],
                values[chunk.row, None, :, : chunk.end],
                attn_mask=chunk_mask,
                is_causal=chunk_mask is None,
                scale=scaling,
                enable_gqa=grouped,
            )
            parts.append(part[0].transpose(0, 1))
        # The query heads of one key-value head take the place of query positions: all see the same keys.
        last = query[0, :, query.shape[2] - len(self._lengths) :].transpose(0, 1)
        last = last.reshape(len(self._lengths), keys.shape[1], -1, last.shape[-1])  # [R, K, G, E]
        for first, end, length in self._spans:
            part = scaled_dot_product_attention(
                last[first:end],
                keys[first:end, :, :length],
                values[first:end, :, :length],
                attn_mask=mask[first:end, :, :, :length],
                scale=scaling,
            )
            parts.append(part.flatten(1, 2))
        return torch.cat(parts)[None].to(dtype)

    def _masks_of(self, window: int | None) -> tuple[list[Tensor | None], Tensor]:
        """Masks of the chunks, None for plain causal ones, and of the last tokens [R, 1, 1, L]."""
        if window not in self._masks:
            places = torch.arange(max(end for *_, end in self._spans), device=self._pool.device)
            seen = places < self._lengths[:, None]
            if window is not None:
                seen &= places >= self._lengths[:, None] - window
            zeros = torch.zeros(seen.shape, dtype=self._pool.dtype, device=self._pool.device)
            mask = zeros.masked_fill_(~seen, -torch.inf)[:, None, None]
            self._masks[window] = [_chunk_mask(chunk, window, places) for chunk in self._chunks], mask
        return self._masks[window]


@dataclass
class _Probe:
    """Plain causal attention that notes what the layers' keys and values look like."""

    shapes: list[tuple[int, int, torch.dtype]]

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None
    ) -> Tensor:
        if key.shape != value.shape:
            raise ValueError(f"keys {tuple(key.shape)} unlike values {tuple(value.shape)}")
        self.shapes.append((key.shape[1], key.shape[3], key.dtype))
        grouped = query.shape[1] != key.shape[1]
        output = scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped
        )
        return output.transpose(1, 2)


_Attention = _Plan | _Probe
_ACTIVE: ContextVar[_Attention] = ContextVar("ragged_attention")


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """The function that transformers calls in every layer; the plan of the running pass does the work."""
    for name in _UNSUPPORTED:
        if settings.get(name) is not None:
            raise ValueError(f"attention with {name}")
    return _ACTIVE.get().attend(query, key, value, scaling, sliding_window), None


# No mask function goes with it: transformers then builds no mask, and a flat sequence has no padding to hide.
AttentionInterface.register(_NAME, _attention)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros, because a masked position still meets its value: 0 times what memory held may be NaN.

    On a CPU they come from numpy, whose large arrays cost nothing until touched and sit in huge pages.
    """
    if device.type == "cpu" and dtype == torch.float32:
        return torch.from_numpy(np.zeros(shape, dtype=np.float32))
    return torch.zeros(shape, dtype=dtype, device=device)


@contextmanager
def _implementation(model: nn.Module, name: str) -> Iterator[None]:
    """The model with another attention function; a learner that shares the module gets its own back."""
    config = model.config.get_text_config()  # type: ignore[union-attr, operator]
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before


def _chunk_mask(chunk: _Chunk, window: int | None, places: Tensor) -> Tensor | None:
    """What each token of a chunk sees, [end - start, end]; None: everything before it, from position 0."""
    if chunk.start == 0 and (window is None or window >= chunk.end):
        return None
    own = places[chunk.start : chunk.end, None]
    mask = places[: chunk.end] <= own
    if window is not None:
        mask &= places[: chunk.end] > own - window
    return mask
