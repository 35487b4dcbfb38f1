"""Records in pages: what goes in comes out, gaps are closed, RAM stays bounded."""

from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.arena import Arena
from replay.kernels import kernels_of

NO_NUMBA = pytest.mark.skipif(not find_spec("numba"), reason="numba is not installed")
BACKENDS = ["numpy", pytest.param("numba", marks=NO_NUMBA)]


def record(number, length):
    return bytes((number * 31 + i) % 251 for i in range(length))


def gathered(arena, slots, held):
    records, starts = arena.gather(np.array(slots, dtype=np.int64))
    return [bytes(records[start : start + len(held[s])]) for s, start in zip(slots, starts, strict=True)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_records_of_any_length_are_gathered_in_order_with_repeats(backend):
    arena = Arena(8, kernels_of(backend))
    held = {0: record(4, 1), 5: record(1, 7), 2: record(2, 100_000), 7: record(3, 8)}
    arena.add(np.array(list(held)), list(held.values()))
    slots = [7, 2, 5, 5, 0, 7]
    assert gathered(arena, slots, held) == [held[s] for s in slots]
    assert gathered(arena, [], held) == []
    assert all(start % 8 == 0 for start in arena.gather(np.array(slots))[1])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 63), st.integers(1, 3000)), max_size=150), st.randoms())
def test_what_is_held_comes_out_whatever_was_added_and_removed(steps, random):
    arena, held = Arena(64), {}
    for number, (slot, length) in enumerate(steps):
        if slot in held:
            gone = [slot, *random.sample(sorted(held.keys() - {slot}), min(3, len(held) - 1))]
            arena.remove(np.array(gone))
            for one in gone:
                del held[one]
        else:
            held[slot] = record(number, length)
            arena.add(np.array([slot]), [held[slot]])
        slots = list(held)
        assert gathered(arena, slots, held) == [held[s] for s in slots]
        assert arena.num_bytes == sum(-(-len(r) // 8) * 8 for r in held.values())


@pytest.mark.parametrize("order", ["first in first out", "any"])
def test_gaps_take_less_than_a_fifth_of_what_is_held(order):
    rng = np.random.default_rng(0)
    arena, slots = Arena(2000), list(range(2000))
    arena.add(np.array(slots), [bytes(int(n)) for n in rng.integers(500, 3000, 2000)])
    for _ in range(200):
        gone = slots[:50] if order != "any" else rng.permutation(slots)[:50].tolist()
        arena.remove(np.array(gone))
        arena.add(np.array(gone), [bytes(int(n)) for n in rng.integers(500, 3000, 50)])
        slots = [s for s in slots if s not in set(gone)] + gone
        assert arena.num_allocated < 1.2 * arena.num_bytes + 2**15
    arena.remove(np.array(slots[:-3]))
    assert arena.num_allocated < 1.2 * arena.num_bytes + 2**15
