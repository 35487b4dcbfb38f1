"""Which answer a finished tree gives, and how sure it is. Grades are never looked at."""

from __future__ import annotations

from typing import Literal, NamedTuple

from tree.node import Node, Tree

Weighting = Literal["value", "count", "best"]


class Vote(NamedTuple):
    """The answer of a tree."""

    answer: str | None  # None: no line declared one
    confidence: float  # the answer's share of all weight, in [0, 1]
    leaf: int | None  # index of its best conclusion
    weights: dict[str, float]  # by answer, heaviest first


def vote(tree: Tree, weighting: Weighting = "value") -> Vote:
    """Sum (value, count) or take the greatest (best) weight of equal answers; ties go to the earlier.

    value: the model's own value times the count, as a value-weighted majority; count: plain majority
    (Wang et al. 2023, self-consistency); best: best-of-n by value.
    """
    weights: dict[str, float] = {}
    leaves: dict[str, Node] = {}
    for node in tree.terminals():
        if node.answer is None:
            continue
        weight = _weight(node, weighting)
        old = weights.get(node.answer, 0.0)
        weights[node.answer] = max(old, weight) if weighting == "best" else old + weight
        best = leaves.get(node.answer)
        if best is None or _value(node) > _value(best):
            leaves[node.answer] = node
    if not weights:
        return Vote(None, 0.0, None, {})
    ranked = dict(sorted(weights.items(), key=lambda item: -item[1]))
    answer = next(iter(ranked))
    total = sum(ranked.values())
    return Vote(answer, ranked[answer] / total if total else 0.0, leaves[answer].index, ranked)


def _weight(node: Node, weighting: Weighting) -> float:
    if weighting == "count":
        return float(node.count)
    return _value(node) * (1 if weighting == "best" else node.count)


def _value(node: Node) -> float:
    return 0.0 if node.value is None else node.value
