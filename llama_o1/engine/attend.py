"""The attention of one forward pass: every new token sees the past of its own row and nothing else.

A row that feeds few tokens reads its past where it lies (few.py). Where many tokens come at once, as in a
new context or a long forced block, the work is dense, and torch's attention does it: over the row's own new
tokens, and over the past of all rows that continue the same prefix together. The two parts are joined by the
log-sum-exps of their scores (Dao et al. 2022, FlashAttention, section 3.1).

Letters of a shape: N new tokens, H query heads, K key-value heads, E head_dim, C positions of the memory,
R rows, Q queries, P keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llama_o1.engine.few import Few, attend_few
from llama_o1.engine.kv import KeyValues, Range, positions_of

_FEW = 8  # new tokens of a row up to which its past is read for each of them


class Feed(NamedTuple):
    """One row's share of a forward pass: `tokens[start:]` are new, those before lie in `past`."""

    tokens: list[int]
    start: int
    past: list[Range]  # where all tokens of the row go, in order
    prefix: int = 0  # rows with the same number continue the same prefix


class _Block(NamedTuple):
    """Many new tokens of one row, the last one not included: `flat[offset:offset + length]`."""

    offset: int
    length: int


class _Prefix(NamedTuple):
    """What several blocks continue."""

    positions: Tensor  # [P] of the memory
    tokens: Tensor  # [Q] of `flat`


class Plan:
    """What is where in one flat sequence of new tokens; the last token of each row comes at the end."""

    def __init__(self, memory: KeyValues, feeds: Sequence[Feed]) -> None:
        self.flat: list[int] = []
        self.positions: list[int] = []
        self._memory = memory
        self._layer = 0
        last = sum(len(feed.tokens) - feed.start - 1 for feed in feeds)  # place of the first row's last token
        targets: list[int] = []
        blocks: list[tuple[_Block, Feed]] = []
        few: list[tuple[int, int, int]] = []  # place in `flat`, position in the row, row
        for row, feed in enumerate(feeds):
            start, end, here = feed.start, len(feed.tokens) - 1, len(self.flat)
            if end - start < _FEW:
                few += [(here + i, start + i, row) for i in range(end - start)]
            else:
                blocks.append((_Block(here, end - start), feed))
            few.append((last + row, end, row))
            self.flat += feed.tokens[start:end]
            self.positions += range(start, end)
            targets += positions_of(feed.past, start, end)
        for feed in feeds:
            targets += positions_of(feed.past, len(feed.tokens) - 1, len(feed.tokens))
        self.flat += [feed.tokens[-1] for feed in feeds]
        self.positions += [len(feed.tokens) - 1 for feed in feeds]
        self._targets = torch.tensor(targets, device=memory.device)
        self._few = np.array(few, dtype=np.int64).T.copy()  # place in `flat`, position in the row, row
        counts = [len(feed.past) for feed in feeds]
        self._bounds = np.array([0, *accumulate(counts)], dtype=np.int64)
        self._ranges = np.array([one for feed in feeds for one in feed.past], dtype=np.int64)
        self._blocks = [block for block, _ in blocks]
        self._prefixes = _prefixes(blocks, memory.device)
        self._whole = [
            torch.tensor(positions_of(feed.past, 0, feed.start + block.length), device=memory.device)
            for block, feed in blocks
        ]

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float | None,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:
        """Attention output [1, N, H, E]; the keys and values of the new tokens enter the memory."""
        dtype, scaling = query.dtype, scaling or query.shape[-1] ** -0.5
        queries = query[0].transpose(0, 1).to(self._memory.dtype).contiguous()  # [N, H, E]
        new_keys, new_values = key[0].transpose(0, 1), value[0].transpose(0, 1)  # [N, K, E]
        self._memory.write(self._layer, self._targets, new_keys, new_values)
        keys, values = self._memory.layer(self._layer)
        output = torch.empty_like(queries)
        self._attend_few(queries, keys, values, output, scaling, window, softcap)
        if window is not None and max(self.positions) < window:
            window = None
        if self._blocks:
            if window is None:
                self._attend_blocks(queries, new_keys, new_values, output, scaling, softcap)
            else:
                self._attend_windows(queries, output, scaling, window, softcap)
        self._layer += 1
        return output[None].to(dtype)

    def _attend_few(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        output: Tensor,
        scaling: float,
        window: int | None,
        softcap: float | None,
    ) -> None:
        """Fill `output` for the tokens of rows that feed few."""
        tokens, last, row = self._few
        first = np.zeros_like(last) if window is None else np.maximum(last + 1 - window, 0)
        few = Few(tokens, first, last + 1, row, self._bounds, self._ranges)
        if queries.device.type == "cpu":
            attend_few(queries, keys, values, few, output, scaling, softcap or 0.0)
        else:
            attend_padded(queries, keys, values, few, output, scaling, softcap)

    def _attend_blocks(
        self,
        queries: Tensor,
        new_keys: Tensor,
        new_values: Tensor,
        output: Tensor,
        scaling: float,
        softcap: float | None,
    ) -> None:
        """Fill `output` for the tokens of blocks: what is new in their rows, then what they continue."""
        sums = torch.empty(output.shape[:2], device=output.device)
        for block in self._blocks:
            here = slice(block.offset, block.offset + block.length)
            output[here], sums[here] = attention(
                queries[here], new_keys[here], new_values[here], True, scaling, softcap
            )
        keys, values = self._memory.layer(self._layer)
        for prefix in self._prefixes:
            above, above_sums = attention(
                queries[prefix.tokens],
                keys[prefix.positions],
                values[prefix.positions],
                None,
                scaling,
                softcap,
            )
            own, own_sums = output[prefix.tokens], sums[prefix.tokens]
            share = torch.sigmoid(above_sums - own_sums)[..., None].to(own.dtype)
            output[prefix.tokens] = torch.lerp(own, above, share)

    def _attend_windows(
        self, queries: Tensor, output: Tensor, scaling: float, window: int, softcap: float | None
    ) -> None:
        """Fill `output` for the tokens of blocks in a layer whose tokens see `window` positions."""
        keys, values = self._memory.layer(self._layer)
        for block, whole in zip(self._blocks, self._whole, strict=True):
            here = slice(block.offset, block.offset + block.length)
            at = torch.arange(len(whole), device=output.device)
            own = at[len(whole) - block.length :, None]
            mask = (at <= own) & (at > own - window)
            output[here], _ = attention(queries[here], keys[whole], values[whole], mask, scaling, softcap)


