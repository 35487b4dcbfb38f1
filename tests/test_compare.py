"""What trials come to: every figure of the comparison worked by hand."""

import pytest
from trials import by_key, trial

from llama_o1.measure.compare import Plan, compare, curve_figures, engine_figures, method_figures
from llama_o1.measure.intervals import wilson
from llama_o1.measure.statistics import resamples
from llama_o1.measure.trial import Found, Key, Point, Work


def figures(cells):
    return method_figures(cells, resamples(len(cells), 0, 200))


def test_accuracy_is_the_share_of_right_problems_with_wilsons_interval():
    found = figures([[trial(f"p{i}", verdict="correct" if i < 8 else "wrong")] for i in range(10)])
    assert (found["accuracy"], found["low"], found["high"]) == wilson(8, 10)
    low, high = found["bootstrap"]
    assert low <= 0.8 <= high


def test_seeds_are_averaged_within_a_problem_and_count_as_one():
    right, wrong = trial(), trial(verdict="wrong")
    found = figures([[right, wrong], [right, right], [wrong, wrong], [right, wrong]])
    assert found["accuracy"] == 0.5
    assert (found["low"], found["high"]) == wilson(2, 4)[1:]  # of four problems, not of eight trials


def test_tokens_seconds_and_verdicts_are_counted():
    found = figures(
        [
            [trial("a", tokens=10, sampled=4, forced=6, seconds=1.0, failed=5)],
            [trial("b", tokens=20, sampled=9, forced=11, seconds=3.0, verdict="unparsed", events=2)],
            [trial("c", tokens=60, sampled=50, forced=10, seconds=5.0, verdict="timeout")],
        ]
    )
    assert found["tokens_used"] == 30
    assert found["most_tokens_used"] == 60
    assert found["tokens"] == {"sampled": 63, "forced": 27, "failed": 5, "prefilled": 27, "cached": 3}
    assert found["verdicts"] == {"correct": 1, "wrong": 0, "unparsed": 1, "timeout": 1}
    assert found["seconds_p50"] == 3.0
    assert found["seconds_p95"] == pytest.approx(4.8)  # 0.9 of the way from 3 to 5
    assert found["events"] == 2


def test_a_tree_that_holds_a_right_answer_is_told_from_one_that_gives_it():
    held = trial(verdict="wrong", found=(Found("8", 2, "wrong"), Found("7", 1, "correct")))
    found = figures([[held], [trial(verdict="wrong")]])
    assert found["accuracy"] == 0.0
    assert found["holds_right"] == 0.5


def test_samples_at_k_are_of_seeds_and_of_lines():
    lines = (Found("7", 2, "correct"), Found("8", 1, "wrong"), Found(None, 1, "unparsed"))
    cells = [[trial(seed=0, found=lines), trial(seed=1, verdict="wrong", found=())]]
    found = figures(cells)
    assert found["seeds"]["pass_at"] == {"1": 0.5, "2": 1.0}
    assert found["seeds"]["maj_at"] == {"1": 0.5, "2": 0.5}  # one vote against one
    assert found["lines"]["samples"] == 4
    assert found["lines"]["avg"] == 0.5
    # Pairs of 7 7 8 -: five of six hold a 7; 77, 7-, 7- are 7's and 78, 78 are ties: (3 + 2 / 2) / 6.
    assert found["lines"]["pass_at"] == pytest.approx({"1": 0.5, "2": 5 / 6, "4": 1.0})
    assert found["lines"]["maj_at"] == pytest.approx({"1": 0.5, "2": 4 / 6, "4": 1.0})


def test_a_problem_without_lines_has_no_samples_at_k():
    assert figures([[trial(found=())]])["lines"] == {
        "samples": 0, "least": 0, "avg": None, "pass_at": {}, "maj_at": {},
    }  # fmt: skip


def test_rates_of_the_engine_are_of_the_work_between_trials():
    works = [Work(1.5, 30, 20, 40, 60, 10, 20, 4), Work(0.5, 10, 0, 0, 100, 10, 4, 4)]
    assert engine_figures([trial(work=work, nodes=3) for work in works]) == {
        "seconds": 2.0,
        "tokens_per_s": 30.0,
        "nodes_per_s": 3.0,
        "occupancy": 24 / 80,
        "prefix_reuse": 0.8,
    }


