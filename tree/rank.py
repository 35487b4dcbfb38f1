"""How the children of a node are ranked when a selection comes by: their statistics, turned into scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tree.node import Node, Tree, priors
from tree.scores import puct, relative, ucb

Rank = Callable[[Tree, Node, Sequence[Node], float], list[float]]  # tree, parent, its children, exploration

VARENTROPY_WEIGHT = 0.1  # as in LLaMA-O1


def by_puct(tree: Tree, parent: Node, children: Sequence[Node], exploration: float) -> list[float]:
    """PUCT of each child; a simulation in flight counts as a loss."""
    visited = parent.visits + parent.pending
    return [
        puct(virtual_q(child, parent), prior, visited, child.visits + child.pending, exploration)
        for child, prior in zip(children, priors(children), strict=True)
    ]


def by_ucb(tree: Tree, parent: Node, children: Sequence[Node], exploration: float) -> list[float]:
    """LLaMA-O1's UCB with entropy and varentropy; a simulation in flight counts as a loss."""
    visited = parent.visits + parent.pending
    entropies = relative([child.entropy for child in children])
    varentropies = relative([child.varentropy for child in children])
    total = sum(varentropies)
    return [
        ucb(
            virtual_q(child, parent),
            prior,
            visited,
            child.visits + child.pending,
            exploration,
            entropy,
            varentropy / total if total else 1 / len(children),
            VARENTROPY_WEIGHT,
        )
        for child, prior, entropy, varentropy in zip(
            children, priors(children), entropies, varentropies, strict=True
        )
    ]


def virtual_q(child: Node, parent: Node) -> float:
    """Q with each simulation in flight as a visit worth nothing; the parent's before the first."""
    visits = child.visits + child.pending
    return child.value_sum / visits if visits else parent.q
