"""What trials say of thinking budgets: every figure from trials made by hand."""

import json

import pytest
from trials import by_key, trial

from llama_o1.errors import ConfigError
from llama_o1.format.marks import MarkSettings
from llama_o1.measure.budgets import thinking
from llama_o1.measure.compare import Plan
from llama_o1.measure.settings import EvalConfig
from llama_o1.measure.thinking_table import budget_table, scaling_table, thinking_notes
from llama_o1.measure.ways import WAYS, Way
from llama_o1.play.expand import ThoughtSettings

PLAN = Plan(
    sets={"s": ["p0", "p1"]},
    methods=("none", "least", "mcts"),
    baselines=("none",),
    budgets=(10, 20),
    seeds=(0,),
    ways={"none": Way(), "least": Way(overrun=0.0, least=0.5)},
)


def made(method, budget, lengths, verdicts="cc", ended=(True, True), **given):
    """One trial of each problem."""
    words = {"c": "correct", "w": "wrong", "u": "unparsed"}
    return [
        trial(f"p{i}", method, words[verdicts[i]], budget=budget, thinking=n, ended=ended[i], **given)
        for i, n in enumerate(lengths)
    ]


@pytest.fixture(scope="module")
def found():
    trials = [
        *made("none", 10, (8, 12), "cw"),
        *made("none", 20, (16, 20), "cc", ended=(True, False)),
        *made("least", 10, (4, 5), "wu", answer_tokens=3),
        *made("least", 20, (10, 0), "cw"),
        *made("mcts", 10, (1, 1), tokens=10),
        *made("mcts", 20, (1, 1), tokens=18),
    ]
    return thinking(by_key(trials), PLAN)["thinking"]


def test_at_one_budget_each_share_is_of_the_trials(found):
    first, last = (found["s"]["none"]["budget"][budget] for budget in ("10", "20"))
    assert first["trials"] == 2
    assert [first[key]["mean"] for key in ("accuracy", "control", "following")] == [0.5, 0.5, 0.5]
    assert first["utilisation"]["mean"] == 0.8  # 8 / 10; 12 does not follow
    # Wilson's interval of 1 in 2: centre (0.5 + 0.96037) / 2.92073 = 0.5, half 0.4055
    assert (first["control"]["low"], first["control"]["high"]) == pytest.approx((0.0945, 0.9055), abs=1e-4)
    assert last["control"]["mean"] == 1.0
    assert last["following"]["mean"] == 0.5  # 20 is within the budget, but was cut
    assert last["utilisation"]["mean"] == 0.8  # 16 / 20
    assert last["thinking"]["mean"] == 18.0


def test_lengths_are_counted_in_trials(found):
    assert found["s"]["least"]["budget"]["10"]["lengths"] == {
        "least": 4,
        "most": 5,
        "mean": 4.5,
        "answer_tokens": 3.0,
        "over_limit": 0,
        "cut": 0,
        "without_answer": 1,
        "without_thinking": 0,
    }
    assert found["s"]["least"]["budget"]["20"]["lengths"]["without_thinking"] == 1


def test_a_minimum_counts_for_control(found):
    one = found["s"]["least"]
    assert one["budget"]["10"]["control"]["mean"] == 0.5  # of 4 and 5, 5 reaches half of 10
    assert one["budget"]["20"]["control"]["mean"] == 0.5  # of 10 and 0
    assert one["control"]["mean"] == 0.5


def test_the_three_measures_of_s1_are_over_all_budgets(found):
    one = found["s"]["none"]
    assert one["control"]["mean"] == 3 / 4
    # mean lengths 10 and 18, accuracies 0.5 and 1
    assert one["scaling"]["mean"] == pytest.approx(0.5 / 8)
    assert one["performance"]["mean"] == 1.0
    # resamples hold both problems, p0 twice (control 1, no slope) or p1 twice (0.5, slope 1 / 8)
    assert (one["control"]["low"], one["control"]["high"]) == (0.5, 1.0)
    assert (one["scaling"]["low"], one["scaling"]["high"]) == (0.0, 1 / 8)


def test_lengths_that_do_not_differ_have_no_scaling():
    plan = Plan({"s": ["p0", "p1"]}, ("none",), (), (10, 20), (0,), {"none": Way()})
    trials = by_key([*made("none", 10, (6, 8)), *made("none", 20, (8, 6))])
    assert thinking(trials, plan)["thinking"]["s"]["none"]["scaling"] is None


def test_a_method_of_another_kind_is_held_to_all_tokens_of_its_tree(found):
    one = found["s"]["mcts"]
    assert one["counts"] == "tokens"
    assert one["budget"]["20"]["thinking"]["mean"] == 18.0
    assert one["budget"]["20"]["utilisation"]["mean"] == 0.9


