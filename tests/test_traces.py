import random
import re
from fractions import Fraction
from itertools import pairwise

import pytest

from llama_o1.format.thoughts import Rating, parse, render
from llama_o1.tasks.arithmetic import evaluate, format_number
from llama_o1.tasks.generator import generate
from llama_o1.tasks.operands import OPERAND, operands, with_operands
from llama_o1.tasks.problem import Problem, WorkedStep
from llama_o1.tasks.problems import load_problems
from llama_o1.tasks.traces import KIND_WEIGHTS, trace
from llama_o1.tasks.vary import vary
from llama_o1.tasks.verify import verify
from tree.actions import MetaAction, allowed

STORED = ("gsm8k", "svamp", "game24")
SIGNED = Problem(
    "signed", "It was 26 degrees, then 2 less.", "24", "mine", num_steps=1, steps=(WorkedStep("26+-2", "24"),)
)


@pytest.fixture(scope="module")
def worked():
    """Problems with worked steps, of every set."""
    stored = [p for name in STORED for p in load_problems(name, limit=400).problems if p.steps]
    made = [p for name in ("word", "chain", "countdown") for p in generate(name, "train", 60, 0, 1, 3)]
    return [*stored, *made, SIGNED]


def call_of(text):
    """Expression and result of the call that a step's text is; None when it is none."""
    match = re.fullmatch(r"<<(.*)=(.*)>>(?: .*)?", text)
    return None if match is None else match.groups()


@pytest.mark.parametrize("kind", KIND_WEIGHTS)
def test_every_trace_is_a_record_that_follows_the_grammar(worked, kind):
    rng = random.Random(kind)
    for problem in worked:
        line = [traced.thought for traced in trace(problem, rng, kind)]
        assert parse(render(line)) == line
        assert line[0].text == problem.question
        for above, thought in pairwise(line):
            assert thought.action in allowed(above.action, thinking_left=1)
            assert (thought.father, thought.local > above.local) == (above.local, True)


@pytest.mark.parametrize("kind", KIND_WEIGHTS)
def test_every_step_is_worked_out_as_the_calculator_would(worked, kind):
    rng = random.Random(kind)
    for problem in worked:
        for thought, *_ in trace(problem, rng, kind):
            if thought.action in (MetaAction.EXPAND, MetaAction.REFINE):
                expression, result = call_of(thought.text)
                assert format_number(evaluate(expression)) == result


@pytest.mark.parametrize("kind", KIND_WEIGHTS)
def test_what_was_corrupted_is_rated_negative_and_not_imitated(worked, kind):
    rng = random.Random(kind)
    corrupted = 0
    for problem in worked:
        line = trace(problem, rng, kind)
        steps = {step.expression: step.result for step in problem.steps}
        for thought, imitate, _ in line[1:]:
            assert imitate == (thought.rating is Rating.POSITIVE)
            if thought.action in (MetaAction.EXPAND, MetaAction.REFINE) and imitate:
                expression, result = call_of(thought.text)
                assert steps[expression] == result
            if thought.action is MetaAction.CONCLUDE:
                assert (verify(thought.text, problem).verdict == "correct") == imitate
            corrupted += not imitate
        if kind != "lost":
            assert line[-1].thought.action is MetaAction.CONCLUDE
    assert (corrupted > 0) == (kind in ("repaired", "lost"))


def test_an_error_is_named_and_repaired():
    rng = random.Random(0)
    problem = generate("word", "train", 1, 0, 3, 3)[0]
    line = [thought for thought, *_ in trace(problem, rng, "repaired")]
    at = [thought.action for thought in line].index(MetaAction.CRITIC)
    wrong, _ = call_of(line[at - 1].text)
    right, _ = call_of(line[at + 1].text)
    assert line[at].text == f"{wrong} is wrong: {right}"
    assert line[at + 1].action is MetaAction.REFINE
    assert line[at - 1].rating is Rating.NEGATIVE


def test_an_error_that_nobody_notices_is_carried_on():
    problem = Problem(
        "p", "2 and 3, times 4.", "20", "mine", steps=(WorkedStep("2+3", "5"), WorkedStep("5*4", "20"))
    )
    carried = 0
    for seed in range(30):
        line = [thought for thought, *_ in trace(problem, random.Random(seed), "lost")]
        first, second = call_of(line[1].text), call_of(line[2].text)
        if first[1] != "5":
            assert second[0] == f"{first[1]}*4"
            carried += 1
    assert carried > 5


def test_an_error_that_leads_to_nothing_that_can_be_worked_out_ends_the_line():
    problem = Problem(
        "p",
        "3 less 1; 12 shared by them.",
        "6",
        "mine",
        steps=(WorkedStep("3-1", "2"), WorkedStep("12/2", "6")),
    )
    ended = 0
    for seed in range(200):
        line = [thought for thought, *_ in trace(problem, random.Random(seed), "lost")]
        if call_of(line[1].text)[1] == "0":
            assert len(line) == 2
            ended += 1
    assert ended


