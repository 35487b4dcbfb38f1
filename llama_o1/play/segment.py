"""A segment of a plain line: what is forced in it, and where it is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llama_o1.engine.protocol import Draw, Force, Halt, Span, Step
from llama_o1.format.budget import BudgetPlan
from llama_o1.format.encode import Codec
from llama_o1.play.program import Calculator


@dataclass(frozen=True, slots=True)
class SegmentProgram:
    """The program of one segment: a header, control tokens at their positions, the end where it is drawn."""

    header: tuple[int, ...]  # forced first
    cap: int  # tokens of the segment, header included
    ending: Ending
    plan: BudgetPlan | None  # None: an answer, which shows no budget
    spent: int  # thinking tokens of the line above
    calculator: Calculator | None = None  # completes `<<48/2=` in the thinking

    def __call__(self, ids: Sequence[int]) -> Step:
        """What comes after the segment's tokens so far."""
        if len(ids) < len(self.header):
            return Force(self.header[len(ids) :])
        drawn = ids[len(self.header) :]
        # An end that stood earlier has halted the segment there.
        if drawn and drawn[-1] in self.ending.wakes and self.ending.begins(drawn) is not None:
            return Halt()
        if len(ids) >= self.cap:
            return Halt()
        position = self.spent + len(ids) + 1
        control = None if self.plan is None else self.plan.token_at(position)
        if control is not None:
            return Force((control,))
        result = () if self.calculator is None else self.calculator.result(drawn)
        if not result:
            return Draw()
        result = result if self.plan is None else self.plan.weave(result, position)
        return Force(result[: self.cap - len(ids)])

    def ahead(self, ids: Sequence[int]) -> Span:
        """How many draws are certain: up to the next mark or the cap, unless what may end it is drawn."""
        draws = self.cap - len(ids)
        free = None if self.plan is None else self.plan.free_from(self.spent + len(ids) + 1)
        wakes = self.ending.wakes
        if self.calculator is not None:
            wakes |= self.calculator.wakes
        return Span(draws if free is None else min(draws, free), wakes)


class Ending:
    """Knows where a text ends: at a delimiter, of one token or of several, or at the model's own end."""

    def __init__(self, codec: Codec, text: str, opened: str = "") -> None:
        """`opened`: text before it, whose open braces are closed before a closing brace ends anything."""
        self._codec, self._text = codec, text
        self._braces = opened.count("{") if text == "}" else 0
        ids = codec.encode_template(text)
        self._single = ids[0] if len(ids) == 1 and text != "}" else None
        self._stop = codec.tokenizer.eos_token_id
        wakes = {i for i in (self._single, self._stop) if i is not None}
        if self._single is None:
            wakes |= {i for i in range(len(codec.tokenizer)) if text[-1] in codec.decode([i])}
        self.wakes = frozenset(wakes)

    def begins(self, ids: Sequence[int]) -> int | None:
        """Index of the token in which the end begins; None: it was not drawn."""
        for i, token in enumerate(ids):
            if token in (self._stop, self._single):
                return i
        if self._single is not None or not any(token in self.wakes for token in ids):
            return None
        return self._in_text(ids)

    def _in_text(self, ids: Sequence[int]) -> int | None:
        text = self._shown(ids)
        at = text.find(self._text) if not self._braces else _closing(text, self._braces)
        if at < 0:
            return None
        kept = len(ids)
        while len(self._shown(ids[:kept])) > at:
            kept -= 1
        return kept

    def _shown(self, ids: Sequence[int]) -> str:
        """Text without control tokens, one of which may fall into an end of several tokens."""
        marks = self._codec.special.remaining
        return self._codec.decode([i for i in ids if i not in marks])


def _closing(text: str, depth: int) -> int:
    """Index of the brace that closes `depth` open ones; -1: none does."""
    for i, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if not depth:
            return i
    return -1
