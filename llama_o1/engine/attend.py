"""The attention of one forward pass: every new token sees its own row, a shared stem once for all its rows.

A row's past lies in two places: its stem, a dense prefix that other rows may share, and its own tokens in
the pool. Attention over each is computed apart and joined by the log-sum-exps of the scores (the cascade
of Ye et al. 2024, "Cascade Inference"; the joining formula is that of Dao et al. 2022, FlashAttention).

Letters of a shape: N new tokens, R rows, H query heads, K key-value heads, G = H / K, E head_dim,
Q new tokens of one row, P positions of a stem, T positions of the pool, M tokens whose rows have stems.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llama_o1.engine.cache import Stem
from llama_o1.engine.pool import RowPool

_SHORT = 8  # new tokens of a row up to which it is computed together with others, padded
_CALL_COST = 96  # one call costs about as much as reading so many positions of a row


class Feed(NamedTuple):
    """One row's share of a forward pass: `tokens[start:]` are new, those before are held."""

    tokens: list[int]
    start: int
    place: int = 0  # of the row in the pool
    stem: Stem | None = None  # holds the row's first tokens; `start` lies at its end or beyond


class _Long(NamedTuple):
    """Many new tokens of one row, the last one not included: `flat[offset:offset + length]`."""

    offset: int
    length: int
    place: int
    held: int  # positions of the pool before them


class _Span(NamedTuple):
    """Rows in neighbouring places with few new tokens each, padded to the longest."""

    place: int  # of the first
    tokens: Tensor | slice  # [R * Q] their places in `flat`, rows padded by repeating their last token
    rows: int
    width: int  # Q
    length: int  # T
    positions: np.ndarray  # [R, Q] of the tokens in the pool
    kept: Tensor | None  # which of R * Q are not padding; None: all


