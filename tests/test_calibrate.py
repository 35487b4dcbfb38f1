"""Calibration of values: numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_o1.measure.calibrate import (
    area_under_curve,
    brier,
    calibration,
    calibration_error,
    effective_sample_size,
    intervals,
    reliability,
)

UNIT = st.floats(0, 1, width=32)


def test_brier_is_the_mean_squared_distance():
    # (0.8 - 1)^2 = 0.04, (0.4 - 0)^2 = 0.16, (0.5 - 0.75)^2 = 0.0625
    assert brier([0.8, 0.4, 0.5], [1, 0, 0.75]) == pytest.approx(0.2625 / 3)


def test_calibration_error_compares_means_within_a_bin():
    # bin 0.8 to 0.9: values 0.82 and 0.88, mean 0.85, half of them right: off by 0.35, two thoughts;
    # bin 0.1 to 0.2: value 0.1, wrong: off by 0.1, one thought; value 1 is in the last bin, right: off by 0.
    found = calibration_error([0.82, 0.88, 0.1, 1.0], [1, 0, 0, 1])
    assert found == pytest.approx((2 * 0.35 + 0.1 + 0) / 4)


def test_a_reliability_bin_holds_the_means_of_its_thoughts():
    found = reliability([0.82, 0.88, 0.1, 1.0], [1, 0, 0, 0.5])
    assert [one.num_thoughts for one in found] == [0, 1, 0, 0, 0, 0, 0, 0, 2, 1]
    assert found[8][1:] == pytest.approx((0.85, 0.5))
    assert found[1][1:] == pytest.approx((0.1, 0))
    assert found[9][1:] == (1, 0.5)


def test_intervals_draw_all_thoughts_of_a_problem_together():
    # Problem 0: values 0.9 right and 0.9 wrong; problem 1: 0.2 right and 0.6 wrong. Twice 0: the error is
    # |1.8 - 1| / 2 = 0.4, the area a tie, 1/2. Twice 1: the error (0.8 + 0.6) / 2 = 0.7, the area 0.
    values, targets, problems = [0.9, 0.9, 0.2, 0.6], [1, 0, 1, 0], np.array([0, 0, 1, 1])
    for weights, error, area in (([1.0, 0.0], 0.4, 0.5), ([0.0, 1.0], 0.7, 0.0)):
        found = intervals(values, targets, problems, np.array([weights] * 3))
        assert found["ece"] == pytest.approx((error, error))
        assert found["auc"] == pytest.approx((area, area))


def test_an_interval_of_problems_drawn_once_each_is_the_figure_itself():
    values, targets, problems = [0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0], np.array([0, 1, 2, 2])
    found = intervals(values, targets, problems, np.full((2, 3), 1 / 3))
    assert found["auc"] == pytest.approx([area_under_curve(values, targets)] * 2)
    assert found["ece"] == pytest.approx([calibration_error(values, targets)] * 2)


def test_without_both_kinds_there_is_no_interval_of_the_area():
    assert set(intervals([0.9, 0.2], [1, 1], np.array([0, 1]), np.ones((2, 2)))) == {"ece"}


def test_area_under_the_curve_counts_pairs_and_halves_ties():
    # right: 0.9, 0.5; wrong: 0.5, 0.1. Pairs: 0.9 > 0.5, 0.9 > 0.1, 0.5 = 0.5, 0.5 > 0.1: 3.5 of 4.
    assert area_under_curve([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0]) == pytest.approx(3.5 / 4)
    assert area_under_curve([0.1, 0.9], [1, 0]) == 0


def test_a_soft_target_counts_as_part_right_and_part_wrong():
    # right 0.75 at 0.8 and 0.5 at 0.3, wrong 0.25 at 0.8 and 0.5 at 0.3.
    # 0.75 * (0.5 + 0.25 / 2) + 0.5 * (0.5 / 2) = 0.59375 of 1.25 * 0.75 pairs.
    assert area_under_curve([0.8, 0.3], [0.75, 0.5]) == pytest.approx(0.59375 / (1.25 * 0.75))


@pytest.mark.parametrize("same", [0, 1])
def test_without_both_kinds_there_is_no_area(same):
    assert area_under_curve([0.2, 0.7], [same, same]) is None


def test_effective_sample_size_is_a_share():
    assert effective_sample_size([2, 2, 2]) == pytest.approx(1)
    assert effective_sample_size([1, 0, 0, 0]) == pytest.approx(1 / 4)
    assert effective_sample_size([1, 3]) == pytest.approx(16 / 10 / 2)  # (1 + 3)^2 / (1 + 9) of 2
    assert effective_sample_size([0, 0]) == 0


def test_every_depth_and_meta_action_has_its_figures():
    found = calibration([0.9, 0.1, 0.6], [1, 0, 1], [1, 2, 2], ["expand", "expand", "critic"])
    assert found["brier"] == pytest.approx((0.01 + 0.01 + 0.16) / 3)
    assert found["brier_depth_1"] == pytest.approx(0.01)
    assert found["brier_depth_2"] == pytest.approx((0.01 + 0.16) / 2)
    assert found["ece_critic"] == pytest.approx(0.4)
    assert found["auc_expand"] == found["auc_depth_2"] == 1
    assert "auc_critic" not in found
    assert "auc_depth_1" not in found


@given(st.lists(st.tuples(UNIT, UNIT), min_size=1, max_size=30))
def test_figures_stay_in_their_range(pairs):
    values, targets = np.array(pairs).T
    found = calibration(values, targets, [0] * len(values), ["expand"] * len(values))
    assert all(-1e-9 <= figure <= 1 + 1e-9 for figure in found.values())
    assert calibration(targets, targets, [0] * len(values), ["x"] * len(values))["brier"] == 0
