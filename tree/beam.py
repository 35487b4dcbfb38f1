"""Beams: several thoughts are tried below each of the best lines, and the best of them are gone on from."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from tree.actions import ActionDraw, MetaAction
from tree.budget import Limits, request
from tree.interleave import Search, Worker, interleave
from tree.node import Node, Tree
from tree.search import backup, conclude, next_action


def beam(
    tree: Tree, width: int, branch: int, max_depth: int, limits: Limits, draw: ActionDraw, subtrees: int = 1
) -> Search:
    """Step-level beam search: `width` lines (B1), each tried with `branch` next thoughts (B2).

    AlphaMath (Chen et al. 2024), section 3.4: the first step tries B1 * B2 thoughts, all are scored by the
    model's value, the best B1 go on, and a line that ended leaves the beam. Several `subtrees` of width
    1 are DVTS (Beeching et al. 2024): each keeps its own best thought, whatever the others found.

    A subtree is begun only when the budget pays it a first thought and a conclusion, which is held back for
    it: where tokens run out its best lines conclude. A conclusion that fell out of the beam stays in the
    tree as an answer, since it was paid for.
    """
    beams = _Beams(tree, limits, draw, max_depth)
    beams.all = [_Beam(beams, line, width, branch) for line in range(subtrees)]
    yield from interleave(beams.step, subtrees * width * branch)
    yield from conclude(tree, limits)


@dataclass(slots=True)
class _Beams:
    """The subtrees of one tree, and what they share."""

    tree: Tree
    limits: Limits
    draw: ActionDraw
    max_depth: int
    all: list[_Beam] = field(default_factory=list["_Beam"])
    owed: int = 0  # conclusions held back, one for each subtree begun that has no answer yet

    def step(self) -> Worker | None:
        """The next thought of the first subtree that can pay one; None: none can now."""
        still = sum(one.width * one.branch for one in self.all) * self.max_depth + self.tree.root.pending
        if self.limits.ends(self.tree, still):
            return None
        return next((worker for one in self.all if (worker := one.step()) is not None), None)

    def pays(self, others: int, tokens: int, thoughts: int) -> bool:
        """Whether there is enough for so much, then a conclusion, beside the others' conclusions."""
        tokens += (others + 1) * self.limits.conclusion
        return self.limits.left(self.tree) >= tokens and self.limits.room(self.tree) > others + thoughts


@dataclass(slots=True)
class _Beam:
    """One subtree: the lines it goes on with, and what was tried below them."""

    shared: _Beams
    line: int
    width: int  # lines that have not ended, B1
    branch: int  # thoughts tried below each, B2
    wanted: deque[Node] = field(
        default_factory=deque[Node]
    )  # to be continued once for each time it is in here
    found: dict[int, Node] = field(
        default_factory=dict[int, Node]
    )  # of this step, by index: equal thoughts once
    ends: list[Node] = field(default_factory=list[Node])
    in_flight: int = 0
    begun: bool = False
    owes: bool = False  # a conclusion is held back for it
    concludes: bool = False  # tokens ran out: its lines are asked for their conclusions

    def step(self) -> Worker | None:
        """Its next thought; None: it is over, or waits for replies or tokens."""
        if not self.begun and not self._begin():
            return None
        if not self.wanted and not self.in_flight:
            self._rank()
        if not self.wanted:
            return None
        shared, node = self.shared, self.wanted[0]
        action = next_action(shared.tree, node, shared.max_depth, shared.draw)
        action = MetaAction.CONCLUDE if self.concludes else action
        others = shared.owed - self.owes
        if action is not MetaAction.CONCLUDE and not shared.pays(others, shared.limits.thought, 1):
            if shared.tree.root.pending:
                return None  # what is in flight may give back tokens
            self._run_short()
            return self.step()
        if not shared.pays(others, 0, 0):
            if not shared.tree.root.pending:
                self.wanted.clear()
            return None
        self.wanted.popleft()
        if action is MetaAction.CONCLUDE:
            self._owe(owes=False)
        self.in_flight += 1
        return self._think(node, action)

    def _think(self, node: Node, action: MetaAction | None) -> Worker:
        try:
            made = yield from request(self.shared.tree, node, action, self.shared.limits, self.line)
        finally:
            self.in_flight -= 1
        if made is not None:
            backup(self.shared.tree, made)
            self.found[made.index] = made
            if made.answer is not None:
                self._owe(owes=False)

    def _begin(self) -> bool:
        """Whether the first step could be begun."""
        shared = self.shared
        first = shared.tree.next_id == 1
        if not first and not shared.pays(shared.owed, self.branch * shared.limits.thought, self.branch):
            return False
        self.begun, self.ends = True, [shared.tree.root]
        self.wanted.extend([shared.tree.root] * (self.width * self.branch))
        self._owe(owes=True)
        return True

    def _rank(self) -> None:
        """Go on with the best of what was found; lines that ended leave the beam."""
        best = self._best(self.found.values())
        self.found = {}
        self.width -= sum(node.terminal for node in best)
        self.ends = [node for node in best if not node.terminal]
        if self.concludes or not self.ends:
            self.ends = []
            self._owe(owes=False)
            return
        self.wanted.extend(node for node in self.ends for _ in range(self.branch))

    def _run_short(self) -> None:
        """Ask the best lines for their conclusions: no further thought can be paid."""
        lines = self._best(self.found.values()) or self.ends
        self.concludes, self.found = True, {}
        self.wanted = deque(node for node in lines if not node.terminal)

    def _best(self, nodes: Iterable[Node]) -> list[Node]:
        return sorted(nodes, key=lambda node: -(node.value or 0.0))[: self.width]  # the earlier of equals

    def _owe(self, *, owes: bool) -> None:
        self.shared.owed += owes - self.owes
        self.owes = owes
