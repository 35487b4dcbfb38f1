"""Purse: the tokens of all problems that are searched together, given out in the order of the problems."""

from __future__ import annotations


class Purse:
    """What is left for trees that are not begun; what a tree leaves of its share comes back.

    A tree is given as much as it would be given if all before it had ended first. So it may have to wait for
    them, and no order in which trees end changes what anyone gets.
    """

    def __init__(self, tokens: int | None) -> None:
        """None: there is no limit."""
        self._left = tokens

    def take(self, wanted: int, *, idle: bool) -> int | None:
        """As much as was wanted or is left; None: wait for a tree to end. `idle`: none is being searched."""
        if self._left is None:
            return wanted
        if self._left < wanted and not idle:
            return None
        share = min(wanted, self._left)
        self._left -= share
        return share

    def give_back(self, tokens: int) -> None:
        """Take back what a tree that ended did not spend of its share."""
        if self._left is not None:
            self._left += tokens
