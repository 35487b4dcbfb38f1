"""Generated problem sets: word problems, chains of assignments and countdown, with worked solutions.

Every set is split by a canonical hash (names masked, numbers sorted), so that no held-out problem is
a reordering or a renaming of a trained one.
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

SPLITS = ("train", "dev", "test")
MAX_RESULT = 9999


def generate(name: str, split: str, count: int, seed: int, min_steps: int, max_steps: int) -> list[Problem]:
    """`count` different problems of a generated set, the same for the same arguments."""
    if name not in _MAKERS:
        raise ProblemError(f"no generated problem set {name!r}; there are {', '.join(_MAKERS)}")
    if not 1 <= min_steps <= max_steps <= MAX_STEPS[name]:
        raise ProblemError(
            f"{name} has problems of 1 to {MAX_STEPS[name]} steps, got {min_steps} to {max_steps}"
        )
    return list(islice(stream(name, split, seed, min_steps, max_steps), count))


def stream(name: str, split: str, seed: int, min_steps: int, max_steps: int) -> Iterator[Problem]:
    """Different problems of a generated set without end."""
    rng = random.Random(f"{name}/{split}/{seed}")
    seen: set[str] = set()
    while True:
        steps = rng.randint(min_steps, max_steps)
        problem = _MAKERS[name](rng, steps)
        if problem is None:
            continue
        key = canonical(problem)
        if key not in seen and split_of(key) == split:
            seen.add(key)
            yield problem


def canonical(problem: Problem) -> str:
    """The problem with names masked and numbers sorted; equal for reorderings and renamings."""
    if problem.kind == "expression":
        return f"{sorted(problem.numbers)} {problem.target}"
    numbers = sorted(re.findall(r"\d+", problem.question))
    masked = re.sub(r"\b[A-Z][a-z]+\b|\b[a-z]\b", "_", re.sub(r"\d+", "#", problem.question))
    for item in (*ITEMS, *OTHER_ITEMS, *BOXES):
        masked = masked.replace(item, "_")
    return f"{masked} {numbers}"


def split_of(key: str) -> str:
    """The split a canonical form belongs to: 80 % train, 10 % dev, 10 % test."""
    bucket = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 10
    return "train" if bucket < 8 else SPLITS[bucket - 7]


NAMES = (
    "Tom Anna Ben Mia Sam Lena Max Nina Paul Sara John Emma Luis Rosa Omar Ivy Jack Lily Adam Zoe Noah "
    "Ella Liam Ruth Carl Dora Evan Faye Gina Hugo Iris Jane Kyle Lola Mark Nora Otto Pia Ryan Tina"
).split()
ITEMS = (
    "apples pens books cards marbles stamps cookies shells coins pencils stickers balls flowers oranges "
    "toys candies eggs tickets beads bottles"
).split()
OTHER_ITEMS = "hats chairs lamps keys spoons ropes".split()
BOXES = "boxes bags baskets jars packs trays".split()


class _Story:
    """A word problem as it grows: sentences, worked steps and the quantity that is asked for next."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.sentences: list[str] = []
        self.steps: list[WorkedStep] = []
        self.names = rng.sample(NAMES, 5)
        self.item = rng.choice(ITEMS)
        self.owner = self.names.pop()
        self.value = rng.randint(2, 60)
        self.asked = ""

    def work(self, expression: str, value: int, asked: str) -> None:
        """Record one calculation and the question it answers."""
        self.steps.append(WorkedStep(expression, str(value), self.item, asked))
        self.value, self.asked = value, asked

    def tell(self, *phrasings: str) -> None:
        """Add one of these sentences."""
        self.sentences.append(self.rng.choice(phrasings))


def _word(rng: random.Random, num_steps: int) -> Problem | None:
    """A word problem of `num_steps` calculations, sometimes with a sentence that does not matter."""
    story = _Story(rng)
    if rng.random() < 0.4:
        _start_with_boxes(story)
    else:
        n, who = story.value, story.owner
        story.tell(
            f"{who} has {n} {story.item}.",
            f"{who} owns {n} {story.item}.",
            f"There are {n} {story.item} on {who}'s table.",
        )
    moves = (_gain, _gain, _loss, _loss, _times, _more_than, _fewer_than, _together, _share, _half, _groups)
    tries = 0
    while len(story.steps) < num_steps:
        tries += 1
        if tries > 60:
            return None
        rng.choice(moves)(story, num_steps - len(story.steps))
    if len(story.steps) != num_steps or not 0 < story.value <= MAX_RESULT:
        return None
    if rng.random() < 0.35:
        _distract(story)
    question = " ".join([*story.sentences, story.asked])
    return Problem(
        id=f"word-{hashlib.sha256(question.encode()).hexdigest()[:12]}",
        question=question,
        answer=str(story.value),
        source="word",
        num_steps=num_steps,
        steps=tuple(story.steps),
    )


def _start_with_boxes(s: _Story) -> None:
    boxes, each, box = s.rng.randint(2, 12), s.rng.randint(2, 20), s.rng.choice(BOXES)
    who = s.owner
    s.tell(
        f"{who} has {boxes} {box} with {each} {s.item} in each.",
        f"{who} buys {boxes} {box} of {s.item}. There are {each} {s.item} in each of the {box}.",
        f"Each of {who}'s {boxes} {box} holds {each} {s.item}.",
    )
    s.work(f"{boxes}*{each}", boxes * each, f"How many {s.item} does {who} have?")


