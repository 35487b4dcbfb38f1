"""The numbers that a worked step calculates with: found, and replaced by value rather than by text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

# A minus is a sign where no number or parenthesis ends before it: "26+-2", "-6+8".
OPERAND = re.compile(r"(?:(?<![\d.)])-)?(?:\d+(?:\.\d*)?|\.\d+)")


def operands(expression: str) -> list[Fraction]:
    """The numbers of an expression, signs included, left to right."""
    return [Fraction(number) for number in OPERAND.findall(expression)]


def with_operands(expression: str, swaps: Mapping[Fraction, str]) -> str:
    """The expression with these numbers written instead; `.50` is the 0.5 that an earlier step came to."""

    def swapped(match: re.Match[str]) -> str:
        value = Fraction(match[0])
        if value in swaps:
            return swaps[value]
        return f"-{swaps[-value]}" if value < 0 and -value in swaps else match[0]

    return OPERAND.sub(swapped, expression)
