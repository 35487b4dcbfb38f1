"""Token prefixes whose keys and values are known: a radix tree by token ids under a memory limit.

Token-exact, so a child's context finds its parent's context and sample whole. A segment that a running
row reads is pinned; of the others the least recently used leaf goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import chain

from llama_o1.engine.kv import KeyValues
from llama_o1.engine.places import Range, cut, joined

_MANY = 3  # ranges from which on a prefix is moved to one


class Segment:
    """A run of tokens below one parent, and where their keys and values lie."""

    __slots__ = ("below", "ids", "parent", "ranges", "readers")

    def __init__(self, ids: list[int], ranges: list[Range], parent: Segment | None) -> None:
        self.ids = ids
        self.ranges = ranges
        self.parent = parent  # None at the root only
        self.below: dict[int, Segment] = {}  # by first id
        self.readers = 0  # running rows whose prefix ends here or below

    def path(self) -> list[Range]:
        """Where the whole prefix that ends here lies, in order; neighbours are joined."""
        above: list[list[Range]] = []
        segment = self
        while segment.parent is not None:
            above.append(segment.ranges)
            segment = segment.parent
        return joined(chain.from_iterable(reversed(above)))


class PrefixCache:
    """Longest known prefix of any token sequence."""

    def __init__(self, memory: KeyValues, limit_bytes: int) -> None:
        """Positions of segments belong to the cache; those it drops go back to `memory`."""
        self._memory = memory
        self._limit = limit_bytes // memory.token_bytes  # tokens
        self.held = 0  # tokens
        self._root = Segment([], [], None)
        self._by_age: OrderedDict[Segment, None] = OrderedDict()  # a segment comes before its parent

    def known(self, tokens: Sequence[int], limit: int) -> int:
        """Length of the longest known prefix of `tokens[:limit]`."""
        return self._walk(tokens, 0, limit, self._root)[0]

    def pin(self, tokens: Sequence[int], limit: int) -> tuple[int, Segment]:
        """The longest known prefix of `tokens[:limit]` and its last segment, which stays until released."""
        length, segment, common = self._walk(tokens, 0, limit, self._root)
        if common < len(segment.ids):
            segment = self._split(segment, common)
        _count(segment, None, 1)
        self._touch(segment)
        return length, segment

    def extend(self, segment: Segment, ids: list[int], ranges: list[Range]) -> Segment:
        """Hold `ids` after the end of a pinned prefix and pin their end in its place, which comes back.

        What of them is known already keeps its positions, so those of `ranges` are free again.
        """
        known, last, common = self._walk(ids, 0, len(ids), segment)
        if common < len(last.ids):
            last = self._split(last, common)
        twice, ranges = cut(ranges, known)
        self._memory.give(twice)
        if known < len(ids):
            leaf = Segment(ids[known:], ranges, last)
            last.below[leaf.ids[0]] = leaf
            self._by_age[leaf] = None
            self.held += len(leaf.ids)
            last = leaf
        _count(last, segment, 1)
        self._touch(last)
        self._drop_old()
        return last

    def release(self, segment: Segment) -> None:
        """One row less reads the prefix that ends here."""
        _count(segment, None, -1)
        self._drop_old()

    def gather(self, segment: Segment, most: int, spare: int) -> list[Range]:
        """Move the end of a pinned prefix to one range, as far as no other row reads it.

        Up to `most` tokens, where they lie in many ranges and there is such a range; `spare` positions after
        it come back, the caller's now.
        """
        moved: list[Segment] = []
        count = 0
        while segment.readers == 1 and segment.parent is not None and count + len(segment.ids) <= most:
            moved.append(segment)
            count += len(segment.ids)
            segment = segment.parent
        ranges = joined(chain.from_iterable(one.ranges for one in reversed(moved)))
        place = self._memory.take_whole(count + spare) if len(ranges) >= _MANY else None
        if place is None:
            return []
        start, end = place
        self._memory.copy(ranges, start)
        for one in reversed(moved):
            one.ranges = [(start, start + len(one.ids))]
            start += len(one.ids)
        self._memory.give(ranges)
        return [(start, end)]

    def clear(self) -> None:
        """Forget everything; nothing may be pinned."""
        for segment in self._by_age:
            self._memory.give(segment.ranges)
        self._root.below.clear()
        self._by_age.clear()
        self.held = 0

    def _walk(
        self, tokens: Sequence[int], length: int, limit: int, segment: Segment
    ) -> tuple[int, Segment, int]:
        """From the end of a segment: tokens matched, the last segment reached, how many of its ids."""
        common = len(segment.ids)
        while length < limit and (below := segment.below.get(tokens[length])) is not None:
            segment = below
            wanted = tokens[length : min(length + len(below.ids), limit)]
            common = len(wanted) if wanted == below.ids[: len(wanted)] else _common_prefix(wanted, below.ids)
            length += common
            if common < len(below.ids):
                break
        return length, segment, common

    def _split(self, segment: Segment, at: int) -> Segment:
        """Cut a segment in two; the upper part comes back."""
        assert segment.parent is not None
        first, rest = cut(segment.ranges, at)
        upper = Segment(segment.ids[:at], first, segment.parent)
        upper.readers = segment.readers
        segment.parent.below[upper.ids[0]] = upper
        segment.ids, segment.ranges, segment.parent = segment.ids[at:], rest, upper
        upper.below[segment.ids[0]] = segment
        self._by_age[upper] = None
        return upper

    def _touch(self, segment: Segment) -> None:
        """Make a segment and all above it the youngest, the topmost last."""
        while segment.parent is not None:
            self._by_age.move_to_end(segment)
            segment = segment.parent

    def _drop_old(self) -> None:
        """Back under the limit, as far as nothing is read."""
        while self.held > self._limit:
            for segment in self._by_age:
                if not segment.below and not segment.readers:
                    break
            else:
                return
            assert segment.parent is not None
            del segment.parent.below[segment.ids[0]], self._by_age[segment]
            self.held -= len(segment.ids)
            self._memory.give(segment.ranges)


def _count(segment: Segment | None, above: Segment | None, rows: int) -> None:
    """So many rows more read the prefix that ends with a segment, down from below `above`."""
    while segment is not above and segment is not None:
        segment.readers += rows
        segment = segment.parent


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
