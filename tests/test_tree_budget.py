"""What a tree may spend, what failed requests cost, and what each kind of thought brought."""

import math
from dataclasses import replace

import pytest
from test_tree_runs import a_tree, finish, numbered, thought
from test_tree_search import grow

from tree.actions import MetaAction, by_model
from tree.baselines import lines
from tree.budget import MAX_THOUGHTS, Limits
from tree.ledger import Entry, ledger, total
from tree.node import Arrival, Failed
from tree.search import SearchSettings, mcts

LIMITS = Limits(tokens=100, thought=10, conclusion=5)
CONCLUDE = MetaAction.CONCLUDE


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("tokens", -1, "limits.tokens must be at least 0, got -1"),
        ("thought", 0, "limits.thought must be at least 1, got 0"),
        ("conclusion", 0, "limits.conclusion must be at least 1, got 0"),
        ("nodes", 0, "limits.nodes must be at least 1, got 0"),
    ],
)
def test_limits_under_which_nothing_can_be_reserved_are_refused(field, value, complaint):
    with pytest.raises(ValueError, match=complaint):
        replace(LIMITS, **{field: value})


def test_a_place_is_kept_for_a_conclusion_until_there_is_an_answer():
    tree, limits = a_tree(), replace(LIMITS, nodes=2)
    assert limits.affords(tree, None)
    grow(tree, 0, thought("a"))
    assert not limits.affords(tree, None)
    assert limits.affords(tree, CONCLUDE)
    tree.root.pending = 1  # in flight it is a thought to be
    assert not limits.affords(tree, CONCLUDE)


def test_a_tree_ends_before_its_local_ids_grow_longer_than_a_header_has_room_for():
    for start in (MAX_THOUGHTS - 2, MAX_THOUGHTS, MAX_THOUGHTS + 1):
        for search in (
            lambda tree, limits: mcts(tree, SearchSettings(concurrency=3), limits, by_model),
            lambda tree, limits: lines(tree, 3, 8, limits, by_model),
        ):
            tree = a_tree()
            tree.next_id = start
            asks = finish(search(tree, replace(LIMITS, tokens=10**6)), numbered)
            assert len(asks) <= MAX_THOUGHTS + 1 - start
            assert tree.next_id <= MAX_THOUGHTS + 1
            assert (asks[-1].action is CONCLUDE) if asks else start > MAX_THOUGHTS


def test_a_failed_request_is_charged_what_it_spent_and_says_why():
    tree = a_tree()
    finish(
        mcts(tree, SearchSettings(simulations=2), LIMITS, by_model),
        lambda ask: Failed(7, "cut") if ask.local_id == 1 else numbered(ask),
    )
    assert tree.events == ["request for thought 1 failed: cut"]
    assert tree.arrivals[0] == Arrival(-1, 7)
    assert tree.tokens_used == 7 + 1 + 2 * 1  # one thought, and two conclusions that declare nothing


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        (thought(value=math.nan), "thought 1 has value nan, expected a number in"),
        (thought(value=1.5), "thought 1 has value 1.5"),
        (thought(outcome=-0.1), "thought 1 has outcome -0.1"),
        (thought(logprob=-math.inf), "thought 1 has log-prob -inf, expected a finite number"),
        (thought(tokens=-1), "thought 1 took -1 tokens, 10 were reserved"),
        (Failed(11), "failed request 1 took 11 tokens, 10 were reserved"),
    ],
)
def test_a_thought_that_cannot_be_is_an_error_and_no_node(told, complaint):
    tree = a_tree()
    with pytest.raises(ValueError, match=complaint):
        finish(mcts(tree, SearchSettings(), LIMITS, by_model), lambda ask: told)
    assert (len(tree.nodes), tree.tokens_used, tree.tokens_reserved, tree.root.pending) == (1, 0, 0, 0)


def test_a_ledger_holds_thoughts_tokens_and_gains_of_each_kind():
    tree = a_tree()
    step, _ = grow(tree, 0, thought("step", value=0.5, tokens=10), thought("step", value=0.9, tokens=8))
    grow(tree, step.index, thought("so", value=0.9, tokens=4, action=CONCLUDE))
    tree.arrivals.append(Arrival(-1, 3))
    # the merged thought counts at the value of the first: Q of the step (0.5 + 0.5 + 0.9) / 3, as the root's
    assert ledger(tree) == {
        "expand": (2, 18, 0.0),
        "conclude": (1, 4, pytest.approx(0.9 - 1.9 / 3)),
        "failed": (1, 3, 0.0),
    }


def test_ledgers_add_up():
    one = {"expand": Entry(1, 10, 0.5)}
    assert total([one, {"expand": Entry(2, 5, -0.1), "critic": Entry(1, 1, 0.0)}]) == {
        "expand": (3, 15, 0.4),
        "critic": (1, 1, 0.0),
    }
    assert total([]) == {}
