"""What a search may spend, and how a thought's worst case is held back until it came in."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

from tree.actions import MetaAction
from tree.node import Ask, Failed, Node, Reply, Told, Tree

MAX_THOUGHTS = 9_999  # local ids of more digits may take more tokens than a thought has reserved


class Stop(Protocol):
    """A reason to end a search before its budget is spent."""

    def __call__(self, tree: Tree, limits: Limits, most: int) -> str | None:
        """Why it should end now, in a word or two; None: it should not.

        `most`: conclusions that could still come by the method's own counts, those in flight included.
        """
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Hard limits of one tree. `thought` and `conclusion` are the worst cases of one request."""

    tokens: int  # every token of every thought, forced ones included
    thought: int  # the most tokens a thought can take
    conclusion: int  # the most tokens a conclusion can take
    least: int = 1  # the fewest tokens a conclusion can take
    nodes: int | None = None  # thoughts in the tree; None: as many as there are local ids
    stops: tuple[Stop, ...] = ()  # asked before each thought

    def __post_init__(self) -> None:
        """Refuse limits under which nothing can be reserved."""
        for name, least in (("tokens", 0), ("thought", 1), ("conclusion", 1), ("least", 1), ("nodes", 1)):
            count = getattr(self, name)
            if count is not None and count < least:
                raise ValueError(f"limits.{name} must be at least {least}, got {count}")

    def left(self, tree: Tree) -> int:
        """Tokens neither spent nor reserved."""
        return self.tokens - tree.tokens_used - tree.tokens_reserved

    def affords(self, tree: Tree, action: MetaAction | None) -> bool:
        """Whether a thought can be asked for and one conclusion still be paid where there is no answer."""
        kept_back = action is not MetaAction.CONCLUDE and not tree.answered
        worst = self.conclusion if action is MetaAction.CONCLUDE else self.thought
        if self.left(tree) < worst + (self.conclusion if kept_back else 0):
            return False
        return self.room(tree) > kept_back

    def room(self, tree: Tree) -> int:
        """Thoughts that may still be asked for: what is in flight is a thought to be."""
        ids = MAX_THOUGHTS + 1 - tree.next_id
        nodes = ids if self.nodes is None else self.nodes + 1 - len(tree.nodes) - tree.root.pending
        return min(ids, nodes)

    def ends(self, tree: Tree, most: int) -> bool:
        """Whether no thought but a last conclusion is begun any more; notes in the tree why."""
        if tree.stopped is None and self.stops:
            tree.stopped = next((why for stop in self.stops if (why := stop(tree, self, most))), None)
        return tree.stopped is not None


def request(
    tree: Tree,
    parent: Node,
    action: MetaAction | None,
    limits: Limits,
    line: int = 0,
    *,
    likeliest: bool = False,
) -> Generator[Ask, Reply, Node | None]:
    """Ask for one thought below `parent`: the new (or merged) node, or None when the request failed.

    Reserves the worst case and marks the path as in flight; both are taken back whatever happens. ValueError
    for a thought that cannot be: the tree stays as it was.
    """
    worst = limits.conclusion if action is MetaAction.CONCLUDE else limits.thought
    local_id, tree.next_id = tree.next_id, tree.next_id + 1
    ask = Ask(parent.index, action, local_id, worst, derive(tree.seed, local_id), line, likeliest)
    path = [tree.nodes[i] for i in tree.path(parent.index)]
    for node in path:
        node.pending += 1
    tree.tokens_reserved += worst
    try:
        told = yield ask
    finally:
        tree.tokens_reserved -= worst
        for node in path:
            node.pending -= 1
    if isinstance(told, Told):
        _check(told, local_id, worst)
        tree.tokens_used += told.tokens
        return tree.add(ask, told)
    tree.add_failure(ask, Failed() if told is None else told)
    return None


def derive(seed: int, local_id: int) -> int:
    """A 63-bit seed for one thought of one tree; the same on every machine."""
    digest = hashlib.blake2b(f"{seed}/{local_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _check(told: Told, local_id: int, worst: int) -> None:
    if not 0 <= told.tokens <= worst:
        raise ValueError(f"thought {local_id} took {told.tokens} tokens, {worst} were reserved")
    for name in ("value", "outcome"):
        share = getattr(told, name)
        if share is not None and not 0 <= share <= 1:
            raise ValueError(f"thought {local_id} has {name} {share}, expected a number in [0, 1]")
    if not math.isfinite(told.logprob):
        raise ValueError(f"thought {local_id} has log-prob {told.logprob}, expected a finite number")
