"""How many answers critic and refine fixed and broke, on trees worked out by hand."""

import pytest
from some_trees import make_tree

from tree.node import Tree
from tree.repairs import Repairs, repairs, total

RIGHT, WRONG = {"text": "right"}, {"text": "wrong"}


def found(*thoughts):
    nodes = make_tree(*((parent, action, text, fields) for parent, action, text, fields in thoughts))
    return repairs(Tree("?", 0, nodes), lambda end: end.text == "right")


def end(parent, text, count=1):
    return (parent, "conclude", text, {"answer": text, "terminal": True, "count": count})


def step(parent, action="expand"):
    return (parent, action, action, {})


# 1 is a step, 2 its critic, 3 the refine below that
PAIR = (step(0), step(1, "critic"), step(2, "refine"))


@pytest.mark.parametrize(
    ("before", "after", "fixed", "broken"),
    [("wrong", "right", 1, 0), ("right", "wrong", 0, 1), ("right", "right", 0, 0), ("wrong", "wrong", 0, 0)],
)
def test_a_line_that_goes_on_without_the_critic_is_compared_with_the_one_below_the_refine(
    before, after, fixed, broken
):
    assert found(*PAIR, end(1, before), end(3, after)) == Repairs(1, 1, fixed, broken)


def test_lines_below_the_critic_that_refine_nothing_are_on_neither_side():
    assert found(*PAIR, end(1, "wrong"), end(3, "right"), end(2, "right")) == Repairs(1, 1, 1, 0)


def test_of_several_lines_the_chance_of_one_from_each_side_counts():
    # without: right three of four times; with: right one of two
    tree = (*PAIR, end(1, "right", count=3), end(1, "wrong"), end(3, "right"), end(3, "wrong"))
    assert found(*tree) == Repairs(1, 1, 0.25 * 0.5, 0.75 * 0.5)


def test_a_pair_with_answers_on_one_side_only_is_counted_and_not_compared():
    assert found(*PAIR, end(3, "right")) == found(*PAIR, end(1, "right")) == Repairs(1, 0, 0, 0)


def test_a_criticised_conclusion_is_compared_with_the_one_written_anew():
    tree = (
        step(0),
        (1, "conclude", "wrong", {"answer": "5"}),
        step(2, "critic"),
        step(3, "refine"),
        end(4, "right"),
    )
    assert found(*tree) == Repairs(1, 1, 1, 0)


def test_two_refines_below_one_critic_are_two_pairs():
    tree = (*PAIR, step(2, "refine"), end(1, "wrong"), end(3, "right"), end(4, "wrong"))
    assert found(*tree) == Repairs(2, 2, 1, 0)


def test_a_tree_without_refines_has_none_and_several_trees_add_up():
    assert found(step(0), step(1, "critic"), end(1, "right")) == Repairs()
    assert total([Repairs(2, 1, 0.5, 0), Repairs(), Repairs(1, 1, 1, 0.25)]) == Repairs(3, 2, 1.5, 0.25)
