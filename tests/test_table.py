"""The comparison as text: every cell from trials made by hand."""

import pytest
from trials import by_key, trial

from llama_o1.measure.cells import aligned
from llama_o1.measure.compare import Plan, compare
from llama_o1.measure.table import (
    accuracy_table,
    cost_table,
    markdown,
    sets_paired_table,
    sets_table,
    terminal_table,
)

PLAN = Plan({"s": ["p0", "p1", "p2", "p3"], "t": ["p0"]}, ("line", "tree"), ("line",), (100,), (0,))


@pytest.fixture(scope="module")
def result():
    """The line is right on one problem of five, the tree on the other four."""
    trials = [
        trial(
            problem,
            method,
            "correct" if (method == "tree") != (problem == "p0" and name == "s") else "wrong",
            set=name,
            seconds=seconds,
        )
        for method, seconds in (("line", 1.0), ("tree", 3.0))
        for name, problems in PLAN.sets.items()
        for problem in problems
    ]
    return {**compare(by_key(trials), PLAN), "model": "small", "left_out": {"s": 0, "t": 2}}


def test_accuracies_stand_beside_their_tests(result):
    head, line, tree = accuracy_table(result, "all")
    assert head[-1] == "c/w/u/t"
    # Wilson's interval of 1 in 5 with z = 1.96: centre (0.2 + 0.38415) / 1.76829 = 0.3303, half 0.2941
    assert line == ("line", "100", "20.0 [3.6, 62.4]", "", "", "50", "20.0", "1/4/0/0")
    assert tree[2] == "80.0 [37.6, 96.4]"
    assert tree[3].startswith("+60.0 [")
    assert tree[4] == "0.375"  # 4 wins, 1 loss: 2 * (1 + 5) / 32
    assert tree[5:] == ("50", "80.0", "4/1/0/0")


def test_costs_are_of_one_problem_and_rates_of_the_engine(result):
    # Each trial's work: 50 tokens and 3 nodes in half a second, 20 of 10 * 4 slots, 1 of 10 context tokens.
    _, line, tree = cost_table(result, "s")
    assert line == (
        "line", "100", "30", "20", "9", "1", "3.0", "1.00", "1.00", "100", "6", "50%", "10%",
    )  # fmt: skip
    assert tree[7:9] == ("3.00", "3.00")


def test_sets_have_a_column_each(result):
    head, line, _ = sets_table(result)
    assert head == ("method", "budget", "s (4)", "t (1)")
    assert line == ("line", "100", "25.0 [4.6, 69.9]", "0.0 [0.0, 79.3]")


def test_differences_of_a_set_are_from_the_baseline_that_is_best_on_it(result):
    head, line, tree = sets_paired_table(result)
    assert head == ("method", "budget", "s", "t")
    assert line == ("line", "100", "best", "best")
    assert tree[2].startswith("+50.0 [")  # 3 of 4 less 1 of 4
    assert tree[3] == "+100.0 [+100.0, +100.0]"


def test_names_stand_to_the_left_and_figures_to_the_right():
    assert aligned([("a", "bcd"), ("efg", "1")]) == "a    bcd\nefg    1"


def test_the_terminal_is_told_the_reference_and_what_was_left_out(result):
    text = terminal_table(result)
    assert "5 problems (4 of s, 1 of t)" in text
    assert "Best baseline (of line) on all problems by budget: 100: line." in text
    assert "2 problems of t do not fit" in text
    assert "of s do not fit" not in text


def test_markdown_has_a_part_for_each_set(result):
    text = markdown(result)
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## 5 problems (4 of s, 1 of t)",
        "## s, 4 problems",
        "## t, 1 problems",
    ]
    assert "| line | 100 | 20.0 [3.6, 62.4] |" in text
