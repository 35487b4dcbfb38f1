"""Gumbel search: sequential halving at the root and policy improvement below, for few simulations.

Danihelka et al. 2022 (policy improvement by planning with Gumbel), over thoughts. There all actions of a
state are known with their logits; here actions are thoughts that a model writes. So the root's candidates
are `max_children` thoughts it wrote, their logits the log-priors, and below the root "one more thought"
stands as an action that was never tried: its prior is an even share, its value the completed Q.
"""

from __future__ import annotations

import math
from random import Random

from tree.actions import ActionDraw
from tree.budget import Limits, derive
from tree.interleave import Search, Worker, interleave
from tree.node import Node, Tree, priors
from tree.rank import virtual_q
from tree.scores import below_target, improved_policy, mixed_value, sigma
from tree.search import SearchSettings, conclude, simulate, tries_of


def gumbel(tree: Tree, settings: SearchSettings, limits: Limits, draw: ActionDraw) -> Search:
    """Write the root's candidates, then halve them as the budget goes; make sure of one answer."""

    def start() -> Worker | None:
        return simulate(tree, settings, limits, draw, select_gumbel(tree, settings, limits))

    yield from interleave(start, settings.concurrency)
    yield from conclude(tree, limits)


def select_gumbel(tree: Tree, settings: SearchSettings, limits: Limits) -> Node | None:
    """The node to widen: the root until it has its candidates, then below the candidate whose turn it is."""
    root = tree.root
    if not root.closed and _tries(tree, root) < settings.max_children:
        return root
    for candidate in candidates(tree, settings, limits):
        found = _descend(tree, settings, candidate)
        if found is not None:
            return found
    return None


def candidates(tree: Tree, settings: SearchSettings, limits: Limits) -> list[Node]:
    """The root's children in the order in which they are given simulations now.

    Sequential halving (Karnin et al. 2013): in each of log2(m) phases of equal length the better half of the
    phase before is visited evenly. The better half is by g + log prior + sigma(Q), g Gumbel noise of the
    candidate. The length is that of the budget, simulations or tokens, whichever is spent further. Those that
    were dropped come last: they have their turn when nothing better is left to search.
    """
    children = tree.below(tree.root)
    if not children:
        return []
    most = max(child.visits for child in children)
    logits = [math.log(prior) for prior in priors(children)]
    ranked = sorted(
        range(len(children)),
        key=lambda i: -(_noise(tree, children[i]) + logits[i] + sigma(children[i].q, most)),
    )
    spent = max(tree.simulations / settings.simulations, tree.tokens_used / max(1, limits.tokens))
    num_phases = max(1, math.ceil(math.log2(len(children))))
    kept = max(1, math.ceil(len(children) / 2 ** min(int(spent * num_phases), num_phases)))
    in_turn = sorted(ranked[:kept], key=lambda i: children[i].visits + children[i].pending)  # stable
    return [children[i] for i in (*in_turn, *ranked[kept:])]


def _descend(tree: Tree, settings: SearchSettings, start: Node) -> Node | None:
    """The node to widen at or below a candidate: each time the action furthest behind its share.

    Where everything below a node waits for replies, its next best action is tried.
    """
    stack = [(start, False)]
    while stack:
        node, widens = stack.pop()
        if widens:
            return node
        if node.closed:
            continue
        children = tree.below(node)
        actions = [*((child, False) for child in children), (node, True)]
        scores = _scores(node, children)
        order = sorted(range(len(actions)), key=lambda i: (scores[i], -i))
        may_grow = _tries(tree, node) < settings.max_children
        stack += [actions[i] for i in order if may_grow or i < len(children)]
    return None


def _scores(node: Node, children: list[Node]) -> list[float]:
    """How far each child, and last one thought more, is behind its share of the visits."""
    share = 1 / (len(children) + 1)
    shares = [*(prior * (1 - share) for prior in priors(children)), share]
    visits = [*(child.visits + child.pending for child in children), 0]
    qs = [*(virtual_q(child, node) for child in children), 0.0]
    qs[-1] = mixed_value(node.q if node.value is None else node.value, shares, qs, visits)
    return below_target(improved_policy(shares, qs, max(visits)), visits)


def _tries(tree: Tree, node: Node) -> int:
    """Thoughts wanted below the node, those in flight included."""
    return tries_of(tree, node) + node.pending - sum(tree.nodes[i].pending for i in node.children)


def _noise(tree: Tree, candidate: Node) -> float:
    """Gumbel noise of a candidate, the same whenever it is looked at."""
    return -math.log(-math.log(Random(derive(tree.seed, candidate.local_id) + 1).random() or 5e-324))
