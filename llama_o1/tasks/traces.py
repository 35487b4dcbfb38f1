"""Cold-start traces: worked problems told as OpenLongCoT thoughts with every meta-action.

Each trace is one root-to-leaf line of a tree. Steps that were corrupted on purpose are marked, so
that training rates them but never learns to write them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Literal, NamedTuple

from llama_o1.format.thoughts import Rating, Thought
from llama_o1.tasks.arithmetic import evaluate, format_number
from llama_o1.tasks.operands import OPERAND, with_operands
from llama_o1.tasks.problem import Problem, WorkedStep
from tree.actions import MetaAction

TraceKind = Literal["plain", "divided", "checked", "repaired", "lost"]
# Shares of the kinds; "lost" lines end in a wrong answer and teach ratings only.
KIND_WEIGHTS: dict[TraceKind, int] = {"plain": 10, "divided": 2, "checked": 1, "repaired": 3, "lost": 4}


class Traced(NamedTuple):
    """A thought of a trace and what of it is worth learning."""

    thought: Thought
    imitate: bool  # its text
    rate: bool = True  # its rating


def trace(problem: Problem, rng: random.Random, kind: TraceKind | None = None) -> list[Traced]:
    """One line of thought for a problem with worked steps, ids growing with random gaps.

    Local ids in a search tree have gaps along a path, so they have them here.
    """
    if not problem.steps:
        raise ValueError(f"problem {problem.id} has no worked steps to trace")
    if kind is None:
        kind = rng.choices(list(KIND_WEIGHTS), list(KIND_WEIGHTS.values()))[0]
    lines = list(_MAKERS[kind](problem, rng))
    traced: list[Traced] = [Traced(Thought(-1, 0, MetaAction.PROBLEM, problem.question), imitate=False)]
    widest = rng.choice((1, 1, 2, 4, 8))
    local = 0
    for action, text, right, imitate in lines:
        father, local = local, local + rng.randint(1, widest)
        rating = Rating.POSITIVE if right else Rating.NEGATIVE
        traced.append(Traced(Thought(father, local, action, text, rating), imitate))
    return traced


def rated_at_random(line: list[Traced], rng: random.Random) -> list[Traced]:
    """The line with ratings that mean nothing and are not learned.

    A search shows the model its own ratings, which may be wrong and change as it learns: a policy that
    has only seen true ones falls apart where they are not.
    """
    ratings = list(Rating)
    return line[:1] + [
        Traced(replace(thought, rating=rng.choice(ratings)), imitate, rate=False)
        for thought, imitate, _ in line[1:]
    ]


class _Line(NamedTuple):
    action: MetaAction
    text: str
    right: bool = True
    imitate: bool = True


def _step_text(step: WorkedStep) -> str:
    return f"<<{step.expression}={step.result}>> {step.unit}".rstrip()


def _conclusion(answer: str) -> _Line:
    return _Line(MetaAction.CONCLUDE, f"\\boxed{{{answer}}}")


def _plain(problem: Problem, rng: random.Random) -> Iterator[_Line]:
    for step in problem.steps:
        yield _Line(MetaAction.EXPAND, _step_text(step))
    yield _conclusion(problem.answer)


def _divided(problem: Problem, rng: random.Random) -> Iterator[_Line]:
    """Name the sub-problem a step answers before taking the step."""
    for step in problem.steps:
        if step.question and rng.random() < 0.7:
            yield _Line(MetaAction.DIVIDE, step.question)
        yield _Line(MetaAction.EXPAND, _step_text(step))
    yield _conclusion(problem.answer)


def _checked(problem: Problem, rng: random.Random) -> Iterator[_Line]:
    """A critic that finds a right step right."""
    at = rng.randrange(len(problem.steps))
    for i, step in enumerate(problem.steps):
        yield _Line(MetaAction.EXPAND, _step_text(step))
        if i == at:
            yield _Line(MetaAction.CRITIC, f"{step.expression} is right.")
    yield _conclusion(problem.answer)


def _repaired(problem: Problem, rng: random.Random) -> Iterator[_Line]:
    """A corrupted step, a critic that names the error, a refine that repairs it."""
    at = rng.randrange(len(problem.steps))
    for i, step in enumerate(problem.steps):
        wrong = _corrupt(problem, i, rng) if i == at else None
        if wrong is None:
            yield _Line(MetaAction.EXPAND, _step_text(step))
            continue
        yield _Line(MetaAction.EXPAND, _step_text(wrong), right=False, imitate=False)
        yield _Line(MetaAction.CRITIC, f"{wrong.expression} is wrong: {step.expression}")
        yield _Line(MetaAction.REFINE, _step_text(step))
    yield _conclusion(problem.answer)


def _lost(problem: Problem, rng: random.Random) -> Iterator[_Line]:
    """A corrupted step that nobody notices: all that follows from it is wrong."""
    at = rng.randrange(len(problem.steps))
    wrong = _corrupt(problem, at, rng)
    if wrong is None:
        yield from _plain(problem, rng)
        return
    for step in problem.steps[:at]:
        yield _Line(MetaAction.EXPAND, _step_text(step))
    yield _Line(MetaAction.EXPAND, _step_text(wrong), right=False, imitate=False)
    swaps = {Fraction(problem.steps[at].result): wrong.result}
    last = wrong
    for step in problem.steps[at + 1 :]:
        expression = with_operands(step.expression, swaps)
        result = _result(expression)
        if result is None:
            return  # the error leads nowhere
        last = step._replace(expression=expression, result=result)
        swaps[Fraction(step.result)] = result
        yield _Line(MetaAction.EXPAND, _step_text(last), right=False, imitate=False)
    answer = _wrong_expression(problem, rng) if problem.kind == "expression" else last.result
    if answer != problem.answer:
        yield _Line(MetaAction.CONCLUDE, f"\\boxed{{{answer}}}", right=False, imitate=False)


_MAKERS = {
    "plain": _plain,
    "divided": _divided,
    "checked": _checked,
    "repaired": _repaired,
    "lost": _lost,
}
_BINARY = re.compile(r"(?<=[\d.)])[-+*/]")  # an operator, not a sign


def _corrupt(problem: Problem, at: int, rng: random.Random) -> WorkedStep | None:
    """The step with another operator or operand and another result; None when none was found."""
    step = problem.steps[at]
    told = re.findall(r"\d+(?:\.\d+)?", problem.question) + OPERAND.findall(step.expression)
    pool = [*told, *(s.result for s in problem.steps[:at])]
    for _ in range(8):
        if rng.random() < 0.5:
            expression = _BINARY.sub(lambda _: rng.choice("+-*/"), step.expression, count=1)
        else:
            span = rng.choice(list(OPERAND.finditer(step.expression)))
            expression = step.expression[: span.start()] + rng.choice(pool) + step.expression[span.end() :]
        result = _result(expression)
        if result is not None and result != step.result:
            return step._replace(expression=expression, result=result)
    return None


def _result(expression: str) -> str | None:
    """The result as text; None when there is none or it is negative or unwieldy."""
    worked = evaluate(expression)
    if worked is None or worked < 0 or worked > 99_999:
        return None
    return format_number(worked)


def _wrong_expression(problem: Problem, rng: random.Random) -> str:
    """An expression over a countdown's numbers that misses the target."""
    numbers: Sequence[int] = rng.sample(problem.numbers, len(problem.numbers))
    text = str(numbers[0])
    for n in numbers[1:]:
        text = f"({text}{rng.choice('+-*')}{n})"
    text = text.removeprefix("(").removesuffix(")") if text.startswith("(") else text
    return text if evaluate(text) != problem.target else problem.answer
