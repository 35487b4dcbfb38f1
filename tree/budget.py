"""What a search may spend, and how a thought's worst case is held back until it came in."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from dataclasses import dataclass

from tree.actions import MetaAction
from tree.node import Ask, Node, Told, Tree


@dataclass(frozen=True, slots=True)
class Limits:
    """Hard limits of one tree. `thought` and `conclusion` are the worst cases of one request."""

    tokens: int  # every token of every thought, forced ones included
    thought: int  # the most tokens a thought can take
    conclusion: int  # the most tokens a conclusion can take

    def left(self, tree: Tree) -> int:
        """Tokens neither spent nor reserved."""
        return self.tokens - tree.tokens_used - tree.tokens_reserved

    def affords(self, tree: Tree, action: MetaAction | None) -> bool:
        """Whether a thought can be asked for and one conclusion still be paid where there is no answer."""
        kept_back = 0 if any(node.answer is not None for node in tree.nodes) else self.conclusion
        if action is MetaAction.CONCLUDE:
            return self.left(tree) >= self.conclusion
        return self.left(tree) >= self.thought + kept_back


def request(
    tree: Tree, parent: Node, action: MetaAction | None, limits: Limits, line: int = 0
) -> Generator[Ask, Told | None, Node | None]:
    """Ask for one thought below `parent`: the new (or merged) node, or None when the request failed.

    Reserves the worst case and marks the path as in flight; both are taken back whatever happens.
    """
    worst = limits.conclusion if action is MetaAction.CONCLUDE else limits.thought
    local_id, tree.next_id = tree.next_id, tree.next_id + 1
    ask = Ask(parent.index, action, local_id, worst, derive(tree.seed, local_id), line)
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
    if told is None:
        parent.failed += 1
        tree.events.append(f"request for thought {local_id} failed")
        return None
    if not 0 <= told.tokens <= worst:
        raise ValueError(f"thought {local_id} took {told.tokens} tokens, {worst} were reserved")
    tree.tokens_used += told.tokens
    return tree.add(ask, told)


def derive(seed: int, local_id: int) -> int:
    """A 63-bit seed for one thought of one tree; the same on every machine."""
    digest = hashlib.blake2b(f"{seed}/{local_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
