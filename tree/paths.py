"""Root-to-answer paths of finished, graded trees, and which of them a round of self-training learns from."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from tree.node import Tree


class Path(NamedTuple):
    """The thoughts of one graded answer, and what each was worth to the search."""

    tree: int  # which of its problem's trees it is in
    nodes: tuple[int, ...]  # indices from the first thought to the answer; the root is left out
    right: bool
    qs: tuple[float, ...]  # Q of each thought, in [0, 1]; of the last exactly 1 or 0


def paths(tree: Tree, number: int = 0) -> list[Path]:
    """One path for each graded answer, in the order they were made.

    As AlphaMath (Chen et al. 2024): a step is worth its Q in the tree, which is what its value should have
    been; the last step is worth its grade. Lines that ended without a grade are no paths.
    """
    found = []
    for node in tree.nodes[1:]:
        if node.outcome is None:
            continue
        right = node.outcome >= 0.5
        way = tuple(tree.path(node.index)[1:])
        qs = (*(tree.nodes[i].q for i in way[:-1]), float(right))
        found.append(Path(number, way, right, qs))
    return found


def choose(trees: Sequence[Tree], most_right: int, most_wrong: int, rng: Random) -> list[Path]:
    """At most so many right and so many wrong paths of one problem's trees, right ones first, no two alike.

    Alike are paths of the same kinds and texts, also in different trees; the first stays. Where there are
    more than wanted, they are drawn evenly; AlphaMath prefers those whose code ran.
    """
    known: set[tuple[tuple[str, str], ...]] = set()
    sides: dict[bool, list[Path]] = {True: [], False: []}
    for number, tree in enumerate(trees):
        for path in paths(tree, number):
            told = tuple((str(tree.nodes[i].action), tree.nodes[i].text) for i in path.nodes)
            if told not in known:
                known.add(told)
                sides[path.right].append(path)
    return [
        path
        for right, most in ((True, most_right), (False, most_wrong))
        for path in _drawn(sides[right], most, rng)
    ]


def _drawn(found: list[Path], most: int, rng: Random) -> list[Path]:
    """At most so many of them, in their order."""
    if len(found) <= most:
        return found
    return [found[i] for i in sorted(rng.sample(range(len(found)), most))]
