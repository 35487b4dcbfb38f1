"""Measures of thinking lengths: each formula worked by hand, and what must hold for all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_o1.measure.lengths import (
    Length,
    control,
    following,
    length_figures,
    performance,
    scaling,
    utilisation,
)


def length(thinking, *, answer=4, ended=True, declared=True):
    return Length(thinking, answer, ended, declared)


def test_control_is_the_share_within_both_ends():
    # of 4, 10, 15, 20 and 21 those from 10 to 20, both ends included, are three
    assert control([4, 10, 15, 20, 21], 10, 20) == 3 / 5
    assert control([4, 10, 15, 20, 21], 0, 20) == 4 / 5
    assert control([21], 0, 20) == 0.0


def test_scaling_is_the_mean_slope_over_all_pairs():
    # (100, 0.2), (200, 0.5), (400, 0.6): slopes 0.3 / 100, 0.4 / 300 and 0.1 / 200
    expected = (0.3 / 100 + 0.4 / 300 + 0.1 / 200) / 3
    assert scaling([100, 200, 400], [0.2, 0.5, 0.6]) == pytest.approx(expected, rel=1e-12)


def test_scaling_of_two_points_is_their_slope_and_may_fall():
    assert scaling([10, 20], [0.5, 0.25]) == pytest.approx(-0.025)


def test_runs_of_equal_length_make_no_pair():
    # (10, 0.2), (10, 0.4), (20, 0.5): slopes 0.3 / 10 and 0.1 / 10; the first two points have none
    assert scaling([10, 10, 20], [0.2, 0.4, 0.5]) == pytest.approx(0.02)
    assert np.isnan(scaling([10, 10], [0.2, 0.4]))
    assert np.isnan(scaling([10], [0.2]))


def test_resamples_are_measured_each_for_itself():
    lengths, accuracies = [[10, 20], [10, 10], [10, 30]], [[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]
    np.testing.assert_allclose(scaling(lengths, accuracies), [0.1, np.nan, -0.05])
    assert performance(accuracies).tolist() == [1.0, 1.0, 1.0]


@given(st.lists(st.tuples(st.integers(0, 500), st.floats(0, 1)), min_size=2, max_size=6), st.randoms())
def test_scaling_knows_no_order_of_the_runs(points, random):
    mixed = random.sample(points, len(points))
    one, other = (scaling(*np.transpose(given)) for given in (points, mixed))
    assert one == pytest.approx(other, rel=1e-9, abs=1e-9, nan_ok=True)


@given(
    st.lists(st.integers(0, 500), min_size=2, max_size=6, unique=True),
    st.floats(-0.01, 0.01),
    st.floats(0, 1),
)
def test_the_scaling_of_a_straight_line_is_its_slope(lengths, slope, start):
    accuracies = [start + slope * tokens for tokens in lengths]
    assert scaling(lengths, accuracies) == pytest.approx(slope, abs=1e-9)


def test_performance_is_the_best_accuracy_of_any_budget():
    assert performance([0.2, 0.6, 0.5]) == 0.6


def test_an_answer_follows_its_budget_only_when_it_ends_by_itself_within_it():
    lengths = [length(20), length(21), length(20, ended=False), length(5), length(0)]
    assert [one.follows(20) for one in lengths] == [True, False, False, True, True]
    assert following(lengths, 20) == 3 / 5


def test_utilisation_is_the_mean_share_of_the_budget_of_those_that_follow():
    # 20 / 20 and 5 / 20 follow; 21 is over, and 10 was cut
    lengths = [length(20), length(21), length(10, ended=False), length(5)]
    assert utilisation(lengths, 20) == pytest.approx((1.0 + 0.25) / 2)
    assert utilisation([length(21)], 20) is None


def test_lengths_are_counted_as_s1_counts_a_file_of_samples():
    lengths = [
        length(0, answer=3),
        length(12, answer=6, declared=False),
        length(21, answer=9, ended=False),
        length(19, answer=2, ended=False, declared=False),
    ]
    assert length_figures(lengths, 20) == {
        "least": 0,
        "most": 21,
        "mean": 13.0,  # (0 + 12 + 21 + 19) / 4
        "answer_tokens": 5.0,  # (3 + 6 + 9 + 2) / 4
        "over_limit": 1,
        "cut": 2,
        "without_answer": 2,
        "without_thinking": 1,
    }
