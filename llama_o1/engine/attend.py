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
from itertools import accumulate, chain, groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from llama_o1.engine.dense import Padded, attend_padded, attention, padded
from llama_o1.engine.few import Few, Int64, attend_few
from llama_o1.engine.kv import KeyValues
from llama_o1.engine.places import Range, positions_of

FEW = 16  # new tokens of a row up to which its past is read for each of them
_SHEET = 128  # tokens to which blocks are padded and cut: few calls, and little work above the diagonal


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
    feed: Feed

    @property
    def tokens(self) -> slice:
        """Their places in `flat`."""
        return slice(self.offset, self.offset + self.length)


class _Sheet(NamedTuple):
    """Pieces of blocks, padded to the longest by repeating their last token."""

    tokens: Tensor  # [R, Q] of `flat`
    kept: Tensor  # of R * Q, those that are not padding


class _Prefix(NamedTuple):
    """What neighbouring blocks continue."""

    positions: Tensor | slice  # [P] of the memory
    tokens: slice  # [Q] of `flat`


class Plan:
    """What is where in one flat sequence of new tokens; the last token of each row comes at the end."""

    def __init__(self, memory: KeyValues, feeds: Sequence[Feed]) -> None:
        self.flat: list[int] = []
        self._memory = memory
        self._layer = 0
        self._fews: dict[tuple[int | None, bool], Few] = {}
        self._padded: dict[int | None, Padded] = {}  # by window
        positions: list[int] = []  # in the row, of each token in `flat`
        rows: list[int] = []
        few: list[int] = []  # places in `flat`
        blocks: list[_Block] = []
        # Blocks with one prefix are neighbours, so that they are one slice. The order else is that of the
        # feeds, because a matrix product may differ in its last bits by where a row stands in it.
        first: dict[int, int] = {}
        lengths = [len(feed.tokens) for feed in feeds]
        news = [length - feed.start - 1 for length, feed in zip(lengths, feeds, strict=True)]  # but the last
        several = [row for row, count in enumerate(news) if count]
        for row in several:
            first.setdefault(feeds[row].prefix, row)
        for row in sorted(several, key=lambda i: (news[i] < FEW, first[feeds[i].prefix])):
            feed, here, count = feeds[row], len(self.flat), news[row]
            if count < FEW:
                few += range(here, here + count)
            else:
                blocks.append(_Block(here, count, feed))
            self.flat += feed.tokens[feed.start : feed.start + count]
            positions += range(feed.start, feed.start + count)
            rows += [row] * count
        self._ends = len(self.flat)  # the last tokens of rows stand from here on
        self.flat += [feed.tokens[-1] for feed in feeds]
        self.positions = np.array([*positions, *lengths]) - (np.arange(len(self.flat)) >= self._ends)
        self._rows = np.array([*rows, *range(len(feeds))])
        self._bounds = np.array([0, *accumulate([len(feed.past) for feed in feeds])])
        numbers = chain.from_iterable(chain.from_iterable([feed.past for feed in feeds]))
        self._ranges = np.fromiter(numbers, dtype=np.int64).reshape(-1, 2)
        self.targets = torch.from_numpy(self._targets()).to(memory.device)
        asked = np.array([*few, *range(self._ends, len(self.flat))])
        # Rows of one tree are neighbours, so that what they share is read once from memory.
        starts = self._ranges[self._bounds[:-1], 0]
        self._few = asked[np.argsort(starts[self._rows[asked]], kind="stable")]
        self._blocks = blocks
        self._prefixes = _prefixes(blocks, memory.device)
        self._chunks = _chunks(blocks)
        if blocks:
            self._sheet = _sheet(blocks, memory.device)

    def _targets(self) -> Int64:
        """Where in the memory each new token goes, [N], by its place in the ranges of all rows in order."""
        ends = (self._ranges[:, 1] - self._ranges[:, 0]).cumsum()
        place = np.concatenate(([0], ends))[self._bounds[self._rows]] + self.positions
        ranges = ends.searchsorted(place, side="right")
        targets: Int64 = place - ends[ranges] + self._ranges[ranges, 1]
        return targets

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
        queries = query[0].transpose(0, 1).to(self._memory.dtype).contiguous()  # [N, H, E]
        new_keys, new_values = key[0].transpose(0, 1), value[0].transpose(0, 1)  # [N, K, E]
        self._memory.write(self._layer, self.targets, new_keys, new_values)
        scaling = scaling or query.shape[-1] ** -0.5
        output = self.mix(queries, new_keys, new_values, scaling, window, softcap)
        return output[None].to(query.dtype)

    def arrays(self) -> tuple[Any, Any]:
        """Keys and values [C, K, E] of the layer whose turn it is, as numpy's arrays, on a CPU."""
        return self._memory.arrays(self._layer)

    def mix(
        self,
        queries: Tensor,
        new_keys: Tensor,
        new_values: Tensor,
        scaling: float,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:
        """Attention output [N, H, E] of the layer whose turn it is, in whose memory the new tokens are."""
        output = torch.empty_like(queries)
        self._attend_few(queries, output, scaling, window, softcap)
        if window is not None and self.positions.max() < window:
            window = None
        if self._blocks:
            if window is None:
                self._attend_blocks(queries, new_keys, new_values, output, scaling, softcap)
            else:
                self._attend_windows(queries, output, scaling, window, softcap)
        self._layer += 1
        return output

    def mix_arrays(
        self, queries: Any, new_keys: Any, new_values: Any, output: Any, scaling: float, *, ends_only: bool
    ) -> None:
        """`mix` into `output` [N, H, E] on a CPU, all of it numpy's arrays, without a window or a cap.

        With `ends_only` only that of each row's last token is filled.
        """
        attend_few(queries, *self.arrays(), self._asked(None, ends_only), output, scaling, 0.0)
        if self._blocks and not ends_only:
            query, key, value, into = map(torch.from_numpy, (queries, new_keys, new_values, output))
            self._attend_blocks(query, key, value, into, scaling, None)
        self._layer += 1

    def _attend_few(
        self,
        queries: Tensor,
        output: Tensor,
        scaling: float,
        window: int | None,
        softcap: float | None,
    ) -> None:
        """Fill `output` for the tokens of rows that feed few."""
        keys, values = self._memory.layer(self._layer)
        few = self._asked(window, False)
        if queries.device.type == "cpu":
            arrays = queries.numpy(), keys.numpy(), values.numpy()
            attend_few(*arrays, few, output.numpy(), scaling, softcap or 0.0)
            return
        if window not in self._padded:
            self._padded[window] = padded(few, queries.device)
        attend_padded(queries, keys, values, self._padded[window], output, scaling, softcap)

    def _asked(self, window: int | None, ends_only: bool) -> Few:
        """The tokens of rows that feed few, or the last ones of all; most layers ask for the same."""
        few = self._fews.get((window, ends_only))
        if few is None:
            tokens = self._few[self._few >= self._ends] if ends_only else self._few
            end = self.positions[tokens] + 1
            first = np.zeros_like(end) if window is None else np.maximum(end - window, 0)
            few = Few(tokens, first, end, self._rows[tokens], self._bounds, self._ranges)
            self._fews[window, ends_only] = few
        return few

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
        tokens, kept = self._sheet
        part, part_sums = attention(
            queries[tokens], new_keys[tokens], new_values[tokens], True, scaling, softcap
        )
        places = tokens.flatten()[kept]
        output[places], sums[places] = part.flatten(0, 1)[kept], part_sums.flatten(0, 1)[kept]
        for before, here in self._chunks:
            part, part_sums = attention(
                queries[here][None], new_keys[before][None], new_values[before][None], None, scaling, softcap
            )
            _join(output, sums, here, part[0], part_sums[0])
        keys, values = self._memory.layer(self._layer)
        for positions, here in self._prefixes:
            above, above_sums = attention(
                queries[here][None], keys[positions][None], values[positions][None], None, scaling, softcap
            )
            _join(output, sums, here, above[0], above_sums[0])

    def _attend_windows(
        self, queries: Tensor, output: Tensor, scaling: float, window: int, softcap: float | None
    ) -> None:
        """Fill `output` for the tokens of blocks in a layer whose tokens see `window` positions."""
        keys, values = self._memory.layer(self._layer)
        for block in self._blocks:
            whole = _place(block.feed.past, block.feed.start + block.length, output.device)
            at = torch.arange(block.feed.start + block.length, device=output.device)
            own = at[block.feed.start :, None]
            mask = (at <= own) & (at > own - window)
            part, _ = attention(
                queries[block.tokens][None], keys[whole][None], values[whole][None], mask, scaling, softcap
            )
            output[block.tokens] = part[0]


def _prefixes(blocks: list[_Block], device: torch.device) -> list[_Prefix]:
    """The pasts of blocks, each with the tokens of all blocks that continue it."""
    prefixes: list[_Prefix] = []
    for _, group in groupby((block for block in blocks if block.feed.start), lambda b: b.feed.prefix):
        same = list(group)
        tokens = slice(same[0].offset, same[-1].offset + same[-1].length)
        prefixes.append(_Prefix(_place(same[0].feed.past, same[0].feed.start, device), tokens))
    return prefixes


def _place(past: list[Range], end: int, device: torch.device) -> Tensor | slice:
    """Where the first `end` tokens of a row lie: a slice of the memory if they do in one piece."""
    start, stop = past[0]
    if stop - start >= end:
        return slice(start, start + end)
    return torch.tensor(positions_of(past, 0, end), device=device)


def _chunks(blocks: list[_Block]) -> list[tuple[slice, slice]]:
    """Of blocks longer than a sheet is wide: each piece but the first, after what comes before it."""
    return [
        (slice(block.offset, start), slice(start, min(start + _SHEET, block.tokens.stop)))
        for block in blocks
        for start in range(block.offset + _SHEET, block.tokens.stop, _SHEET)
    ]


def _sheet(blocks: list[_Block], device: torch.device) -> _Sheet:
    """Blocks side by side, those longer than a sheet is wide in pieces."""
    pieces = [
        (start, min(_SHEET, block.tokens.stop - start))
        for block in blocks
        for start in range(block.offset, block.tokens.stop, _SHEET)
    ]
    starts, lengths = np.array(pieces).T[:, :, None]
    steps = np.arange(lengths.max())
    tokens = starts + np.minimum(steps, lengths - 1)
    kept = np.flatnonzero(steps < lengths)
    return _Sheet(torch.from_numpy(tokens).to(device), torch.from_numpy(kept).to(device))


def _join(output: Tensor, sums: Tensor, here: slice, part: Tensor, part_sums: Tensor) -> None:
    """Join attention over other keys into rows of `output` [N, H, E] and `sums` [N, H]."""
    share = torch.sigmoid(part_sums - sums[here])[..., None].to(output.dtype)
    output[here] = torch.lerp(output[here], part, share)
    sums[here] = torch.logaddexp(sums[here], part_sums)
