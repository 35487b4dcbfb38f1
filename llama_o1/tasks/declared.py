r"""What a text declares as its final answer. One pass over the text; nothing here raises or compares values.

A declaration is the last closed `\boxed{...}`, else the last line `#### x`, else, where that is asked for,
the last "the answer is x"; outside of thinking blocks. What is denied ("it is not \boxed{18}") is not
declared.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_ANSWER_CHARS = 500
MAX_WORDS = 60  # of a text that is an answer itself; a matrix has many


class Declared(NamedTuple):
    """The last declaration."""

    answer: str | None  # as written; None: there is none, and `rule` tells why
    rule: str = "declared"


def declared_answer(text: str) -> str | None:
    """What the last declaration of a text says, as written; None when nothing is declared.

    An empty box declares nothing. A last declaration over `MAX_ANSWER_CHARS` characters counts as none.
    """
    return find_declared(text).answer


def find_declared(text: str, *, answer_is: bool = False, bare: bool = False) -> Declared:
    """The last declaration of a text; `answer_is` also takes "the answer is x".

    `bare` takes a text without any declaration for the answer itself.
    """
    text = without_thinking(text)
    found = _boxed(text) if "\\boxed" in text else None
    if found is None and "####" in text:
        found = _after_hashes(text)
    if found is None and answer_is:
        found = _after_words(text)
    if found is None and bare and _is_bare(text.strip()):
        found = Declared(text.strip())
    if found is None:
        return Declared(None, "none declared")
    if found.answer is not None and len(found.answer) > MAX_ANSWER_CHARS:
        return Declared(None, "too long")
    return found


def _is_bare(text: str) -> bool:
    """Whether a text without a declaration may be an answer itself: one line of few words."""
    is_broken = "\\boxed" in text or "####" in text
    return (
        0 < len(text) <= MAX_ANSWER_CHARS
        and "\n" not in text
        and not is_broken
        and len(text.split()) <= MAX_WORDS
    )


def without_thinking(text: str) -> str:
    """The text outside of thinking blocks; an open one hides what follows, a stray end what precedes."""
    if _MIGHT_THINK.search(text) is None:
        return text
    kept: list[str] = []
    depth = start = 0
    for match in _THINKING.finditer(text):
        if match["open"]:
            if depth == 0:
                kept.append(text[start : match.start()])
            depth += 1
        elif depth == 0:
            kept = []
        else:
            depth -= 1
        start = match.end()
    return " ".join([*kept, text[start:]]) if depth == 0 else " ".join(kept)


_NAMES = "(?:think|thinking|thought|thoughts|reasoning|scratchpad)"
_MIGHT_THINK = re.compile(rf"</?{_NAMES}>|<\|(?:begin|end)_of_thought\|>", re.IGNORECASE)
_THINKING = re.compile(
    rf"(?P<open><{_NAMES}>|<\|begin_of_thought\|>)|</{_NAMES}>|<\|end_of_thought\|>", re.IGNORECASE
)
_HASH_LINE = re.compile(r"^[ \t]{0,8}####(?!#)([^\n]*)$", re.MULTILINE)
_BRACE = re.compile(r"\\boxed\s?\{|\\\\(?=[{}])|\\[{}]|[{}]")
_ANSWER_IS = re.compile(
    r"\banswer[ \t*_]{0,4}(?:(?P<denied>is(?: definitely)? not\b|isn['’]t\b)|(?:is|was|=)[ \t]{0,4}:?|:)",
    re.IGNORECASE,
)
_WRITTEN = re.compile(r"[ \t*:]{0,9}[^\s*:]")
_NOT_SPACE = re.compile(r"\S")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$|[\"”*])|;")
_DENIED_BEFORE = re.compile(
    r"(?:\bnot|n['’]t|\bnever|\bcannot be|\brather than|\binstead of|\\neq?|≠|!=)"
    r"(?: (?:be|equal(?: to)?|simply|just))?[\s$:*(]*$",
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(
    r"[\s$.*)]*(?:(?:this|that|which|it)\s+)?(?:is|was|isn['’]t|would be)\s+(?:actually\s+)?"
    r"(?:wrong|incorrect|not\b|the wrong|right\?)|\s*\((?:wrong|incorrect)\)|[\s$]*\?\s*No\b",
    re.IGNORECASE,
)
_JOIN = re.compile(
    r"[\s$]*(?:,|,?\s*(?P<or>\bor\b|\\text\s?\{\s*or\s*\})|,?\s*(?:\band\b|\\text\s?\{\s*and\s*\}))[\s$]*(?:[A-Za-z]\s?=\s*)?",
)


def _boxed(text: str) -> Declared | None:
    """The last box that is not denied, joined with those it is enumerated with; None without a closed box."""
    boxes = _boxes(text)
    denied: set[str] = set()
    for i in range(len(boxes) - 1, -1, -1):
        start, end = boxes[i]
        content = text[start:end].strip()
        opening = text.rfind("\\boxed", 0, start)
        if _is_denied(text, opening, end + 1):
            denied.add(content)
        elif content not in denied:
            return Declared(_joined(text, boxes[: i + 1]))
        if len(denied) > MAX_DENIED:
            break
    return Declared(None, "negated") if denied else None


MAX_DENIED = 100


def _boxes(text: str) -> list[tuple[int, int]]:
    """Start and end of each content that is closed and not empty, in the order of their starts."""
    open_braces: list[int] = []  # where the content of a box starts; 0 for other braces
    boxes: list[tuple[int, int]] = []
    for match in _BRACE.finditer(text):
        brace = match[0]
        if brace == "{":
            open_braces.append(0)
        elif brace == "}":
            opened = open_braces.pop() if open_braces else 0
            written = _NOT_SPACE.search(text, opened) if opened else None
            if written is not None and written.start() < match.start():
                boxes.append((opened, match.start()))
        elif brace.startswith("\\b"):
            open_braces.append(match.end())
    return sorted(boxes)


def _is_denied(text: str, start: int, end: int) -> bool:
    before = text[max(0, start - 40) : start]
    return _DENIED_BEFORE.search(before) is not None or _DENIED_AFTER.match(text[end : end + 60]) is not None


def _joined(text: str, boxes: list[tuple[int, int]]) -> str:
    r"""The last box, with those before it in `\boxed{1} and \boxed{2}`."""
    contents = [text[boxes[-1][0] : boxes[-1][1]].strip()]
    joint = " and "
    for before, after in zip(boxes[-2::-1], boxes[:0:-1], strict=False):
        between = text[before[1] + 1 : max(before[1] + 1, text.rfind("\\boxed", 0, after[0]))]
        match = _JOIN.fullmatch(between) if len(between) < 40 else None
        if match is None or len(contents) >= MAX_JOINED:
            break
        joint = " or " if match["or"] else joint
        content = text[before[0] : before[1]].strip()
        contents += [content] if content not in contents else []
    return joint.join(contents[::-1])


MAX_JOINED = 16


def _after_hashes(text: str) -> Declared | None:
    last = None
    for match in _HASH_LINE.finditer(text):
        last = match[1].strip() or last
    return None if last is None else Declared(last)


def _after_words(text: str) -> Declared | None:
    """What follows the last "answer is" up to the end of the sentence."""
    last = None
    for match in _ANSWER_IS.finditer(text):
        if match["denied"] or _WRITTEN.match(text, match.end()):
            last = match
    if last is None:
        return None
    if last["denied"]:
        return Declared(None, "negated")
    line = text[last.end() :].partition("\n")[0]
    return Declared(_SENTENCE_END.split(line, maxsplit=1)[0].strip(" *:\t"))
