"""A given line of thought written exactly as a search would have written it.

The thought's own program decides what is forced, so cold-start data and search share every position
of headers, budget marks and calculator results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from llama_o1.engine.protocol import Draw, Force
from llama_o1.format.budget import BudgetPlan
from llama_o1.format.encode import Codec
from llama_o1.format.marks import MarkSettings
from llama_o1.format.thoughts import Rating
from llama_o1.format.tokens import TAGS
from llama_o1.play.program import Calculator, ThoughtProgram
from llama_o1.tasks.traces import Traced
from tree.actions import MetaAction

LONGEST = 10_000  # a given text is never cut


class Script(NamedTuple):
    """Token ids of a line of thought and which of them are to be learned."""

    ids: list[int]
    learn: list[bool]
    thinking: int  # thinking tokens of the line, control tokens included
    given: int  # tokens of the problem's part, with which a line begins


def script(line: Sequence[Traced], codec: Codec, plan: BudgetPlan, calculator: Calculator | None) -> Script:
    """The context a search would hold after this line, root to leaf.

    Learned are the tokens a policy would have sampled, and the ratings; a thought that is not to be
    imitated is learned in its rating only, one that is not to be rated not even in that.
    """
    ids = list(codec.root(line[0].thought.text))
    given, spent = len(ids), 0
    learn = [False] * given
    for thought, imitate, rate in line[1:]:
        header = codec.header(thought.father, thought.local, None)
        program = ThoughtProgram(header, LONGEST, LONGEST, codec, plan, spent, calculator)
        own, sampled = _play(program, codec, thought.action, thought.text)
        if thought.action is not MetaAction.CONCLUDE:
            spent += program.text_tokens(own)
        rating = _rating_ids(codec, thought.rating)
        ids += [*own, *rating]
        learn += [imitate and was_sampled for was_sampled in sampled] + [rate, False][: len(rating)]
    return Script(ids, learn, spent, given)


def fitting(
    write: Callable[[BudgetPlan], Script], step: int, remaining: tuple[int, ...], marks: MarkSettings
) -> Script:
    """What is written under the least budget that holds it: a multiple of `step`, control tokens counted.

    BudgetThinker section 3.3, B = T * ceil(|y| / T); there control tokens take the place of others.
    """
    thinking = write(BudgetPlan(LONGEST, (), marks)).thinking
    budget = step * -(-max(thinking, marks.least_budget) // step)
    while (written := write(BudgetPlan(budget, remaining, marks))).thinking > budget:
        budget += step
    return written


def _play(
    program: ThoughtProgram, codec: Codec, action: MetaAction, text: str
) -> tuple[list[int], list[bool]]:
    """Run the program with the given text in place of the policy's draws."""
    tag = codec.special.tags[action] if TAGS[action] else None
    wanted = _Wanted([*([] if tag is None else [tag]), *codec.encode(text), codec.special.end_of_thought])
    ids: list[int] = []
    sampled: list[bool] = []
    while True:
        step = program(ids)
        if isinstance(step, Draw):
            ids.append(wanted.next())
            sampled.append(True)
        elif isinstance(step, Force):
            if len(ids) >= len(program.header):
                wanted.skip(step.ids)
            ids += step.ids
            sampled += [False] * len(step.ids)
        else:
            return ids, sampled


class _Wanted:
    """The text still to be written; what the program forces of it is not written twice."""

    def __init__(self, ids: list[int]) -> None:
        self._ids: Iterator[int] = iter(ids)
        self._head: int | None = next(self._ids)

    def next(self) -> int:
        assert self._head is not None, "the program drew past the end of the text"
        head, self._head = self._head, next(self._ids, None)
        return head

    def skip(self, forced: Sequence[int]) -> None:
        for token in forced:
            if token == self._head:
                self._head = next(self._ids, None)


def _rating_ids(codec: Codec, rating: Rating | None) -> tuple[int, ...]:
    if rating is None:
        return ()
    s = codec.special
    ids = {Rating.POSITIVE: s.positive, Rating.NEGATIVE: s.negative, Rating.UNKNOWN: s.unknown}
    return (ids[rating], s.end_of_rating)