def test_a_curve_is_what_each_search_would_have_answered():
    first = trial(
        tokens=40, curve=(Point(10, "8", "wrong"), Point(20, "7", "correct"), Point(40, "8", "wrong"))
    )
    second = trial(tokens=30, curve=(Point(30, "7", "correct"),))
    found = curve_figures([[first], [second]], [0, 10, 25, 35, 50], resamples(2, 0, 100))
    assert found["accuracy"] == [0.0, 0.0, 0.5, 1.0, 0.5]
    assert found["tokens_used"] == [0, 10, 25, (35 + 30) / 2, (40 + 30) / 2]
    assert all(
        low <= mean <= high
        for low, mean, high in zip(found["low"], found["accuracy"], found["high"], strict=True)
    )


def outcomes(method, verdicts, **given):
    return [
        trial(f"p{i}", method, "correct" if right == "1" else "wrong", **given)
        for i, right in enumerate(verdicts)
    ]


PLAN = Plan({"s": ["p0", "p1", "p2", "p3"]}, ("line", "vote", "tree"), ("line", "vote"), (100,), (0,))


def compared(*parts, plan=PLAN):
    return compare(by_key([one for part in parts for one in part]), plan)


def test_every_method_is_tested_against_the_best_baseline():
    result = compared(outcomes("line", "1000"), outcomes("vote", "1100"), outcomes("tree", "0111"))
    rows = {row["method"]: row for row in result["paired"] if row["set"] == "s"}
    assert set(rows) == {"line", "tree"}
    assert rows["tree"]["against"] == "vote"
    assert rows["tree"]["difference"] == 0.25  # +1 at p2 and p3, -1 at p0
    assert (rows["tree"]["wins"], rows["tree"]["losses"], rows["tree"]["ties"]) == (2, 1, 1)
    assert rows["tree"]["p"] == 1.0  # 2 * (1 + 3) / 8
    assert rows["tree"]["low"] <= 0.25 <= rows["tree"]["high"]
    assert rows["tree"]["test"] == "exact McNemar"
    assert rows["line"]["difference"] == -0.25


def test_of_equal_baselines_the_cheaper_one_is_the_reference():
    result = compared(
        outcomes("line", "1000", tokens=90), outcomes("vote", "0100", tokens=40), outcomes("tree", "1111")
    )
    assert {row["against"] for row in result["paired"]} == {"vote"}


def test_without_a_baseline_nothing_is_tested():
    plan = Plan({"s": ["p0", "p1"]}, ("tree",), (), (100,), (0,))
    assert compared(outcomes("tree", "10"), plan=plan)["paired"] == []


def test_sets_are_reported_each_and_as_one():
    plan = Plan({"s": ["p0", "p1"], "t": ["p0"]}, ("line",), ("line",), (100,), (0,))
    result = compared(outcomes("line", "11"), outcomes("line", "0", set="t"), plan=plan)
    accuracy = {
        name: one["methods"]["line"]["budget"]["100"]["accuracy"] for name, one in result["sets"].items()
    }
    assert accuracy == {"s": 1.0, "t": 0.0}
    assert {name: one["problems"] for name, one in result["sets"].items()} == {"s": 2, "t": 1}
    assert result["all"]["methods"]["line"]["budget"]["100"]["accuracy"] == pytest.approx(2 / 3)
    assert set(result["curves"]) == {"s", "t", "all"}


def test_the_curve_is_of_the_greatest_budget_and_figures_are_of_each():
    plan = Plan({"s": ["p0"]}, ("line",), ("line",), (60, 100), (0,))
    result = compared(
        outcomes("line", "0", budget=60, tokens=55), outcomes("line", "1", tokens=50), plan=plan
    )
    budgets = result["sets"]["s"]["methods"]["line"]["budget"]
    assert {budget: one["accuracy"] for budget, one in budgets.items()} == {"60": 0.0, "100": 1.0}
    curve = result["curves"]["s"]["line"]
    assert curve["accuracy"][-1] == 1.0
    assert curve["tokens_used"][-1] == 50
    assert curve["budget"][-1] == 100


def test_the_plan_wants_every_trial_once():
    plan = Plan({"s": ["p0", "p1"], "t": ["p0"]}, ("a", "b"), (), (60, 100), (0, 1, 2))
    wanted = plan.wanted()
    assert len(wanted) == len(set(wanted)) == 3 * 2 * 2 * 3
    assert Key("t", "p0", "b", 60, 2) in wanted
