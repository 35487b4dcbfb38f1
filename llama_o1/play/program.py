"""ThoughtProgram: what is forced where while one thought is written.

A pure function of the thought's tokens so far, so the engines need to know nothing of thoughts:
header and tag, budget marks at exact positions, a calculator's result after `<<48/2=`, the end of a
thought that is as long as it may be or left its text, and `<start_of_rating>`, after which the value
is read. What was forced can be told from the ids alone: asked in the middle of it, it goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llama_o1.engine.protocol import Draw, Force, Halt, Span, Step
from llama_o1.format.budget import BudgetPlan
from llama_o1.format.encode import Codec
from llama_o1.tasks.arithmetic import evaluate, format_number
from tree.actions import MetaAction

CALL, RESULT_END = "<<", ">>"
_IN_RESULTS = "0123456789.->"
MAX_CALL_TOKENS = 48  # a longer call is left to the model


class Calculator:
    """GSM8K's calculator annotation: knows when a call is complete and what it comes to."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        # One look at the vocabulary, so that asking costs a set look-up or two a token.
        pieces = [codec.decode([i]).rstrip() for i in range(len(codec.tokenizer))]
        self._equals = frozenset(i for i, piece in enumerate(pieces) if piece.endswith("="))
        self._of_results = frozenset(
            i for i, piece in enumerate(pieces) if piece and not piece.strip(_IN_RESULTS)
        )
        self.wakes = self._equals | _ends(codec)  # after these a call may be complete, or the text over

    def result(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Ids still to come of a call's result and `>>`; () where no call is open or it has no result."""
        marks, at = self._codec.special.remaining, len(ids) - 1
        while at >= 0 and (ids[at] in self._of_results or ids[at] in marks):
            at -= 1
        if at < 0 or ids[at] not in self._equals:
            return ()
        text = self._codec.decode(
            [i for i in ids[max(0, at + 1 - MAX_CALL_TOKENS) : at + 1] if i not in marks]
        )
        _, opened, call = text.rpartition(CALL)
        worked = evaluate(call.strip().removesuffix("=")) if opened else None
        written = None if worked is None else format_number(worked)
        if written is None:
            return ()
        result = self._codec.encode(written + RESULT_END)
        here = [i for i in ids[at + 1 :] if i not in marks]
        return tuple(result[len(here) :]) if result[: len(here)] == here else ()


@dataclass(frozen=True, slots=True)
class ThoughtProgram:
    """The program of one thought.

    Where the header forces no tag the model may draw one with its first token; a conclusion it draws
    is held to the same length as a forced one and shows no budget from there on.
    """

    header: tuple[int, ...]  # forced first, tag included
    max_text: int  # text tokens, `<end_of_thought>` included; one more where a budget mark falls on it
    max_answer: int  # the same for a conclusion
    codec: Codec
    plan: BudgetPlan | None = None  # None: a forced conclusion, which shows no budget
    spent: int = 0  # thinking tokens of the path above
    calculator: Calculator | None = None
    off: frozenset[int] = frozenset()  # tags that the model may not draw: the thought is over then

    def __call__(self, ids: Sequence[int]) -> Step:
        """What comes after the thought's tokens so far."""
        special, start = self.codec.special, len(self.header)
        if len(ids) < start:
            return Force(self.header[len(ids) :])
        if self._is_whole(ids):
            return Halt()
        own = ids[start:]
        if own and own[-1] == special.end_of_thought:
            return Force((special.start_of_rating,))
        tag, text = self.drawn_tag(ids), self.text_tokens(ids)
        end = (special.end_of_thought, special.start_of_rating)
        if tag in self.off:
            return Force(end)
        plan, cap = self._held_to(tag)
        control = None if plan is None else plan.token_at(self.spent + text + 1)
        if control is not None:
            return Force((control,))
        if text >= cap - 1 or self._leaves_text(own, tag):
            return Force(end)
        result = () if self.calculator is None else self.calculator.result(own)
        if not result:
            return Draw()
        if plan is not None:
            result = plan.weave(result, self.spent + text + 1)
        return Force(result[: cap - 1 - text])

    def ahead(self, ids: Sequence[int]) -> Span:
        """How many draws are certain after these ids, where the program answers Draw.

        Up to the next budget mark or the cap. The end, a tag, what has no place in a text and what may
        complete a call wake it before.
        """
        text = self.text_tokens(ids)
        plan, cap = self._held_to(self.drawn_tag(ids))
        draws = cap - 1 - text
        free = None if plan is None else plan.free_from(self.spent + text + 1)
        wakes = _ends(self.codec) if self.calculator is None else self.calculator.wakes
        return Span(draws if free is None else min(draws, free), wakes)

    def text_tokens(self, ids: Sequence[int]) -> int:
        """Text tokens among the thought's tokens so far: header, a drawn tag and rating do not count."""
        tag = 0 if self.drawn_tag(ids) is None else 1
        return len(ids) - len(self.header) - tag - self._is_whole(ids)

    def drawn_tag(self, ids: Sequence[int]) -> int | None:
        """The tag the model drew with its first token; None where it drew none or one was forced."""
        special, start = self.codec.special, len(self.header)
        if self.header[-1] != special.start_of_thought:
            return None
        first = next((i for i in ids[start : start + 2] if i not in special.remaining), None)
        return first if first in self.codec.tag_ids else None

    def _held_to(self, tag: int | None) -> tuple[BudgetPlan | None, int]:
        """The budget that a thought with this drawn tag shows, and how long its text may be."""
        if self.plan is None or tag == self.codec.special.tags[MetaAction.CONCLUDE]:
            return None, self.max_answer
        return self.plan, self.max_text

    def _leaves_text(self, own: Sequence[int], tag: int | None) -> bool:
        """Whether the last token drawn has no place in a text: the thought is over then."""
        marks = self.codec.special.remaining
        last = next((i for i in reversed(own[-2:]) if i not in marks), None)
        if last not in self.codec.not_in_text:
            return False
        return last != tag or own.count(last) > 1 or any(i != tag and i not in marks for i in own)

    def _is_whole(self, ids: Sequence[int]) -> bool:
        special = self.codec.special
        return ids[-1] == special.start_of_rating and ids[-2] == special.end_of_thought


def _ends(codec: Codec) -> frozenset[int]:
    """Ids after which a text may be over: its end, and what has no place in it, tags included."""
    return codec.not_in_text | {codec.special.end_of_thought}