def test_following_is_compared_with_the_first_baseline_on_the_same_problems(found):
    more = found["s"]["least"]["budget"]["10"]["follows_more"]
    assert more["against"] == "none"
    assert more["mean"] == 0.5  # both follow; of the baseline's one
    assert (more["low"], more["high"]) == (0.0, 1.0)
    assert "follows_more" not in found["s"]["none"]["budget"]["10"]


def test_sets_are_reported_each_and_as_one_and_seeds_count_as_one_problem():
    plan = Plan({"s": ["p0"], "t": ["p0"]}, ("none",), (), (10,), (0, 1), {"none": Way()})
    trials = [
        trial("p0", "none", set=name, budget=10, seed=seed, thinking=length)
        for name, lengths in (("s", (8, 12)), ("t", (10, 10)))
        for seed, length in enumerate(lengths)
    ]
    found = thinking(by_key(trials), plan)["thinking"]
    assert {name: one["none"]["control"]["mean"] for name, one in found.items()} == {
        "all": 0.75, "s": 0.5, "t": 1.0,
    }  # fmt: skip


def test_without_a_way_to_be_told_a_budget_nothing_is_said():
    plan = Plan({"s": ["p0", "p1"]}, ("mcts",), (), (10,), (0,))
    assert thinking(by_key(made("mcts", 10, (1, 1))), plan) == {}


def test_the_figures_are_json_and_the_tables_show_them(found):
    json.dumps(found, allow_nan=False)
    result = {"thinking": {"all": found["all"]}, "budgets": [10, 20]}
    head, *rows = budget_table(result, "all")
    assert len(rows) == 6
    assert dict(zip(head, rows[0], strict=True)) == {
        "method": "none",
        "budget": "10",
        "right % [95 %]": "50.0 [9.5, 90.5]",
        "within % [95 %]": "50.0 [9.5, 90.5]",
        "follows % [95 %]": "50.0 [9.5, 90.5]",
        "follows more [95 %]": "",
        "used %": "80.0",
        "thinks": "10.0",
        "least": "8",
        "most": "12",
        "answer": "5.0",
        "over": "1",
        "cut": "0",
        "no answer": "0",
        "no thinking": "0",
    }
    _, none, *_ = scaling_table(result, "all")
    assert none == ("none", "75.0 [50.0, 100.0]", "+625.00 [+0.00, +1250.00]", "100.0 [100.0, 100.0]")
    assert "Budget and length of mcts are all tokens" in thinking_notes(result)[-1]


def test_a_way_says_how_a_budget_is_told_and_held():
    given = ThoughtSettings(max_answer=9)
    ratio = WAYS["ratio"].thoughts(given, 100)
    assert (ratio.path_budget, ratio.thinking_limit, ratio.show_budget) == (100, 102, True)
    assert ratio.line.tell_budget
    assert ratio.max_answer == 9
    assert WAYS["every_50"].thoughts(given, 100).marks == MarkSettings("every", 50)
    none, forcing = (WAYS[name].thoughts(given, 100) for name in ("none", "forcing"))
    assert (none.show_budget, none.line.tell_budget, none.thinking_limit) == (False, False, 102)
    assert (forcing.show_budget, forcing.line.tell_budget, forcing.thinking_limit) == (False, False, 100)
    assert WAYS["forcing_wait"].thoughts(given, 100).line.waits == 2
    assert WAYS["forcing_least"].thoughts(given, 99).line.min_thinking == 50


@pytest.mark.parametrize(("share", "budget", "limit"), [(0.0, 64, 64), (0.02, 64, 66), (0.02, 350, 357)])
def test_the_share_beyond_a_budget_is_at_least_a_thought(share, budget, limit):
    assert ThoughtSettings(path_budget=budget, overrun=share).thinking_limit == limit


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"least": 1.5}, r"least must be in \[0, 1\], got 1.5"),
        ({"overrun": -0.1}, "overrun must be finite and at least 0, got -0.1"),
        ({"waits": -1}, "waits must be at least 0, got -1"),
        ({"method": "greedy", "words": True}, "are for lines of plain text, got method greedy"),
        ({"method": "mcts"}, "method mcts grows a tree of any size; give tokens"),
        ({"method": "mcts", "tokens": 0}, "tokens must be at least 1, got 0"),
    ],
)
def test_a_way_that_cannot_be_gone_is_refused(wrong, words):
    with pytest.raises(ConfigError, match=words):
        Way(**wrong)


def test_a_way_has_no_name_of_a_method():
    with pytest.raises(ConfigError, match=r"thinking\.greedy has the name of a method"):
        EvalConfig(thinking={"greedy": Way()})


def test_a_way_of_ones_own_takes_the_place_of_one_that_is_there():
    config = EvalConfig(methods=("ratio",), thinking={"ratio": Way(marks=MarkSettings(size=4))})
    assert config.thoughts_of("ratio", 64).marks.size == 4
    assert not config.thoughts_of("ratio", 64).line.tell_budget
    assert config.resolved()["thinking"]["ratio"]["marks"]["size"] == 4