def _prefixes(blocks: list[tuple[_Block, Feed]], device: torch.device) -> list[_Prefix]:
    """The pasts of blocks, each with the tokens of all blocks that continue it."""
    tokens: dict[int, list[int]] = {}
    pasts: dict[int, list[int]] = {}
    for block, feed in blocks:
        if feed.start:
            pasts.setdefault(feed.prefix, positions_of(feed.past, 0, feed.start))
            tokens.setdefault(feed.prefix, []).extend(range(block.offset, block.offset + block.length))
    return [
        _Prefix(torch.tensor(pasts[number], device=device), torch.tensor(tokens[number], device=device))
        for number in pasts
    ]


def attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | bool | None,
    scaling: float,
    softcap: float | None,
) -> tuple[Tensor, Tensor]:
    """Attention [Q, H, E] of queries [Q, H, E] over keys and values [P, K, E], and log-sum-exps [Q, H].

    `mask` [Q, P] tells what is seen; True: query i sees the first i + 1 keys; None: all see all.
    """
    query = queries.transpose(0, 1)[None]
    key, value = (each.transpose(0, 1)[None].to(queries.dtype) for each in (keys, values))
    causal = mask is True
    if isinstance(mask, Tensor):
        hidden = ~mask
        mask = torch.zeros(mask.shape, dtype=query.dtype, device=query.device).masked_fill(hidden, -torch.inf)
    if query.device.type == "cpu" and softcap is None:
        added = mask if isinstance(mask, Tensor) else None
        part, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, attn_mask=added, scale=scaling
        )
        return part[0].transpose(0, 1), sums[0].transpose(0, 1)
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = (query @ key.transpose(-1, -2)).float() * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if isinstance(mask, Tensor):
        scores = scores + mask
    elif causal:
        size = scores.shape[-2:]
        scores = scores.masked_fill(
            torch.ones(size, dtype=torch.bool, device=scores.device).triu(1), -torch.inf
        )
    sums = scores.logsumexp(-1)
    part = (scores - sums[..., None]).exp().to(value.dtype) @ value
    return part[0].transpose(0, 1), sums[0].transpose(0, 1)


def attend_padded(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    few: Few,
    output: Tensor,
    scaling: float,
    softcap: float | None,
) -> None:
    """What `attend_few` does, on any device: every asked token's past is gathered, padded to the longest."""
    longest = int(few.end.max())
    rows = [
        positions_of([(int(a), int(b)) for a, b in few.ranges[start:end]], 0, longest)
        for start, end in zip(few.bounds, few.bounds[1:], strict=False)
    ]
    padded = np.array([row + [0] * (longest - len(row)) for row in rows], dtype=np.int64)[few.row]
    at = np.arange(longest)
    seen = (at >= few.first[:, None]) & (at < few.end[:, None])
    device = queries.device
    past, hidden = torch.from_numpy(padded).to(device), torch.from_numpy(~seen).to(device)
    tokens = torch.from_numpy(few.tokens).to(device)
    groups = queries.shape[1] // keys.shape[1]
    query = queries[tokens].unflatten(1, (keys.shape[1], groups))  # [M, K, G, E]
    scores = torch.einsum("mkge,mpke->mkgp", query, keys[past]).float() * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    weights = scores.masked_fill(hidden[:, None, None], -torch.inf).softmax(-1).to(values.dtype)
    output[tokens] = torch.einsum("mkgp,mpke->mkge", weights, values[past]).flatten(1, 2)
