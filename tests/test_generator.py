import random
import re
from collections import Counter
from fractions import Fraction
from itertools import islice

import pytest

from llama_o1.config import EvaluationSettings
from llama_o1.errors import ConfigError, ProblemError
from llama_o1.measure.ablate_settings import AblateConfig
from llama_o1.measure.settings import EvalConfig
from llama_o1.sft_config import SftEvaluation
from llama_o1.tasks.arithmetic import evaluate, numbers_in
from llama_o1.tasks.generator import MAX_STEPS, canonical, generate, stream
from llama_o1.tasks.mixture import ProblemSet, draw, select
from llama_o1.tasks.problem import Problem
from llama_o1.tasks.split import SPLITS, split_of
from llama_o1.tasks.stories import BOXES, ITEMS, NAMES
from llama_o1.tasks.verify import failing_golds

every_set = pytest.mark.parametrize("name", MAX_STEPS)


@pytest.fixture(scope="module")
def problems():
    """Problems of every split and number of steps, by set."""
    return {
        name: {split: generate(name, split, 100, 3, 1, most) for split in SPLITS}
        for name, most in MAX_STEPS.items()
    }


@every_set
def test_every_worked_step_is_right_and_the_last_one_gives_the_answer(problems, name):
    for problem in (p for split in SPLITS for p in problems[name][split]):
        for step in problem.steps:
            assert str(evaluate(step.expression)) == step.result
        if name == "countdown":
            assert int(problem.steps[-1].result) == problem.target == evaluate(problem.answer)
            assert sorted(numbers_in(problem.answer)) == sorted(problem.numbers)
        else:
            assert problem.steps[-1].result == problem.answer
            assert 0 < int(problem.answer) <= 9999


@every_set
def test_every_gold_answer_verifies(problems, name):
    assert failing_golds([p for split in SPLITS for p in problems[name][split]]) == []


@every_set
def test_every_number_of_a_step_is_told_or_was_worked_out(problems, name):
    spelled = {
        "twice": "2",
        "half": "2",
        "third": "3",
        "three": "3",
        "quarter": "4",
        "four": "4",
        "five": "5",
        "six": "6",
    }
    for problem in problems[name]["train"]:
        known = {*re.findall(r"\d+", problem.question)}
        known |= {digit for word, digit in spelled.items() if word in problem.question}
        for step in problem.steps:
            assert {*re.findall(r"\d+", step.expression)} <= known
            known.add(step.result)


@every_set
def test_problems_have_as_many_steps_as_asked_for(name):
    most = MAX_STEPS[name]
    for least, longest in ((1, 1), (most, most), (1, most)):
        made = generate(name, "train", 60, 0, least, longest)
        assert all(p.num_steps == len(p.steps) for p in made)
        assert {p.num_steps for p in made} == set(range(least, longest + 1))


@every_set
def test_the_same_arguments_give_the_same_problems(name):
    first = generate(name, "dev", 30, 7, 1, 3)
    assert generate(name, "dev", 30, 7, 1, 3) == first
    assert generate(name, "dev", 20, 7, 1, 3) == first[:20]
    assert generate(name, "dev", 30, 8, 1, 3) != first


@every_set
def test_splits_share_no_canonical_form_and_repeat_none(problems, name):
    keys = {split: [canonical(p) for p in problems[name][split]] for split in SPLITS}
    every = [key for split in SPLITS for key in keys[split]]
    assert len(every) == len(set(every))
    assert all(split_of(key) == split for split in SPLITS for key in keys[split])
    ids = [p.id for split in SPLITS for p in problems[name][split]]
    assert len(ids) == len(set(ids))


@every_set
def test_renaming_and_reordering_keep_the_split(problems, name):
    rng = random.Random(0)
    for problem in problems[name]["train"]:
        question = problem.question
        if name == "word":
            for words in (NAMES, ITEMS, BOXES):
                shuffled = dict(zip(words, rng.sample(words, len(words)), strict=True))
                question = re.sub(
                    r"\b(?:" + "|".join(words) + r")\b", lambda m, s=shuffled: s[m[0]], question
                )
        if name == "chain":
            *lines, asked = re.split(r"(?<=\.) ", question)
            lines = [
                re.sub(r"\b[a-z]\b", lambda m: chr(ord("a") + ord("z") - ord(m[0])), line) for line in lines
            ]
            question = " ".join([*rng.sample(lines, len(lines)), asked])
        numbers = tuple(rng.sample(problem.numbers, len(problem.numbers)))
        told_again = Problem("again", question, "?", name, problem.kind, numbers, problem.target)
        assert canonical(told_again) == canonical(problem)


def test_other_numbers_make_another_problem():
    one, two = (Problem("p", f"Tom has {n} pens. Tom buys 2 pens.", "", "word") for n in (3, 4))
    assert canonical(one) != canonical(two)


def test_a_sentence_that_does_not_matter_stands_before_no_sentence_that_points_back():
    told = [p.question for p in generate("word", "train", 600, 0, 1, 3)]
    extra = r"(?:There are also \d+ \w+|is \d+ years old|The shop is \d+ miles away)\."
    assert sum(re.search(extra, question) is not None for question in told) > 60
    assert not [q for q in told if re.search(extra + r" (?:Each costs|[^.]*\bthem\b)", q)]


