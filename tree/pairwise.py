"""Whole solutions of a tree are compared with each other, and each is worth what the comparisons say.

LLaMA-Berry's pairwise preference (section 3.3): every pair is asked for in both orders, so that a liking for
the first place cancels out: P(i better than j) = (p_ij + 1 - p_ji) / 2. The Enhanced Borda Count makes a rank
and a value of them (borda.py). Comparisons write no thought: they cost forward passes, no token of a budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tree.actions import MetaAction
from tree.borda import Standing, enhanced_borda
from tree.budget import derive
from tree.interleave import Search, Worker, interleave
from tree.node import Ask, Node, Told, Tree

EVEN = 0.5  # a comparison that failed says nothing


@dataclass(slots=True)
class Comparisons:
    """What is known of one tree's solutions: filled by `compare`, read by `standings`."""

    tree: Tree
    first_better: dict[tuple[int, int], float] = field(default_factory=dict[tuple[int, int], float])

    def compare(self, solutions: Sequence[Node]) -> Search:
        """Ask for every ordered pair of these that is not known, all at once."""
        missing = iter(
            [
                (i.index, j.index)
                for i in solutions
                for j in solutions
                if i is not j and (i.index, j.index) not in self.first_better
            ]
        )

        def start() -> Worker | None:
            pair = next(missing, None)
            return None if pair is None else self._ask(*pair)

        yield from interleave(start, max(1, len(solutions) * len(solutions)))

    def standings(self, solutions: Sequence[Node]) -> list[Standing]:
        """Where each of these stands among them."""
        table = [[self._preference(i.index, j.index) for j in solutions] for i in solutions]
        place = {solution.index: i for i, solution in enumerate(solutions)}
        children: list[list[int]] = [[] for _ in solutions]
        for i, solution in enumerate(solutions):
            before = written_from(self.tree, solution)
            if before is not None and before.index in place:
                children[place[before.index]].append(i)
        return enhanced_borda(table, children)

    def _ask(self, first: int, second: int) -> Worker:
        local_id = -1 - len(self.first_better)  # below the ids of thoughts, which prompts show
        self.first_better[first, second] = EVEN
        told = yield Ask(
            first, MetaAction.CRITIC, local_id, 0, derive(self.tree.seed, local_id), against=second
        )
        if isinstance(told, Told):
            self.first_better[first, second] = told.value

    def _preference(self, first: int, second: int) -> float:
        if first == second:
            return EVEN
        return (self.first_better[first, second] + 1.0 - self.first_better[second, first]) / 2.0


def ranked(search: Search, tree: Tree, most: int) -> Search:
    """The search, then comparisons of its solutions, at most `most` of them: the most valuable by the model.

    Sets the preference of every conclusion that was compared; equal solutions are compared once.
    """
    yield from search
    alike: dict[tuple[str, ...], list[Node]] = {}
    for node in tree.nodes:
        if node.answer is not None:
            alike.setdefault(tuple(step.text for step in solution(tree, node)), []).append(node)
    groups = sorted(alike.values(), key=lambda nodes: -max(_value(node) for node in nodes))[:most]
    firsts = [nodes[0] for nodes in groups]
    comparisons = Comparisons(tree)
    yield from comparisons.compare(firsts)
    for nodes, standing in zip(groups, comparisons.standings(firsts), strict=True):
        for node in nodes:
            node.preference = standing.value


def solution(tree: Tree, node: Node) -> list[Node]:
    """The thoughts of the whole solution that ends in this conclusion, in order.

    It begins below the problem, or after the criticism of the conclusion above that it was written anew from.
    """
    return list(_upwards(tree, node))[::-1]


def written_from(tree: Tree, node: Node) -> Node | None:
    """The conclusion that this solution was written anew from; None: it was written from the problem."""
    *_, first = _upwards(tree, node)
    above = tree.nodes[first.parent]
    return None if above.parent < 0 else tree.nodes[above.parent]


def _upwards(tree: Tree, node: Node) -> Iterator[Node]:
    yield node
    above = tree.nodes[node.parent]
    while above.parent >= 0 and not _criticises_a_solution(tree, above):
        yield above
        above = tree.nodes[above.parent]


def _criticises_a_solution(tree: Tree, node: Node) -> bool:
    return node.action is MetaAction.CRITIC and tree.nodes[node.parent].action is MetaAction.CONCLUDE


def _value(node: Node) -> float:
    return 0.0 if node.value is None else node.value
