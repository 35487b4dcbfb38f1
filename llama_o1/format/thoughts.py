"""Thoughts as text: OpenLongCoT records, written and read.

Source: SimpleBerry/OpenLongCoT-Pretrain, as REFERENCE section 1 describes it. A record is a tree,
one thought after another in id order. We write one thought a line and read any white space
between thoughts; inside a model's context there is none (encode.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from llama_o1.errors import RecordError
from llama_o1.format import tokens as t
from llama_o1.format.marks import MARK
from tree.actions import MetaAction


class Rating(StrEnum):
    """How a thought is rated; the value is its token."""

    POSITIVE = t.POSITIVE
    NEGATIVE = t.NEGATIVE
    UNKNOWN = t.UNKNOWN

    @classmethod
    def of(cls, value: float) -> Rating:
        """The rating of a success probability in [0, 1]."""
        return cls.POSITIVE if value >= 0.5 else cls.NEGATIVE


@dataclass(frozen=True, slots=True)
class Thought:
    """One thought of a record."""

    father: int  # local id of the parent; -1 at the root
    local: int
    action: MetaAction
    text: str  # without its tag
    rating: Rating | None = None  # None: none is written (the root)


def render(thoughts: Iterable[Thought]) -> str:
    """The record of these thoughts, one a line; RecordError when a text cannot be read back."""
    return "\n".join(_render_one(thought) for thought in thoughts)


def parse(record: str) -> list[Thought]:
    """The thoughts of a record; RecordError says where it stops making sense."""
    thoughts = list(_parse_each(record))
    if not thoughts:
        raise RecordError(f"the record holds no thought; expected it to start with {t.START_OF_FATHER_ID}")
    seen: set[int] = set()
    for number, thought in enumerate(thoughts):
        if thought.local in seen:
            raise RecordError(f"thought {number} has local id {thought.local}, which an earlier one has")
        if (thought.father == -1) != (number == 0):
            raise RecordError(f"thought {number} has father {thought.father}; only the first has father -1")
        if number and thought.father not in seen:
            raise RecordError(f"thought {number} has father {thought.father}, which comes later or nowhere")
        seen.add(thought.local)
    return thoughts


_TAG = "|".join(("<problem>", "<critic>", "<refine>", "<conclusion>"))
_THOUGHT = re.compile(
    rf"\s*{t.START_OF_FATHER_ID}\s*(?P<father>-?[0-9]{{1,9}})\s*{t.END_OF_FATHER_ID}"
    rf"{t.START_OF_LOCAL_ID}\s*(?P<local>[0-9]{{1,9}})\s*{t.END_OF_LOCAL_ID}"
    # A budget mark that falls on a thought's first token stands before a tag that the model drew.
    rf"{t.START_OF_THOUGHT}(?P<marks>(?:{MARK.pattern})*)(?P<tag>{_TAG})?(?P<text>(?:(?!{t.END_OF_THOUGHT}|{t.START_OF_THOUGHT}).)*)"
    rf"{t.END_OF_THOUGHT}"
    rf"(?:{t.START_OF_RATING}(?P<rating>{t.POSITIVE}|{t.NEGATIVE}|{t.UNKNOWN}){t.END_OF_RATING})?",
    re.DOTALL,
)
# Budget marks may stand inside a text; every other special token has its own place.
_NOT_IN_TEXT = t.STRUCTURE
_ACTION_OF_TAG = {tag: action for action, tag in t.TAGS.items() if action is not MetaAction.PROBLEM}


def _render_one(thought: Thought) -> str:
    for token in _NOT_IN_TEXT:
        if token in thought.text:
            raise RecordError(f"thought {thought.local} holds {token} in its text; take it out first")
    rating = "" if thought.rating is None else f"{t.START_OF_RATING}{thought.rating}{t.END_OF_RATING}"
    return (
        f"{t.START_OF_FATHER_ID}{thought.father}{t.END_OF_FATHER_ID}"
        f"{t.START_OF_LOCAL_ID}{thought.local}{t.END_OF_LOCAL_ID}"
        f"{t.START_OF_THOUGHT}{t.TAGS[thought.action]}{thought.text}{t.END_OF_THOUGHT}{rating}"
    )


def _parse_each(record: str) -> Iterator[Thought]:
    position, end = 0, len(record.rstrip())
    while position < end:
        match = _THOUGHT.match(record, position)
        if match is None:
            found = record[position : position + 60].strip()
            raise RecordError(f"no thought at character {position} of the record, found {found!r}")
        father = int(match["father"])
        action = MetaAction.PROBLEM if father == -1 else _ACTION_OF_TAG[match["tag"] or ""]
        rating = None if match["rating"] is None else Rating(match["rating"])
        yield Thought(father, int(match["local"]), action, match["marks"] + match["text"], rating)
        position = match.end()
