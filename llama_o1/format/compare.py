"""Two solutions of one question as token ids, and the question which of them is better.

A context of its own, beside every tree: the problem, both solutions as thoughts below it, and a critic whose
rating is the answer: positive, the first is better; negative, the second is. LLaMA-Berry's preference model
(section 3.3) asks "is a1 better than a2" and reads Yes against No; the two rating tokens take their place:
every model that searches here has them, and gives its values by them. What it is taught to compare
(learn/prefer.py) and what it is asked are written by this one function, from plain text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from llama_o1.format.encode import Codec
from llama_o1.format.marks import MARK
from llama_o1.format.tokens import STRUCTURE
from tree.actions import MetaAction

QUESTION = "Is 1 better than 2?"
SEPARATOR = "\n"  # between thoughts of one solution
_SPECIAL = re.compile("|".join(map(re.escape, STRUCTURE)))


def plain(text: str) -> str:
    """The text without names of special tokens."""
    return MARK.sub("", _SPECIAL.sub("", text)).strip()


def comparison(codec: Codec, question: str, first: str, second: str, longest: int) -> tuple[int, ...]:
    """Ids up to `<start_of_rating>`, after which the answer is read; at most `longest`.

    Where they are more, both solutions keep as much of their ends.
    """
    special = codec.special
    root = codec.root(question)
    ask = (*codec.header(0, 3, MetaAction.CRITIC), *codec.encode(QUESTION))
    ends = (special.end_of_thought, special.start_of_rating)
    frames = [codec.header(0, number, MetaAction.EXPAND) for number in (1, 2)]
    unrated = (*ends, special.unknown, special.end_of_rating)
    around = len(root) + len(ask) + len(ends) + sum(len(frame) + len(unrated) for frame in frames)
    texts = _fitted([codec.encode(plain(text)) for text in (first, second)], longest - around)
    ids = list(root)
    for frame, text in zip(frames, texts, strict=True):
        ids += (*frame, *text, *unrated)
    return (*ids, *ask, *ends)


def _fitted(texts: Sequence[list[int]], room: int) -> list[list[int]]:
    """The ends of two texts, together no longer than the room."""
    short = min(len(text) for text in texts)
    each = max(room // 2, room - short, 0) if sum(map(len, texts)) > room else max(map(len, texts))
    return [text[max(0, len(text) - each) :] for text in texts]
