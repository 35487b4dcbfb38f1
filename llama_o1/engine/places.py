"""Which positions of a memory are free: ranges by length, so that one that fits is found without a search."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Range = tuple[int, int]  # [start, end) of the memory's positions

_STEP = 8  # positions by which lengths are told apart; a sequence is not put together from shorter ranges
_LONGEST = 16  # steps; longer ranges are not told apart


class Places:
    """Free ranges, none touching the next."""

    def __init__(self) -> None:
        self._ends: dict[int, int] = {}  # by start
        self._starts: dict[int, int] = {}  # by end
        self._alike: list[dict[int, None]] = [{} for _ in range(_LONGEST + 1)]  # starts, by steps of length

    def take(self, count: int, spare: int = 0, after: int = -1) -> list[Range]:
        """`count` positions and up to `spare` more; [] where there are not so many.

        Those from `after` on come first. The others are in one range where there is one: the shortest that
        holds all, else the longest.
        """
        taken: list[Range] = []
        if after in self._ends:
            taken.append(self._cut(after, count + spare))
            count -= taken[0][1] - after
        if count > 0:
            start = self._holding(count + spare)
            start = self._long(count) if start is None else start
            rest = self._put_together(count) if start is None else [self._cut(start, count + spare)]
            if not rest:
                self.give(taken)
                return []
            taken += rest
        return taken

    def take_whole(self, count: int) -> Range | None:
        """`count` positions in one range; None where there is none so long."""
        start = self._holding(count)
        return None if start is None else self._cut(start, count)

    def give(self, ranges: Iterable[Range]) -> None:
        """Let others have these positions."""
        for start, end in ranges:
            if end in self._ends:
                end = self._remove(end)
            if start in self._starts:
                start = self._starts[start]
                self._remove(start)
            self._add(start, end)

    def _holding(self, count: int) -> int | None:
        """Start of a range of at least `count`, hardly longer than it must be."""
        surely, perhaps = min(-(-count // _STEP), _LONGEST), min(count // _STEP, _LONGEST)
        for alike in (*self._alike[surely:], self._alike[perhaps]):
            for start in reversed(alike):
                if self._ends[start] - start >= count:
                    return start
        return None

    def _long(self, count: int) -> int | None:
        """Start of one of the longest ranges, if it is of at least `count`."""
        start = next((start for alike in reversed(self._alike) for start in reversed(alike)), None)
        return None if start is None or self._ends[start] - start < count else start

    def _put_together(self, count: int) -> list[Range]:
        """Positions from several ranges, long ones first; [] where there are not so many."""
        starts = [start for alike in reversed(self._alike[1:]) for start in alike]
        if sum(self._ends[start] - start for start in starts) < count:
            return []
        taken: list[Range] = []
        for start in starts:
            taken.append(self._cut(start, count))
            count -= taken[-1][1] - start
            if not count:
                break
        return taken

    def _cut(self, start: int, most: int) -> Range:
        """Take the first positions of a free range."""
        end = self._remove(start)
        middle = min(start + most, end)
        self._add(middle, end)
        return start, middle

    def _add(self, start: int, end: int) -> None:
        if end > start:
            self._ends[start], self._starts[end] = end, start
            self._alike[min((end - start) // _STEP, _LONGEST)][start] = None

    def _remove(self, start: int) -> int:
        """Forget a free range; its end."""
        end = self._ends.pop(start)
        del self._starts[end], self._alike[min((end - start) // _STEP, _LONGEST)][start]
        return end


def joined(ranges: Iterable[Range]) -> list[Range]:
    """The same positions in the same order, neighbours as one."""
    out: list[Range] = []
    for one in ranges:
        if out and out[-1][1] == one[0]:
            out[-1] = (out[-1][0], one[1])
        else:
            out.append(one)
    return out


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
