import random

import numpy as np
import pytest

from llama_o1.engine.fake import FakeEngine
from llama_o1.format.budget import BudgetPlan
from llama_o1.format.marks import MarkSettings
from llama_o1.format.thoughts import Rating, Thought
from llama_o1.play.expand import ThoughtSettings, trail_of
from llama_o1.play.methods import MethodSettings
from llama_o1.play.program import Calculator
from llama_o1.play.script import fitting, script
from llama_o1.tasks.generator import generate
from llama_o1.tasks.problems import load_problems
from llama_o1.tasks.traces import Traced, rated_at_random, trace
from tree.actions import MetaAction

LINE = [
    Traced(Thought(-1, 0, MetaAction.PROBLEM, "What is 48/2?"), False),
    Traced(Thought(0, 1, MetaAction.EXPAND, "<<48*2=96>>", Rating.NEGATIVE), False),
    Traced(Thought(1, 2, MetaAction.CRITIC, "48*2 is wrong: 48/2", Rating.POSITIVE), True),
    Traced(Thought(2, 3, MetaAction.REFINE, "<<48/2=24>> clips", Rating.POSITIVE), True),
    Traced(Thought(3, 4, MetaAction.CONCLUDE, "\\boxed{24}", Rating.POSITIVE), True),
]


@pytest.fixture(scope="module")
def calculator(codec):
    return Calculator(codec)


def playing(codec, ids):
    """An engine that samples these ids, whatever is forced between them, and rates as they say."""

    def policy(tokens):
        assert list(tokens) == ids[: len(tokens)], "the search left the script"
        logits = np.full(len(codec.tokenizer), -40.0)
        logits[ids[len(tokens)]] = 40.0
        return logits

    return FakeEngine(len(codec.tokenizer), 1024, policy=policy)


def searched(codec, grow, ids, question, budget, with_calculator):
    """What a search makes of a line: ids and which of them were sampled, ratings as None."""
    thoughts = ThoughtSettings(path_budget=budget, max_text=200, max_answer=60, calculator=with_calculator)
    method = MethodSettings(method="value_vote", num_lines=1, budget_tokens=10_000)
    (tree,) = grow([question], thoughts, method, playing(codec, ids))
    sampled = [False] * len(codec.root(question))
    for node in tree.nodes[1:]:
        sampled += [*trail_of(tree, node.index).sample.sampled.tolist(), None, None]
    return tree, list(trail_of(tree, len(tree.nodes) - 1).context), sampled


def consecutive(line):
    """The line with the local ids that a search of one line gives."""
    return [
        Traced(Thought(i - 1, i, t.action, t.text, t.rating), imitate)
        for i, (t, imitate, _) in enumerate(line)
    ]


@pytest.mark.parametrize("with_calculator", [True, False])
@pytest.mark.parametrize("budget", [64, 67, 79, 101, 256])
def test_a_script_has_the_ids_of_a_search_that_plays_it(codec, grow, calculator, budget, with_calculator):
    plan = BudgetPlan(budget, codec.special.remaining)
    written = script(LINE, codec, plan, calculator if with_calculator else None)
    tree, ids, sampled = searched(codec, grow, written.ids, LINE[0].thought.text, budget, with_calculator)
    assert ids == written.ids
    assert [node.action for node in tree.nodes] == [thought.action for thought, *_ in LINE]
    imitated = iter([imitate for _, imitate, _ in LINE[1:]])
    imitate, learn = False, []
    for token, was_sampled in zip(ids, sampled, strict=True):
        if token == codec.special.start_of_father_id and len(learn) > len(codec.root("")):
            imitate = next(imitated)
        rating = token in (codec.special.positive, codec.special.negative) and was_sampled is None
        learn.append(rating or bool(was_sampled and imitate))
    assert written.learn == learn


@pytest.mark.parametrize("name", ["word", "chain", "countdown", "gsm8k", "svamp"])
def test_traces_of_every_set_are_what_a_search_would_hold(codec, grow, calculator, name):
    rng = random.Random(name)
    if name in ("gsm8k", "svamp"):
        problems = [p for p in load_problems(name, limit=300).problems if p.steps and "." not in p.question][
            :12
        ]
    else:
        problems = generate(name, "train", 12, 0, 1, 3)
    for problem in problems:
        line = consecutive(trace(problem, rng))
        if line[-1].thought.action is not MetaAction.CONCLUDE:
            continue
        budget = rng.randint(300, 400)
        plan = BudgetPlan(budget, codec.special.remaining)
        written = script(line, codec, plan, calculator)
        if len(written.ids) < 800:
            _, ids, _ = searched(codec, grow, written.ids, problem.question, budget, True)
            assert ids == written.ids


def test_texts_are_written_whole_whatever_is_forced_in_them(codec, calculator):
    for budget in range(16, 40):
        written = script(LINE, codec, BudgetPlan(budget, codec.special.remaining), calculator)
        plain = [i for i in written.ids if i not in codec.special.remaining]
        expected = script(LINE, codec, BudgetPlan(10_000, ()), None).ids
        assert plain == expected


def test_results_are_forced_and_so_are_not_learned(codec, calculator):
    written = script(LINE, codec, BudgetPlan(10_000, ()), calculator)
    pieces = [codec.decode([i]) for i in written.ids]
    at = pieces.index("<refine>")
    own = list(zip(pieces[at:], written.learn[at:], strict=True))[: pieces[at:].index("<end_of_rating>") + 1]
    assert own == [
        ("<refine>", True),
        *((piece, True) for piece in ("<<", "4", "8", "/", "2", "=")),
        *((piece, False) for piece in ("2", "4", ">>")),
        *((piece, True) for piece in (codec.decode([i]) for i in codec.encode(" clips"))),
        ("<end_of_thought>", True),
        ("<start_of_rating>", False),
        ("<positive_rating>", True),
        ("<end_of_rating>", False),
    ]


def test_of_a_thought_that_is_not_to_be_imitated_only_the_rating_is_learned(codec, calculator):
    written = script(LINE[:2], codec, BudgetPlan(10_000, ()), calculator)
    learned = [codec.decode([i]) for i, learn in zip(written.ids, written.learn, strict=True) if learn]
    assert learned == ["<negative_rating>"]


def test_of_a_line_rated_at_random_no_rating_is_learned_and_the_texts_are(codec, calculator):
    plan = BudgetPlan(256, codec.special.remaining)
    ratings = {codec.special.positive, codec.special.negative, codec.special.unknown}
    shown = set()
    for seed in range(20):
        written = script(rated_at_random(LINE, random.Random(seed)), codec, plan, calculator)
        told = script(LINE, codec, plan, calculator)
        shown |= ratings & set(written.ids)
        for token, learn, learned_before in zip(written.ids, written.learn, told.learn, strict=True):
            assert learn == (learned_before and token not in ratings)
    assert shown == ratings


@pytest.mark.parametrize("step", [1, 10, 50])
def test_a_line_fits_into_the_least_multiple_that_holds_it_with_its_control_tokens(codec, calculator, step):
    marks = MarkSettings()
    shown = codec.special.remaining
    written = fitting(lambda plan: script(LINE, codec, plan, calculator), step, shown, marks)
    holds = [
        budget
        for budget in range(step * -(-marks.least_budget // step), 400, step)
        if script(LINE, codec, BudgetPlan(budget, codec.special.remaining), calculator).thinking <= budget
    ]
    assert written == script(LINE, codec, BudgetPlan(holds[0], codec.special.remaining), calculator)