class Plan:
    """What is where in one flat sequence of new tokens; the last token of each row comes at the end."""

    def __init__(self, pool: RowPool, feeds: Sequence[Feed]) -> None:
        """`feeds` in the order of their places."""
        self.flat: list[int] = []
        self.positions: list[int] = []
        self._pool = pool
        self._feeds = feeds
        self._layer = 0
        self._masks: dict[tuple[int, int | None], Tensor | None] = {}
        before = sum(len(feed.tokens) - feed.start - 1 for feed in feeds)  # tokens that are not last ones
        own: list[list[int]] = []  # of each row, places of its tokens in `flat`
        for i, feed in enumerate(feeds):
            start, end = feed.start, len(feed.tokens) - 1
            own.append([*range(len(self.flat), len(self.flat) + end - start), before + i])
            self.flat += feed.tokens[start:end]
            self.positions += range(start, end)
        self.flat += [feed.tokens[-1] for feed in feeds]
        self.positions += [len(feed.tokens) - 1 for feed in feeds]
        self._plan_writes(own)
        self._long = [
            _Long(own[i][0], len(own[i]) - 1, feed.place, feed.start - _base(feed))
            for i, feed in enumerate(feeds)
            if len(own[i]) > _SHORT
        ]
        self._spans = self._plan_spans([ids[-1:] if len(ids) > _SHORT else ids for ids in own], before)
        self._plan_stems(own)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float | None,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:
        """Attention output [1, N, H, E]; the keys and values of the new tokens enter the pool."""
        dtype, query = query.dtype, query[0].to(self._pool.dtype)  # [H, N, E]
        keys, values = self._pool.write(self._layer, self._slots, key[0], value[0])  # [slots, K, T, E]
        output = torch.empty_like(query.transpose(0, 1), memory_format=torch.contiguous_format)  # [N, H, E]
        sums = torch.empty(query.shape[1::-1], device=query.device) if self._stems else None  # [N, H]
        for number, long in enumerate(self._long):
            here = slice(long.offset, long.offset + long.length)
            end = long.held + long.length
            part, part_sums = attention(
                query[None, :, here],
                keys[long.place, None, :, :end],
                values[long.place, None, :, :end],
                mask=self._long_mask(number, window),
                causal=True,
                scaling=scaling,
                softcap=softcap,
            )
            output[here] = part[0].transpose(0, 1)
            if sums is not None:
                sums[here] = part_sums[0].transpose(0, 1)
        for number, span in enumerate(self._spans):
            self._attend_span(number, span, query, keys, values, output, sums, scaling, window, softcap)
        if sums is not None:
            self._attend_stems(query, output, sums, scaling, softcap)
        self._layer += 1
        return output[None].to(dtype)

    def _attend_span(
        self,
        number: int,
        span: _Span,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        output: Tensor,
        sums: Tensor | None,
        scaling: float | None,
        window: int | None,
        softcap: float | None,
    ) -> None:
        """Fill `output` and `sums` for the tokens of a span."""
        heads, _, dim = query.shape
        kv_heads = keys.shape[1]
        places = slice(span.place, span.place + span.rows)
        # The query heads of one key-value head take the place of query positions: all see the same keys.
        asked = query[:, span.tokens].view(kv_heads, -1, span.rows, span.width, dim).permute(2, 0, 1, 3, 4)
        part, part_sums = attention(
            asked.reshape(span.rows, kv_heads, -1, dim),
            keys[places, :, : span.length],
            values[places, :, : span.length],
            mask=self._span_mask(number, window, heads // kv_heads),
            causal=False,
            scaling=scaling,
            softcap=softcap,
        )
        tokens, kept = span.tokens, span.kept
        part = part.reshape(span.rows, heads, span.width, dim).transpose(1, 2).flatten(0, 1)
        if kept is not None:
            assert isinstance(tokens, Tensor)
            tokens, part = tokens[kept], part[kept]
        output[tokens] = part
        if sums is not None:
            part_sums = part_sums.reshape(span.rows, heads, span.width).transpose(1, 2).flatten(0, 1)
            sums[tokens] = part_sums if kept is None else part_sums[kept]

    def _attend_stems(
        self, query: Tensor, output: Tensor, sums: Tensor, scaling: float | None, softcap: float | None
    ) -> None:
        """Join attention over the stems into `output`."""
        heads, _, dim = query.shape
        asked = query[:, self._stemmed]  # [H, M, E]
        own, own_sums = output[self._stemmed], sums[self._stemmed]
        above, above_sums = torch.empty_like(own), torch.empty_like(own_sums)
        for stem, start, end in self._stems:
            keys, values = stem.kv[2 * self._layer], stem.kv[2 * self._layer + 1]  # [K, P, E]
            part, part_sums = attention(
                asked[:, start:end].reshape(1, keys.shape[0], -1, dim),
                keys[None],
                values[None],
                mask=None,
                causal=False,
                scaling=scaling,
                softcap=softcap,
            )
            above[start:end] = part.reshape(heads, end - start, dim).transpose(0, 1)
            above_sums[start:end] = part_sums.reshape(heads, end - start).transpose(0, 1)
        share = torch.sigmoid(above_sums - own_sums)[..., None].to(own.dtype)
        output[self._stemmed] = torch.lerp(own, above, share)

    def _plan_writes(self, own: list[list[int]]) -> None:
        """Where in the pool each token's key and value go."""
        slots = np.empty((len(self.flat), 2), dtype=np.int64)
        for feed, tokens in zip(self._feeds, own, strict=True):
            first = feed.start - _base(feed)
            slots[tokens, 0] = feed.place
            slots[tokens, 1] = np.arange(first, first + len(tokens))
        self._slots = self._pool.slots(slots[:, 0], slots[:, 1])

    def _plan_spans(self, own: list[list[int]], before: int) -> list[_Span]:
        """Rows side by side in one call while padding costs less than a call of its own."""
        lengths = [len(feed.tokens) - _base(feed) for feed in self._feeds]
        spans, first = [], 0
        longest = waste = 0
        for i, length in enumerate(lengths):
            grown = max(longest, length)
            waste += (grown - longest) * (i - first) + grown - length
            apart = i > first and self._feeds[i].place != self._feeds[i - 1].place + 1
            if i > first and (apart or waste > _CALL_COST):
                spans.append(self._span(first, i, own, before))
                first, grown, waste = i, length, 0
            longest = grown
        return [*spans, self._span(first, len(lengths), own, before)]

    def _span(self, first: int, end: int, own: list[list[int]], before: int) -> _Span:
        feeds, device = self._feeds[first:end], self._pool.device
        width = max(len(tokens) for tokens in own[first:end])
        lasts = np.array([len(feed.tokens) - 1 - _base(feed) for feed in feeds])
        length = int(lasts.max()) + 1
        if width == 1:
            tokens: Tensor | slice = slice(before + first, before + end)
            return _Span(feeds[0].place, tokens, end - first, 1, length, lasts[:, None], None)
        padded = [ids + ids[-1:] * (width - len(ids)) for ids in own[first:end]]
        counts = np.array([len(ids) for ids in own[first:end]])
        steps = np.minimum(np.arange(width), counts[:, None] - 1)
        kept = torch.from_numpy(np.flatnonzero(np.arange(width) < counts[:, None])).to(device)
        positions = lasts[:, None] - counts[:, None] + 1 + steps
        flat = torch.tensor(padded, device=device).flatten()
        return _Span(feeds[0].place, flat, end - first, width, length, positions, kept)

    def _plan_stems(self, own: list[list[int]]) -> None:
        """Tokens by stem, in one order."""
        by_stem: dict[int, tuple[Stem, list[int]]] = {}
        for feed, tokens in zip(self._feeds, own, strict=True):
            if feed.stem is not None:
                by_stem.setdefault(id(feed.stem), (feed.stem, []))[1].extend(tokens)
        self._stems: list[tuple[Stem, int, int]] = []
        order: list[int] = []
        for stem, tokens in by_stem.values():
            self._stems.append((stem, len(order), len(order) + len(tokens)))
            order += tokens
        self._stemmed = torch.tensor(order, dtype=torch.long, device=self._pool.device)

    def _span_mask(self, number: int, window: int | None, groups: int) -> Tensor | None:
        """What each token of a span sees, [R, 1, G * Q, T] or [R, 1, 1, T]; None: everything."""
        if (number, window) not in self._masks:
            span = self._spans[number]
            places, last = np.arange(span.length), span.positions[:, :, None]
            seen = places <= last
            if window is not None:
                seen &= places > last - window
            mask = np.where(seen, np.float32(0), np.float32(-np.inf))[:, None]
            if span.width > 1:
                mask = np.tile(mask, (1, 1, groups, 1))
            self._masks[number, window] = None if seen.all() else self._as_mask(mask)
        return self._masks[number, window]

    def _long_mask(self, number: int, window: int | None) -> Tensor | None:
        """What each token of a long run sees, [1, 1, Q, T]; None: all that is not after it."""
        long = self._long[number]
        end = long.held + long.length
        if not long.held and (window is None or window >= end):
            return None
        key = (-1 - number, window)
        if key not in self._masks:
            places, last = np.arange(end), np.arange(long.held, end)[:, None]
            seen = places <= last
            if window is not None:
                seen &= places > last - window
            self._masks[key] = self._as_mask(np.where(seen, np.float32(0), np.float32(-np.inf))[None, None])
        return self._masks[key]

    def _as_mask(self, mask: np.ndarray) -> Tensor:
        return torch.from_numpy(mask).to(self._pool.device, self._pool.dtype)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None,
    causal: bool,
    scaling: float | None,
    softcap: float | None,
) -> tuple[Tensor, Tensor]:
    """Attention [R, H, Q, E] and the log-sum-exps [R, H, Q] of its scores.

    `mask` is added to the scores; `causal` counts only where there is none, and means that token i of Q
    sees the first i + 1 keys.
    """
    if query.device.type == "cpu" and softcap is None:
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal and mask is None, attn_mask=mask, scale=scaling
        )  # type: ignore[no-any-return]
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = (query @ key.transpose(-1, -2)).float() * (scaling or query.shape[-1] ** -0.5)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if mask is not None:
        scores = scores + mask
    elif causal:
        length = scores.shape[-1]
        hidden = torch.ones(length, length, dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(hidden, -torch.inf)
    sums = scores.logsumexp(-1)
    return (scores - sums[..., None]).exp().to(value.dtype) @ value, sums


def _base(feed: Feed) -> int:
    return 0 if feed.stem is None else feed.stem.length
