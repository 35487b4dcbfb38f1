"""Format rules: what makes a problem unfit whatever its difficulty (s1 section 2.2, and some of our own).

s1 drops drawings in characters or code, pictures that are not there, and odd numbering; before that, errors
of the API that wrote the traces. Knows texts only; settings.py says which rules hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import NamedTuple


class Texts(NamedTuple):
    """What the rules read of one problem."""

    question: str
    trace: str
    is_right: Callable[[], bool]  # whether the trace declares the gold answer, or none
    gold_verifies: Callable[[], bool]


class Limits(NamedTuple):
    """Lengths that are settings."""

    least_words: int  # of a question
    longest_trace: int  # words, numbers and signs
    length: int  # of this trace


def broken_rules(texts: Texts, limits: Limits, rules: tuple[str, ...]) -> list[str]:
    """The rules among these that a problem breaks, in their order; [] when it is fit."""
    return [name for name in rules if RULES[name](texts, limits)]


_SEEN = r"(?:figure|diagram|picture|image|drawing|graph)\b"
_PICTURE = re.compile(
    r"!\[[^\]]*\]\(|<img\b|\[image|\\includegraphics"
    rf"|\b(?:shown|given|depicted|pictured|drawn|illustrated|marked) (?:in|on|by) the (?:\w+ )?{_SEEN}"
    rf"|\b(?:following|above|below|accompanying|adjacent|attached) {_SEEN}"
    rf"|\b{_SEEN}\s(?:above|below|shown|to the (?:left|right)|at (?:left|right))\b"
    r"|\b(?:see|in|from) (?:the )?(?:figure|diagram)\b(?! of speech)|\bfigure \d",
    re.IGNORECASE,
)
_DRAWN = re.compile(r"\[/?asy\]|\\begin\{(?:tikzpicture|asy|picture)\}|```(?:asy|tikz)", re.IGNORECASE)
_DRAWN_LINE = re.compile(r"^(?=.{5})[\s|/\\_+\-*=.:'`^<>o#~]*$")
_NUMBERED = re.compile(
    r"\s*(?:(?:problem|question|exercise|example|task|q)\s*\.?\s*#?\d+(?:\.\d+)*\s*[.:)\]-]|\(?\d{1,3}[.)]\s+(?=[A-Z])"
    r"|\d+\.\d+\.\s|\([a-h]\)\s)",
    re.IGNORECASE,
)
_LINK = re.compile(r"https?://|www\.\w", re.IGNORECASE)
_DAMAGED = re.compile(r"\ufffd|&(?:amp|lt|gt|nbsp|quot|#\d+);|</?(?:p|br|div|span|td|tr)\b[^>]*>|[\x00-\x08]")
_API_ERROR = re.compile(
    r"^\W*(?:(?:api|internal server|rate.?limit|timeout|connection)\s*(?:error|exceeded|reached)|error\s*:"
    r"|traceback \(most|i(?:'m| am) (?:sorry|unable)|as an ai\b|null$|none$|nan$)",
    re.IGNORECASE,
)


def _drawing(texts: Texts, _: Limits) -> bool:
    """Code of a drawing, or two lines in a row that are drawn with characters."""
    if _DRAWN.search(texts.question):
        return True
    lines = [bool(_DRAWN_LINE.match(line)) for line in texts.question.splitlines()]
    return any(a and b for a, b in pairwise(lines))


def _repeats(texts: Texts, _: Limits) -> bool:
    """Whether one longer line stands in the trace more than three times: a model that went in circles."""
    lines = [line.strip() for line in texts.trace.splitlines() if len(line.split()) >= 4]
    return any(lines.count(line) > 3 for line in set(lines))


Rule = Callable[[Texts, Limits], bool]

RULES: Mapping[str, Rule] = {
    "short question": lambda t, limits: len(t.question.split()) < limits.least_words,
    "picture": lambda t, _: _PICTURE.search(t.question) is not None,
    "drawing": _drawing,
    "numbering": lambda t, _: _NUMBERED.match(t.question) is not None,
    "link": lambda t, _: _LINK.search(t.question) is not None,
    "damaged text": lambda t, _: _DAMAGED.search(t.question + "\n" + t.trace) is not None,
    "no trace": lambda t, _: not t.trace,
    "api error": lambda t, _: _API_ERROR.match(t.trace) is not None,
    "long trace": lambda _, limits: limits.length > limits.longest_trace,
    "repeating trace": _repeats,
    "wrong trace": lambda t, _: not t.is_right(),
    "gold answer": lambda t, _: not t.gold_verifies(),
}
"""What a problem breaks, by the name that the funnel counts it under; cheap ones first."""
