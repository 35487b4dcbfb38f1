"""Values of held-out thoughts against what came of them: a tree worked by hand."""

import pytest

from llama_o1.measure.values import Rated, rated, set_figures, value_figures
from tree.actions import MetaAction
from tree.node import Node, Tree


def a_tree(*thoughts):
    """A tree of thoughts (parent, action, text, value, answer, count), by their places from 1 on."""
    nodes = [Node(0, 0, -1, 0, MetaAction.PROBLEM, "2 + 3?")]
    for index, (parent, action, text, value, answer, count) in enumerate(thoughts, start=1):
        depth = nodes[parent].depth + 1
        nodes.append(
            Node(
                index, index, parent, depth, MetaAction(action), text, value=value, answer=answer, count=count
            )
        )
        nodes[parent].children.append(index)
    return Tree("2 + 3?", 0, nodes)


TREE = a_tree(
    (0, "expand", "add", 0.6, None, 1),
    (1, "conclude", "right", 0.9, "5", 3),
    (1, "conclude", "wrong", 0.8, "6", 1),
    (1, "expand", "no end", 0.5, None, 1),
    (0, "critic", "hm", 0.4, None, 1),
    (5, "conclude", "says nothing", 0.1, None, 1),
)


def test_a_label_is_the_grade_of_a_conclusion_and_the_share_of_right_ones_above_it():
    # below the first thought: right three times (merged), wrong once; the line without an end has no label
    assert list(rated(TREE, 7, "right".__eq__)) == [
        Rated(7, 1, "expand", 0.6, 3 / 4),
        Rated(7, 2, "conclude", 0.9, 1),
        Rated(7, 2, "conclude", 0.8, 0),
        Rated(7, 1, "critic", 0.4, 0),
        Rated(7, 2, "conclude", 0.1, 0),
    ]


def test_a_thought_without_a_value_is_left_out():
    tree = a_tree((0, "expand", "add", None, None, 1), (1, "conclude", "right", 0.7, "5", 1))
    assert [one.depth for one in rated(tree, 0, "right".__eq__)] == [2]


def test_figures_are_told_of_all_before_the_conclusion_by_depth_and_by_action():
    found = value_figures([list(rated(TREE, 0, "right".__eq__))], seed=0)
    assert {name: found[name] for name in found if name.startswith("count")} == {
        "count": 5, "count_depth_1": 2, "count_depth_2": 3, "count_expand": 1, "count_conclude": 3,
        "count_critic": 1, "count_inner": 2,
    }  # fmt: skip
    # conclusions: 0.9 right, 0.8 and 0.1 wrong
    assert found["auc_conclude"] == found["auc_depth_2"] == 1
    assert found["ece_conclude"] == pytest.approx((0.1 + 0.8 + 0.1) / 3)
    assert found["brier_inner"] == pytest.approx((0.15**2 + 0.4**2) / 2)
    # all: 3/4 right at 0.6 and 1 at 0.9; wrong 1/4 at 0.6 and 1 at each of 0.8, 0.4, 0.1
    assert found["auc"] == pytest.approx((3 / 4 * (1 / 8 + 2) + 3.25) / (1.75 * 3.25))
    assert (found["bin_6_count"], found["bin_6_value"], found["bin_6_label"]) == (1, 0.6, 0.75)


def test_one_problem_of_two_sets_is_two_problems():
    # Each set has a problem 0: in one a right thought at 1, in the other a wrong one at 1. Drawn together the
    # error could only be 1/2; apart, a resample may hold one of the two alone.
    right, wrong = Rated(0, 1, "expand", 1.0, 1.0), Rated(0, 1, "expand", 1.0, 0.0)
    found = value_figures([[right], [wrong]], seed=0)
    assert (found["ece"], found["ece_low"], found["ece_high"]) == (0.5, 0, 1)


def test_a_set_tells_whether_its_values_are_too_high():
    thoughts = [
        Rated(0, 1, "expand", 0.75, 0.5),
        Rated(0, 2, "conclude", 0.25, 0.0),
        Rated(1, 1, "expand", 0.5, 0.5),
    ]
    assert set_figures(thoughts) == pytest.approx({"thoughts": 3, "value": 0.5, "label": 1 / 3, "ece": 1 / 6})
    assert set_figures([]) == {}


def test_no_thoughts_have_no_figures():
    assert value_figures([[], []], seed=0) == {}
