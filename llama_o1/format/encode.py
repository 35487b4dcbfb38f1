"""Thoughts as token ids: the pieces a context is appended from.

A context only ever grows: root, then for each thought its header, its text, its rating.
Nothing is rendered again or tokenised twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from llama_o1.format.tokens import SpecialIds, Tokenizer
from tree.actions import MetaAction

# What a model that was never cold-started is told before a thought of each kind.
HINTS: Mapping[MetaAction, str] = {
    MetaAction.EXPAND: "Write the next single step of the solution.\n",
    MetaAction.DIVIDE: "State one easier sub-problem that helps to solve the problem.\n",
    MetaAction.CRITIC: "Point out what is wrong in the last step, or say that it is right.\n",
    MetaAction.REFINE: "Write the criticised step again, repaired.\n",
    MetaAction.CONCLUDE: "Give the final answer as \\boxed{answer}.\n",
}


class Codec:
    """Turns headers, texts and ratings into ids and back, for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, special: SpecialIds, *, hints: bool = False) -> None:
        self.tokenizer = tokenizer
        self.special = special
        self._hints = {a: tuple(self.encode(text)) for a, text in HINTS.items()} if hints else {}
        self.tag_ids = frozenset(tag for tag in special.tags.values() if tag is not None)
        self.not_in_text = frozenset(self._not_in_text())
        self._numbers: dict[int, tuple[int, ...]] = {}
        # A fast tokenizer's backend takes half the time, and does the same where no spaces are cleaned up.
        backend = getattr(tokenizer, "backend_tokenizer", None)
        cleans = getattr(tokenizer, "clean_up_tokenization_spaces", True)
        self._text_of: Callable[..., str] = tokenizer.decode if backend is None or cleans else backend.decode

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; the name of a special token in it stays plain text."""
        return self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

    def encode_template(self, text: str) -> list[int]:
        """Ids of text that we wrote: the name of a special token in it is that token."""
        return self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, special tokens included."""
        return self._text_of([int(i) for i in ids], skip_special_tokens=False)

    def root(self, question: str) -> tuple[int, ...]:
        """The root thought of a problem: father -1, local id 0, no rating."""
        header = self.header(-1, 0, MetaAction.PROBLEM)
        return (*header, *self.encode(question.strip()), self.special.end_of_thought)

    def header(self, father: int, local: int, action: MetaAction | None) -> tuple[int, ...]:
        """What is forced before a thought's text: hint, ids and tag; None leaves the tag to the model."""
        s = self.special
        tag = None if action is None else s.tags[action]
        hint = () if action is None else self._hints.get(action, ())
        return (
            *hint,
            s.start_of_father_id,
            *self._number(father),
            s.end_of_father_id,
            s.start_of_local_id,
            *self._number(local),
            s.end_of_local_id,
            s.start_of_thought,
            *(() if tag is None else (tag,)),
        )

    def rating(self, value: float | None) -> tuple[int, int]:
        """The two ids after `<start_of_rating>`: what a value freezes to, None: unknown, and the end."""
        s = self.special
        if value is None:
            return (s.unknown, s.end_of_rating)
        return (s.positive if value >= 0.5 else s.negative, s.end_of_rating)

    def thought_text(self, ids: Sequence[int]) -> str:
        """Text of a thought's ids after its header, budget marks included, all other special tokens not."""
        out = list(ids)
        if self.special.end_of_thought in out:
            out = out[: out.index(self.special.end_of_thought)]
        return self.decode([token for token in out if token not in self.not_in_text]).strip()

    def max_header(self) -> int:
        """Length of the longest header a tree with local ids below 10,000 can need."""
        longest = max(len(self.header(0, 0, action)) for action in MetaAction)
        return longest + 2 * 3  # a digit more is at most a token more

    def _not_in_text(self) -> Iterator[int]:
        """Ids that stand around a text and never in it; the model's own end of text is one of them."""
        s = self.special
        yield from (s.start_of_father_id, s.end_of_father_id, s.start_of_local_id, s.end_of_local_id)
        yield from (s.start_of_thought, s.start_of_rating, s.end_of_rating)
        yield from (s.positive, s.negative, s.unknown)
        yield from self.tag_ids
        if self.tokenizer.eos_token_id is not None:
            yield self.tokenizer.eos_token_id

    def _number(self, number: int) -> tuple[int, ...]:
        if number not in self._numbers:
            self._numbers[number] = tuple(self.encode(str(number)))
        return self._numbers[number]
