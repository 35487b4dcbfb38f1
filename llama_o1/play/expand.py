"""Where a tree's wish for a thought becomes an engine's request, and a reply becomes a thought.

The gold answer is not here: a judge that was closed over it says what a conclusion is worth.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from math import inf, isfinite

import numpy as np

from llama_o1.engine.protocol import Reply, Request, Sample
from llama_o1.errors import ConfigError, EngineError, ProblemError
from llama_o1.format.budget import BudgetPlan
from llama_o1.format.encode import Codec
from llama_o1.format.line import LineSettings
from llama_o1.format.marks import MarkSettings
from llama_o1.play.judge import Grade, Judge, strays
from llama_o1.play.program import Calculator, ThoughtProgram
from tree.actions import MetaAction
from tree.budget import Limits
from tree.node import Ask, Failed, Told, Tree

RATING_TOKENS = 2  # the rating and its end, appended when the value is known
NO_VALUE = 0.5  # of a thought whose value is not read
LEAST_THOUGHT = 2  # a token and `<end_of_thought>`


@dataclass(frozen=True)
class ThoughtSettings:
    """How thoughts are written: lengths in tokens, `<end_of_thought>` included."""

    path_budget: int = 256
    """Thinking tokens of one path; the model sees what remains."""
    overrun: float = 0.0
    """Share of path_budget that may be thought beyond it before the end is forced, at least two tokens
    (BudgetThinker: 0.02); 0: the budget is the limit."""
    max_text: int = 64
    """Of one thought."""
    max_answer: int = 32
    """Of one conclusion."""
    temperature: float = 1.0
    """Of sampling; log-probs on record are at it."""
    calculator: bool = False
    """Complete `<<48/2=` with the result."""
    show_budget: bool = True
    """Force `<remaining>` marks."""
    marks: MarkSettings = field(default_factory=MarkSettings)
    """Which; the model must have been made or taught with them."""
    show_ratings: bool = True
    """Write what the model says a thought is worth behind it; false: `<unknown_rating>`, so that the policy
    cannot hang on values that change as they are learned. The value is read all the same."""
    read_value: bool = True
    """Tell the search what the model says a thought is worth; false: 0.5 of each, the same text as ever."""
    hints: bool = False
    """Tell a model that was never cold-started what each kind of thought is."""
    line: LineSettings = field(default_factory=LineSettings)
    """How the method `line` writes, which has no thoughts."""

    def __post_init__(self) -> None:
        """Refuse lengths that leave no room for a thought."""
        BudgetPlan(self.path_budget, (), self.marks)
        for name in ("max_text", "max_answer"):
            if getattr(self, name) < LEAST_THOUGHT:
                raise ConfigError(
                    f"thoughts.{name} must be at least {LEAST_THOUGHT}, got {getattr(self, name)}"
                )
        if self.line.min_thinking > self.path_budget:
            raise ConfigError(
                f"thoughts.line.min_thinking must be at most path_budget, {self.path_budget}, "
                f"got {self.line.min_thinking}"
            )
        if not 0 <= self.overrun < inf:
            raise ConfigError(f"thoughts.overrun must be finite and at least 0, got {self.overrun}")
        if not 0 <= self.temperature < inf:
            raise ConfigError(f"thoughts.temperature must be finite and at least 0, got {self.temperature}")

    @property
    def thinking_limit(self) -> int:
        """Thinking tokens of a path after which its end is forced."""
        beyond = max(LEAST_THOUGHT, int(self.overrun * self.path_budget + 1e-9)) if self.overrun else 0
        return self.path_budget + beyond


@dataclass(frozen=True, slots=True)
class Trail:
    """The payload of a node: its exact tokens and the record of how they were drawn."""

    context: tuple[int, ...]  # root to this node, rating included: a child's context
    spent: int  # thinking tokens of the path, this node included
    before: int = 0  # length of the part of `context` that was given, not made by this thought
    sample: Sample | None = None  # None at the root
    version: int = -1  # of the weights that made it; -1 at the root
    temperature: float = 1.0


class Expander:
    """Turns asks into requests and replies into thoughts, for one model and one way of writing."""

    def __init__(
        self,
        codec: Codec,
        settings: ThoughtSettings,
        max_context: int,
        *,
        revises: bool = False,
        without: Collection[MetaAction] = (),
    ) -> None:
        """With `revises` a conclusion may be criticised and written anew, while its path may still think.

        Where the model draws the kind, a thought `without` allows is over with its tag, and has failed.
        """
        self.codec = codec
        self.settings = settings
        self.max_context = max_context
        self._revises = revises
        self._without = frozenset(without)
        tags = (codec.special.tags[kind] for kind in self._without)
        self._off = frozenset(tag for tag in tags if tag is not None)
        marks = codec.special.remaining if settings.show_budget else ()
        self._plan = BudgetPlan(settings.path_budget, marks, settings.marks)
        self._calculator = Calculator(codec) if settings.calculator else None
        around = 1 + RATING_TOKENS  # <start_of_rating> and the rating
        overhead = codec.max_header() + around
        self._least = len(codec.header(0, 1, None)) + 1 + around  # and <end_of_thought>
        self._thought = max(settings.max_text + 1, settings.max_answer) + overhead
        self._conclusion = settings.max_answer + overhead

    def with_(
        self,
        *,
        temperature: float | None = None,
        path_budget: int | None = None,
        revises: bool = False,
        without: Collection[MetaAction] = (),
    ) -> Expander:
        """The same, at another temperature or path budget, with conclusions that may be revised, or without
        some kinds.
        """
        settings = self.settings if temperature is None else replace(self.settings, temperature=temperature)
        settings = settings if path_budget is None else replace(settings, path_budget=path_budget)
        return Expander(self.codec, settings, self.max_context, revises=revises, without=without)

    def affords(self, budget_tokens: int) -> bool:
        """Whether a tree with this budget could pay one conclusion."""
        return budget_tokens >= self._conclusion

    def limits(self, budget_tokens: int) -> Limits:
        """The hard limits of a tree with this budget; ConfigError when it cannot pay one conclusion."""
        if not self.affords(budget_tokens):
            raise ConfigError(
                f"budget_tokens must be at least {self._conclusion}, the longest conclusion with its header, "
                f"got {budget_tokens}; raise it or lower thoughts.max_answer"
            )
        return Limits(budget_tokens, self._thought, self._conclusion, self._least)

    def holds(self, question: str) -> bool:
        """Whether the model's context has room for the question and an answer."""
        return len(self.codec.root(question)) + self._conclusion <= self.max_context

    def tree(self, question: str, seed: int) -> Tree:
        """A tree that holds the question; ProblemError when the context cannot hold it and an answer."""
        context = self.codec.root(question)
        if len(context) + self._conclusion > self.max_context:
            raise ProblemError(
                f"the problem takes {len(context)} tokens and an answer up to {self._conclusion}, the model "
                f"holds {self.max_context}; shorten the problem or use a model with a longer context"
            )
        left = self._thinking_left(len(context), 0)
        return Tree.of(question, seed=seed, thinking_left=left, payload=Trail(context, 0))

    def request(self, tree: Tree, ask: Ask) -> Request:
        """The engine's request for one thought."""
        special = self.codec.special
        parent = tree.nodes[ask.parent]
        trail = trail_of(tree, ask.parent)
        return Request(
            context=trail.context,
            max_tokens=ask.max_tokens - RATING_TOKENS,
            seed=ask.seed,
            program=self._program(parent.local_id, ask, trail.spent),
            temperature=0.0 if ask.likeliest else self.settings.temperature,
            rating=(special.positive, special.negative),
            group=tree.question,
        )

    def told(self, tree: Tree, ask: Ask, reply: Reply, judge: Judge) -> Told | Failed:
        """The thought that came back; Failed when the engine cut it before its rating or gave no number.

        A kind that the model drew against the grammar ends the line without an answer. EngineError when the
        engine wrote more than it was allowed, which no budget could bear.
        """
        failed = _failed(ask, reply)
        if failed is not None:
            return failed
        sample, trail, parent = reply.samples[0], trail_of(tree, ask.parent), tree.nodes[ask.parent]
        assert sample.value is not None, "a reply without a value has failed"
        drawn = np.flatnonzero(sample.sampled)
        logprob = mean(sample.logprobs, drawn) or 0.0
        if not 0 <= sample.value <= 1 or not isfinite(logprob):
            return Failed(len(sample.ids), f"its value is {sample.value}, its mean log-prob {logprob}")
        program = self._program(parent.local_id, ask, trail.spent)
        ids = sample.ids.tolist()
        action = self._action(program, ask, ids)
        if action in self._without:
            return Failed(len(ids), f"{action} is switched off")
        text = self.codec.thought_text(ids[len(program.header) :])
        concludes = action is MetaAction.CONCLUDE
        spent = trail.spent if concludes else trail.spent + program.text_tokens(ids)
        shown = sample.value if self.settings.show_ratings else None
        context = (*trail.context, *ids, *self.codec.rating(shown))
        astray = strays(action, parent)
        grade = judge("" if astray else text) if concludes or astray else Grade(None, None)
        thinking_left = self._thinking_left(len(context), spent)
        ends = concludes and not (self._revises and thinking_left)
        temperature = 0.0 if ask.likeliest else self.settings.temperature
        return Told(
            action=action,
            text=text,
            logprob=logprob,
            value=sample.value if self.settings.read_value else NO_VALUE,
            tokens=len(ids) + RATING_TOKENS,
            thinking_left=thinking_left,
            terminal=ends or astray or len(context) + self._conclusion > self.max_context,
            answer=grade.answer,
            outcome=grade.outcome,
            entropy=mean(sample.entropy, drawn),
            varentropy=mean(sample.varentropy, drawn),
            sampled=len(drawn),
            payload=Trail(context, spent, len(trail.context), sample, reply.version, temperature),
        )

    def _program(self, father: int, ask: Ask, spent: int) -> ThoughtProgram:
        concludes = ask.action is MetaAction.CONCLUDE
        return ThoughtProgram(
            header=self.codec.header(father, ask.local_id, ask.action),
            max_text=min(self.settings.max_text, self.settings.thinking_limit - spent),
            max_answer=self.settings.max_answer,
            codec=self.codec,
            plan=None if concludes else self._plan,
            spent=spent,
            calculator=self._calculator,
            off=self._off,
        )

    def _action(self, program: ThoughtProgram, ask: Ask, ids: list[int]) -> MetaAction:
        """The kind that was forced, or the one the model drew."""
        if ask.action is not None and self.codec.special.tags[ask.action] is not None:
            return ask.action
        tag = program.drawn_tag(ids)
        return MetaAction.EXPAND if tag is None else self.codec.special.action_of(tag)

    def _thinking_left(self, context: int, spent: int) -> int:
        """Thinking tokens the path has left; 0 when path or context hold only a conclusion more."""
        if context + self._thought + self._conclusion > self.max_context:
            return 0
        left = self.settings.thinking_limit - spent
        return left if left >= LEAST_THOUGHT else 0


def trail_of(tree: Tree, index: int) -> Trail:
    """The token record of a node."""
    trail = tree.nodes[index].payload
    assert isinstance(trail, Trail)
    return trail


def _failed(ask: Ask, reply: Reply) -> Failed | None:
    """Why a reply is no thought; None where it is one. EngineError when it is longer than was allowed."""
    if not reply.samples:
        return Failed(0, "no sample came back")
    sample = reply.samples[0]
    length, allowed_tokens = len(sample.ids), ask.max_tokens - RATING_TOKENS
    if length > allowed_tokens:
        raise EngineError(
            f"the engine returned {length} tokens for a thought that was allowed {allowed_tokens}; "
            "an engine that does not keep to max_tokens cannot be searched with"
        )
    if sample.stopped != "program" or sample.value is None:
        return Failed(length, "cut before its value was read")
    return None


def mean(values: np.ndarray | None, sampled: np.ndarray) -> float | None:
    """Mean over the sampled tokens, a mask or their places; None where there are none or no such figure."""
    drawn = () if values is None else values[sampled]
    return float(np.add.reduce(drawn) / len(drawn)) if len(drawn) else None
