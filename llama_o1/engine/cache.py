"""Keys and values of token prefixes already computed: a radix tree by token ids under a memory limit.

Token-exact, so a child's context finds its parent's context and sample whole. Rows hold on to the stem
they read and copy the rest, so any segment may be dropped at any time; the least recently used leaf goes
first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple
from weakref import ReferenceType, ref

import torch
from torch import Tensor

CopyOut = Callable[
    [int, int], Tensor
]  # (start, end) of the tokens -> [2 * layers, kv_heads, end - start, head_dim]


class Stem:
    """Keys and values of a prefix, dense: read where it lies by every row that begins with it."""

    __slots__ = ("__weakref__", "kv", "length")

    def __init__(self, kv: Tensor) -> None:
        self.kv = kv  # [2 * layers, K, length, E]
        self.length = kv.shape[2]


class Match(NamedTuple):
    """What is known of a token sequence."""

    length: int  # tokens
    stem: Stem | None  # keys and values of the first of them
    pieces: list[Tensor]  # of the rest, in order


class _Segment:
    """A run of tokens below one parent, and their keys and values."""

    __slots__ = ("below", "ids", "kv", "parent", "stem")

    def __init__(self, ids: list[int], kv: Tensor | None, parent: _Segment | None) -> None:
        self.ids = ids
        self.kv = kv  # None at the root only
        self.parent = parent
        self.below: dict[int, _Segment] = {}  # by first id
        self.stem: ReferenceType[Stem] | None = None  # of the prefix that ends here, while a row reads it


class PrefixCache:
    """Longest known prefix of any token sequence."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self._root = _Segment([], None, None)
        self._by_age: OrderedDict[_Segment, None] = OrderedDict()  # a segment comes before its parent

    def known(self, tokens: list[int], limit: int) -> int:
        """Length of the longest known prefix of `tokens[:limit]`."""
        return self._walk(tokens, limit)[0]

    def match(self, tokens: list[int], limit: int, *, shared: int = 0, least: int = 1) -> Match:
        """The longest known prefix of `tokens[:limit]`.

        `shared`: how far others are likely to begin alike; what is known of that comes as a stem when it
        is at least `least` tokens long, one stem for all rows that read it at the time.
        """
        end = min(self._walk(tokens, limit)[0], shared)
        if end >= least:
            self._cut(tokens, end)
        length, segment, _ = self._walk(tokens, limit)
        path = _path(segment)
        if path:
            self._touch(segment)
        ends = list(accumulate(len(each.ids) for each in path))
        stem = self._stem(path, ends, end) if end >= least else None
        pieces, below = [], 0 if stem is None else stem.length
        for each, start in zip(path, [0, *ends], strict=False):
            if start >= below and start < length:
                assert each.kv is not None
                pieces.append(each.kv[:, :, : length - start])
        return Match(length, stem, pieces)

    def insert(self, tokens: list[int], end: int, copy_out: CopyOut) -> None:
        """Hold `tokens[:end]`; only what is not held yet is copied."""
        length, segment, common = self._walk(tokens, end)
        if length == end:
            return
        if common < len(segment.ids):
            segment = self._split(segment, common)
        leaf = _Segment(tokens[length:end], copy_out(length, end), segment)
        segment.below[leaf.ids[0]] = leaf
        self._hold(leaf)
        self._touch(leaf)
        while self.held_bytes > self.limit_bytes:
            self._drop(next(iter(self._by_age)))

    def clear(self) -> None:
        """Forget everything."""
        self._root.below.clear()
        self._by_age.clear()
        self.held_bytes = 0

    def _walk(self, tokens: list[int], limit: int) -> tuple[int, _Segment, int]:
        """Tokens matched, the last segment reached, and how many of its own ids matched."""
        length, segment = 0, self._root
        while length < limit and (below := segment.below.get(tokens[length])) is not None:
            segment = below
            wanted = tokens[length : min(length + len(below.ids), limit)]
            common = len(wanted) if wanted == below.ids[: len(wanted)] else _common_prefix(wanted, below.ids)
            length += common
            if common < len(below.ids):
                return length, segment, common
        return length, segment, len(segment.ids)

    def _cut(self, tokens: list[int], end: int) -> None:
        """Let a segment end where a known prefix `tokens[:end]` does."""
        _, segment, common = self._walk(tokens, end)
        if common < len(segment.ids):
            self._split(segment, common)

    def _stem(self, path: list[_Segment], ends: list[int], end: int) -> Stem:
        """A stem that another row reads if it goes three quarters of the way, else one of the first `end` tokens."""
        for segment, length in zip(reversed(path), reversed(ends), strict=True):
            stem = None if segment.stem is None else segment.stem()
            if stem is not None and 3 * end <= 4 * length and length <= end:
                return stem
        used = [segment for segment, length in zip(path, ends, strict=True) if length <= end]
        held = [segment.kv for segment in used if segment.kv is not None]
        stem = Stem(held[0] if len(held) == 1 else torch.cat(held, dim=2))
        used[-1].stem = ref(stem)
        return stem

    def _split(self, segment: _Segment, at: int) -> _Segment:
        """Cut a segment in two; the upper part comes back. Both own their memory, so either can go."""
        assert segment.kv is not None
        assert segment.parent is not None
        upper = _Segment(segment.ids[:at], segment.kv[:, :, :at].clone(), segment.parent)
        segment.parent.below[upper.ids[0]] = upper
        segment.ids, segment.kv, segment.parent = segment.ids[at:], segment.kv[:, :, at:].clone(), upper
        upper.below[segment.ids[0]] = segment
        self._by_age[upper] = None
        return upper

    def _hold(self, segment: _Segment) -> None:
        self._by_age[segment] = None
        self.held_bytes += _size(segment)

    def _touch(self, segment: _Segment) -> None:
        """Make a segment and all above it the youngest, the topmost last."""
        while segment.parent is not None:
            self._by_age.move_to_end(segment)
            segment = segment.parent

    def _drop(self, segment: _Segment) -> None:
        assert not segment.below, "a segment is older than one below it"
        assert segment.parent is not None
        del segment.parent.below[segment.ids[0]], self._by_age[segment]
        self.held_bytes -= _size(segment)


def _path(segment: _Segment) -> list[_Segment]:
    """A segment and all above it but the root, the topmost first."""
    path = []
    while segment.parent is not None:
        path.append(segment)
        segment = segment.parent
    return path[::-1]


def _common_prefix(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _size(segment: _Segment) -> int:
    assert segment.kv is not None
    return segment.kv.numel() * segment.kv.element_size()
