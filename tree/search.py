"""Monte-Carlo tree search over thoughts: select, expand, backup. One simulation is one generator.

PUCT (Silver et al. 2017), or another rank of siblings, with progressive widening (Coulom 2007; Couetoux
et al. 2011): a node is widened by one thought at a time while it has fewer than
ceil(widening * N ** power) of them, or while none of them holds what the node promised. A thought that
does is followed at once, so lines reach their conclusion within a budget of few thoughts. Unlike LLaMA-O1,
values are plain probabilities, Q = W / N, a thought is evaluated once when it is made, and terminals are
never expanded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from random import Random

from tree.actions import ActionDraw, MetaAction, allowed
from tree.budget import Limits, derive, request
from tree.interleave import Search, Worker, interleave
from tree.node import Node, Tree
from tree.rank import Rank, by_puct


@dataclass(frozen=True)
class SearchSettings:
    """Shape of a search; its token budget stands in `Limits`."""

    simulations: int = 64
    """Thoughts a tree may ask for."""
    exploration: float = 0.5
    """Weight c of the prior in PUCT; Q lies in [0, 1], so half of what suits values in [-1, 1]."""
    max_children: int = 4
    """Thoughts tried below one thought, equal ones included."""
    widening: float = 1.0
    """A thought with N visits has ceil(widening * N ** widening_power) children; more where none holds."""
    widening_power: float = 0.5
    """Exponent of the visits in progressive widening."""
    max_depth: int = 32
    """Thoughts on one path."""
    prune: bool = False
    """Dynamic pruning (LLaMA-O1): no more children once one came to more than the thought's own value."""
    whole_solutions: bool = False
    """Only the problem and conclusions get several children; what is begun is followed to its conclusion."""
    regrow: bool = False
    """Once everything is searched and budget is left, allow each thought as many children again."""
    follow: float = 0.5
    """Share of what was promised (its parent's value, or the tree's mean where that is more) that a thought
    must hold to be followed at once; a node without such a child may be widened again. 0: all hold."""
    likeliest_first: bool = False
    """The first thought below each thought is its likeliest continuation, and only later ones are sampled:
    a simulation that branched off goes on without noise. Not in self-play: they are no draws of a policy."""
    concurrency: int = 1
    """Simulations of one tree in flight."""

    def __post_init__(self) -> None:
        """Refuse settings that cannot search."""
        for name in ("simulations", "max_children", "max_depth", "concurrency"):
            if getattr(self, name) < 1:
                raise ValueError(f"search.{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.exploration < math.inf:
            raise ValueError(f"search.exploration must be at least 0, got {self.exploration}")
        if not 0 <= self.follow <= 1:
            raise ValueError(f"search.follow must be in [0, 1], got {self.follow}")
        if not 0 < self.widening < math.inf or not 0 <= self.widening_power <= 1:
            raise ValueError(
                "search.widening must be above 0 and search.widening_power in [0, 1], "
                f"got {self.widening} and {self.widening_power}"
            )


def mcts(
    tree: Tree, settings: SearchSettings, limits: Limits, draw: ActionDraw, rank: Rank = by_puct
) -> Search:
    """Simulate until simulations, tokens or the tree itself are spent, then make sure of one answer."""

    def start() -> Worker | None:
        return simulate(tree, shape, limits, draw, select(tree, shape, rank))

    shape = settings
    yield from interleave(start, settings.concurrency)
    while settings.regrow and tree.root.closed and tree.simulations < settings.simulations:
        shape = replace(shape, max_children=shape.max_children + settings.max_children)
        before = tree.root.visits
        reopen(tree, shape)
        yield from interleave(start, settings.concurrency)
        if tree.root.visits == before:
            break  # no thought could be paid, or none came
    yield from conclude(tree, limits)


def simulate(
    tree: Tree, settings: SearchSettings, limits: Limits, draw: ActionDraw, parent: Node | None
) -> Worker:
    """A thought below the selected node, and on below it while it holds what its parent promised.

    Ends at once when no node can be widened, or simulations or the budget afford no thought.
    """
    while parent is not None and tree.simulations + tree.root.pending < settings.simulations:
        action = next_action(tree, parent, settings.max_depth, draw)
        if limits.ends(tree, settings.simulations - tree.simulations) or not limits.affords(tree, action):
            return
        likeliest = settings.likeliest_first and not tries_of(tree, parent) and not parent.pending
        made = yield from request(tree, parent, action, limits, likeliest=likeliest)
        tree.simulations += 1
        if made is not None:
            backup(tree, made)
        close(tree, made or parent, settings)
        parent = made if made is not None and _is_followed(tree, made, settings) else None


def select(
    tree: Tree, settings: SearchSettings, rank: Rank = by_puct, start: Node | None = None
) -> Node | None:
    """The node to widen: down from the root (or `start`) to the first that may grow; None: none may now.

    Where everything below a node waits for replies, its next best sibling is tried.
    """
    stack = [start or tree.root]
    while stack:
        node = stack.pop()
        if node.closed:
            continue
        if may_widen(tree, node, settings):
            return node
        children = tree.below(node)
        scores = rank(tree, node, children, settings.exploration)
        order = sorted(range(len(children)), key=lambda i: (scores[i], -i))
        stack += [children[i] for i in order]
    return None


def backup(tree: Tree, node: Node) -> None:
    """Add the node's own evaluation to itself and to every ancestor, once."""
    value = node.evaluation
    assert value is not None, "only the root has no evaluation"
    for index in tree.path(node.index):
        tree.nodes[index].visits += 1
        tree.nodes[index].value_sum += value


def close(tree: Tree, node: Node, settings: SearchSettings) -> None:
    """Close the node and its ancestors as far as nothing below them is left to search."""
    for index in reversed(tree.path(node.index)):
        here = tree.nodes[index]
        if not here.terminal and not (
            _is_full(tree, here, settings) and all(tree.nodes[i].closed for i in here.children)
        ):
            return
        here.closed = True


def reopen(tree: Tree, settings: SearchSettings) -> None:
    """Open every thought again that may still have children under these settings, and those above it."""
    for node in reversed(tree.nodes):
        full = _is_full(tree, node, settings) and all(tree.nodes[i].closed for i in node.children)
        node.closed = node.terminal or full


def next_action(tree: Tree, parent: Node, max_depth: int, draw: ActionDraw) -> MetaAction | None:
    """The kind of the next thought below `parent`, a conclusion at `max_depth`; None: the model's choice."""
    thinking_left = 0 if parent.depth + 1 >= max_depth else parent.thinking_left
    rng = Random(derive(tree.seed, -tree.next_id))
    return draw(parent.action, allowed(parent.action, thinking_left=thinking_left), rng)


def conclude(tree: Tree, limits: Limits, attempts: int = 2) -> Search:
    """Ask for a conclusion at the end of the most visited line while the tree has no answer."""

    def start() -> Worker | None:
        nonlocal attempts
        attempts -= 1
        if attempts < 0 or tree.answered or not limits.affords(tree, MetaAction.CONCLUDE):
            return None
        return _conclusion(tree, limits)

    yield from interleave(start, 1)


def may_widen(tree: Tree, node: Node, settings: SearchSettings) -> bool:
    """Whether the node may get another thought below it now."""
    tries = tries_of(tree, node) + node.pending - sum(tree.nodes[i].pending for i in node.children)
    if tries >= _most_children(node, settings) or (settings.prune and _is_beaten(tree, node)):
        return False
    if not node.pending and not any(_holds(tree, tree.nodes[i], settings) for i in node.children):
        return True
    visits = max(1, node.visits + node.pending)
    return tries < math.ceil(settings.widening * math.pow(visits, settings.widening_power))


def tries_of(tree: Tree, node: Node) -> int:
    """Times a thought was wanted below the node, merged and failed ones too: repeats must come to an end."""
    return node.failed + sum(tree.nodes[i].count for i in node.children)


def _conclusion(tree: Tree, limits: Limits) -> Worker:
    node = tree.root
    while children := [child for child in tree.below(node) if _goes_on(child)]:
        node = max(children, key=lambda child: (child.visits, child.q))
    made = yield from request(tree, node, MetaAction.CONCLUDE, limits)
    if made is not None:
        backup(tree, made)
        made.closed = True  # the search is over


def _goes_on(node: Node) -> bool:
    return not node.terminal and node.action is not MetaAction.CONCLUDE


def _is_followed(tree: Tree, made: Node, settings: SearchSettings) -> bool:
    """Whether a simulation goes on below the thought it made."""
    if made.closed or (settings.whole_solutions and made.action is MetaAction.CONCLUDE):
        return False
    return (settings.whole_solutions or _holds(tree, made, settings)) and may_widen(tree, made, settings)


def _is_full(tree: Tree, node: Node, settings: SearchSettings) -> bool:
    most = _most_children(node, settings)
    return tries_of(tree, node) >= most or (settings.prune and _is_beaten(tree, node))


def _most_children(node: Node, settings: SearchSettings) -> int:
    """Thoughts tried below the node; one below a thought inside of a solution that is kept whole."""
    if node.depth >= settings.max_depth:
        return 0  # a conclusion that could be revised
    inside = settings.whole_solutions and node.action not in (MetaAction.PROBLEM, MetaAction.CONCLUDE)
    return 1 if inside else settings.max_children


def _is_beaten(tree: Tree, node: Node) -> bool:
    """Whether a child came to more than the node's own value; the problem has none."""
    return node.value is not None and any(tree.nodes[i].q > node.value for i in node.children)


def _holds(tree: Tree, node: Node, settings: SearchSettings) -> bool:
    """Whether an open thought came to what its parent promised, or to its share of it."""
    parent = tree.nodes[node.parent]
    promised = max(tree.root.q, 0.0 if parent.evaluation is None else parent.evaluation)
    return not node.closed and node.q >= settings.follow * promised
