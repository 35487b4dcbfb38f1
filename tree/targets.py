"""What a finished, graded tree teaches: a value target and an advantage for every thought."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from tree.node import Node, Tree

AdvantageMode = Literal["relative", "tree", "gae", "siblings", "group", "right"]


class Target(NamedTuple):
    """What one thought should have been worth, and how much better it was than expected."""

    value: float  # in [0, 1]
    advantage: float


def targets(
    tree: Tree,
    *,
    mode: AdvantageMode = "tree",
    mix: float = 0.5,
    discount: float = 1.0,
    trace: float = 0.95,
    by_deviation: bool = False,
) -> list[Target | None]:
    """One target a node, None at the root.

    value: mean grade of the graded leaves below (merged ones counted each time), mixed with Q at
    weight `mix`; Q alone where no leaf below is graded. The model's value bootstraps unfinished
    leaves through Q; they are never counted as failures.

    advantage, `relative`: value target of the node less that of its parent, both as the tree found
    them, so that a value head that is off cannot push all thoughts the same way; its visit-weighted
    mean over siblings is close to zero. `tree`: Q(node) - V(parent). `gae` (Schulman et al. 2016,
    eq. 16, here over a tree): delta = r + discount * V(node) - V(parent), r the grade of a terminal
    (after which V is 0), plus discount * trace times the children's mean advantage, weighted by
    visits. V(root), which has no rating, is Q(root). `siblings` (group normalisation, Shao et al. 2024,
    DeepSeekMath, section 4.1.2, with a node's children for the group): value target less the siblings' mean,
    over their standard deviation, merged thoughts counted each time; 0 where all siblings are worth the same.
    `group` (Shao et al. 2024 over independent lines; without a deviation Liu et al. 2025, Understanding
    R1-Zero-like training, section 3.2): the sum, over the answers at or below the node, of grade less the
    tree's mean grade, a merged answer counted each time; `by_deviation` divides by the grades' standard
    deviation. Lines that begin alike share thoughts, so a sum over them is what each line of its own would
    teach; lines without a grade are left out. `right`: the number of right answers at or below the node.
    """
    graded = _grades(tree)
    values = [
        node.q if not count else min(1.0, mix * node.q + (1 - mix) * total / count)  # rounding goes past 1
        for node, (count, total) in zip(tree.nodes, graded, strict=True)
    ]
    if mode == "relative":
        advantages = [0.0] + [values[node.index] - values[node.parent] for node in tree.nodes[1:]]
    elif mode == "siblings":
        advantages = _among_siblings(tree, values)
    elif mode == "group":
        advantages = _among_answers(graded, by_deviation=by_deviation)
    elif mode == "right":
        advantages = [total for _, total in graded]
    else:
        advantages = _tree_advantages(tree) if mode == "tree" else _gae(tree, discount, trace)
    return [None, *map(Target, values[1:], advantages[1:])]


def _grades(tree: Tree) -> list[tuple[int, float]]:
    """Number and sum of the grades at or below each node; children come after parents in the list."""
    counts = [0] * len(tree.nodes)
    sums = [0.0] * len(tree.nodes)
    for node in reversed(tree.nodes):
        if node.outcome is not None:
            counts[node.index] += node.count
            sums[node.index] += node.outcome * node.count
        if node.parent >= 0:
            counts[node.parent] += counts[node.index]
            sums[node.parent] += sums[node.index]
    return list(zip(counts, sums, strict=True))


def _baseline(node: Node) -> float:
    """What was expected at a node: the model's value; at the root, which has none, the mean found."""
    return node.q if node.value is None else node.value


def _tree_advantages(tree: Tree) -> list[float]:
    return [0.0] + [node.q - _baseline(tree.nodes[node.parent]) for node in tree.nodes[1:]]


def _among_siblings(tree: Tree, values: list[float]) -> list[float]:
    advantages = [0.0] * len(tree.nodes)
    for parent in tree.nodes:
        children = [tree.nodes[i] for i in parent.children]
        total = sum(child.count for child in children)
        mean = sum(child.count * values[child.index] for child in children) / max(1, total)
        squares = sum(child.count * (values[child.index] - mean) ** 2 for child in children)
        deviation = math.sqrt(squares / max(1, total))
        for child in children:
            # Below a millionth a difference is rounding, which must not be blown up to 1.
            advantages[child.index] = (values[child.index] - mean) / deviation if deviation > 1e-6 else 0.0
    return advantages


def _among_answers(graded: list[tuple[int, float]], *, by_deviation: bool) -> list[float]:
    """Advantages of `group`; grades are 0 or 1, so their deviation follows from their mean."""
    answers, right = graded[0]
    mean = right / max(1, answers)
    deviation = math.sqrt(mean * (1 - mean)) if by_deviation else 1.0
    if not 0 < mean < 1:
        return [0.0] * len(graded)
    # Over whole numbers, so that what is as good as the mean gets exactly 0.
    return [(total * answers - count * right) / answers / deviation for count, total in graded]


def _gae(tree: Tree, discount: float, trace: float) -> list[float]:
    advantages = [0.0] * len(tree.nodes)
    for node in reversed(tree.nodes[1:]):
        worth = node.evaluation if node.terminal else discount * _baseline(node)
        assert worth is not None, "only the root has no evaluation"
        below = [tree.nodes[i] for i in node.children]
        visits = sum(child.visits for child in below)
        later = sum(child.visits * advantages[child.index] for child in below) / visits if visits else 0.0
        advantages[node.index] = worth - _baseline(tree.nodes[node.parent]) + discount * trace * later
    return advantages
