"""Exact arithmetic over text: + - * / and parentheses on decimal numbers, as fractions, within limits.

Nothing here evaluates code, raises on any string, or takes long: an expression has at most `MAX_CHARS`
characters, `MAX_DEPTH` open parentheses and signs, and values of at most `MAX_BITS` bits above and
below the fraction line. Knows nothing of problems and answers.
"""

from __future__ import annotations

import operator
import re
from fractions import Fraction
from typing import NamedTuple

MAX_CHARS = 200
MAX_DEPTH = 32
MAX_BITS = 512  # about 154 decimal digits
MAX_NUMBER_BITS = 8192  # of a number that stands alone
MAX_EXPONENT = 2000  # of scientific notation
PLACES = 4  # decimals that remain of a number without a short decimal


class Operation(NamedTuple):
    """One calculation on two values."""

    left: Fraction
    sign: str  # one of + - * /
    right: Fraction
    result: Fraction


def evaluate(text: str) -> Fraction | None:
    """Exact value of an expression; None when it does not parse, divides by zero or exceeds a limit.

    Knows `+ - * /`, `× ÷ −`, parentheses, signs before a term, and decimals (`0.5`, `.5`, `5.`). There is no
    implicit product (`2(3)`), no power and no separator of thousands.
    """
    parsed = _parse(text)
    return parsed.value if parsed else None


def numbers_in(text: str) -> list[Fraction] | None:
    """The numbers written in an expression, left to right and without signs; None as in `evaluate`."""
    parsed = _parse(text)
    return parsed.numbers if parsed else None


def operations_in(text: str) -> list[Operation] | None:
    """The calculations of an expression in the order they are done; None as in `evaluate`."""
    parsed = _parse(text)
    return parsed.operations if parsed else None


def parse_number(text: str) -> Fraction | None:
    """The one number that a text is, exactly; None when it is anything else.

    Knows `1,234` (groups of three only), `-3`, `+3`, `2.50`, `3/4`, `1 1/2`, `1e3`, a currency sign (`$5`,
    `-$5`, `$-5`) and a percent sign. Both signs are units: `50%` is 50.
    """
    if len(text) > MAX_CHARS:
        return None
    match = _NUMBER.fullmatch(text.strip())
    if match is None or (match["before"] and match["after"]):
        return None
    value = _magnitude(match)
    if value is None or not _is_small(value, MAX_NUMBER_BITS):
        return None
    return -value if (match["before"] or match["after"] or "") in _MINUS else value


def format_number(value: Fraction) -> str | None:
    """Shortest plain decimal: "24", "0.5", "-3"; None when it is too long or would round to zero.

    Exact when the decimal ends within ten places; otherwise rounded to `PLACES` places, halves away from
    zero, so 1/3 is "0.3333". At most 30 digits stand before the point.
    """
    places = _decimal_places(value)
    scale = 10 ** (PLACES if places is None or places > 10 else places)
    whole, rest = divmod(abs(value.numerator) * scale, value.denominator)
    scaled = whole + (2 * rest >= value.denominator)
    if scaled >= scale * 10**30 or (scaled == 0 and value != 0):
        return None
    integer, decimals = divmod(scaled, scale)
    tail = f".{decimals:0{len(str(scale)) - 1}d}".rstrip("0") if decimals else ""
    return f"{'-' if value < 0 else ''}{integer}{tail}"


def exact_text(value: Fraction) -> str:
    """One text for each value: the plain decimal where `format_number` is exact, otherwise "p/q"."""
    places = _decimal_places(value)
    short = format_number(value) if places is not None and places <= 10 else None
    return short if short is not None else str(value)


class _Parsed(NamedTuple):
    value: Fraction
    numbers: list[Fraction]
    operations: list[Operation]


class _Rejected(Exception):  # noqa: N818  never leaves this file
    """The text is no expression within the limits."""


