"""Scores by hand: PUCT, LLaMA-O1's UCB, and the pieces of a Gumbel search."""

import math
from statistics import mean

import pytest
from test_tree_search import a_tree, grow, thought

from tree import gumbel
from tree.budget import Limits
from tree.gumbel import candidates
from tree.node import Tree
from tree.rank import VARENTROPY_WEIGHT, by_puct, by_ucb
from tree.scores import below_target, improved_policy, mixed_value, relative, sigma, ucb
from tree.search import SearchSettings

AMPLE = Limits(tokens=100_000, thought=10, conclusion=5)


def test_a_figure_is_taken_relative_to_its_siblings():
    assert relative([1.0, 3.0, None]) == [0.5, 1.5, 1.0]
    assert relative([None, None]) == relative([0.0, 0.0]) == [1.0, 1.0]


def test_ucb_weighs_the_bonus_by_entropy_and_adds_a_share_of_varentropy():
    # 0.5 + 2 * 0.25 * 2 * sqrt(9) / (1 + 2) + 0.4 * 0.25
    score = ucb(0.5, 0.25, 9, 2, 2, entropy=2.0, varentropy_share=0.25, varentropy_weight=0.4)
    assert score == pytest.approx(1.6)


def siblings(*figures):
    tree = a_tree()
    told = (thought(f"{i}", entropy=h, varentropy=v) for i, (h, v) in enumerate(figures))
    return tree, grow(tree, 0, *told)


def test_where_an_engine_gives_no_entropy_ucb_is_puct_and_an_equal_share():
    tree, children = siblings((None, None), (None, None))
    shared = [score + VARENTROPY_WEIGHT / 2 for score in by_puct(tree, tree.root, children, 1.0)]
    assert by_ucb(tree, tree.root, children, 1.0) == pytest.approx(shared)


def test_an_uncertain_thought_is_tried_before_a_certain_one():
    tree, children = siblings((0.5, 0.1), (1.5, 0.3))
    first, second = by_ucb(tree, tree.root, children, 1.0)
    # both: q 0.5, prior 1/2, N_parent 2, N 1; entropy 0.5 and 1.5 of the mean, varentropy 1/4 and 3/4
    bonus = 0.5 * math.sqrt(2) / 2
    assert first == pytest.approx(0.5 + 0.5 * bonus + 0.1 / 4)
    assert second == pytest.approx(0.5 + 1.5 * bonus + 0.3 / 4)


def test_the_order_of_ucb_does_not_hang_on_the_unit_of_entropy():
    tree, children = siblings((0.5, 0.1), (1.5, 0.3))
    in_nats = by_ucb(tree, tree.root, children, 1.0)
    for child in children:
        child.entropy, child.varentropy = child.entropy / math.log(2), child.varentropy / math.log(2) ** 2
    assert by_ucb(tree, tree.root, children, 1.0) == pytest.approx(in_nats)


def test_what_was_never_tried_is_worth_the_value_mixed_with_what_was():
    # tried: (0.5 * 0.8 + 0.25 * 0.4) / 0.75 = 2/3, three visits: (0.2 + 3 * 2/3) / 4
    assert mixed_value(0.2, [0.5, 0.25, 0.25], [0.8, 0.4, 0.0], [2, 1, 0]) == pytest.approx(0.55)
    assert mixed_value(0.2, [1.0], [0.9], [0]) == 0.2


def test_a_value_weighs_more_the_more_it_was_visited():
    assert sigma(0.5, 10) == pytest.approx((50 + 10) * 0.1 * 0.5)


def test_the_improved_policy_is_the_prior_times_e_to_the_scaled_value():
    # sigma differs by 5 * log(3) / 5, so the odds are 3 to 1
    assert improved_policy([0.5, 0.5], [0.1, 0.1 + math.log(3) / 5], 0) == pytest.approx([0.25, 0.75])
    assert improved_policy([0.2, 0.8], [0.4, 0.4], 7) == pytest.approx([0.2, 0.8])


def test_the_action_furthest_behind_its_share_leads():
    # visits 3, 1, 0 of 1 + 4
    assert below_target([0.5, 0.3, 0.2], [3, 1, 0]) == pytest.approx([-0.1, 0.1, 0.2])


def four_candidates(seed=1):
    tree = Tree.of("?", seed=seed, thinking_left=100)
    return tree, grow(tree, 0, *(thought(f"{q}", value=q) for q in (0.3, 0.9, 0.1, 0.6)))


@pytest.mark.parametrize(
    ("spent", "expected"),
    [
        # of 8 simulations and two phases: all four in turn, the better two after 4, the best at the end
        (0, ["0.9", "0.6", "0.3", "0.1"]),
        (3, ["0.9", "0.6", "0.3", "0.1"]),
        (4, ["0.9", "0.6"]),
        (7, ["0.9", "0.6"]),
        (8, ["0.9"]),
    ],
)
def test_candidates_are_halved_as_the_budget_goes(monkeypatch, spent, expected):
    monkeypatch.setattr(gumbel, "_noise", lambda tree, candidate: 0.0)
    tree, _ = four_candidates()
    tree.simulations = spent
    order = [node.text for node in candidates(tree, SearchSettings(simulations=8), AMPLE)]
    assert order[: len(expected)] == expected
    assert sorted(order) == ["0.1", "0.3", "0.6", "0.9"]


def test_tokens_halve_the_candidates_too(monkeypatch):
    monkeypatch.setattr(gumbel, "_noise", lambda tree, candidate: 0.0)
    tree, children = four_candidates()
    tree.tokens_used = 50
    children[1].visits, children[1].value_sum = (
        9,
        9 * 0.9,
    )  # the other has its turn first
    limits = Limits(tokens=100, thought=10, conclusion=5)
    assert [n.text for n in candidates(tree, SearchSettings(), limits)][:2] == ["0.6", "0.9"]


def test_the_candidate_that_is_kept_is_better_on_average_than_one_drawn_from_the_prior():
    kept = []
    for seed in range(200):
        tree, _ = four_candidates(seed)
        tree.simulations = 8
        kept.append(float(candidates(tree, SearchSettings(simulations=8), AMPLE)[0].text))
    assert mean(kept) > 0.6  # the prior is even: (0.3 + 0.9 + 0.1 + 0.6) / 4 = 0.475


def test_the_noise_of_candidates_is_a_standard_gumbel():
    tree = a_tree()
    nodes = grow(tree, 0, *(thought(f"{i}") for i in range(400)))
    noises = [gumbel._noise(tree, node) for node in nodes]
    assert mean(noises) == pytest.approx(0.5772, abs=0.2)  # Euler's constant
    assert noises == [gumbel._noise(tree, node) for node in nodes]
