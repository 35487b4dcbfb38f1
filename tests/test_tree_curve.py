"""What a tree would have answered at each earlier budget."""

import pytest

from tree.actions import MetaAction
from tree.curve import Point, at_budget, changes, curve
from tree.node import Arrival, Ask, Told, Tree
from tree.vote import vote

EXPAND, CONCLUDE = MetaAction.EXPAND, MetaAction.CONCLUDE


def arrive(tree, parent, text, value, tokens, answer=None, line=0):
    """A thought, a conclusion where an answer is given."""
    action = EXPAND if answer is None else CONCLUDE
    ask = Ask(parent, action, tree.next_id, 99, 0, line)
    tree.next_id += 1
    told = Told(action, text, -1.0, value, tokens, 9, terminal=answer is not None, answer=answer)
    node = tree.add(ask, told)
    for index in tree.path(node.index):
        tree.nodes[index].visits += 1
    return node.index


def grown():
    """A step, "7" below it, "8" which is worth more, and "7" again, merged and worth as much once more."""
    tree = Tree.of("?", seed=0, thinking_left=9)
    step = arrive(tree, 0, "step", 0.5, tokens=10)
    arrive(tree, step, "so 7", 0.4, tokens=5, answer="7")
    arrive(tree, step, "so 8", 0.6, tokens=7, answer="8")
    arrive(tree, step, "so 7", 0.9, tokens=6, answer="7")
    return tree


def test_a_point_stands_for_each_thought_that_came_in():
    assert curve(grown()) == [
        (10, 1, None, 0.0, None),
        (15, 2, "7", 1.0, 2),
        (22, 3, "8", pytest.approx(0.6 / 1.0), 3),
        # the merged one costs tokens and counts a second time at the value of the first: 0.8 against 0.6
        (28, 3, "7", pytest.approx(0.8 / 1.4), 2),
    ]


@pytest.mark.parametrize("weighting", ["value", "count", "likelihood", "best", "visits"])
def test_a_curve_ends_with_the_vote_of_the_tree(weighting):
    tree = grown()
    found = vote(tree, weighting)
    assert curve(tree, weighting)[-1][2:] == (found.answer, pytest.approx(found.confidence), found.leaf)


def test_equal_answers_are_merged_on_a_curve_too():
    points = curve(grown(), same=lambda first, second: True)
    assert [point.answer for point in points] == [None, "7", "7", "7"]
    assert points[-1].confidence == 1.0


def test_independent_lines_are_laid_one_after_the_other():
    tree = Tree.of("?", seed=0, thinking_left=9)
    first = arrive(tree, 0, "a", 0.5, tokens=10, line=1)
    second = arrive(tree, 0, "b", 0.5, tokens=20, line=2)
    arrive(tree, second, "so 8", 0.9, tokens=2, answer="8", line=2)
    arrive(tree, first, "so 7", 0.3, tokens=1, answer="7", line=1)
    # one line costs 11 tokens and answers 7, two cost 33
    assert [(p.tokens, p.nodes, p.answer) for p in curve(tree)] == [
        (10, 1, None),
        (11, 2, "7"),
        (31, 3, "7"),
        (33, 4, "8"),
    ]


def test_a_failed_request_costs_what_it_spent_and_makes_nothing():
    tree = grown()
    tree.arrivals.insert(1, Arrival(-1, 3))
    assert [(p.tokens, p.nodes) for p in curve(tree)] == [(10, 1), (13, 1), (18, 2), (25, 3), (31, 3)]


def test_only_changes_and_the_end_are_kept():
    tree = grown()
    arrive(tree, 0, "other", 0.1, tokens=4)
    arrive(tree, 0, "another", 0.1, tokens=4)
    assert [point.tokens for point in changes(curve(tree))] == [15, 22, 28, 36]
    assert changes([]) == []


def test_a_budget_buys_what_had_come_in_for_at_most_as_many_tokens():
    points = curve(grown())
    assert at_budget(points, 9) == Point(0, 0, None, 0.0, None)
    assert [at_budget(points, tokens).answer for tokens in (10, 15, 21, 22, 27, 28, 999)] == [
        None, "7", "7", "8", "8", "7", "7",
    ]  # fmt: skip