def _gain(s: _Story, left: int) -> None:
    n, who = s.rng.randint(2, 60), s.owner
    s.tell(
        f"{who} gets {n} more {s.item}.",
        f"Then {who} buys {n} {s.item}.",
        f"{who} finds another {n} {s.item}.",
        f"A friend gives {who} {n} {s.item}.",
    )
    s.work(f"{s.value}+{n}", s.value + n, f"How many {s.item} does {who} have now?")


def _loss(s: _Story, left: int) -> None:
    if s.value < 4:
        return
    n, who = s.rng.randint(1, min(s.value - 1, 80)), s.owner
    s.tell(
        f"{who} gives away {n} {s.item}.",
        f"{who} loses {n} of them.",
        f"Then {who} sells {n} {s.item}.",
        f"{who} uses {n} {s.item}.",
    )
    s.work(f"{s.value}-{n}", s.value - n, f"How many {s.item} does {who} have left?")


def _times(s: _Story, left: int) -> None:
    if not s.names or s.value > 400:
        return
    k, other = s.rng.randint(2, 6), s.names.pop()
    word = {2: "twice", 3: "three times", 4: "four times", 5: "five times", 6: "six times"}[k]
    s.tell(
        f"{other} has {word} as many {s.item} as {s.owner}.", f"{other} has {k} times as many as {s.owner}."
    )
    s.owner = other
    s.work(f"{s.value}*{k}", s.value * k, f"How many {s.item} does {other} have?")


def _half(s: _Story, left: int) -> None:
    k = s.rng.choice((2, 2, 3, 4))
    if not s.names or s.value % k or s.value < 2 * k:
        return
    other = s.names.pop()
    word = {2: "half", 3: "a third", 4: "a quarter"}[k]
    s.tell(
        f"{other} has {word} as many {s.item} as {s.owner}.", f"{other} has only {word} as many as {s.owner}."
    )
    s.owner = other
    s.work(f"{s.value}/{k}", s.value // k, f"How many {s.item} does {other} have?")


def _more_than(s: _Story, left: int) -> None:
    if not s.names:
        return
    n, other = s.rng.randint(2, 50), s.names.pop()
    s.tell(
        f"{other} has {n} more {s.item} than {s.owner}.", f"{other} has {n} {s.item} more than {s.owner} has."
    )
    s.owner = other
    s.work(f"{s.value}+{n}", s.value + n, f"How many {s.item} does {other} have?")


def _fewer_than(s: _Story, left: int) -> None:
    if not s.names or s.value < 5:
        return
    n, other = s.rng.randint(1, min(s.value - 2, 50)), s.names.pop()
    s.tell(f"{other} has {n} fewer {s.item} than {s.owner}.", f"{other} has {n} less than {s.owner}.")
    s.owner = other
    s.work(f"{s.value}-{n}", s.value - n, f"How many {s.item} does {other} have?")


def _together(s: _Story, left: int) -> None:
    """Somebody new with a number of their own joins in, or the last two quantities are added."""
    if not s.names:
        return
    other, n = s.names.pop(), s.rng.randint(2, 60)
    s.tell(f"{other} has {n} {s.item}.", f"{other} brings {n} {s.item}.")
    both = f"{s.owner} and {other}"
    s.work(f"{s.value}+{n}", s.value + n, f"How many {s.item} do {both} have together?")
    if left > 1:
        s.tell(f"{both} put all their {s.item} on one table.", f"{both} put them together.")
        s.owner = both.split(" and ")[0]
        s.sentences[-1] += f" {s.owner} takes them all."


def _share(s: _Story, left: int) -> None:
    choices = [k for k in range(2, 11) if s.value % k == 0 and s.value // k > 1]
    if not choices or left > 1:
        return
    k, box = s.rng.choice(choices), s.rng.choice(BOXES)
    s.tell(
        f"{s.owner} packs them into {k} equal {box}.",
        f"{s.owner} divides the {s.item} evenly among {k} {box}.",
    )
    s.work(f"{s.value}/{k}", s.value // k, f"How many {s.item} are in each of the {box}?")


def _groups(s: _Story, left: int) -> None:
    """The price of all; the unit changes, so it comes last."""
    if left > 1 or s.value > 300:
        return
    price = s.rng.randint(2, 12)
    s.tell(f"Each costs ${price}.", f"{s.owner} sells all of them for ${price} each.")
    s.item = "dollars"
    s.work(f"{s.value}*{price}", s.value * price, "How many dollars is that in all?")


def _distract(s: _Story) -> None:
    n, item, who = s.rng.randint(2, 60), s.rng.choice(OTHER_ITEMS), s.rng.choice(NAMES)
    sentence = s.rng.choice(
        (
            f"{who} has {n} {item}.",
            f"There are also {n} {item}.",
            f"{who} is {n} years old.",
            f"The shop is {n} miles away.",
        )
    )
    s.sentences.insert(s.rng.randint(1, len(s.sentences)), sentence)


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
        lines.append(
            f"{letters[-1]} = {rng.choice(letters[: num_steps + 1])} {rng.choice('+-*')} {rng.randint(2, 20)}."
        )
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
    "word": _word,
    "chain": _chain,
    "countdown": _countdown,
}
MAX_STEPS = {"word": 6, "chain": 6, "countdown": 3}
