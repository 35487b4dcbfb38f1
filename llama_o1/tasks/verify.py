r"""Whether a text's declared final answer is right, decided by exact rules that cannot hang or raise.

Only a declaration counts: the last well-formed `\boxed{...}`, else the last line `#### x`, outside of
`<think>` blocks. Numbers are compared as exact fractions, never rounded. Every rule works on at most
`MAX_ANSWER_CHARS` characters, and finding the declaration takes one pass over the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from llama_o1.tasks.arithmetic import evaluate, exact_text, numbers_in, parse_number
from llama_o1.tasks.problem import AnswerKind, Problem, Verdict

MAX_ANSWER_CHARS = 500


def verify(text: str, problem: Problem) -> Verdict:
    """Verdict on the answer that a text declares; never raises, whatever the text.

    `rule` is one of `none declared`, `several answers`, `string`, `number`, `percent`, `unit`,
    `not a number`, `choice`, `not a choice`, `expression`, `not an expression`, `equation`,
    `numbers used`, `target`.
    """
    declared = declared_answer(text)
    if declared is None:
        return Verdict("unparsed", None, "none declared")
    if problem.kind == "expression":
        return _verify_expression(declared, problem)
    if problem.kind == "choice":
        return _verify_choice(declared, problem)
    return _verify_number(declared, problem)


def declared_answer(text: str) -> str | None:
    """What the last declaration of a text says, as written; None when nothing is declared.

    An empty box declares nothing. A last declaration over `MAX_ANSWER_CHARS` characters counts as none.
    """
    text = _without_thinking(text)
    declared = _last_box(text) if "\\boxed" in text else None
    if declared is None and "####" in text:
        lines = [line for line in _HASH_LINE.findall(text) if line.strip()]
        declared = lines[-1].strip() if lines else None
    return declared if declared is not None and len(declared) <= MAX_ANSWER_CHARS else None


def canonical_answer(text: str, kind: AnswerKind) -> str | None:
    """One form for each answer a text may declare, made without the gold: equal answers merge in a vote.

    A number is its plain decimal or "p/q" without unit, an expression loses spaces and what follows "=" (its
    form counts, not its value), a choice is an upper-case letter, other text is folded. None: nothing
    that can be read is declared. Grade the text itself, not this form: it has lost the unit.
    """
    declared = declared_answer(text)
    return None if declared is None else _canonical(declared, kind)


def check_gold(problems: Iterable[Problem]) -> list[Problem]:
    """The problems whose gold answer does not verify against itself."""
    return [p for p in problems if verify(f"\\boxed{{{p.answer}}}", p).verdict != "correct"]


class _Quantity(NamedTuple):
    value: Fraction
    is_percent: bool
    unit: tuple[str, ...]  # words in the singular; empty: none


_HASH_LINE = re.compile(r"^####(?!#)([^\n]*)$", re.MULTILINE)
_BRACE = re.compile(r"\\boxed[ ]?\{|\\[{}]|[{}]")
_SEPARATORS = re.compile(r"\b(?:or|and)\b|±|\\pm")
_UNIT_START = re.compile(r"(?!(?<=[0-9])[eE][-+−]?[0-9])[A-Za-z°]")
_UNIT = re.compile(r"[A-Za-z°][A-Za-z°.'’ /-]{0,38}(?:\^?[23²³])?")
_PLURAL = re.compile(r"(?<=ch|sh|ss)es$|(?<=[a-rt-z])s$")
_CHOICE = re.compile(r"(?:(?:option|choice|answer)\s+)?\(?([a-z])(?:[).:](.*))?", re.IGNORECASE | re.DOTALL)
_OTHER_CHOICE = re.compile(r"\([A-Za-z]\)|\b(?:or|and)\s+\(?[A-Z]\b")
_CURRENCIES = {"$": "dollar", "€": "euro", "£": "pound"}
# Words after a number that change its value or its sense, so that it is no plain quantity.
_NOT_UNITS = frozenset(
    "or and not to than minus plus times half halves third thirds fourths fifth fifths sixths "
    "eighths tenth tenths hundredths hundred hundreds thousand thousands million millions billion billions "
    "trillion dozen dozens squared cubed factorial root sqrt pi mod base if except".split()
)
_SINGLE_LETTER_UNITS = frozenset("m g l h s c f".split())
_LATEX = [
    (re.compile(r"\\(?:text|mathrm|textbf|mathbf|mbox|operatorname)\s?\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\{,\}|,\\!|(?<=[0-9])\\[,!](?=[0-9]{3})"), ","),
    (re.compile(r"\\[,!;: ]|~|\\(?:left|right|quad|displaystyle)(?![A-Za-z])"), " "),
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])"), "*"),
    (re.compile(r"\\div(?![A-Za-z])"), "/"),
    (re.compile(r"\^?\\circ(?![A-Za-z])|\^\{\\circ\}"), " degrees"),
    (re.compile(r"\\([$%])"), r"\1"),
]
_FRACTION = re.compile(r"\\[dt]?frac\s?\{([^{}]*)\}\s?\{([^{}]*)\}")
_SIMPLE_FRACTION = re.compile(r"\\[dt]?frac\s?\{\s?([0-9]+)\s?\}\s?\{\s?([0-9]+)\s?\}")
_POWER_OF_TEN = re.compile(r"(?<=[0-9.])\s?[*×]\s?10\s?\^\s?(?:\{\s?([-+−]?[0-9]+)\s?\}|([-+−]?[0-9]+))")
_TO_ASCII = str.maketrans("×÷−[]", "*/-()")


def _verify_number(declared: str, problem: Problem) -> Verdict:
    """Equal text, else equal exact numbers, read as `_quantity` reads them.

    A unit counts only where the gold has one too. A percent sign is a unit (50% is 50), and where only
    one side has it, 50% is 0.5 as well.
    """
    answer = _canonical(declared, "number")
    if _folded(declared) == _folded(problem.answer):
        return Verdict("correct", answer or _folded(declared), "string")
    gold = _gold_quantity(problem.answer)
    if gold is None:
        return Verdict("wrong", answer, "string")
    given = _quantity(_clean(declared))
    if given is None:
        if _declares_several(declared):
            return Verdict("unparsed", None, "several answers")
        return Verdict("wrong", answer, "not a number")
    if gold.unit and given.unit and not _agree(gold.unit, given.unit):
        return Verdict("wrong", answer, "unit")
    if gold.value == given.value:
        return Verdict("correct", answer, "number")
    if gold.is_percent != given.is_percent and _hundredfold(gold, given):
        return Verdict("correct", answer, "percent")
    return Verdict("wrong", answer, "number")


def _verify_choice(declared: str, problem: Problem) -> Verdict:
    """Equal letters, however they are dressed: (A), A., "A) 12"."""
    letter = _letter(declared)
    if letter is None:
        return Verdict("unparsed", None, "not a choice")
    return Verdict("correct" if letter == _letter(problem.answer) else "wrong", letter, "choice")


def _verify_expression(declared: str, problem: Problem) -> Verdict:
    """Exactly the target, from every given number used exactly once; "= 24" may follow if it is true."""
    left, _, right = _expression(declared).partition("=")
    value = evaluate(left)
    if value is None:
        return Verdict("unparsed", None, "not an expression")
    answer = _canonical(declared, "expression")
    if right and evaluate(right) != value:
        return Verdict("wrong", answer, "equation")
    if sorted(numbers_in(left) or []) != sorted(problem.numbers):
        return Verdict("wrong", answer, "numbers used")
    if value != problem.target:
        return Verdict("wrong", answer, "target")
    return Verdict("correct", answer, "expression")


def _canonical(declared: str, kind: AnswerKind) -> str | None:
    """Canonical form of a declared answer, see `canonical_answer`."""
    if kind == "choice":
        return _letter(declared)
    if kind == "expression":
        left = _expression(declared).partition("=")[0]
        return None if evaluate(left) is None else "".join(left.split())
    quantity = _quantity(_clean(declared))
    if quantity is not None:
        return exact_text(quantity.value)
    return None if _declares_several(declared) else _folded(declared)


def _without_thinking(text: str) -> str:
    """The text after its thinking; a block that is never closed hides everything after it."""
    text = text.rpartition("</think>")[2]
    return text.partition("<think>")[0]


def _last_box(text: str) -> str | None:
    """Content of the closed, not empty box that opens last."""
    open_braces: list[int] = []  # where the content of a box starts; 0 for other braces
    start = end = 0
    for match in _BRACE.finditer(text):
        brace = match[0]
        if brace == "{":
            open_braces.append(0)
        elif brace == "}":
            opened = open_braces.pop() if open_braces else 0
            if opened > start and text[opened : match.start()].strip():
                start, end = opened, match.start()
        elif brace[1] == "b":
            open_braces.append(match.end())
    return text[start:end].strip() if start else None


def _quantity(text: str) -> _Quantity | None:
    """The number and unit that a cleaned text is; None when it is more or something else."""
    start = _UNIT_START.search(text)
    head, tail = (text[: start.start()], text[start.start() :]) if start else (text, "")
    value = parse_number(head)
    if value is None:
        return None
    words = tail.lower().replace("/", " per ").replace(".", " ").split()
    if tail and not _is_unit(tail, words, attached=head[-1] in "0123456789."):
        return None
    is_percent = head.rstrip().endswith("%") or words[:1] == ["percent"]
    if words[:1] == ["percent"]:
        words = words[1:]
    words = [_CURRENCIES[c] for c in _CURRENCIES if c in head] + [_PLURAL.sub("", word) for word in words]
    return _Quantity(value, is_percent, tuple(words))


@lru_cache(maxsize=4096)
def _gold_quantity(answer: str) -> _Quantity | None:
    """A gold answer as a quantity, remembered because each is compared many times."""
    return _quantity(_clean(answer))


def _is_unit(tail: str, words: list[str], attached: bool) -> bool:
    """Whether what follows a number only says what it counts: "3x", "3 million" and "3rd" say more."""
    if not words or _UNIT.fullmatch(tail) is None or not _NOT_UNITS.isdisjoint(words):
        return False
    if len(words[0]) == 1:
        return words[0] in _SINGLE_LETTER_UNITS and not attached
    return not (attached and words[0] in ("st", "nd", "rd", "th"))


def _agree(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    """Whether one unit is the other's beginning: "dollar" and "dollar per hour"."""
    shared = min(len(first), len(second))
    return first[:shared] == second[:shared]


