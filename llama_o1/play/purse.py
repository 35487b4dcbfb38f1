"""Purse: what all problems that are searched together may spend, given out in the order of the problems."""

from __future__ import annotations

from typing import NamedTuple


class Share(NamedTuple):
    """Amounts of what a search spends; None: there is no limit."""

    tokens: int | None = None
    nodes: int | None = None
    simulations: int | None = None

    def covers(self, wanted: Share) -> bool:
        """Whether this holds all that is wanted; where this is limited, so must be the wish."""
        return all(
            held is None or want is None or held >= want for held, want in zip(self, wanted, strict=True)
        )

    def spent_by(self, other: Share) -> Share:
        """What is left of this once the other is taken; less than nothing where that is more."""
        return Share(*(h if h is None or o is None else h - o for h, o in zip(self, other, strict=True)))

    def at_most(self, other: Share) -> Share:
        """The lesser of each amount."""
        return Share(*map(_lesser, self, other))


class Purse:
    """What is left for trees that are not begun; what a tree leaves of its share comes back.

    A tree is given as much as it would be given if all before it had ended first. So it may have to wait for
    them, and no order in which trees end changes what anyone gets.
    """

    def __init__(self, left: Share) -> None:
        """With all that there is."""
        self._left = left

    def take(self, wanted: Share, *, idle: bool) -> Share | None:
        """As much as was wanted or is left; None: wait for a tree to end. `idle`: none is being searched."""
        if not idle and not self._left.covers(wanted):
            return None
        share = wanted.at_most(self._left)
        self._left = self._left.spent_by(share)
        return share

    def give_back(self, share: Share, spent: Share) -> None:
        """Take back what a tree that ended did not spend of its share."""
        self._left = self._left.spent_by(spent.spent_by(share))


def _lesser(first: int | None, second: int | None) -> int | None:
    return first if second is None else second if first is None else min(first, second)
