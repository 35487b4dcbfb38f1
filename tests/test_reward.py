"""What answers are worth to a policy that is to keep its budget, worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_o1.engine.fake import FakeEngine
from llama_o1.errors import ConfigError
from llama_o1.play.collect import collect
from llama_o1.play.expand import ThoughtSettings, Trail, trail_of
from llama_o1.play.judge import Grade
from llama_o1.play.lessons import with_lessons
from llama_o1.play.methods import MethodSettings
from llama_o1.play.reward import RewardSettings, budget_figures, budget_row, length_reward, rewards
from llama_o1.play.selfplay import tree_row
from tree.actions import MetaAction
from tree.node import Ask, Told, Tree
from tree.search import SearchSettings, backup
from tree.targets import targets

PAPER = RewardSettings(correct=0.7, format=0.15, length=0.15)
TEACH = {"mode": "relative", "mix": 0.0, "discount": 1.0, "trace": 0.95}


def answered(*answers):
    """One step, below it answers given as (grade, declared, thinking tokens of the path)."""
    tree = Tree.of("?", seed=0, thinking_left=200, payload=Trail((), 0))
    add(tree, 0, MetaAction.EXPAND, None, None, 1)
    for grade, declared, spent in answers:
        add(tree, 1, MetaAction.CONCLUDE, grade, declared, spent)
    return tree


def add(tree, parent, action, grade, declared, spent):
    told = Told(
        action,
        f"thought {tree.next_id}",
        -1.0,
        0.5,
        tokens=1,
        thinking_left=9,
        terminal=grade is not None,
        answer=declared,
        outcome=grade,
        payload=Trail((), spent),
    )
    tree.next_id += 1
    backup(tree, tree.add(Ask(parent, action, tree.next_id - 1, 9, 0), told))


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        (100, 1.0),
        (50, 0.75),  # 1 - (50 / 100)^2
        (0, 0.0),
        (110, 0.84),  # 1 - 16 (10 / 100)^2
        (125, 0.0),  # 1 - 16 / 16: a quarter above
        (200, 0.0),  # never below
    ],
)
def test_a_length_is_rewarded_up_to_the_budget_and_punished_hard_above(thinking, expected):
    assert length_reward(thinking, 100) == pytest.approx(expected)


def test_how_hard_a_length_is_punished_is_a_setting():
    assert length_reward(50, 100, below=4.0) == 0.0  # 1 - 4 / 4
    assert length_reward(110, 100, above=1.0) == pytest.approx(0.99)


@given(st.integers(0, 3000), st.integers(1, 1000))
def test_a_length_reward_lies_between_0_and_1_and_is_highest_at_the_budget(thinking, budget):
    assert 0 <= length_reward(thinking, budget) <= 1 == length_reward(budget, budget)


def test_a_reward_weighs_rightness_form_and_length():
    tree = answered((1.0, "5", 50), (0.0, "6", 100), (0.0, None, 110))
    thoughts = ThoughtSettings(path_budget=100, overrun=0.25)
    assert rewards(tree, PAPER, thoughts) == pytest.approx(
        {
            2: 0.7 + 0.15 + 0.15 * 0.75,
            3: 0.15 + 0.15,
            4: 0.15 * 0.84,
        }
    )


def test_thinking_that_was_cut_gets_nothing_for_its_length():
    tree = answered((1.0, "5", 100), (1.0, "5", 99))
    found = rewards(tree, PAPER, ThoughtSettings(path_budget=100))
    assert found[2] == pytest.approx(0.85)
    assert found[3] == pytest.approx(0.85 + 0.15 * (1 - 0.01**2))


def test_by_default_a_reward_is_the_grade():
    tree = answered((1.0, "5", 50))
    assert rewards(tree, RewardSettings(), ThoughtSettings(path_budget=100)) is None


def test_rewards_make_advantages_and_leave_values_what_they_are():
    # Grades 1 and 0, rewards 0.9 and 0.3: the step's answers are worth 0.5 by grade and 0.6 by reward.
    tree = answered((1.0, "5", 1), (0.0, "6", 1))
    plain, paid = targets(tree, mix=0.0, mode="relative"), None
    paid = targets(tree, mix=0.0, mode="relative", rewards={2: 0.9, 3: 0.3})
    assert [t.value for t in paid[1:]] == [t.value for t in plain[1:]] == [0.5, 1.0, 0.0]
    assert [t.advantage for t in paid[1:]] == pytest.approx([0.0, 0.9 - 0.6, 0.3 - 0.6])


def test_every_kind_of_advantage_is_made_of_rewards():
    # Rewards less grades: -0.1 and 0.3, on average 0.1, which the step and the root are worth in addition.
    tree = answered((1.0, "5", 1), (0.0, "6", 1))
    worth = {2: 0.9, 3: 0.3}

    def found(mode, **options):
        return [t.advantage for t in targets(tree, mode=mode, mix=0.0, rewards=worth, **options)[1:]]

    # Q of the step and the root: (0.5 + 1 + 0) / 3; the step's own value is 0.5.
    assert found("tree") == pytest.approx([0.0, 0.9 - 0.6, 0.3 - 0.6])
    assert found("siblings") == pytest.approx([0.0, 1.0, -1.0])
    assert found("group") == pytest.approx([0.0, 0.3, -0.3])
    assert found("group", by_deviation=True) == pytest.approx([0.0, 1.0, -1.0])
    assert found("right") == pytest.approx([0.6, 0.9, 0.3])
    # The answers' visits are equal, so what comes after the step is the mean of 0.3 and -0.3.
    assert found("gae", trace=1.0) == pytest.approx([0.0, 0.3, -0.3])


def test_where_no_answer_is_below_nothing_is_added():
    tree = answered((1.0, "5", 1))
    add(tree, 0, MetaAction.EXPAND, None, None, 1)  # worth 0.5, unfinished
    found = targets(tree, mode="relative", mix=0.0, rewards={2: 0.9})
    plain = targets(tree, mode="relative", mix=0.0)
    assert found[3].advantage == pytest.approx(plain[3].advantage)


def test_a_path_may_run_over_its_budget_only_as_far_as_it_is_let(grow, codec):
    apples = np.full(len(codec.tokenizer), -60.0)
    apples[codec.encode(" apples")] = 60.0
    engine = FakeEngine(len(codec.tokenizer), 1024, policy=lambda tokens: apples)
    method = MethodSettings(method="greedy", budget_tokens=900)
    for overrun, most in ((0.0, 40), (0.25, 50)):
        thoughts = ThoughtSettings(path_budget=40, overrun=overrun, max_text=200)
        (tree,) = grow(["What is 2+3?"], thoughts, method, engine)
        own = trail_of(tree, 1)
        marks = [t for t in own.context[own.before :] if t in codec.special.remaining]
        assert own.spent == most
        assert tuple(marks) == codec.special.remaining  # by the budget itself: none is left above it
        assert tree.nodes[-1].action is MetaAction.CONCLUDE


def test_how_budgets_were_kept_is_counted():
    # Of four answers two ended within their budget of 100, at 50 and 90; 100 was cut there; 110 is above.
    tree = answered((1.0, "5", 50), (0.0, "6", 90), (0.0, "7", 110))
    thoughts = ThoughtSettings(overrun=0.25)
    figures = budget_figures([tree], [100], thoughts)
    assert figures == pytest.approx(
        {"path_budget": 100, "thinking_share": 250 / 300, "following": 2 / 3, "utilisation": 0.7}
    )
    cut = budget_figures([answered((1.0, "5", 100))], [100], ThoughtSettings())
    assert cut == {"path_budget": 100, "thinking_share": 1.0, "following": 0.0}
    assert budget_figures([answered()], [100], thoughts) == {}


def test_a_saved_tree_teaches_what_it_taught_in_the_run(grow, codec, writer):
    thoughts = ThoughtSettings(path_budget=61, max_text=12, max_answer=9)
    (tree,) = grow(
        ["What is 1+2?"],
        thoughts,
        MethodSettings(budget_tokens=3000, tree=SearchSettings(simulations=60)),
        judge=lambda text: Grade(text, float(len(text) % 2)),
    )
    worth = rewards(tree, PAPER, thoughts)
    assert len({round(reward, 6) for reward in worth.values()}) > 2
    experiences = collect(tree, problem="p", name="t", rewards=worth, **TEACH)
    row = tree_row(tree) | budget_row(tree, 61, worth)
    shown = with_lessons(row, by_deviation=False, **TEACH)["nodes"][1:]
    for name in ("advantage", "value_target"):
        assert [node[name] for node in shown] == pytest.approx([getattr(e, name) for e in experiences])
    assert row["path_budget"] == 61


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"length": -0.1}, r"teach.reward.length must be finite and at least 0, got -0.1"),
        ({"correct": 0.0}, r"teach.reward must weigh correct, format or length above 0, got 0 for all"),
    ],
)
def test_rewards_that_reward_nothing_are_refused(weights, message):
    with pytest.raises(ConfigError, match=message):
        RewardSettings(**weights)