_TOKEN = re.compile(r"[ \t\n]*([0-9]+(?:\.[0-9]*)?|\.[0-9]+|[-+*/()×÷−])")
_ASCII_SIGNS = str.maketrans("×÷−", "*/-")
_OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
_MINUS = ("-", "−")
_NUMBER = re.compile(
    r"(?P<before>[-+−]?)[ ]?(?:[$€£][ ]?)?(?P<after>[-+−]?)"
    r"(?:(?:(?P<integer>[0-9]+)[ ]+)?(?P<top>[0-9]+)[ ]?/[ ]?(?P<bottom>[0-9]+)"
    r"|(?P<decimal>[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]*)?|[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
    r"(?:[eE](?P<exponent>[-+−]?[0-9]{1,4}))?)"
    r"[ ]?%?"
)


def _parse(text: str) -> _Parsed | None:
    """Value and written numbers of an expression; None when it is rejected."""
    if len(text) > MAX_CHARS:
        return None
    parser = _Parser(text)
    try:
        value = parser.sum(depth=0)
    except _Rejected:
        return None
    return _Parsed(value, parser.numbers, parser.operations) if parser.at_end else None


class _Parser:
    """Recursive descent: a sum of products of terms."""

    def __init__(self, text: str) -> None:
        self.numbers: list[Fraction] = []
        self.operations: list[Operation] = []
        self._tokens = _tokens(text.translate(_ASCII_SIGNS))
        self._i = 0

    @property
    def at_end(self) -> bool:
        """Whether every token is consumed."""
        return self._i == len(self._tokens)

    def sum(self, depth: int) -> Fraction:
        """Value of terms joined by + and -."""
        value = self._product(depth)
        while (sign := self._take("+-")) is not None:
            value = self._apply(value, sign, self._product(depth))
        return value

    def _product(self, depth: int) -> Fraction:
        value = self._term(depth)
        while (sign := self._take("*/")) is not None:
            value = self._apply(value, sign, self._term(depth))
        return value

    def _term(self, depth: int) -> Fraction:
        if depth > MAX_DEPTH:
            raise _Rejected
        if (sign := self._take("+-")) is not None:
            term = self._term(depth + 1)
            return term if sign == "+" else -term
        if self._take("("):
            value = self.sum(depth + 1)
            if not self._take(")"):
                raise _Rejected
            return value
        return self._number()

    def _number(self) -> Fraction:
        if self.at_end or self._tokens[self._i] in "+-*/()":
            raise _Rejected
        value = _checked(Fraction(self._tokens[self._i]))
        self._i += 1
        self.numbers.append(value)
        return value

    def _apply(self, left: Fraction, sign: str, right: Fraction) -> Fraction:
        if sign == "/" and right == 0:
            raise _Rejected
        result = _checked(_OPERATIONS[sign](left, right))
        self.operations.append(Operation(left, sign, right, result))
        return result

    def _take(self, options: str) -> str | None:
        """The next token when it is one of these characters, consumed; otherwise None."""
        if self.at_end or self._tokens[self._i] not in options:
            return None
        self._i += 1
        return self._tokens[self._i - 1]


def _tokens(text: str) -> list[str]:
    """Numbers and signs in order; empty, which no parser accepts, when anything else is written."""
    text = text.rstrip(" \t\n")
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            return []
        tokens.append(match[1])
        position = match.end()
    return tokens


def _magnitude(match: re.Match[str]) -> Fraction | None:
    """Unsigned value of a number's match; None when it divides by zero or the exponent is too large."""
    if match["top"]:
        bottom = int(match["bottom"])
        return int(match["integer"] or 0) + Fraction(int(match["top"]), bottom) if bottom else None
    exponent = int((match["exponent"] or "0").replace("−", "-"))
    if abs(exponent) > MAX_EXPONENT:
        return None
    return Fraction(match["decimal"].replace(",", "")) * Fraction(10) ** exponent


def _checked(value: Fraction) -> Fraction:
    if not _is_small(value):
        raise _Rejected
    return value


def _is_small(value: Fraction, bits: int = MAX_BITS) -> bool:
    return value.numerator.bit_length() <= bits and value.denominator.bit_length() <= bits


def _decimal_places(value: Fraction) -> int | None:
    """Decimals of the exact plain decimal; None when it never ends."""
    rest, twos, fives = value.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    return max(twos, fives) if rest == 1 else None
