"""What a driver asks of those who write: thoughts (expand.py) or plain lines (line.py)."""

from __future__ import annotations

from typing import Protocol

from llama_o1.engine.protocol import Reply, Request
from llama_o1.play.judge import Judge
from tree.budget import Limits
from tree.node import Ask, Failed, Told, Tree


class Writer(Protocol):
    """One model and one way of writing."""

    def affords(self, budget_tokens: int) -> bool:
        """Whether a tree with this budget could be answered."""
        ...

    def limits(self, budget_tokens: int) -> Limits:
        """The hard limits of a tree with this budget; ConfigError when it is too small."""
        ...

    def holds(self, question: str) -> bool:
        """Whether the model's context has room for the question and what is to be written."""
        ...

    def tree(self, question: str, seed: int) -> Tree:
        """A tree that holds the question; ProblemError when the context cannot."""
        ...

    def request(self, tree: Tree, ask: Ask) -> Request:
        """The engine's request for one node."""
        ...

    def told(self, tree: Tree, ask: Ask, reply: Reply, judge: Judge) -> Told | Failed:
        """The node that came back."""
        ...
