"""Records of a search tree: nodes in one list, linked by index, parents before children.

Holds statistics and text only. Must not know tokens, torch, clocks or the gold answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tree.actions import MetaAction


class Ask(NamedTuple):
    """One thought that a search wants: filled by the search, read by whoever continues text."""

    parent: int  # index of the node to continue
    action: MetaAction | None  # None: the model draws the kind itself
    local_id: int  # id reserved for the thought; the prompt shows it
    max_tokens: int  # tokens reserved for the thought; the reply never spends more
    seed: int  # of this thought alone, so batches and order cannot change it
    line: int = 0  # which of several independent lines or subtrees wants it; 0 where there is one
    likeliest: bool = False  # wants the likeliest continuation and not a sample
    # Index of a conclusion that the one at `parent` is compared with (pairwise.py): the reply's value is then
    # the probability that `parent` is the better. None: a thought is wanted.
    against: int | None = None


class Arrival(NamedTuple):
    """One request that came back, in the order replies are handed on: what it cost and what it made."""

    node: int  # index of the thought, an old one where it was merged; -1: the request failed
    tokens: int  # spent on it
    line: int = 0  # as its ask's


@dataclass(frozen=True, slots=True)
class Told:
    """One thought that came back: filled by the model's side, read by the search."""

    action: MetaAction
    text: str
    logprob: float  # mean log-prob of the sampled tokens, at most 0
    value: float  # P(this line ends in a right answer), the model's own word, in [0, 1]
    tokens: int  # tokens the thought spent, forced ones included
    thinking_left: int  # tokens this path may still think; 0: only a conclusion is left
    terminal: bool = False  # nothing may follow
    answer: str | None = None  # canonical declared answer; None: none was declared
    outcome: float | None = None  # graded: 1 right, 0 wrong; None: not graded
    entropy: float | None = None  # mean over sampled tokens, nats; None: the engine gives none
    varentropy: float | None = None  # mean over sampled tokens, nats squared
    sampled: int = 0  # tokens that the policy drew
    payload: object = None  # whatever the sender hangs on the node; never read here


class Failed(NamedTuple):
    """A request that brought no thought, filled by the model's side."""

    tokens: int = 0  # spent all the same, at most what was reserved
    reason: str = ""


Reply = Told | Failed | None  # what comes back for an ask; None: it failed, at no cost and without a word


@dataclass(slots=True)
class Node:
    """One thought and what the search knows of it."""

    index: int
    local_id: int
    parent: int  # index of the parent; -1 at the root
    depth: int
    action: MetaAction
    text: str
    value: float | None = None  # the model's own value; None at the root, which has no rating
    outcome: float | None = None  # graded answer; None: not graded
    answer: str | None = None
    terminal: bool = False
    thinking_left: int = 0
    tokens: int = 0
    logprob: float = 0.0
    line_logprob: float = 0.0  # of all tokens that were sampled from the root down to its end
    entropy: float | None = None
    varentropy: float | None = None
    count: int = 1  # equal thoughts merged into this node
    visits: int = 0
    value_sum: float = 0.0
    pending: int = 0  # requests in flight below this node
    failed: int = 0  # requests for a child that failed; each was a try to widen
    preference: float | None = None  # in [0, 1], from comparisons with others; None: there were none
    closed: bool = False  # nothing below is left to search
    children: list[int] = field(default_factory=list[int])
    payload: object = None

    @property
    def q(self) -> float:
        """Mean of the evaluations backed up through this node, W / N; 0.5 before the first."""
        return self.value_sum / self.visits if self.visits else 0.5

    @property
    def evaluation(self) -> float | None:
        """What this node itself is worth: its graded outcome, else the model's value."""
        return self.value if self.outcome is None else self.outcome


@dataclass(slots=True)
class Tree:
    """The nodes of one search, the root first, and what the search has spent."""

    question: str
    seed: int
    nodes: list[Node]
    next_id: int = 1  # local ids are reserved when a thought is asked for and never repeat
    tokens_used: int = 0
    tokens_reserved: int = 0  # of requests in flight
    simulations: int = 0
    answered: bool = False  # whether a line has declared an answer
    stopped: str | None = None  # why the search ended before its budget; None: it did not
    arrivals: list[Arrival] = field(default_factory=list[Arrival])
    events: list[str] = field(default_factory=list[str])  # what went wrong and was counted, in words

    @classmethod
    def of(cls, question: str, *, seed: int, thinking_left: int, payload: object = None) -> Tree:
        """A tree that holds its root only."""
        root = Node(0, 0, -1, 0, MetaAction.PROBLEM, question, thinking_left=thinking_left, payload=payload)
        return cls(question, seed, [root])

    @property
    def root(self) -> Node:
        """The problem itself."""
        return self.nodes[0]

    def path(self, index: int) -> list[int]:
        """Indices from the root to this node, both included."""
        out: list[int] = []
        while index >= 0:
            out.append(index)
            index = self.nodes[index].parent
        return out[::-1]

    def terminals(self) -> list[Node]:
        """Nodes nothing may follow, in the order they were made."""
        return [node for node in self.nodes if node.terminal]

    def add(self, ask: Ask, told: Told) -> Node:
        """Append the thought that answers `ask`, or count it again where an equal sibling stands."""
        parent = self.nodes[ask.parent]
        for index in parent.children:
            twin = self.nodes[index]
            if twin.action is told.action and twin.text == told.text:
                twin.count += 1
                self.arrivals.append(Arrival(twin.index, told.tokens, ask.line))
                return twin
        node = Node(
            index=len(self.nodes),
            local_id=ask.local_id,
            parent=parent.index,
            depth=parent.depth + 1,
            action=told.action,
            text=told.text,
            value=told.value,
            outcome=told.outcome,
            answer=told.answer,
            terminal=told.terminal,
            closed=told.terminal,
            thinking_left=told.thinking_left,
            tokens=told.tokens,
            logprob=told.logprob,
            line_logprob=parent.line_logprob + told.sampled * told.logprob,
            entropy=told.entropy,
            varentropy=told.varentropy,
            payload=told.payload,
        )
        self.nodes.append(node)
        self.answered = self.answered or node.answer is not None
        self.arrivals.append(Arrival(node.index, told.tokens, ask.line))
        parent.children.append(node.index)
        return node

    def add_failure(self, ask: Ask, failed: Failed) -> None:
        """Count a request that brought no thought, and what it cost."""
        if not 0 <= failed.tokens <= ask.max_tokens:
            raise ValueError(
                f"failed request {ask.local_id} took {failed.tokens} tokens, {ask.max_tokens} were reserved"
            )
        self.tokens_used += failed.tokens
        self.nodes[ask.parent].failed += 1
        self.arrivals.append(Arrival(-1, failed.tokens, ask.line))
        reason = f": {failed.reason}" if failed.reason else ""
        self.events.append(f"request for thought {ask.local_id} failed{reason}")

    def below(self, node: Node) -> list[Node]:
        """The node's children, in the order they were made."""
        return [self.nodes[i] for i in node.children]


def priors(siblings: Sequence[Node]) -> list[float]:
    """P(node | parent) of all children of a node: exp of the mean log-prob times the count, normalised."""
    weights = [node.count * math.exp(max(node.logprob, -50.0)) for node in siblings]
    total = sum(weights)
    return [weight / total for weight in weights]