def test_signed_operands_stay_whole_when_a_step_is_corrupted():
    for seed in range(200):
        for kind in ("repaired", "lost"):
            for thought, *_ in trace(SIGNED, random.Random(seed), kind)[1:]:
                if thought.action is MetaAction.EXPAND:
                    expression, _ = call_of(thought.text)
                    assert evaluate(expression) is not None
                    assert not re.search(r"^[*/]|[-+*/][*/]|\.\d*\.", expression)


def test_ids_grow_with_gaps(worked):
    rng = random.Random(0)
    gaps = {thought.local - thought.father for problem in worked for thought, *_ in trace(problem, rng)[1:]}
    assert gaps == set(range(1, 9))


def test_a_problem_without_worked_steps_is_refused():
    with pytest.raises(ValueError, match="problem p has no worked steps"):
        trace(Problem("p", "Why?", "1", "mine"), random.Random(0))


def test_operands_are_found_with_their_signs():
    assert operands("26+-2") == [26, -2]
    assert operands("-6+8-3") == [-6, 8, 3]
    assert operands("(5-1)-2*.5") == [5, 1, 2, Fraction(1, 2)]
    assert operands("4--1") == [4, -1]


def test_operands_are_replaced_by_value():
    assert with_operands("10-3.00", {Fraction(3): "7"}) == "10-7"
    assert with_operands("26+-2", {Fraction(-2): "5"}) == "26+5"
    assert with_operands("26+-2", {Fraction(2): "5"}) == "26+-5"
    assert with_operands("12+2", {Fraction(2): "5"}) == "12+5"


def varied(question, *steps, seeds=40):
    """What a problem with these steps becomes, over some seeds."""
    problem = Problem(
        "p", question, steps[-1].split("=")[1], "mine", steps=tuple(WorkedStep(*s.split("=")) for s in steps)
    )
    return [v for seed in range(seeds) if (v := vary(problem, random.Random(seed))) is not None]


def test_a_varied_problem_has_new_numbers_and_a_solution_that_follows(worked):
    rng = random.Random(0)
    changed = 0
    for problem in worked:
        again = vary(problem, rng)
        if again is None:
            continue
        changed += again.question != problem.question
        assert re.sub(r"\d+", "#", again.question) == re.sub(r"\d+", "#", problem.question)
        assert len(again.steps) == len(problem.steps)
        for old, new in zip(problem.steps, again.steps, strict=True):
            assert evaluate(new.expression) == Fraction(new.result) > 0
            assert OPERAND.sub("#", new.expression) == OPERAND.sub("#", old.expression)
        assert again.answer == again.steps[-1].result
        assert verify(f"\\boxed{{{again.answer}}}", again).verdict == "correct"
    assert changed > 100


def test_a_result_is_carried_on_by_value():
    for again in varied("Pens cost 1.50 and hats 7. She has 20.", "2*1.50=3", "7+3.00=10", "20-10=10"):
        first, second, third = again.steps
        assert second.expression.endswith(f"+{first.result}") or second.expression.endswith("+3.00")
        assert evaluate(third.expression) == Fraction(third.result)


def test_a_number_that_a_word_may_bring_in_is_not_changed():
    for again in varied("Tom has 2 pens. Mia has twice as many as Tom. Sam has 9 more.", "2*2=4", "4+9=13"):
        assert again.question.startswith("Tom has 2 pens.")
        assert again.steps[0].expression == "2*2"
    assert varied("Tom has 2 pens. Mia has twice as many as Tom. Sam has 9 more.", "2*2=4", "4+9=13")


def test_a_number_that_is_also_a_percentage_is_not_changed():
    for again in varied("Of 20 pens 20% are red, and 7 more are blue.", "20*20/100=4", "4+7=11"):
        assert again.question.startswith("Of 20 pens 20% are red")
    assert varied("Of 20 pens 20% are red, and 7 more are blue.", "20*20/100=4", "4+7=11")


def test_a_result_that_is_also_told_is_not_changed_in_one_place_only():
    # 5 is both what 3+2 comes to and a number of the question: neither operand 5 may be taken for the other.
    for again in varied("Tom has 3 red and 2 blue pens. Mia has 5 times as many.", "3+2=5", "5*5=25"):
        assert [s.expression for s in again.steps] == ["3+2", "5*5"] or again.steps[0].result == "5"


def test_a_problem_without_steps_or_whole_numbers_is_not_varied():
    assert vary(Problem("p", "What is 3+4?", "7", "mine"), random.Random(0)) is None
    assert varied("What is half of 1.5?", "1.5/2=0.75") == []
    assert vary(generate("countdown", "train", 1, 0, 2, 2)[0], random.Random(0)) is None
