"""Generated problem sets: word problems (stories.py), chains of assignments and countdown, with solutions.

Every set is split by its problems' canonical forms, so that no held-out problem is a reordering or a
renaming of a trained one.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice

from llama_o1.errors import ProblemError
from llama_o1.tasks.problem import Problem, WorkedStep
from llama_o1.tasks.split import split_of
from llama_o1.tasks.stories import BOXES, ITEMS, MAX_RESULT, OTHER_ITEMS, word_problem

MAX_REPEATS = 10_000  # draws in a row without a new problem: there are hardly any left


def generate(name: str, split: str, count: int, seed: int, min_steps: int, max_steps: int) -> list[Problem]:
    """`count` different problems of a generated set, the same for the same arguments.

    ProblemError when the range of steps is not one of the set's, or holds too few different problems.
    """
    problems = list(islice(stream(name, split, seed, min_steps, max_steps), count))
    if len(problems) < count:
        raise ProblemError(
            f"{name} has only {len(problems)} different {split} problems of {min_steps} to {max_steps} "
            f"steps, {count} were asked for; ask for fewer or allow more steps"
        )
    return problems


def stream(name: str, split: str, seed: int, min_steps: int, max_steps: int) -> Iterator[Problem]:
    """Different problems of a generated set, until hardly a new one is found."""
    _check(name, min_steps, max_steps)
    rng = random.Random(f"{name}/{split}/{seed}")
    seen: set[str] = set()
    repeats = 0
    while repeats < MAX_REPEATS:
        problem = _MAKERS[name](rng, rng.randint(min_steps, max_steps))
        repeats += 1
        if problem is None:
            continue
        key = canonical(problem)
        if key not in seen and split_of(key) == split:
            repeats = 0
            seen.add(key)
            yield problem


def canonical(problem: Problem) -> str:
    """The problem with names masked, numbers and sentences sorted; equal for reorderings and renamings."""
    if problem.kind == "expression":
        return f"{sorted(problem.numbers)} {problem.target}"
    numbers = sorted(re.findall(r"\d+", problem.question))
    masked = re.sub(r"\b[A-Z][a-z]+\b|\b[a-z]\b", "_", re.sub(r"\d+", "#", problem.question))
    for item in (*ITEMS, *OTHER_ITEMS, *BOXES):
        masked = masked.replace(item, "_")
    return f"{sorted(re.split(r'(?<=[.?]) ', masked))} {numbers}"


def _check(name: str, min_steps: int, max_steps: int) -> None:
    if name not in _MAKERS:
        raise ProblemError(f"no generated problem set {name!r}; there are {', '.join(_MAKERS)}")
    if not 1 <= min_steps <= max_steps <= MAX_STEPS[name]:
        raise ProblemError(
            f"{name} has problems of 1 to {MAX_STEPS[name]} steps, got {min_steps} to {max_steps}"
        )


def _chain(rng: random.Random, num_steps: int) -> Problem | None:
    """Assignments in shuffled order, one of them unused at times; the last variable is asked for."""
    letters = rng.sample("abcdefghkmnpqrstuvwxyz", num_steps + 2)
    value = rng.randint(2, 30)
    lines = [f"{letters[0]} = {value}."]
    steps: list[WorkedStep] = []
    for i in range(num_steps):
        op, n, result = _operation(rng, value)
        if result is None:
            return None
        lines.append(f"{letters[i + 1]} = {letters[i]} {op} {n}.")
        steps.append(WorkedStep(f"{value}{op}{n}", str(result), letters[i + 1], f"What is {letters[i + 1]}?"))
        value = result
    asked = letters[num_steps]
    if rng.random() < 0.4:
        other = rng.choice(letters[: num_steps + 1])
        lines.append(f"{letters[-1]} = {other} {rng.choice('+-*')} {rng.randint(2, 20)}.")
    rng.shuffle(lines)
    question = " ".join([*lines, f"What is {asked}?"])
    return Problem(
        id=f"chain-{hashlib.sha256(question.encode()).hexdigest()[:12]}",
        question=question,
        answer=str(value),
        source="chain",
        num_steps=num_steps,
        steps=tuple(steps),
    )


def _operation(rng: random.Random, value: int) -> tuple[str, int, int | None]:
    op = rng.choice("++--**/")
    if op == "+":
        n = rng.randint(2, 50)
        return op, n, value + n
    if op == "-" and value > 3:
        n = rng.randint(1, value - 1)
        return op, n, value - n
    if op == "*" and value < 500:
        n = rng.randint(2, 9)
        return op, n, value * n
    divisors = [k for k in range(2, 10) if value % k == 0]
    if op == "/" and divisors:
        n = rng.choice(divisors)
        return op, n, value // n
    return op, 0, None


def _countdown(rng: random.Random, num_steps: int) -> Problem | None:
    """Make a target from `num_steps + 1` numbers, each used once; solved as it is made."""
    numbers = [rng.randint(1, 60) for _ in range(num_steps + 1)]
    pool: list[tuple[int, str]] = [(n, str(n)) for n in numbers]
    steps: list[WorkedStep] = []
    while len(pool) > 1:
        (a, left), (b, right) = rng.sample(pool, 2)
        op = rng.choice("++--**/")
        result = _whole(a, op, b)
        if result is None:
            return None
        pool.remove((a, left))
        pool.remove((b, right))
        rest = "".join(f" {n}" for n, _ in pool)
        steps.append(WorkedStep(f"{a}{op}{b}", str(result), rest.strip()))
        outer = len(pool) == 0
        text = f"{left}{op}{right}" if outer else f"({left}{op}{right})"
        pool.append((result, text))
    target, expression = pool[0]
    if target > 400 or target in numbers:
        return None
    listed = ", ".join(map(str, numbers))
    return Problem(
        id=f"countdown-{'-'.join(map(str, numbers))}-{target}",
        question=f"Use the numbers {listed} and the operations +, -, *, / with parentheses to make {target}. "
        "Use every number exactly once.",
        answer=expression,
        source="countdown",
        kind="expression",
        numbers=tuple(numbers),
        target=target,
        num_steps=num_steps,
        steps=tuple(steps),
    )


def _whole(a: int, op: str, b: int) -> int | None:
    """A op b when it is a positive whole number that is not trivially a again, else None."""
    if op in "*/" and b == 1:
        return None
    value = {"+": Fraction(a + b), "-": Fraction(a - b), "*": Fraction(a * b), "/": Fraction(a, b)}[op]
    return int(value) if value.denominator == 1 and 0 < value <= MAX_RESULT else None


_MAKERS: dict[str, Callable[[random.Random, int], Problem | None]] = {
    "word": word_problem,
    "chain": _chain,
    "countdown": _countdown,
}
MAX_STEPS = {"word": 6, "chain": 6, "countdown": 3}
