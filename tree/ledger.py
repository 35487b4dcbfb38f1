"""What each kind of thought cost and what it brought."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tree.node import Tree

FAILED = "failed"  # the entry of requests that brought no thought


class Entry(NamedTuple):
    """All thoughts of one kind."""

    thoughts: int = 0  # that came in, merged ones each time
    tokens: int = 0  # forced ones included
    gained: float = 0.0  # sum over them of Q - Q(parent): how much likelier a right answer is after them

    def plus(self, other: Entry) -> Entry:
        """Both as one."""
        return Entry(self.thoughts + other.thoughts, self.tokens + other.tokens, self.gained + other.gained)


def ledger(tree: Tree) -> dict[str, Entry]:
    """By meta-action, in the order in which they first came in; failed requests have an entry of their own.

    Q is the mean of the outcomes and values found below a thought, so the gains of siblings, weighted by
    visits, come to about zero: what is above it was better than what else was tried there.
    """
    entries: dict[str, Entry] = {}
    for arrival in tree.arrivals:
        node = tree.nodes[arrival.node]
        if arrival.node < 0:
            name, gained = FAILED, 0.0
        else:
            name, gained = node.action.value, node.q - tree.nodes[node.parent].q
        entries[name] = entries.get(name, Entry()).plus(Entry(1, arrival.tokens, gained))
    return entries


def total(ledgers: Iterable[Mapping[str, Entry]]) -> dict[str, Entry]:
    """Several ledgers as one."""
    entries: dict[str, Entry] = {}
    for one in ledgers:
        for name, entry in one.items():
            entries[name] = entries.get(name, Entry()).plus(entry)
    return entries
