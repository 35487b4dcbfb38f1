"""Intervals by hand, evaluation without grades, and the closing words of a run."""

from pathlib import Path

import pytest

from llama_o1.measure.evaluate import graded, is_right, ungraded
from llama_o1.measure.intervals import over_seeds, paired_difference, wilson
from llama_o1.measure.summary import History, Looked, summarise
from llama_o1.tasks.problem import Problem
from tree.actions import MetaAction
from tree.node import Ask, Told, Tree

PROBLEM = Problem(id="p", question="What is 6 * 7?", answer="42", source="here")


def test_wilson_interval_of_eight_in_ten_is_as_worked_by_hand():
    # z = 1.96: centre (0.8 + 0.19208) / 1.38416, half width 1.96 / 1.38416 * sqrt(0.016 + 0.009604)
    interval = wilson(8, 10)
    assert interval.mean == 0.8
    assert interval.low == pytest.approx(0.4902, abs=1e-4)
    assert interval.high == pytest.approx(0.9433, abs=1e-4)


@pytest.mark.parametrize(("successes", "low", "high"), [(0, 0.0, 0.2775), (10, 0.7225, 1.0)])
def test_wilson_interval_stays_within_zero_and_one(successes, low, high):
    interval = wilson(successes, 10)
    assert interval.low == pytest.approx(low, abs=1e-4)
    assert interval.high == pytest.approx(high, abs=1e-4)


def test_paired_difference_counts_what_changed_and_not_what_stayed():
    # differences 1, 1, 0, -1: mean 0.25, variance (0.5625 + 0.5625 + 0.0625 + 1.5625) / 3 = 0.916667
    interval = paired_difference([False, False, True, True], [True, True, True, False])
    assert interval.mean == 0.25
    assert interval.high - interval.mean == pytest.approx(1.959964 * (0.916667 / 4) ** 0.5, abs=1e-5)


def test_an_interval_over_three_seeds_is_student_s():
    # mean 0.2, deviation 0.1, t of two degrees of freedom 4.303: half width 4.303 * 0.1 / sqrt(3) = 0.24843
    interval = over_seeds([0.1, 0.2, 0.3])
    assert interval.mean == pytest.approx(0.2)
    assert interval.low == pytest.approx(0.2 - 0.24843, abs=1e-4)
    assert interval.high == pytest.approx(0.2 + 0.24843, abs=1e-4)


def test_the_judge_of_an_evaluation_tells_no_grade_and_that_of_self_play_does():
    assert ungraded(PROBLEM)("\\boxed{42}") == ("42", None)
    assert graded(PROBLEM)("\\boxed{42}") == ("42", 1.0)
    assert graded(PROBLEM)("\\boxed{41}").outcome == 0.0
    assert graded(PROBLEM)("42") == (None, 0.0)


def test_a_tree_is_right_by_the_answer_it_votes_for():
    tree = Tree.of(PROBLEM.question, seed=0, thinking_left=10)
    for local_id, (text, value) in enumerate([("\\boxed{41}", 0.4), ("\\boxed{42}", 0.9)], start=1):
        answer = ungraded(PROBLEM)(text).answer
        told = Told(MetaAction.CONCLUDE, text, -1.0, value, 5, 0, terminal=True, answer=answer)
        tree.add(Ask(0, MetaAction.CONCLUDE, local_id, 9, 0), told)
    assert is_right(tree, PROBLEM, "value")
    tree.nodes[1].count = 3  # three lines agreed on 41: 1.2 against 0.9
    assert not is_right(tree, PROBLEM, "value")


def test_the_summary_shows_accuracies_before_and_after_with_their_change():
    looks = [
        Looked("before", 0, "greedy", "word", (True, False, False, False), 40),
        Looked("during", 1, "greedy", "word", (False,) * 4, 40),
        Looked("after", 2, "greedy", "word", (True, True, True, False), 44),
    ]
    text = summarise(History(looks, trees=2, nodes=9, tokens=123), Path("runs/it"), stored=9)
    row = next(line for line in text.splitlines() if line.startswith("greedy  word"))
    assert "25.0 [" in row
    assert "75.0 [" in row
    assert "+50.0 [" in row
    assert "2 trees, 9 nodes, 123 tokens; evaluation: 124 tokens" in text


def test_the_summary_of_a_run_that_went_on_shows_its_last_look_and_its_best():
    looks = [
        Looked(when, iteration, "greedy", "word", (True,) * right + (False,) * (4 - right), 40)
        for when, iteration, right in [("before", 0, 1), ("after", 2, 4), ("during", 4, 3), ("after", 6, 2)]
    ]
    text = summarise(History(looks), Path("runs/it"), stored=9)
    row = next(line for line in text.splitlines() if line.startswith("greedy  word"))
    assert "50.0 [" in row
    assert "+25.0 [" in row
    assert "Greedy on all sets: best 100.0 % after iteration 2, 50.0 % after iteration 6." in text


def test_a_history_survives_the_way_through_json():
    look = Looked("before", 0, "search", "word", (True, False), 7)
    history = History([look], trees=1, nodes=2, tokens=3)
    assert History.of(history.state()) == history
