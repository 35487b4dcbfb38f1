"""A worked problem told again with other numbers, its solution worked out anew."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace
from fractions import Fraction

from llama_o1.tasks.arithmetic import evaluate, format_number
from llama_o1.tasks.operands import operands, with_operands
from llama_o1.tasks.problem import Problem, WorkedStep


def vary(problem: Problem, rng: random.Random) -> Problem | None:
    """The problem with its whole numbers drawn anew; None where the solution would not follow.

    A number changes only where the question names it once and the solution uses it. Every result must
    stay a whole number where it was one, and above zero, so the story still makes sense.
    """
    swaps = _swaps(problem, rng)
    if not swaps:
        return None
    question = _NUMBER.sub(lambda m: swaps.get(Fraction(m[0]), m[0]), problem.question)
    kept = set(_named(problem.question)) - set(swaps)
    steps: list[WorkedStep] = []
    for step in problem.steps:
        expression, old = with_operands(step.expression, swaps), Fraction(step.result)
        result = _result(expression, whole=old.denominator == 1)
        if result is None or swaps.get(old, result) != result or (old in kept and Fraction(result) != old):
            return None  # or the same number would stand for two things
        swaps[old] = result
        steps.append(step._replace(expression=expression, result=result))
    return replace(problem, question=question, answer=steps[-1].result, steps=tuple(steps))


_NUMBER = re.compile(r"(?<![\w.,/:])\d+(?![\w/%:]|[.,]\d)")  # whole and alone: not 5%, 1/2, 1.5, 2nd
_ANY_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?|\.\d+")
# Words that bring a number into a solution which the question does not write in digits.
_SPELLED = {
    2: "two twice doubl half halves pair couple both second again",
    3: "three thrice tripl third",
    4: "four quarter",
    5: "five fifth weekday",
    6: "six",
    7: "seven week",
    8: "eight",
    9: "nine",
    10: "ten tenth dime",
    12: "twelve dozen year month foot feet",
    16: "pound ounce",
    20: "twenty score",
    24: "day",
    25: "quarter",
    30: "thirty month",
    52: "week year",
    60: "hour minute sixty",
    100: "percent % hundred cent meter",
    365: "year",
    1000: "thousand kilo",
}


def _named(question: str) -> list[Fraction]:
    """Every number that the question tells, in digits or in a word."""
    text = question.lower()
    told = [Fraction(number.replace(",", "")) for number in _ANY_NUMBER.findall(question)]
    return told + [
        Fraction(n) for n, words in _SPELLED.items() if any(word in text for word in words.split())
    ]


def _swaps(problem: Problem, rng: random.Random) -> dict[Fraction, str]:
    """New numbers of about the old size for the numbers of the question that the solution uses."""
    if problem.kind != "number" or not problem.steps:
        return {}
    named = Counter(_named(problem.question))
    used = {abs(operand) for step in problem.steps for operand in operands(step.expression)}
    results = {Fraction(step.result) for step in problem.steps}
    swaps: dict[Fraction, str] = {}
    for number in map(Fraction, _NUMBER.findall(problem.question)):
        if named[number] == 1 and number in used and number not in results and number > 1:
            swaps[number] = str(rng.randint(2, max(9, 2 * int(number))))
    return swaps if len(set(swaps.values())) == len(swaps) else {}


def _result(expression: str, *, whole: bool) -> str | None:
    """What the expression comes to, exactly; None when it is not above zero, or not whole but must be."""
    worked = evaluate(expression)
    if worked is None or worked <= 0 or (whole and worked.denominator != 1):
        return None
    result = format_number(worked)
    return result if result is not None and Fraction(result) == worked else None
