"""Word problems of one to six calculations: a story that grows move by move, with its worked solution."""

from __future__ import annotations

import hashlib
import random
import re

from llama_o1.tasks.problem import Problem, WorkedStep

MAX_RESULT = 9999
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


def word_problem(rng: random.Random, num_steps: int) -> Problem | None:
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
    # Never before a sentence that means the last things named.
    places = [i for i, later in enumerate([*s.sentences, ""]) if i and not _POINTS_BACK.search(later)]
    s.sentences.insert(s.rng.choice(places), sentence)


_POINTS_BACK = re.compile(r"\bthem\b|^Each costs")
