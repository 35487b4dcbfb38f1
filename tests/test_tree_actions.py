"""Which thought may follow which, and how the next kind is drawn."""

import json
import math
from collections import Counter
from random import Random

import pytest

from tree.actions import DRAWABLE, MetaAction, Transitions, allowed, by_model, omitting, uniformly

PROBLEM, EXPAND, DIVIDE, CRITIC, REFINE, CONCLUDE = MetaAction


def follows(parent):
    return set(allowed(parent, thinking_left=10))


def test_the_root_is_stepped_on_or_divided():
    assert follows(PROBLEM) == {EXPAND, DIVIDE}


def test_a_critic_follows_a_step_or_a_conclusion():
    assert {parent for parent in MetaAction if CRITIC in follows(parent)} == {EXPAND, CONCLUDE}


def test_a_refine_follows_a_critic():
    assert {parent for parent in MetaAction if REFINE in follows(parent)} == {CRITIC}


def test_a_sub_problem_is_stepped_on():
    assert follows(DIVIDE) == {EXPAND}


def test_a_conclusion_follows_a_step_a_critic_or_a_refine():
    assert {parent for parent in MetaAction if CONCLUDE in follows(parent)} == {EXPAND, CRITIC, REFINE}


@pytest.mark.parametrize("parent", MetaAction)
@pytest.mark.parametrize("left", [0, -3])
def test_only_a_conclusion_follows_when_no_thinking_is_left(parent, left):
    assert allowed(parent, thinking_left=left) == (CONCLUDE,)


@pytest.mark.parametrize("parent", MetaAction)
def test_the_problem_itself_is_never_drawn(parent):
    assert PROBLEM not in DRAWABLE
    assert PROBLEM not in follows(parent)


def test_the_model_has_the_choice_of_all_but_a_last_conclusion():
    rng = Random(0)
    assert by_model(EXPAND, (EXPAND, CONCLUDE), rng) is None
    assert by_model(DIVIDE, (EXPAND,), rng) is None
    assert by_model(EXPAND, (CONCLUDE,), rng) is CONCLUDE


def drawn(draw, choices, times=3000):
    rng = Random(5)
    counts = Counter(draw(EXPAND, choices, rng) for _ in range(times))
    return {choice: counts[choice] / times for choice in choices}


def test_uniform_draws_are_equally_likely():
    shares = drawn(uniformly, (EXPAND, CRITIC, CONCLUDE))
    assert list(shares.values()) == pytest.approx([1 / 3] * 3, abs=0.03)


def test_an_untried_edge_has_the_mean_of_the_prior():
    assert Transitions(prior_value=0.3).mean(EXPAND, CRITIC) == pytest.approx(0.3)


def test_a_mean_counts_the_prior_as_so_many_observations():
    transitions = Transitions(prior_count=4, prior_value=0.5)
    transitions.add(EXPAND, CRITIC, 1.0)
    transitions.add(EXPAND, CRITIC, 0.0)
    transitions.add(EXPAND, CRITIC, 1.0)
    # (4 * 0.5 + 1 + 0 + 1) / (4 + 3)
    assert transitions.mean(EXPAND, CRITIC) == pytest.approx(4 / 7)
    assert transitions.mean(CRITIC, EXPAND) == transitions.mean(EXPAND, CONCLUDE) == 0.5


def test_a_mean_does_not_grow_with_the_number_of_observations():
    few, many = Transitions(), Transitions()
    for transitions, times in ((few, 4), (many, 4000)):
        for _ in range(times):
            transitions.add(EXPAND, CRITIC, 0.5)
    assert few.mean(EXPAND, CRITIC) == many.mean(EXPAND, CRITIC) == 0.5


def test_draws_follow_the_softmax_of_the_means():
    transitions = Transitions(temperature=0.5, prior_count=1, prior_value=0.5)
    transitions.add(EXPAND, CRITIC, 1.0)
    # means 0.75 and 0.5: odds of e ** (0.25 / 0.5)
    odds = math.exp(0.5)
    shares = drawn(transitions, (CRITIC, CONCLUDE))
    assert shares[CRITIC] == pytest.approx(odds / (1 + odds), abs=0.03)


def test_a_low_temperature_draws_the_best_and_does_not_overflow():
    transitions = Transitions(temperature=1e-4)
    transitions.add(EXPAND, CRITIC, 1.0)
    assert drawn(transitions, (CONCLUDE, CRITIC, EXPAND), times=50)[CRITIC] == 1


def test_statistics_go_through_json_and_back():
    transitions, restored = Transitions(), Transitions()
    for parent, child, value in ((EXPAND, CRITIC, 0.1), (EXPAND, CRITIC, 0.7), (PROBLEM, DIVIDE, 1.0)):
        transitions.add(parent, child, value)
    restored.add(REFINE, EXPAND, 1.0)
    restored.restore(json.loads(json.dumps(transitions.state())))
    assert restored == transitions
    kept = transitions.state()
    transitions.add(EXPAND, CRITIC, 1.0)
    assert restored.state() == kept


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("temperature", 0.0, "transitions.temperature must be above 0, got 0.0"),
        ("prior_count", 0.0, "transitions.prior_count must be above 0, got 0.0"),
        ("prior_value", 1.5, r"transitions.prior_value must be in \[0, 1\], got 1.5"),
    ],
)
def test_numbers_that_make_no_mean_are_refused(field, value, complaint):
    with pytest.raises(ValueError, match=complaint):
        Transitions(**{field: value})


def test_what_is_omitted_is_never_drawn_and_the_model_still_draws_for_itself():
    draw = omitting({CRITIC, DIVIDE}, uniformly)
    drawn = {draw(EXPAND, allowed(EXPAND, thinking_left=9), Random(seed)) for seed in range(60)}
    assert drawn == {EXPAND, CONCLUDE}
    assert omitting({CRITIC}, by_model)(EXPAND, allowed(EXPAND, thinking_left=9), Random(0)) is None
