"""Searches that end before their budget: an answer nothing can overturn, or no hope of one."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_tree_contract import every_search, few, make, orders, shares, steps
from test_tree_runs import finish

from tree.actions import MetaAction, by_model
from tree.budget import Limits
from tree.node import Ask, Told, Tree
from tree.search import SearchSettings, mcts
from tree.stop import Decided, Hopeless
from tree.vote import vote

CONCLUDE = MetaAction.CONCLUDE
AMPLE = Limits(tokens=1000, thought=20, conclusion=10, least=5)


def voted(*conclusions):
    """A tree whose root was concluded so: (answer, value), or with the probability of its only token."""
    tree = Tree.of("?", seed=0, thinking_left=9)
    for i, (answer, value, *probability) in enumerate(conclusions):
        ask = Ask(0, CONCLUDE, tree.next_id, 9, 0)
        tree.next_id += 1
        logprob = math.log(*probability or [1.0])
        told = Told(CONCLUDE, f"{i}", logprob, value, 1, 9, terminal=True, answer=answer, sampled=1)
        tree.add(ask, told)
    return tree


@pytest.mark.parametrize(("most", "why"), [(2, None), (1, "decided")])
def test_a_vote_is_decided_when_the_second_needs_more_conclusions_than_may_come(most, why):
    # 0.9 + 0.9 - 0.4 = 1.4: one conclusion worth 1 is too little, two would do
    tree = voted(("7", 0.9), ("8", 0.4), ("7", 0.9))
    assert Decided("value")(tree, AMPLE, most) == why


@pytest.mark.parametrize(("tokens", "why"), [(9, None), (8, None), (7, "decided")])
def test_tokens_bound_the_conclusions_that_may_come(tokens, why):
    # 2 to 0 by count; 3 tokens a conclusion at least: nine or eight tokens more pay three or two
    tree = voted(("7", 0.1), ("7", 0.1))
    limits = Limits(tokens + tree.tokens_used, thought=20, conclusion=10, least=4)
    still = tokens // 4
    assert (still < 2) == (why == "decided")
    assert Decided("count")(tree, limits, 99) == why


def test_a_conclusion_in_flight_may_still_overturn():
    tree = voted(("7", 0.6))
    limits = Limits(1, thought=20, conclusion=10, least=5)
    assert Decided("count")(tree, limits, 99) == "decided"
    tree.root.pending = 1
    assert Decided("count")(tree, limits, 99) is None


def test_the_best_is_decided_when_none_can_be_better():
    assert Decided("best")(voted(("7", 0.99)), AMPLE, 0) is None
    assert Decided("best")(voted(("7", 0.4), ("8", 1.0)), AMPLE, 99) == "decided"


@pytest.mark.parametrize(("probability", "why"), [(0.5, None), (0.6, "decided")])
def test_an_answer_by_likelihood_is_decided_once_it_leads_by_more_than_is_open(probability, why):
    # leads by 0.5 x 0.8 - 0.1 x 0.5 = 0.35 where 0.4 is open, or by 0.6 x 0.8 - 0.05 = 0.43 where 0.3 is
    assert Decided("likelihood")(voted(("7", 0.8, probability), ("8", 0.5, 0.1)), AMPLE, 99) == why


@given(
    st.lists(st.tuples(st.sampled_from("789"), st.floats(0, 1), st.integers(1, 50)), min_size=1, max_size=8),
    st.integers(0, 20),
)
def test_an_answer_decided_by_likelihood_stays_whatever_lines_come(lines, never_found):
    total = sum(share for *_, share in lines) + never_found
    drawn = [(answer, value, share / total) for answer, value, share in lines]
    end = vote(voted(*drawn), "likelihood").answer
    for found in range(1, len(drawn) + 1):
        tree = voted(*drawn[:found])
        if Decided("likelihood")(tree, AMPLE, 99):
            assert vote(tree, "likelihood").answer == end


def test_lines_too_long_to_have_a_probability_decide_nothing():
    tree = voted(("7", 1.0, 1.0))
    tree.nodes[1].line_logprob = -4000.0
    assert Decided("likelihood")(tree, AMPLE, 99) is None


def test_equal_answers_lead_together():
    tree = voted(("0.5", 0.8), ("1/2", 0.8))
    assert Decided("value")(tree, AMPLE, 1) is None
    assert Decided("value", lambda first, second: True)(tree, AMPLE, 1) == "decided"


def test_without_an_answer_nothing_is_decided():
    assert Decided("value")(voted((None, 0.9)), AMPLE, 0) is None
    assert Decided("visits")(voted(("7", 0.9)), AMPLE, 0) is None


@every_search
@pytest.mark.parametrize("weighting", ["value", "count", "best"])
@few
@given(order=orders, lengths=shares, budget=st.sampled_from([90, 150, 400]))
def test_the_answer_of_a_decided_search_is_that_of_the_whole_one(shape, weighting, order, lengths, budget):
    answers = {}
    for stops in ((), (Decided(weighting),)):
        limits = {"stops": stops, "least": 1}
        tree, search, world = make(shape, "model", budget=budget, limits=limits, lengths=lengths)
        for _ in steps(search, world, order):
            pass
        answers[bool(stops)] = vote(tree, weighting).answer
        assert tree.stopped in (None, "decided")
        assert not stops or tree.tokens_used <= budget
    assert answers[True] == answers[False]


def test_a_majority_ends_a_search_before_its_budget_is_spent():
    tree = Tree.of("?", seed=0, thinking_left=9)
    limits = replace(AMPLE, stops=(Decided("count"),))
    finish(
        mcts(tree, SearchSettings(simulations=10, max_children=10), limits, by_model),
        lambda ask: Told(CONCLUDE, f"{ask.local_id}", -1.0, 0.5, 5, 0, terminal=True, answer="7"),
    )
    # five to none can still become five to five, six to none cannot
    assert (tree.simulations, tree.stopped) == (6, "decided")


def test_a_search_is_hopeless_when_no_thought_was_worth_enough_for_long():
    tree = voted((None, 0.1), (None, 0.2), (None, 0.15))
    assert Hopeless(below=0.3, after=4)(tree, AMPLE, 9) is None
    assert Hopeless(below=0.3, after=3)(tree, AMPLE, 9) == "hopeless"
    assert Hopeless(below=0.2, after=3)(tree, AMPLE, 9) is None


@every_search
def test_a_stopped_search_begins_nothing_but_conclusions_and_only_while_it_has_no_answer(shape):
    def enough(tree, limits, most):
        return "enough" if len(tree.arrivals) >= 2 else None

    tree, search, world = make(shape, "uniform", limits={"stops": (enough,)}, failing=0)
    known = 0
    for _ in steps(search, world):
        new, known = world.asked[known:], len(world.asked)
        if tree.stopped:
            assert all(ask.action is CONCLUDE for ask in new)
            assert not (tree.answered and new)
    assert tree.stopped == "enough"
    assert any(node.action is CONCLUDE for node in tree.nodes)