def _hundredfold(gold: _Quantity, given: _Quantity) -> bool:
    """Whether the side with the percent sign is a hundred times the other."""
    percent, plain = (gold, given) if gold.is_percent else (given, gold)
    return percent.value == 100 * plain.value


def _declares_several(declared: str) -> bool:
    """Whether at least two parts of a declaration are quantities: "17 or 18"."""
    parts = _SEPARATORS.split(_clean(declared))
    return sum(_quantity(part) is not None for part in parts) >= 2


def _letter(text: str) -> str | None:
    """The choice that a text names, upper case; None when it names none or more than one."""
    match = _CHOICE.fullmatch(_clean(text))
    return None if match is None or _OTHER_CHOICE.search(match[2] or "") else match[1].upper()


def _expression(declared: str) -> str:
    """A declared expression in the calculator's signs."""
    text = declared
    for _ in range(3):  # fractions inside of fractions
        text = _FRACTION.sub(r"((\1)/(\2))", text)
    return _clean(text).translate(_TO_ASCII)


def _folded(text: str) -> str:
    """Text in lower case with spaces folded."""
    return " ".join(_clean(text).lower().split())


def _clean(text: str) -> str:
    """Text without LaTeX dress, dollar signs around it and a full stop after it."""
    text = text.strip()
    if len(text) > 2 and text[0] == text[-1] == "$":
        text = text[1:-1]
    if "\\" in text or "{" in text or "~" in text:
        text = _SIMPLE_FRACTION.sub(r" \1/\2", text)
        for pattern, plain in _LATEX:
            text = pattern.sub(plain, text)
    if "10" in text:
        text = _POWER_OF_TEN.sub(lambda match: f"e{match[1] or match[2]}", text)
    text = text.strip()
    return text[:-1].rstrip() if text.endswith(".") and not text.endswith("..") else text
