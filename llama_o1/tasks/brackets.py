"""Brackets of an answer: where they close, and which separators stand outside of all of them."""

from __future__ import annotations

import re

MAX_PARTS = 64

_OPEN_OR_CLOSE = r"\\[{}]|\\begin|\\end|[()\[\]{}]"
OR = re.compile(rf"{_OPEN_OR_CLOSE}|(?P<at>,?\s(?:or|and/or)\s|\\(?:lor|vee)(?![A-Za-z]))")
CUP = re.compile(rf"{_OPEN_OR_CLOSE}|(?P<at>\\cup(?![A-Za-z])|\sU\s)")
SEMICOLON = re.compile(rf"{_OPEN_OR_CLOSE}|(?P<at>;)")
COMMA_SPACE = re.compile(rf"{_OPEN_OR_CLOSE}|(?P<at>,\s(?:and\s)?|,?\sand\s)")
COMMA = re.compile(rf"{_OPEN_OR_CLOSE}|(?P<at>,\s?(?:and\s)?|\sand\s)")
PLUS_MINUS = re.compile(rf"{_OPEN_OR_CLOSE}|(?P<at>\\pm(?![A-Za-z]))")
RELATION = re.compile(
    rf"{_OPEN_OR_CLOSE}|(?P<at><=|>=|=|<|>|\\(?:le|ge|ne|approx|sim|in|equiv|to|mapsto)(?![A-Za-z]))"
)


def split_top(text: str, separators: re.Pattern[str]) -> list[str]:
    """The parts of a text between separators that stand outside of all brackets."""
    parts, depth, start = [], 0, 0
    for match in separators.finditer(text):
        mark = match[0]
        if match["at"] is not None:
            if depth == 0:
                parts += [text[start : match.start()], mark.strip(" ,")]
                start = match.end()
        elif mark in _OPENERS:
            depth += 1
        else:
            depth -= 1
    return [*parts, text[start:]]


_OPENERS = ("(", "[", "{", r"\{", r"\begin")


def parts_of(text: str, separators: re.Pattern[str]) -> list[str]:
    """The parts themselves, stripped; empty when there is only one, an empty one or far too many."""
    parts = [part.strip() for part in split_top(text, separators)[::2]]
    return parts if 2 <= len(parts) <= MAX_PARTS and all(parts) else []


def is_balanced(text: str) -> bool:
    """Whether every bracket of an expression closes, whichever its kind."""
    depth = 0
    for match in re.finditer(_OPEN_OR_CLOSE, text):
        depth += 1 if match[0] in _OPENERS else -1
        if depth < 0:
            return False
    return depth == 0


def closes_at_end(text: str) -> bool:
    """Whether the bracket that opens a text closes at its very end."""
    depth = 0
    for match in re.finditer(_OPEN_OR_CLOSE, text):
        depth += 1 if match[0] in _OPENERS else -1
        if depth == 0:
            return match.end() == len(text)
    return False
