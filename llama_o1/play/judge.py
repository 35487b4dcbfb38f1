"""What a conclusion is worth, as someone says who may know: during a search, or once it is over.

The gold answer is not here: a judge is a function that was closed over it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tree.actions import MetaAction, allowed
from tree.node import Node, Tree


class Grade(NamedTuple):
    """What a judge says of a concluding text."""

    answer: str | None  # canonical declared answer; None: none was declared
    outcome: float | None  # 1 right, 0 wrong; None: nobody may know


Judge = Callable[[str], Grade]


def strays(action: MetaAction, parent: Node) -> bool:
    """Whether the model drew a kind against the grammar, which ends the line without an answer."""
    choices = allowed(parent.action, thinking_left=parent.thinking_left)
    return action is not MetaAction.CONCLUDE and action not in choices


def grade(tree: Tree, judge: Judge) -> None:
    """Grade a finished tree whose search was to see no grades, as it would have been graded while it grew."""
    for node in tree.nodes[1:]:
        astray = strays(node.action, tree.nodes[node.parent])
        if astray or node.action is MetaAction.CONCLUDE:
            node.outcome = judge("" if astray else node.text).outcome
