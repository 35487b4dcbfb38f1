"""Solutions told briefly or at length."""

import random
import re
from collections import Counter

import pytest

from llama_o1.tasks.arithmetic import evaluate
from llama_o1.tasks.generator import generate
from llama_o1.tasks.problem import Problem, WorkedStep
from llama_o1.tasks.tellings import telling
from tree.actions import MetaAction

PROBLEM = Problem(
    id="pens",
    question="Tom has 3 boxes with 8 pens in each. He gives away 5. How many are left?",
    answer="19",
    source="word",
    steps=(
        WorkedStep("3*8", "24", "pens", "How many pens does Tom have?"),
        WorkedStep("24-5", "19", "pens", "How many pens are left?"),
    ),
)


class Drawn(random.Random):
    """Gives these numbers, the last one ever after."""

    def __init__(self, *numbers):
        super().__init__(0)
        self.numbers = list(numbers)

    def random(self):
        return self.numbers.pop(0) if len(self.numbers) > 1 else self.numbers[0]


def texts(line):
    return [traced.thought.text for traced in line[1:]]


def test_at_the_least_pace_only_the_calculations_are_told():
    assert texts(telling(PROBLEM, Drawn(0.0))) == ["<<3*8=24>>", "<<24-5=19>>", "\\boxed{19}"]


def test_at_the_highest_pace_everything_is_told():
    assert texts(telling(PROBLEM, Drawn(1.0, 0.0))) == [
        "We want to know: How many pens are left?",
        "How many pens does Tom have?",
        "<<3*8=24>> pens",
        "Check: <<24/8=3>>, so 24 is right.",
        "How many pens are left?",
        "<<24-5=19>> pens",
        "Check: <<19+5=24>>, so 19 is right.",
        "So the answer is 19.",
        "\\boxed{19}",
    ]


def test_parts_are_told_each_by_a_draw_of_its_own():
    # pace 0.5; then: what is wanted, question, unit and check of each step, closing words
    line = telling(PROBLEM, Drawn(0.5, 0.9, 0.1, 0.9, 0.9, 0.9, 0.1, 0.1, 0.9))
    assert texts(line) == [
        "How many pens does Tom have?", "<<3*8=24>>",
        "<<24-5=19>> pens", "Check: <<19+5=24>>, so 19 is right.", "\\boxed{19}",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["word", "chain", "countdown"])
def test_every_telling_is_right_and_ends_in_its_answer(name):
    rng = random.Random(1)
    for problem in generate(name, "train", 40, 0, 1, 3):
        line = telling(problem, rng)
        assert [t.thought.father for t in line] == list(range(-1, len(line) - 1))
        assert line[-1].thought.action is MetaAction.CONCLUDE
        assert line[-1].thought.text == f"\\boxed{{{problem.answer}}}"
        for traced in line[1:-1]:
            for call in re.findall("<<(.*?)>>", traced.thought.text):
                expression, result = call.split("=")
                assert evaluate(expression) == evaluate(result)


def test_one_problem_is_told_at_many_lengths():
    rng = random.Random(0)
    counts = Counter(len(" ".join(texts(telling(PROBLEM, rng)))) // 40 for _ in range(300))
    assert len(counts) >= 5
    assert max(counts.values()) < 200


def test_a_problem_without_steps_is_refused():
    with pytest.raises(ValueError, match="problem x has no worked steps"):
        telling(Problem(id="x", question="?", answer="1", source="word"), random.Random(0))
