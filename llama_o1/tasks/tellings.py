"""One worked solution told briefly or at length, so that a model can learn to keep a budget.

BudgetThinker (section 3.3) takes each trace's own length for its budget, which needs traces of many lengths
for like problems. Here a pace is drawn for each telling and every part that could be left out is told with
that chance: a restatement, the question a step answers, its unit, a check, a closing sentence. So a length
is not settled by the first words: where a telling stands in its budget tells how it should go on.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from llama_o1.format.thoughts import Rating, Thought
from llama_o1.tasks.problem import Problem, WorkedStep
from llama_o1.tasks.traces import Traced
from tree.actions import MetaAction

_PLAIN = re.compile(r"(\d+)([-+*/])(\d+)")
_INVERSE = {"+": "-", "-": "+", "*": "/", "/": "*"}


def telling(problem: Problem, rng: random.Random) -> list[Traced]:
    """The solution as thoughts, every one to be imitated; local ids in order."""
    if not problem.steps:
        raise ValueError(f"problem {problem.id} has no worked steps to tell")
    line = [Traced(Thought(-1, 0, MetaAction.PROBLEM, problem.question), imitate=False)]
    for local, (action, text) in enumerate(_parts(problem, rng), start=1):
        line.append(Traced(Thought(local - 1, local, action, text, Rating.POSITIVE), imitate=True))
    return line


def _parts(problem: Problem, rng: random.Random) -> Iterator[tuple[MetaAction, str]]:
    pace = rng.random()
    if problem.steps[-1].question and rng.random() < pace:
        yield MetaAction.DIVIDE, f"We want to know: {problem.steps[-1].question}"
    for step in problem.steps:
        if step.question and rng.random() < pace:
            yield MetaAction.DIVIDE, step.question
        unit = f" {step.unit}" if step.unit and rng.random() < pace else ""
        yield MetaAction.EXPAND, f"<<{step.expression}={step.result}>>{unit}"
        check = _check(step)
        if check is not None and rng.random() < pace:
            yield MetaAction.CRITIC, f"Check: <<{check}>>, so {step.result} is right."
    if rng.random() < pace:
        yield MetaAction.EXPAND, f"So the answer is {problem.answer}."
    yield MetaAction.CONCLUDE, f"\\boxed{{{problem.answer}}}"


def _check(step: WorkedStep) -> str | None:
    """The step calculated backwards; None where it is no plain sum, difference, product or quotient."""
    match = _PLAIN.fullmatch(step.expression)
    if match is None:
        return None
    left, sign, right = match.groups()
    return f"{step.result}{_INVERSE[sign]}{right}={left}"
