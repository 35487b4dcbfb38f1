"""Proportional sampling: sums, draws, edges."""

from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.errors import ReplayError
from replay.kernels import kernels_of
from replay.sumtree import SumTree

NO_NUMBA = pytest.mark.skipif(not find_spec("numba"), reason="numba is not installed")
BACKENDS = ["numpy", pytest.param("numba", marks=NO_NUMBA)]


def tree_of(priorities):
    tree = SumTree(len(priorities))
    tree.set(np.arange(len(priorities)), np.array(priorities, dtype=np.float64))
    return tree


def test_a_mass_falls_on_the_slot_whose_stretch_holds_it():
    # Stretches: slot 0 [0, 1), slot 1 [1, 3), slot 2 empty, slot 3 [3, 6).
    tree = tree_of([1, 2, 0, 3])
    masses = np.array([0.0, 0.99, 1.0, 2.99, 3.0, 5.99])
    assert tree.total == 6
    assert tree.draw(masses).tolist() == [0, 0, 1, 1, 3, 3]


def test_a_capacity_that_is_no_power_of_two_works():
    tree = tree_of([1, 1, 1, 1, 1])
    assert tree.draw(np.array([0.5, 1.5, 2.5, 3.5, 4.5])).tolist() == [0, 1, 2, 3, 4]


def test_one_slot_is_always_drawn():
    assert tree_of([0.3]).draw(np.array([0.0, 0.2999])).tolist() == [0, 0]


def test_the_last_priority_wins_where_a_slot_repeats():
    tree = SumTree(4)
    tree.set(np.array([2, 2, 2]), np.array([1.0, 5.0, 3.0]))
    assert tree.total == 3
    assert tree.get(np.array([2, 0])).tolist() == [3, 0]


def test_the_smallest_priority_leaves_zeros_out():
    assert tree_of([4, 0, 0.25, 0]).smallest() == 0.25
    assert SumTree(3).smallest() == np.inf


def test_a_capacity_below_one_is_refused():
    with pytest.raises(ReplayError, match="at least 1, got 0"):
        SumTree(0)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.one_of(st.just(0.0), st.floats(1e-12, 1e12)), min_size=1, max_size=40).filter(any),
    st.lists(st.floats(0, 1), min_size=1, max_size=20),
)
def test_a_slot_of_priority_zero_is_never_drawn(priorities, fractions):
    tree = tree_of(priorities)
    drawn = tree.draw(np.array([*fractions, 1.0]) * tree.total)  # the total itself is past the end
    assert (tree.get(drawn) > 0).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 36), st.floats(0, 1e6)), min_size=1, max_size=60))
def test_small_updates_give_the_sums_of_a_tree_made_at_once(updates):
    step_by_step, leaves = SumTree(37), np.zeros(37)
    for slot, priority in updates:
        step_by_step.set(np.array([slot]), np.array([priority]))
        leaves[slot] = priority
    at_once = tree_of(leaves)
    masses = np.linspace(0, 1, 50) * at_once.total
    assert step_by_step.total == at_once.total
    if at_once.total > 0:
        assert (step_by_step.draw(masses) == at_once.draw(masses)).all()


def test_frequencies_match_priorities():
    rng = np.random.default_rng(0)
    priorities = rng.uniform(0.1, 5.0, 50)
    num_draws = 100_000
    tree = tree_of(priorities)
    counts = np.bincount(tree.draw(rng.random(num_draws) * tree.total), minlength=50)
    expected = num_draws * priorities / priorities.sum()
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < 49 + 5 * np.sqrt(2 * 49)  # mean and five deviations with 49 degrees of freedom


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_one_of_a_million_slots_under_a_heavy_tail_is_reached(backend):
    priorities = 10 ** np.random.default_rng(0).uniform(-3, 3, 1_000_000)
    tree = SumTree(1_000_000, kernels=kernels_of(backend))
    tree.set(np.arange(1_000_000), priorities)
    middles = np.cumsum(priorities) - priorities / 2
    drawn = np.concatenate([tree.draw(part) for part in np.array_split(middles, 20)])
    assert (drawn == np.arange(1_000_000)).all()


def test_numba_and_numpy_give_the_same_sums_and_draws():
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    trees = [SumTree(70_000, with_smallest=True, kernels=kernels_of(name)) for name in ("numpy", "numba")]
    for count in (70_000, 1, 500, 30_000, 500):
        slots = rng.integers(0, 70_000, count)
        priorities = np.where(rng.random(count) < 0.3, 0.0, rng.lognormal(0, 5, count))
        for tree in trees:
            tree.set(slots, priorities)
        left, right = trees
        assert np.array_equal(left._sums, right._sums)
        assert left.smallest() == right.smallest() == left._sums[:70_000][left._sums[:70_000] > 0].min()
        masses = np.append(rng.random(1000), 1.0) * left.total
        assert np.array_equal(left.draw(masses), right.draw(masses))
        assert (left.get(left.draw(masses)) > 0).all()
