"""A worked problem told again with other numbers, its solution worked out anew."""

from __future__ import annotations

import random
import re
from dataclasses import replace

from llama_o1.tasks.arithmetic import evaluate, format_number
from llama_o1.tasks.problem import Problem, WorkedStep

_NUMBER = re.compile(r"(?<![\d.,/])\d+(?![\d/%]|[.,]\d)")
_OPERAND = re.compile(r"\d+(?:\.\d+)?")


def vary(problem: Problem, rng: random.Random) -> Problem | None:
    """The problem with its whole numbers drawn anew; None where the solution would not follow.

    A number changes only where the question names it once and the solution uses it. Every result must
    stay a whole number where it was one, and above zero, so the story still makes sense.
    """
    swaps = _swaps(problem, rng)
    if not swaps:
        return None
    steps: list[WorkedStep] = []
    for step in problem.steps:
        expression = _OPERAND.sub(lambda m: swaps.get(m[0], m[0]), step.expression)
        worked = evaluate(expression)
        if worked is None or worked <= 0 or (worked.denominator != 1 and "." not in step.result):
            return None
        result = format_number(worked)
        if result is None or swaps.get(step.result, result) != result:
            return None  # the old result was also a number of the question
        swaps[step.result] = result
        steps.append(step._replace(expression=expression, result=result))
    question = _NUMBER.sub(lambda m: swaps.get(m[0], m[0]), problem.question)
    return replace(problem, question=question, answer=steps[-1].result, steps=tuple(steps))


def _swaps(problem: Problem, rng: random.Random) -> dict[str, str]:
    """New numbers of about the old size for the numbers of the question that the solution uses."""
    if problem.kind != "number" or not problem.steps:
        return {}
    named = _NUMBER.findall(problem.question)
    used = {operand for step in problem.steps for operand in _OPERAND.findall(step.expression)}
    results = {step.result for step in problem.steps}
    swaps: dict[str, str] = {}
    for number in named:
        if named.count(number) == 1 and number in used and number not in results and int(number) > 1:
            swaps[number] = str(rng.randint(2, max(9, 2 * int(number))))
    return swaps if len(set(swaps.values())) == len(swaps) else {}
