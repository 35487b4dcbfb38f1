"""Methods without a tree, as the same generators over the same driver: independent lines of thought."""

from __future__ import annotations

from random import Random

from tree.actions import ActionDraw, allowed
from tree.budget import Limits, derive, request
from tree.interleave import Search, Worker, interleave
from tree.node import Tree
from tree.search import backup


def lines(tree: Tree, num_lines: int, max_depth: int, limits: Limits, draw: ActionDraw) -> Search:
    """`num_lines` root-to-answer lines: 1 at temperature 0 is greedy, more are best-of-n or majority.

    Equal beginnings share nodes and counts; each line still samples every thought of its own.
    """
    started = 0

    def start() -> Worker | None:
        nonlocal started
        started += 1
        return line(tree, max_depth, limits, draw) if started <= num_lines else None

    yield from interleave(start, num_lines)


def line(tree: Tree, max_depth: int, limits: Limits, draw: ActionDraw) -> Worker:
    """One line of thought from the root until it concludes, fails or the budget ends it."""
    node = tree.root
    while not node.terminal and node.depth < max_depth:
        thinking_left = 0 if node.depth + 1 >= max_depth else node.thinking_left
        choices = allowed(node.action, thinking_left=thinking_left)
        if not limits.affords(tree, None):
            choices = allowed(node.action, thinking_left=0)
        action = draw(node.action, choices, Random(derive(tree.seed, -tree.next_id)))
        if not limits.affords(tree, action):
            return
        made = yield from request(tree, node, action, limits)
        if made is None:
            return
        backup(tree, made)
        node = made
