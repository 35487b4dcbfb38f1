"""Which answer a finished tree gives, and how sure it is."""

import math

import pytest

from tree.actions import MetaAction
from tree.curve import curve
from tree.node import Ask, Told, Tree
from tree.search import backup
from tree.vote import vote


def concluded(*conclusions):
    """A tree of one step and conclusions below it, given as (answer, value) or (answer, value, times)."""
    tree = Tree.of("?", seed=0, thinking_left=9)
    add(tree, 0, MetaAction.EXPAND, "step", 0.9)
    for number, (answer, value, *times) in enumerate(conclusions):
        for _ in range(*times or [1]):
            add(tree, 1, MetaAction.CONCLUDE, f"text {number}", value, terminal=True, answer=answer)
    return tree


def add(tree, parent, action, text, value, **fields):
    ask = Ask(parent, action, tree.next_id, 9, 0)
    tree.next_id += 1
    fields = {"logprob": -1.0} | fields
    return tree.add(ask, Told(action, text, value=value, tokens=1, thinking_left=9, **fields))


def test_a_tree_without_an_answer_votes_for_none():
    for tree in (concluded(), concluded((None, 0.9), (None, 0.2))):
        assert vote(tree) == (None, 0.0, None, {})


def test_values_of_equal_answers_are_summed():
    result = vote(concluded(("8", 0.7), ("7", 0.4), ("7", 0.5)))
    assert result.answer == "7"
    assert result.weights == pytest.approx({"7": 0.9, "8": 0.7})
    assert result.confidence == pytest.approx(0.9 / 1.6)


def test_counts_are_a_plain_majority():
    result = vote(concluded(("8", 0.9), ("7", 0.1), ("7", 0.1)), "count")
    assert (result.answer, result.weights) == ("7", {"7": 2.0, "8": 1.0})
    assert result.confidence == pytest.approx(2 / 3)


def test_the_best_single_value_wins():
    result = vote(concluded(("8", 0.8), ("7", 0.5), ("7", 0.6)), "best")
    assert (result.answer, result.weights) == ("8", {"8": 0.8, "7": 0.6})
    assert result.confidence == pytest.approx(0.8 / 1.4)


@pytest.mark.parametrize(("weighting", "seven"), [("value", 3 * 0.2), ("count", 3), ("best", 0.2)])
def test_merged_conclusions_count_each_time_but_are_no_better_for_it(weighting, seven):
    tree = concluded(("8", 0.5), ("7", 0.2, 3))
    assert len(tree.terminals()) == 2
    assert vote(tree, weighting).weights["7"] == pytest.approx(seven)


@pytest.mark.parametrize("weighting", ["value", "count", "likelihood", "best"])
def test_a_tie_goes_to_the_earlier_answer(weighting):
    assert vote(concluded(("8", 0.5), ("7", 0.5)), weighting).answer == "8"
    assert vote(concluded(("7", 0.5), ("8", 0.5)), weighting).answer == "7"


@pytest.mark.parametrize("weighting", ["value", "count", "likelihood", "best"])
def test_the_leaf_is_the_best_conclusion_of_the_answer_the_first_of_equals(weighting):
    tree = concluded(("7", 0.3), ("7", 0.6), ("7", 0.6), ("8", 0.4))
    assert vote(tree, weighting).leaf == 3


def test_answers_worth_nothing_are_given_without_confidence():
    result = vote(concluded(("7", 0.0), ("8", 0.0)))
    assert (result.answer, result.confidence, result.leaf) == ("7", 0.0, 2)


def test_a_conclusion_without_an_answer_takes_no_part():
    assert vote(concluded((None, 0.9, 5), ("7", 0.1))).confidence == 1.0


def test_a_grade_is_never_looked_at():
    tree = concluded(("7", 0.9), ("8", 0.2))
    before = vote(tree)
    tree.nodes[2].outcome, tree.nodes[3].outcome = 0.0, 1.0
    assert vote(tree) == before


