"""What a finished, graded tree teaches: a value target and an advantage for every thought."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
    rewards: Mapping[int, float] | None = None,
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
    R1-Zero-like training, section 3.2): the mean grade of the answers at or below the node less that of all
    the tree's, a merged answer counted each time; `by_deviation` divides by the grades' standard deviation.
    Lines that begin alike share thoughts: such a thought, counted as often as it was drawn, teaches what the
    lines on their own would; lines without a grade are left out. `right`: the mean grade at or below.

    `rewards`: what graded nodes are worth to the policy, by index; None: their grades. They make advantages
    only, so that values stay probabilities of being right: `group` and `right` take them for the grades, and
    whatever a node is worth in the others, as a value or as a baseline, there counts in addition the mean of
    reward less grade below it, its parent's where no answer is.
    """
    graded, bonus = _grades(tree), _bonuses(tree, rewards)
    values = [
        node.q if not count else min(1.0, mix * node.q + (1 - mix) * total / count)  # rounding goes past 1
        for node, (count, total) in zip(tree.nodes, graded, strict=True)
    ]
    if mode == "relative":
        worth = _sums(values, bonus)
        advantages = [0.0] + [worth[node.index] - worth[node.parent] for node in tree.nodes[1:]]
    elif mode == "siblings":
        advantages = _among_siblings(tree, _sums(values, bonus))
    elif mode == "group":
        advantages = _among_answers(tree, rewards, by_deviation=by_deviation)
    elif mode == "right":
        advantages = [total / count if count else 0.0 for count, total in _grades(tree, rewards)]
    elif mode == "tree":
        advantages = _tree_advantages(tree, bonus)
    else:
        advantages = _gae(tree, discount, trace, bonus)
    return [None, *map(Target, values[1:], advantages[1:])]


def _grades(tree: Tree, rewards: Mapping[int, float] | None = None) -> list[tuple[int, float]]:
    """Number and sum of the grades, or rewards, at or below each node; children come after parents."""
    counts = [0] * len(tree.nodes)
    sums = [0.0] * len(tree.nodes)
    for node in reversed(tree.nodes):
        if node.outcome is not None:
            counts[node.index] += node.count
            sums[node.index] += (node.outcome if rewards is None else rewards[node.index]) * node.count
        if node.parent >= 0:
            counts[node.parent] += counts[node.index]
            sums[node.parent] += sums[node.index]
    return list(zip(counts, sums, strict=True))


def _bonuses(tree: Tree, rewards: Mapping[int, float] | None) -> list[float]:
    """Mean of reward less grade over the answers at or below each node; its parent's where there are none."""
    if rewards is None:
        return [0.0] * len(tree.nodes)
    bonuses: list[float] = []
    paid = _grades(tree, rewards)
    for node, (graded, total), (_, worth) in zip(tree.nodes, _grades(tree), paid, strict=True):
        above = bonuses[node.parent] if node.parent >= 0 else 0.0
        bonuses.append((worth - total) / graded if graded else above)
    return bonuses


def _sums(values: Sequence[float], bonus: Sequence[float]) -> list[float]:
    return [value + more for value, more in zip(values, bonus, strict=True)]


def _baseline(node: Node) -> float:
    """What was expected at a node: the model's value; at the root, which has none, the mean found."""
    return node.q if node.value is None else node.value


def _tree_advantages(tree: Tree, bonus: Sequence[float]) -> list[float]:
    return [0.0] + [
        node.q + bonus[node.index] - _baseline(tree.nodes[node.parent]) - bonus[node.parent]
        for node in tree.nodes[1:]
    ]


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


def _among_answers(tree: Tree, rewards: Mapping[int, float] | None, *, by_deviation: bool) -> list[float]:
    """Advantages of `group`."""
    paid = _grades(tree, rewards)
    answers, total = paid[0]
    mean = total / max(1, answers)
    squares = sum(
        node.count * ((node.outcome if rewards is None else rewards[node.index]) - mean) ** 2
        for node in tree.nodes
        if node.outcome is not None
    )
    deviation = math.sqrt(squares / max(1, answers))
    if deviation < 1e-6:  # rounding, which must not be blown up to 1
        return [0.0] * len(paid)
    scale = deviation if by_deviation else 1.0
    # Over whole numbers, so that what is as good as the mean gets exactly 0.
    return [
        (worth * answers - count * total) / (answers * count) / scale if count else 0.0
        for count, worth in paid
    ]


def _gae(tree: Tree, discount: float, trace: float, bonus: Sequence[float]) -> list[float]:
    advantages = [0.0] * len(tree.nodes)
    for node in reversed(tree.nodes[1:]):
        found = node.evaluation if node.terminal else _baseline(node)
        assert found is not None, "only the root has no evaluation"
        worth = (found + bonus[node.index]) * (1.0 if node.terminal else discount)
        expected = _baseline(tree.nodes[node.parent]) + bonus[node.parent]
        below = [tree.nodes[i] for i in node.children]
        visits = sum(child.visits for child in below)
        later = sum(child.visits * advantages[child.index] for child in below) / visits if visits else 0.0
        advantages[node.index] = worth - expected + discount * trace * later
    return advantages
