"""What critic and refine came to: answers that are right after them and were wrong, and the opposite."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from tree.actions import MetaAction
from tree.node import Node, Tree


class Repairs(NamedTuple):
    """Critics that a refine followed, and what became of the answers."""

    pairs: int = 0
    compared: int = 0  # those with answers on both sides: with the pair, and on from what was criticised
    fixed: float = 0.0
    broken: float = 0.0

    def plus(self, other: Repairs) -> Repairs:
        """Both as one."""
        return Repairs(
            self.pairs + other.pairs,
            self.compared + other.compared,
            self.fixed + other.fixed,
            self.broken + other.broken,
        )


NO_REPAIRS = Repairs()


def repairs(tree: Tree, is_right: Callable[[Node], bool]) -> Repairs:
    """Counts over all refines of a tree; `is_right` grades a thought that ended a line.

    Compared are the lines below the refine with those that went on from the criticised thought without its
    critic; where a conclusion was criticised, with itself. `fixed` adds up the chance that of one line drawn
    from each side the one without the pair is wrong and the one with it right; `broken` the opposite. Where
    each side has one line these are counts.
    """
    whole = NO_REPAIRS
    for refine in tree.nodes:
        if refine.action is MetaAction.REFINE:
            critic = tree.nodes[refine.parent]
            criticised = tree.nodes[critic.parent]
            with_pair = _share(_lines(tree, refine), is_right)
            without = _share(_without(tree, criticised, critic), is_right)
            whole = whole.plus(_pair(without, with_pair))
    return whole


def total(found: Iterable[Repairs]) -> Repairs:
    """Those of several trees as one."""
    whole = NO_REPAIRS
    for one in found:
        whole = whole.plus(one)
    return whole


def _pair(without: float | None, with_pair: float | None) -> Repairs:
    if without is None or with_pair is None:
        return Repairs(pairs=1)
    return Repairs(1, 1, (1 - without) * with_pair, without * (1 - with_pair))


def _without(tree: Tree, criticised: Node, critic: Node) -> list[Node]:
    if criticised.action is MetaAction.CONCLUDE:
        return [criticised]
    return [end for end in _lines(tree, criticised) if critic.index not in tree.path(end.index)]


def _lines(tree: Tree, node: Node) -> list[Node]:
    """Thoughts at or below the node that ended a line or declared an answer."""
    stack, found = [node], list[Node]()
    while stack:
        here = stack.pop()
        if here.terminal or here.answer is not None:
            found.append(here)
        stack += tree.below(here)
    return found


def _share(ends: list[Node], is_right: Callable[[Node], bool]) -> float | None:
    """Share of right ones, merged ones counted each time; None where there are none."""
    count = sum(end.count for end in ends)
    return sum(end.count for end in ends if is_right(end)) / count if count else None