def test_equal_answers_are_those_that_the_given_function_takes_for_equal():
    tree = concluded(("1/2", 0.4), ("7", 0.5), ("0.5", 0.3))
    result = vote(tree, same=lambda first, second: {first, second} == {"1/2", "0.5"})
    assert result.weights == pytest.approx({"1/2": 0.7, "7": 0.5})
    assert (result.answer, result.leaf) == ("1/2", 2)


def drawn(*conclusions, step=(4, -0.5)):
    """A step, (tokens, mean log-prob), and conclusions below it, (answer, value, tokens, mean log-prob)."""
    tree = Tree.of("?", seed=0, thinking_left=9)
    sampled, logprob = step
    add(tree, 0, MetaAction.EXPAND, "step", 0.9, sampled=sampled, logprob=logprob)
    for answer, value, sampled, logprob in conclusions:
        fields = {"terminal": True, "answer": answer, "sampled": sampled, "logprob": logprob}
        add(tree, 1, MetaAction.CONCLUDE, f"{answer} {sampled}", value, **fields)
    return tree


HALF, QUARTER = -math.log(2), -math.log(4)


def test_likelihood_weighs_the_squared_value_of_a_line_by_its_probability():
    tree = drawn(("8", 0.9, 1, QUARTER), ("7", 0.6, 1, HALF), ("7", 0.5, 2, QUARTER / 2))
    logprobs = [node.line_logprob for node in tree.nodes]
    assert logprobs == pytest.approx([0, -2, -2 + QUARTER, -2 + HALF, -2 + QUARTER])
    result = vote(tree, "likelihood")
    # relative to the likeliest line: 8 has 0.5 x 0.81, 7 has 0.36 + 0.5 x 0.25
    assert result.weights == pytest.approx({"7": 0.485, "8": 0.405})
    assert (result.answer, result.leaf) == ("7", 3)
    assert result.confidence == pytest.approx(0.485 / 0.89)


def test_likelihood_counts_a_line_once_however_often_it_was_found():
    found = [("8", 0.5, 1, QUARTER)] * 5 + [("7", 0.5, 1, HALF)]
    assert vote(drawn(*found), "likelihood").weights == pytest.approx({"7": 0.25, "8": 0.125})
    assert [point.answer for point in curve(drawn(*found), "likelihood")] == [None, *["8"] * 5, "7"]


def test_lines_too_long_to_have_a_probability_above_0_still_weigh_by_it():
    result = vote(drawn(("8", 0.5, 1, HALF), ("7", 0.5, 1, 0.0), step=(4000, -2.0)), "likelihood")
    assert result.weights == pytest.approx({"7": 0.25, "8": 0.125})


def visited():
    """Root: step 1 with conclusions "7" (twice) and "8" below it, step 2 with "9" and an open thought."""
    tree = Tree.of("?", seed=0, thinking_left=9)
    for parent, action, text, fields in (
        (0, MetaAction.EXPAND, "one", {}),
        (1, MetaAction.CONCLUDE, "7", {"terminal": True, "answer": "7"}),
        (1, MetaAction.CONCLUDE, "7", {"terminal": True, "answer": "7"}),
        (1, MetaAction.CONCLUDE, "8", {"terminal": True, "answer": "8"}),
        (0, MetaAction.EXPAND, "two", {}),
        (4, MetaAction.CONCLUDE, "9", {"terminal": True, "answer": "9"}),
        (4, MetaAction.EXPAND, "open", {}),
        (0, MetaAction.EXPAND, "leads nowhere", {}),
    ):
        backup(tree, add(tree, parent, action, text, 0.9 if text == "9" else 0.1, **fields))
    return tree


def test_the_most_visited_path_gives_its_conclusion():
    result = vote(visited(), "visits")
    # visits: step one 4, with 7 twice and 8 once below it; step two 3; what leads to no answer is left out
    assert (result.answer, result.leaf) == ("7", 2)
    assert result.weights == pytest.approx({"7": 4 / 7 * 2 / 3, "9": 3 / 7, "8": 4 / 7 / 3})
    assert result.confidence == pytest.approx(8 / 21)


def test_a_tree_without_an_answer_has_no_most_visited_one():
    assert vote(concluded((None, 0.9)), "visits") == (None, 0.0, None, {})
