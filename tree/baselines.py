"""Methods without a tree, as the same generators over the same driver: independent lines of thought."""

from __future__ import annotations

from dataclasses import dataclass, field

from tree.actions import ActionDraw, MetaAction
from tree.budget import Limits, request
from tree.interleave import Search, Worker, interleave
from tree.node import Node, Tree
from tree.search import backup, next_action


def lines(tree: Tree, num_lines: int, max_depth: int, limits: Limits, draw: ActionDraw) -> Search:
    """`num_lines` root-to-answer lines: 1 at temperature 0 is greedy, more are best-of-n or majority.

    Equal beginnings share nodes and counts; each line still samples every thought of its own. No line but one
    that would leave the tree without an answer concludes for want of tokens: a line cut short is no sample of
    the policy and would make best-of-n look worse than it is. So the first one runs alone, another is begun
    only when the budget pays it and those begun as much as the longest so far, tokens that get scarce go to
    the oldest, and one that meets the end of the budget all the same has no answer.
    """
    yield from interleave(_Lines(tree, max_depth, limits, draw, fresh=num_lines).step, num_lines)


@dataclass(slots=True)
class _Lines:
    """Where the lines of one tree stand; a worker makes one thought, so a line can wait for tokens."""

    tree: Tree
    max_depth: int
    limits: Limits
    draw: ActionDraw
    fresh: int  # lines not begun
    begun: int = 0
    waiting: dict[int, Node] = field(
        default_factory=dict[int, Node]
    )  # lines with nothing in flight: their ends
    running: dict[int, int] = field(default_factory=dict[int, int])  # tokens of lines that have not ended
    longest: int | None = None  # tokens of the longest line that has; None: none has
    need: int = 0  # the most that had to be left for a line, the worst case of its last thought included

    def step(self) -> Worker | None:
        """The next thought of the oldest line that waits, else of a new one; None: none can be paid now."""
        tree, limits, begins = self.tree, self.limits, not self.waiting
        if begins and not (self.fresh and self._pays_a_line()):
            return None
        ends = limits.ends(tree, self.fresh + len(self.running))
        if ends and (tree.answered or begins):
            return None
        line = self.begun if begins else min(self.waiting)
        end = tree.root if begins else self.waiting[line]
        action = MetaAction.CONCLUDE if ends else next_action(tree, end, self.max_depth, self.draw)
        if not limits.affords(tree, action):
            if tree.root.pending or tree.answered or (begins and tree.nodes[1:]):
                return None  # what is in flight may give back tokens; a new line needs a thought of its own
            action = MetaAction.CONCLUDE
            if not limits.affords(tree, action):
                return None
        if begins:
            self.fresh, self.begun = self.fresh - 1, self.begun + 1
            self.running[line] = 0
        else:
            del self.waiting[line]
        return self._think(line, end, action)

    def _pays_a_line(self) -> bool:
        """Whether a new line would come to its own end, were it and those begun as long as the longest."""
        if self.longest is None:
            return not self.running
        begun = sum(max(self.longest - spent, self.limits.conclusion) for spent in self.running.values())
        return self.limits.left(self.tree) + self.tree.tokens_reserved >= begun + self.need

    def _think(self, line: int, end: Node, action: MetaAction | None) -> Worker:
        concludes = action is MetaAction.CONCLUDE
        worst = self.limits.conclusion if concludes else self.limits.thought
        self.need = max(self.need, self.running[line] + worst)
        made = yield from request(self.tree, end, action, self.limits, line)
        self.running[line] += self.tree.arrivals[-1].tokens
        if made is not None:
            backup(self.tree, made)
        if made is None or made.terminal or concludes:
            self.longest = max(self.longest or 0, self.running.pop(line))
        else:
            self.waiting[line] = made
