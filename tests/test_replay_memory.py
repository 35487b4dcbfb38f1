"""Items in RAM: compiled loops and numpy say the same, to the last bit."""

from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.errors import ReplayError
from replay.file import Position
from replay.kernels import kernels_of
from replay.memory import Memory

NO_NUMBA = pytest.mark.skipif(not find_spec("numba"), reason="numba is not installed")
BACKENDS = ["numpy", pytest.param("numba", marks=NO_NUMBA)]
NUM_SLOTS, FIRST = 40, 7
PRIORITIES = st.floats(0.0, 1e100)
UPDATES = st.lists(st.tuples(st.integers(-2, 2 * NUM_SLOTS), PRIORITIES), max_size=12)


def memory(priorities, backend, alpha=0.6):
    """Ids from FIRST on; the record of an id holds its number."""
    count = len(priorities)
    made = Memory(
        Position(next_id=FIRST + count, num_slots=NUM_SLOTS, added=count),
        NUM_SLOTS,
        alpha,
        kernels=kernels_of(backend),
    )
    ids = np.arange(FIRST, FIRST + count)
    records = [bytes([i]) * (1 + i % 5) for i in ids.tolist()]
    made.add(ids, np.zeros(count, np.int64), records, np.array(priorities))
    return made


def drawn_bytes(drawn):
    arrays = drawn.ids, drawn.chances, drawn.multiples, drawn.experiences._records, drawn.experiences._starts
    return [array.tobytes() for array in arrays]


@NO_NUMBA
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=NUM_SLOTS),
    st.lists(UPDATES, max_size=4),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20),
    st.booleans(),
    st.sampled_from([None, 1e-9]),
)
def test_compiled_and_plain_items_are_the_same_after_any_updates(first, updates, points, stratified, least):
    left, right = memory(first, "numba"), memory(first, "numpy")
    for update in updates:
        ids = np.array([i for i, _ in update], dtype=np.int64)
        given_ = np.array([p for _, p in update], dtype=np.float64)
        a, b = left.look_up(ids, given_, 1e-3), right.look_up(ids, given_, 1e-3)
        assert a.slots.tolist() == b.slots.tolist()
        assert a.priorities.tolist() == b.priorities.tolist()
        assert (a.num_stale, a.highest) == (b.num_stale, b.highest)
        alive = a.slots >= 0
        for each in (left, right):
            each.set_priorities(a.slots[alive], a.priorities[alive], drawn=True)
    (one, unshown), (other, still_unshown) = left.snapshot(), right.snapshot()
    assert one.columns() == other.columns()
    assert unshown.tolist() == still_unshown.tolist()
    points = np.array(points)
    drawn, again = (each.draw(points, stratified=stratified, least=least) for each in (left, right))
    assert drawn_bytes(drawn) == drawn_bytes(again)


@pytest.mark.parametrize("backend", BACKENDS)
def test_points_fall_on_items_by_their_chances(backend):
    # Chances 1, 3, 4 of 8: stretches [0, 1/8), [1/8, 4/8), [4/8, 1).
    three = memory([1.0, 3.0, 4.0], backend, alpha=1.0)
    drawn = three.draw(np.array([0.1, 0.2, 0.5, 0.99]), stratified=False)
    assert drawn.ids.tolist() == [FIRST, FIRST + 1, FIRST + 2, FIRST + 2]
    assert drawn.chances.tolist() == [0.125, 0.375, 0.5, 0.5]
    assert drawn.multiples.tolist() == [1.0, 3.0, 4.0, 4.0]
    # Two strata, [0, 1/2) and [1/2, 1): points half way lie at 1/4 and 3/4.
    strata = three.draw(np.array([0.5, 0.5]), stratified=True, least=0.5)
    assert strata.ids.tolist() == [FIRST + 1, FIRST + 2]
    assert strata.multiples.tolist() == [6.0, 8.0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_lives_no_longer_is_found_stale_and_has_no_part_in_the_highest(backend):
    two = memory([1.0, 1.0], backend)
    # The slot of FIRST + NUM_SLOTS is that of FIRST; -1 and FIRST + 2 were never there.
    ids = np.array([FIRST + NUM_SLOTS, FIRST + 1, -1, FIRST + 2])
    found = two.look_up(ids, np.array([9.0, 0.0, 9.0, 9.0]), 0.25)
    assert found.slots.tolist() == [-1, FIRST + 1, -1, -1]
    assert found.priorities.tolist() == [9.0, 0.25, 9.0, 9.0]
    assert (found.num_stale, found.highest) == (3, 0.25)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("priority", [-0.5, np.nan, np.inf, 2e100])
def test_a_priority_out_of_range_is_named(backend, priority):
    with pytest.raises(ReplayError, match=f"must lie in .*, got {str(priority).replace('+', '.')}"):
        memory([1.0], backend).look_up(np.array([FIRST, FIRST]), np.array([1.0, priority]), 0.0)
