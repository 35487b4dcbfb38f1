"""A line of plain text in place of thoughts: think, then answer, by delimiters that are settings.

BudgetThinker's two stages (section 3.2) and s1's budget forcing (section 3.1), for any model that thinks
between delimiters. A segment of thinking is a node of the tree, so a line is searched, drawn and graded as
everything else. At most `path_budget` tokens, and `overrun` more, are thought over all segments; then the end
of thinking and the beginning of an answer are forced, for which `max_answer` tokens are kept. Where the model
would stop before `min_thinking` tokens, or has not been told to wait `waits` times, the end it drew is
dropped and `wait` is appended. Control tokens stand where they stand on a path of thoughts.

s1 lets every continuation use the whole limit again; here all share one.

An end that is taken is forced anew in the context, in one spelling; the sample on record keeps the end as it
was drawn, for to end is what a policy learns to keep a budget by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llama_o1.engine.protocol import Reply, Request, Sample
from llama_o1.errors import ConfigError, EngineError, ProblemError
from llama_o1.format.budget import BudgetPlan
from llama_o1.format.encode import Codec
from llama_o1.format.line import answer_ids, prompt_ids
from llama_o1.play.expand import ThoughtSettings, Trail, mean, trail_of
from llama_o1.play.judge import Grade, Judge
from llama_o1.play.program import Calculator
from llama_o1.play.segment import Ending, SegmentProgram
from tree.actions import MetaAction
from tree.budget import Limits
from tree.node import Ask, Failed, Told, Tree

NO_RATING = 0.5  # the value of a segment: plain text has no rating to read


class LineWriter:
    """Turns asks into requests and replies into segments; used wherever an `Expander` is."""

    def __init__(self, codec: Codec, settings: ThoughtSettings, max_context: int) -> None:
        """ConfigError where a delimiter has no tokens or the wait would leave nothing to think."""
        self.codec = codec
        self.settings = settings
        self._max_context = max_context
        line = settings.line
        marks = codec.special.remaining if settings.show_budget else ()
        self._plan = BudgetPlan(settings.path_budget, marks, settings.marks)
        self._wait = tuple(codec.encode_template(line.wait))
        self._answer = answer_ids(line, codec)
        self._calculator = Calculator(codec) if settings.calculator else None
        self._think_end = Ending(codec, line.end)
        self._answer_end = Ending(codec, line.answer_end, line.answer)
        self._thought = settings.thinking_limit
        self._conclusion = len(self._answer) + settings.max_answer
        if len(self._wait) + 2 > settings.path_budget:
            raise ConfigError(
                f"thoughts.line.wait takes {len(self._wait)} tokens, path_budget is {settings.path_budget}; "
                "shorten it"
            )

    def affords(self, budget_tokens: int) -> bool:
        """Whether a line with this budget could think and answer."""
        return budget_tokens >= self._thought + self._conclusion

    def limits(self, budget_tokens: int) -> Limits:
        """The hard limits of a line; ConfigError when it cannot think for its path_budget and answer."""
        if not self.affords(budget_tokens):
            raise ConfigError(
                f"budget_tokens must be at least {self._thought + self._conclusion}, path_budget and the "
                f"longest answer, got {budget_tokens}; raise it or lower thoughts.path_budget"
            )
        return Limits(budget_tokens, self._thought, self._conclusion, 1)

    def holds(self, question: str) -> bool:
        """Whether the model's context has room for the question, the thinking and an answer."""
        return len(self._root(question)) + self._thought + self._conclusion <= self._max_context

    def tree(self, question: str, seed: int) -> Tree:
        """A tree that holds the prompt; ProblemError when the context cannot hold it and the whole line."""
        context = self._root(question)
        if len(context) + self._thought + self._conclusion > self._max_context:
            raise ProblemError(
                f"the prompt takes {len(context)} tokens, thinking and answer up to "
                f"{self._thought + self._conclusion}, the model holds {self._max_context}; shorten the "
                "problem, lower thoughts.path_budget or use a model with a longer context"
            )
        left = self._thought
        return Tree.of(question, seed=seed, thinking_left=left, payload=Trail(context, 0))

    def request(self, tree: Tree, ask: Ask) -> Request:
        """The engine's request for one segment."""
        trail = trail_of(tree, ask.parent)
        return Request(
            context=trail.context,
            max_tokens=ask.max_tokens,
            seed=ask.seed,
            program=self._program(tree, ask),
            temperature=self.settings.temperature,
            group=tree.question,
        )

    def told(self, tree: Tree, ask: Ask, reply: Reply, judge: Judge) -> Told | Failed:
        """The segment that came back, without the end that the model drew; Failed when the engine cut it."""
        if not reply.samples:
            return Failed(0, "no sample came back")
        sample, trail, program = reply.samples[0], trail_of(tree, ask.parent), self._program(tree, ask)
        ids = [int(i) for i in sample.ids]
        if len(ids) > ask.max_tokens:
            raise EngineError(
                f"the engine returned {len(ids)} tokens for a segment that was allowed {ask.max_tokens}; "
                "an engine that does not keep to max_tokens cannot be searched with"
            )
        if sample.stopped != "program":
            return Failed(len(ids), "cut by the engine")
        concludes = ask.action is MetaAction.CONCLUDE
        ended = program.ending.begins(ids[len(program.header) :])
        kept = ids if concludes or ended is None else ids[: len(program.header) + ended]
        spent = trail.spent if concludes else trail.spent + len(kept)
        left = 0 if concludes else self._left(tree, ask, spent, ended is not None)
        text = self._text(kept, concludes)
        grade = judge(text) if concludes else Grade(None, None)
        whole = _cut(sample, len(kept)) if left else sample
        return Told(
            action=MetaAction.CONCLUDE if concludes else MetaAction.EXPAND,
            text=text,
            logprob=mean(whole.logprobs, whole.sampled) or 0.0,
            value=NO_RATING,
            tokens=len(ids),
            thinking_left=left,
            terminal=concludes,
            answer=grade.answer,
            outcome=grade.outcome,
            entropy=mean(whole.entropy, whole.sampled),
            varentropy=mean(whole.varentropy, whole.sampled),
            sampled=int(whole.sampled.sum()),
            payload=Trail(
                (*trail.context, *kept), spent, len(trail.context), whole, reply.version,
                self.settings.temperature,
            ),
        )  # fmt: skip

    def _root(self, question: str) -> tuple[int, ...]:
        return prompt_ids(question, self.settings.line, self._plan, self.codec)

    def _program(self, tree: Tree, ask: Ask) -> SegmentProgram:
        if ask.action is MetaAction.CONCLUDE:
            cap = len(self._answer) + self.settings.max_answer
            return SegmentProgram(self._answer, cap, self._answer_end, None, 0)
        spent = trail_of(tree, ask.parent).spent
        header = self._wait if tree.nodes[ask.parent].depth else ()
        header = self._plan.weave(header, spent + 1)
        left = self._thought - spent
        return SegmentProgram(header, left, self._think_end, self._plan, spent, self._calculator)

    def _left(self, tree: Tree, ask: Ask, spent: int, ended: bool) -> int:
        """Thinking tokens the line has left; 0: it may stop, or must."""
        line, waited = self.settings.line, tree.nodes[ask.parent].depth
        left = self._thought - spent
        if not ended or (waited >= line.waits and spent >= line.min_thinking):
            return 0
        return left if left > len(self._wait) + 1 else 0

    def _text(self, ids: Sequence[int], concludes: bool) -> str:
        if not concludes:
            return self.codec.decode(ids).strip()
        own = list(ids[len(self._answer) :])
        end = self._answer_end.begins(own)
        written = self.codec.decode(own if end is None else own[:end])
        tail = self.settings.line.answer_end if end is not None else ""
        return f"{self.settings.line.answer.strip()}{written}{tail}"


def _cut(sample: Sample, length: int) -> Sample:
    """The first tokens of a sample."""
    first = slice(length)
    return replace(
        sample,
        ids=sample.ids[first],
        sampled=sample.sampled[first],
        logprobs=sample.logprobs[first],
        entropy=None if sample.entropy is None else sample.entropy[first],
        varentropy=None if sample.varentropy is None else sample.varentropy[first],
    )
