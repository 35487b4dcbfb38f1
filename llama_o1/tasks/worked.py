"""Worked steps out of a written solution: GSM8K's `<<48/2=24>>24 clips`, or one expression as in SVAMP."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from llama_o1.tasks.arithmetic import Operation, evaluate, format_number, operations_in, parse_number
from llama_o1.tasks.problem import WorkedStep


class Worked(NamedTuple):
    """What a solution tells of the way to the answer."""

    num_steps: int | None  # calculations; None: the solution does not show all of them
    steps: tuple[WorkedStep, ...]  # empty unless every step is exact and the last one gives the answer


def worked_steps(solution: str, answer: str) -> Worked:
    """The calculations of a solution in order, kept as steps only when all of them are right.

    `answer` is a number, or an expression when the solution is that expression itself.
    """
    if "<<" in solution:
        steps = _annotated_steps(solution)
        reaches = bool(steps) and parse_number(steps[-1].result) == _value(answer)
        is_whole = len(steps) == solution.count("<<")
        return Worked(len(steps), steps) if reaches and is_whole else Worked(None, ())
    operations = operations_in(solution)
    if operations is None:
        return Worked(None, ())
    steps = _expression_steps(operations)
    is_right = bool(steps) and operations[-1].result == _value(answer)
    return Worked(len(operations), steps if is_right and len(steps) == len(operations) else ())


_ANNOTATION = re.compile(r"(\$?)<<([^<>=]*)=([^<>=]*)>>([^\n<]*)")
_UNIT = re.compile(r"\s*[0-9]*(?:[.,][0-9]+)*\s?([a-z]+)(?![A-Za-z'’-])")
# Words that follow a number without saying what it counts.
_FUNCTION_WORDS = frozenset(
    "a about after an and are as at away because before but by each else every few fewer for from had "
    "has he her his if in is it its less longer many more of off on once or out over per plus she since "
    "so than that the their there they this times to together total until was were when which while "
    "will with would".split()
)


def _annotated_steps(solution: str) -> tuple[WorkedStep, ...]:
    """The calculator annotations that are exactly right."""
    steps = []
    for money, expression, result, after in _ANNOTATION.findall(solution):
        value = evaluate(expression)
        text = None if value is None else _exact(value)
        if text is not None and value == parse_number(result):
            steps.append(WorkedStep("".join(expression.split()), text, "dollars" if money else _unit(after)))
    return tuple(steps)


def _expression_steps(operations: list[Operation]) -> tuple[WorkedStep, ...]:
    """The calculations whose values are short decimals."""
    steps = []
    for operation in operations:
        left, right, result = (_exact(v) for v in (operation.left, operation.right, operation.result))
        if left is not None and right is not None and result is not None:
            steps.append(WorkedStep(f"{left}{operation.sign}{right}", result))
    return tuple(steps)


def _unit(after: str) -> str:
    """What is counted, from the text after an annotation: " 24 clips in May." gives "clips"."""
    match = _UNIT.match(after)
    return match[1] if match and len(match[1]) > 1 and match[1] not in _FUNCTION_WORDS else ""


def _value(answer: str) -> Fraction | None:
    number = parse_number(answer)
    return evaluate(answer) if number is None else number


def _exact(value: Fraction) -> str | None:
    """The value as a decimal that loses nothing; None when there is none."""
    text = format_number(value)
    return text if text is not None and parse_number(text) == value else None
