"""Comparisons of whole solutions beside thoughts: a writer that also asks which of two is better."""

from __future__ import annotations

from llama_o1.engine.protocol import Reply, Request
from llama_o1.errors import ConfigError
from llama_o1.format.compare import SEPARATOR, comparison
from llama_o1.play.expand import Expander
from llama_o1.play.judge import Judge
from llama_o1.play.writer import Writer
from tree.budget import Limits
from tree.node import Ask, Failed, Node, Told, Tree
from tree.pairwise import solution


class Comparing:
    """A writer of thoughts whose model also compares: a forward pass for each order of two solutions.

    The engine is asked as for the value of a thought that is there already: no token is drawn, and the two
    ratings are read after the context.
    """

    def __init__(self, writer: Writer) -> None:
        """ConfigError where the writer has no ratings to answer by."""
        if not isinstance(writer, Expander):
            raise ConfigError(
                "search.answer pairwise compares by rating tokens, which lines of plain text lack; "
                "choose another answer, or another method than line"
            )
        self._writer = writer

    def affords(self, budget_tokens: int) -> bool:
        """As the writer of thoughts."""
        return self._writer.affords(budget_tokens)

    def limits(self, budget_tokens: int) -> Limits:
        """As the writer of thoughts."""
        return self._writer.limits(budget_tokens)

    def holds(self, question: str) -> bool:
        """As the writer of thoughts."""
        return self._writer.holds(question)

    def tree(self, question: str, seed: int) -> Tree:
        """As the writer of thoughts."""
        return self._writer.tree(question, seed)

    def request(self, tree: Tree, ask: Ask) -> Request:
        """The engine's request for a thought, or for the value of a comparison."""
        if ask.against is None:
            return self._writer.request(tree, ask)
        codec, special = self._writer.codec, self._writer.codec.special
        first, second = (_text(tree, tree.nodes[index]) for index in (ask.parent, ask.against))
        return Request(
            context=comparison(codec, tree.question, first, second, self._writer.max_context),
            max_tokens=0,
            seed=ask.seed,
            rating=(special.positive, special.negative),
            group=tree.question,
        )

    def told(self, tree: Tree, ask: Ask, reply: Reply, judge: Judge) -> Told | Failed:
        """The thought that came back, or a comparison, whose value is P(the first is better)."""
        if ask.against is None:
            return self._writer.told(tree, ask, reply, judge)
        value = reply.samples[0].value if reply.samples else None
        if value is None or not 0 <= value <= 1:
            return Failed(0, f"its comparison is {value}")
        assert ask.action is not None, "a comparison is asked of a critic"
        return Told(ask.action, "", 0.0, value, 0, 0)


def _text(tree: Tree, node: Node) -> str:
    return SEPARATOR.join(step.text for step in solution(tree, node))
