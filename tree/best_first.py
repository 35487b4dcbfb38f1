"""Best-first search: the most promising thought of the whole tree is continued, wherever it stands."""

from __future__ import annotations

from heapq import heappop, heappush

from tree.actions import ActionDraw, MetaAction
from tree.budget import Limits, request
from tree.interleave import Search, Worker, interleave
from tree.node import Node, Tree
from tree.search import SearchSettings, backup, close, conclude, next_action, tries_of


def best_first(tree: Tree, settings: SearchSettings, limits: Limits, draw: ActionDraw) -> Search:
    """Continue the open thought of the highest value, one thought at a time, until the budget is spent.

    Koh et al. 2024 (tree search for language model agents), section 3, over thoughts. There a state is
    expanded by all its children at once and leaves the frontier; here it stays until `max_children` thoughts
    were tried below it, so a child that is worth more is continued before its siblings are written.
    """
    frontier = _Frontier(tree, settings)

    def start() -> Worker | None:
        node = frontier.best()
        if node is None or tree.simulations + tree.root.pending >= settings.simulations:
            return None
        action = next_action(tree, node, settings.max_depth, draw)
        ends = limits.ends(tree, settings.simulations - tree.simulations)
        return None if ends or not limits.affords(tree, action) else think(node, action)

    def think(node: Node, action: MetaAction | None) -> Worker:
        made = yield from request(tree, node, action, limits)
        tree.simulations += 1
        if made is not None:
            backup(tree, made)
            frontier.add(made)
        frontier.add(node)
        close(tree, made or node, settings)

    yield from interleave(start, settings.concurrency)
    yield from conclude(tree, limits)


class _Frontier:
    """Thoughts that may be continued, the most valuable first, the earlier of equals."""

    def __init__(self, tree: Tree, settings: SearchSettings) -> None:
        self._tree, self._settings = tree, settings
        self._heap: list[tuple[float, int]] = []
        self.add(tree.root)

    def add(self, node: Node) -> None:
        """Offer a thought again: it is new, or what was in flight below it came in."""
        value = 1.0 if node.value is None else node.value
        heappush(self._heap, (-value, node.index))

    def best(self) -> Node | None:
        """The best thought that may be continued now; None: none may."""
        while self._heap:
            node = self._tree.nodes[self._heap[0][1]]
            if not node.closed and self._tries(node) < self._settings.max_children:
                return node
            heappop(self._heap)
        return None

    def _tries(self, node: Node) -> int:
        in_flight = node.pending - sum(self._tree.nodes[i].pending for i in node.children)
        return tries_of(self._tree, node) + in_flight
