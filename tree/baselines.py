"""Methods without a tree, as the same generators over the same driver: independent lines of thought."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from tree.actions import ActionDraw, MetaAction
from tree.budget import Limits, request
from tree.interleave import Search, Worker, interleave
from tree.node import Node, Tree
from tree.search import backup, next_action


def lines(tree: Tree, num_lines: int, max_depth: int, limits: Limits, draw: ActionDraw) -> Search:
    """`num_lines` root-to-answer lines: 1 at temperature 0 is greedy, more are best-of-n or majority.

    Equal beginnings share nodes and counts; each line still samples every thought of its own. After the first
    one, a line is begun only when the budget pays it as many tokens as the longest line so far: lines that
    tokens cut short are no samples of the policy and would make best-of-n look worse than it is. A conclusion
    is held back for each, so every line concludes unless a request fails.
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
    waiting: deque[tuple[int, Node]] = field(default_factory=deque[tuple[int, Node]])  # nothing in flight
    owed: int = 0  # conclusions held back: one for each line begun, until it asks for it or ends
    running: dict[int, int] = field(default_factory=dict[int, int])  # tokens of lines that have not ended
    longest: int | None = None  # tokens of the longest line that has; None: none has

    def step(self) -> Worker | None:
        """The next thought of the line that waits longest, else of a new one; None: none can be paid now."""
        tree, limits, begun = self.tree, self.limits, len(self.waiting) > 0
        if not begun and not (self.fresh and self._pays_a_line()):
            return None
        ends = limits.ends(tree, self.fresh + self.owed + tree.root.pending)
        if ends and (tree.answered or not begun):
            return None
        line, end = self.waiting[0] if begun else (self.begun, tree.root)
        action = MetaAction.CONCLUDE if ends else next_action(tree, end, self.max_depth, self.draw)
        others = self.owed - 1 if begun else self.owed
        if action is not MetaAction.CONCLUDE and not self._pays(others, limits.thought, 1):
            if tree.root.pending or (not begun and tree.nodes[1:]):
                return None  # what is in flight may give back tokens; a new line needs a thought of its own
            action = MetaAction.CONCLUDE
        if not self._pays(others, 0, 0):
            return None
        if begun:
            self.waiting.popleft()
        else:
            self.fresh, self.begun = self.fresh - 1, self.begun + 1
            self.running[line] = 0
        self.owed = others if action is MetaAction.CONCLUDE else others + 1
        return self._think(line, end, action)

    def _pays(self, others: int, tokens: int, thoughts: int) -> bool:
        """Whether there is enough for so much, then a conclusion, beside the other lines' conclusions."""
        tokens += (others + 1) * self.limits.conclusion
        return self.limits.left(self.tree) >= tokens and self.limits.room(self.tree) > others + thoughts

    def _pays_a_line(self) -> bool:
        """Whether a new line would come to its own end, were it and those begun as long as the longest."""
        if self.longest is None:
            return not self.running
        begun = sum(max(self.longest - spent, self.limits.conclusion) for spent in self.running.values())
        return self.limits.left(self.tree) + self.tree.tokens_reserved >= begun + self.longest

    def _think(self, line: int, end: Node, action: MetaAction | None) -> Worker:
        made = yield from request(self.tree, end, action, self.limits, line)
        self.running[line] += self.tree.arrivals[-1].tokens
        if made is not None:
            backup(self.tree, made)
        if action is not MetaAction.CONCLUDE and made is not None and not made.terminal:
            self.waiting.append((line, made))
            return
        self.owed -= action is not MetaAction.CONCLUDE
        self.longest = max(self.longest or 0, self.running.pop(line))