@pytest.mark.parametrize(("least", "most"), [(0, 2), (3, 2), (1, 99), (7, 7)])
@every_set
def test_a_range_of_steps_that_there_is_not_is_refused(name, least, most):
    expected = f"{name} has problems of 1 to {MAX_STEPS[name]} steps, got {least} to {most}"
    with pytest.raises(ProblemError, match=expected):
        generate(name, "train", 1, 0, least, most)
    with pytest.raises(ProblemError, match=expected):
        next(stream(name, "train", 0, least, most))


def test_an_unknown_set_is_refused():
    with pytest.raises(
        ProblemError, match="no generated problem set 'wrd'; there are word, chain, countdown"
    ):
        generate("wrd", "train", 1, 0, 1, 1)


def test_a_set_with_too_few_problems_says_so_and_never_hangs():
    with pytest.raises(
        ProblemError, match=r"countdown has only \d+ different dev problems of 1 to 1 steps, 5000"
    ):
        generate("countdown", "dev", 5000, 0, 1, 1)


def test_sets_are_drawn_by_weight_and_without_end():
    sets = [ProblemSet("word", weight=3, max_steps=2), ProblemSet("countdown", max_steps=1, limit=5)]
    drawn = list(islice(draw(sets, "train", seed=1), 400))
    counts = Counter(p.source for p in drawn)
    assert 0.65 < counts["word"] / 400 < 0.85
    assert len({p.id for p in drawn if p.source == "countdown"}) == 5
    assert len({p.id for p in drawn if p.source == "word"}) == counts["word"]
    assert drawn == list(islice(draw(sets, "train", seed=1), 400))
    assert drawn != list(islice(draw(sets, "train", seed=2), 400))


def test_stored_sets_are_drawn_in_a_new_order_each_time_round():
    game24 = list(islice(draw([ProblemSet("game24", limit=6)], "train", seed=0), 24))
    rounds = [[p.id for p in game24[i : i + 6]] for i in range(0, 24, 6)]
    assert all(sorted(r) == sorted(rounds[0]) for r in rounds)
    assert len({tuple(r) for r in rounds}) > 1


def test_a_share_of_a_set_is_told_with_other_numbers_and_nothing_else_changes():
    def drawn(share):
        sets = [ProblemSet("svamp", max_steps=2, vary=share), ProblemSet("word", max_steps=2)]
        return list(islice(draw(sets, "train", seed=0), 400))

    plain, half, full = drawn(0.0), drawn(0.5), drawn(1.0)
    assert [p.id for p in plain] == [p.id for p in half] == [p.id for p in full]
    assert full == drawn(1.0)
    told = [(a, b) for a, b in zip(plain, full, strict=True) if a.question != b.question]
    assert {a.source for a, _ in told} == {"svamp"}
    num_svamp = sum(p.source == "svamp" for p in plain)
    assert len(told) > 0.5 * num_svamp  # of the others the solution would not follow
    assert 0.3 < sum(a.question != b.question for a, b in zip(plain, half, strict=True)) / len(told) < 0.7
    for a, b in told:
        assert re.sub(r"\d+", "#", a.question) == re.sub(r"\d+", "#", b.question)
        assert evaluate(b.steps[-1].expression) == Fraction(b.answer)


def test_a_generated_set_is_selected_with_exactly_the_steps_and_number_asked_for():
    chosen = select(ProblemSet("word", min_steps=4, max_steps=4, limit=300), "test")
    assert len(chosen) == 300
    assert {p.num_steps for p in chosen} == {4}


def test_a_set_of_which_nothing_fits_is_refused():
    with pytest.raises(ProblemError, match="problem set game24 has no train problem of 4 to 5 steps"):
        select(ProblemSet("game24", min_steps=4, max_steps=5), "train")
    with pytest.raises(ProblemError, match="word has problems of 1 to 6 steps, got 9 to 9"):
        next(draw([ProblemSet("word", min_steps=9, max_steps=9)], "train", 0))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weight": 0}, "weight of problem set word must be above 0, got 0"),
        ({"min_steps": 0}, "steps of problem set word must be 1 <= min_steps <= max_steps, got 0 to None"),
        ({"min_steps": 3, "max_steps": 2}, "got 3 to 2"),
        ({"limit": 0}, "limit of problem set word must be at least 1, got 0"),
        ({"vary": 1.5}, r"vary of problem set word must be in \[0, 1\], got 1.5"),
    ],
)
def test_a_set_that_can_name_no_problem_is_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        ProblemSet("word", **wrong)


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (EvaluationSettings, "evaluation.problems"),
        (SftEvaluation, "evaluation.problems"),
        (EvalConfig, "problems"),
        (AblateConfig, "problems"),
    ],
)
def test_held_out_problems_cannot_be_told_with_other_numbers(made, name):
    with pytest.raises(ConfigError, match=f"^{name}: held-out .* are, but svamp has vary 0.5; leave it out"):
        made(problems=(ProblemSet("word"), ProblemSet("svamp", vary=0.5)))


def test_a_label_tells_the_steps():
    assert ProblemSet("word").label == "word"
    assert ProblemSet("word", min_steps=4, max_steps=5).label == "word 4-5"
    assert ProblemSet("word", min_steps=4, max_steps=4).label == "word 4"
