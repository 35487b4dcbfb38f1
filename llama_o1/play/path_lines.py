"""Graded paths of finished trees become lines to learn from, token for token as they were drawn."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np

from llama_o1.format.path_line import IGNORE, PathLine
from llama_o1.play.expand import trail_of
from tree.node import Tree
from tree.paths import Path, choose


def chosen_lines(
    problem: str, trees: Sequence[Tree], most_right: int, most_wrong: int, rng: Random
) -> list[PathLine]:
    """Lines of at most so many right and wrong paths of one problem's trees, no two alike."""
    return [path_line(problem, trees[path.tree], path) for path in choose(trees, most_right, most_wrong, rng)]


def path_line(problem: str, tree: Tree, path: Path) -> PathLine:
    """The line of a path in its tree.

    As AlphaMath (Chen et al. 2024): labels on right paths only; values 2 Q - 1 at the last token of each
    step, of the last one exactly 1 or -1. Forced tokens have no label: the policy has no say in them.
    """
    leaf = trail_of(tree, path.nodes[-1])
    assert leaf.sample is not None, "only the root has no sample"
    ids = np.array([*leaf.context[: leaf.before], *leaf.sample.ids], np.int32)
    labels = np.full(ids.size, IGNORE, np.int32)
    values = np.full(ids.size, IGNORE, np.float32)
    for index, q in zip(path.nodes, path.qs, strict=True):
        trail = trail_of(tree, index)
        assert trail.sample is not None, "only the root has no sample"
        own = slice(trail.before, trail.before + trail.sample.ids.size)
        if path.right:
            labels[own] = np.where(trail.sample.sampled, trail.sample.ids, IGNORE)
        values[own.stop - 1] = 2 * q - 1
    return PathLine(problem, path.right, ids, labels, values)
