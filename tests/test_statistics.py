"""Statistics of an evaluation: every figure worked by hand, and what must hold for all."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_o1.measure.statistics import (
    Answers,
    bootstrap,
    holm,
    majority_at_k,
    paired_bootstrap,
    pass_at_k,
    resamples,
    sign_test,
)


@pytest.mark.parametrize(
    ("samples", "correct", "k", "expected"),
    [
        (1, 1, 1, 1.0),
        (1, 0, 1, 0.0),
        (5, 2, 1, 0.4),
        (5, 2, 2, 0.7),  # 1 - C(3, 2) / C(5, 2) = 1 - 3 / 10
        (10, 3, 5, 11 / 12),  # 1 - C(7, 5) / C(10, 5) = 1 - 21 / 252
        (4, 3, 2, 1.0),  # two of four cannot both miss three
    ],
)
def test_pass_at_k_is_the_unbiased_estimator(samples, correct, k, expected):
    assert pass_at_k(samples, correct, k) == pytest.approx(expected, abs=1e-15)


@settings(deadline=None)
@given(st.integers(1, 30), st.data())
def test_pass_at_1_is_the_mean_and_more_samples_never_hurt(samples, data):
    correct = data.draw(st.integers(0, samples))
    chances = [pass_at_k(samples, correct, k) for k in range(1, samples + 1)]
    assert chances[0] == pytest.approx(correct / samples)
    assert chances == sorted(chances)
    assert chances[-1] == (correct > 0)


def test_majority_at_k_by_hand():
    # Samples a a b: of the pairs, aa is a's, ab and ab are ties, which count half.
    groups = [Answers("a", 2, True), Answers("b", 1, False)]
    assert majority_at_k(groups, 1) == pytest.approx(2 / 3)
    assert majority_at_k(groups, 2) == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert majority_at_k(groups, 3) == 1.0


def test_samples_without_an_answer_have_no_vote():
    # One right answer among three silent samples wins wherever it is drawn: 2 of 4 hold it in 3 of 6 pairs.
    groups = [Answers(None, 3, False), Answers("7", 1, True)]
    assert majority_at_k(groups, 2) == 0.5
    assert majority_at_k(groups, 4) == 1.0
    assert majority_at_k([Answers(None, 2, False)], 2) == 0.0


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.booleans()), min_size=1, max_size=7),
    st.data(),
)
def test_majority_at_k_is_the_mean_over_all_subsets(samples, data):
    verdict = {answer: correct and answer is not None for answer, correct in samples}
    answers = [answer for answer, _ in samples]
    k = data.draw(st.integers(1, len(answers)))

    def majority(drawn):
        votes = {a: drawn.count(a) for a in set(drawn) if a is not None}
        top = [a for a, n in votes.items() if n == max(votes.values())]
        return sum(verdict[a] for a in top) / len(top) if top else 0.0

    subsets = [majority(drawn) for drawn in combinations(answers, k)]
    groups = [Answers(answer, answers.count(answer), verdict[answer]) for answer in dict.fromkeys(answers)]
    assert majority_at_k(groups, k) == pytest.approx(sum(subsets) / len(subsets))


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [
        (0, 0, 1.0),
        (5, 0, 2 / 32),
        (0, 5, 2 / 32),
        (8, 2, 2 * (1 + 10 + 45) / 1024),
        (3, 3, 1.0),  # twice a half and more is one
    ],
)
def test_the_sign_test_is_the_exact_binomial(wins, losses, p):
    assert sign_test(wins, losses) == pytest.approx(p, abs=1e-15)


def test_holm_multiplies_the_least_by_all_and_never_turns_the_order():
    # 0.01 * 3, then 0.03 * 2 = 0.06, then 0.04 * 1, which may not be below 0.06
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_bootstrap_of_equal_values_has_no_width():
    weights = resamples(6, 0, 50)
    assert bootstrap([1.0] * 6, weights) == pytest.approx((1.0, 1.0))
    assert paired_bootstrap([1, 0, 1, 0, 0, 1], [1, 0, 1, 0, 0, 1], weights) == (0.0, 0.0, 0.0)


def test_a_bootstrap_of_two_values_knows_three_means():
    # Of problems 0 and 1 a resample holds both once (mean 1/2), or one twice (0 or 1, a quarter each).
    weights = resamples(2, 3, 4000)
    means, counts = np.unique(weights @ [0.0, 1.0], return_counts=True)
    assert list(means) == [0.0, 0.5, 1.0]
    assert counts / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    assert bootstrap([0.0, 1.0], weights) == (0.0, 1.0)


def test_a_bootstrap_interval_is_as_wide_as_the_normal_one_where_problems_are_many():
    # 100 of 400 right: standard error sqrt(0.25 * 0.75 / 400) = 0.02165
    values = [1.0] * 100 + [0.0] * 300
    low, high = bootstrap(values, resamples(400, 0))
    assert low == pytest.approx(0.25 - 1.96 * 0.02165, abs=0.004)
    assert high == pytest.approx(0.25 + 1.96 * 0.02165, abs=0.004)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20))
def test_a_paired_interval_holds_its_mean_and_turns_with_the_sides(pairs):
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    weights = resamples(len(pairs), 1, 400)
    there, back = paired_bootstrap(first, second, weights), paired_bootstrap(second, first, weights)
    assert there.low <= there.high
    assert there == pytest.approx((-back.mean, -back.high, -back.low))


def test_columns_are_resampled_together():
    weights = resamples(5, 2, 300)
    values = np.array([[1, 0], [1, 1], [0, 1], [0, 0], [1, 1]], float)
    low, high = bootstrap(values, weights)
    for column in range(2):
        assert (low[column], high[column]) == bootstrap(values[:, column], weights)


def test_the_same_seed_draws_the_same_resamples():
    assert (resamples(7, 4, 20) == resamples(7, 4, 20)).all()
    assert (resamples(7, 4, 20) != resamples(7, 5, 20)).any()
    assert resamples(7, 4, 20).sum(axis=1) == pytest.approx(1.0)
