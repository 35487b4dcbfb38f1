"""The buffer: sampling, weights, stale updates, eviction, marks and schedules."""

import gc
import json
import tracemalloc
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay import (
    Batches,
    Experience,
    PrioritizedReplayBuffer,
    ReplayError,
    SamplesPerInsert,
    beta_at,
    priority_of,
)
from replay.file import Position
from replay.inspect.query import ReplayReader
from replay.memory import Memory

NO_NUMBA = pytest.mark.skipif(not find_spec("numba"), reason="numba is not installed")
BACKENDS = ["numpy", pytest.param("numba", marks=NO_NUMBA)]


def experience(number=0, *, version=0, num_context=3, num_tokens=4, **fields):
    ids = np.arange(num_tokens, dtype=np.int32) + number
    sampled = np.arange(num_tokens) % 2 == 1
    return Experience(
        context=np.arange(num_context, dtype=np.int32) - number,
        ids=ids,
        sampled=sampled,
        logprobs=np.where(sampled, -0.25 * (1 + number), 0).astype(np.float32),
        **{
            "temperature": 0.7,
            "advantage": 0.1 * number,
            "value": 0.5,
            "value_target": 1.0,
            "outcome": None,
            "version": version,
            "action": "expand",
            "problem": "p1",
            "tree": "t1",
            "node": number,
            "parent": number - 1,
            **fields,
        },
    )


def experiences(count, start=0, **fields):
    return [experience(i, **fields) for i in range(start, start + count)]


def same(a, b):
    arrays = ("context", "ids", "sampled", "logprobs")
    scalars = [name for name in Experience.__dataclass_fields__ if name not in arrays]
    return all(
        np.array_equal(getattr(a, n), getattr(b, n)) and getattr(a, n).dtype == getattr(b, n).dtype
        for n in arrays
    ) and all(getattr(a, n) == getattr(b, n) for n in scalars)


def same_batches(a, b, seed=5):
    """Draw from both with equal generators and compare everything."""
    left, right = (x.sample(16, 0.5, np.random.default_rng(seed)) for x in (a, b))
    return (
        all(np.array_equal(left[i], right[i]) for i in (0, 2, 3))
        and all(map(same, left.experiences, right.experiences))
        and a.stats() == b.stats()
    )


def everything(buffer):
    ids = buffer._memory.ids()
    return buffer._memory.experiences_at(ids % buffer._memory.position.num_slots)


@pytest.fixture
def buffer(tmp_path):
    with PrioritizedReplayBuffer(tmp_path / "replay", capacity=8) as opened:
        yield opened


def test_what_comes_out_is_what_went_in(buffer):
    given_in = [
        experience(1, num_context=0, outcome=1.0),
        experience(2, num_tokens=11, outcome=0.0, problem="Größe\x00\u2028", action="critic"),
        experience(3, num_context=500, advantage=-0.0, version=12),
    ]
    ids = buffer.extend(given_in)
    batch = buffer.sample(64, 1.0, np.random.default_rng(0))
    assert ids.tolist() == [0, 1, 2]
    assert set(batch.ids.tolist()) == {0, 1, 2}
    assert all(same(e, given_in[i]) for i, e in zip(batch.ids, batch.experiences, strict=True))


def test_a_batch_owns_its_arrays(buffer):
    buffer.extend(experiences(1))
    batch = buffer.sample(2, 1.0, np.random.default_rng(0))
    batch.experiences[0].ids[:] = -1
    assert batch.experiences[1].ids.tolist() == [0, 1, 2, 3]
    assert buffer.sample(1, 1.0, np.random.default_rng(0)).experiences[0].ids.tolist() == [0, 1, 2, 3]


def test_weights_are_the_formula_divided_by_the_largest_of_the_batch(buffer):
    priorities = np.array([0.5, 1.0, 2.0, 4.0])
    buffer.extend(experiences(4), priorities)
    batch = buffer.sample(3, 0.4, np.random.default_rng(1))
    chance = priorities**0.6 / (priorities**0.6).sum()
    weights = (4 * chance[batch.ids]) ** -0.4
    np.testing.assert_allclose(batch.probabilities, chance[batch.ids], rtol=1e-12)
    np.testing.assert_allclose(batch.weights, weights / weights.max(), rtol=1e-6)


def test_weights_can_be_divided_by_the_largest_of_the_buffer(tmp_path):
    priorities = np.array([0.001, 1.0, 2.0, 4.0])
    with PrioritizedReplayBuffer(tmp_path, capacity=4, alpha=1.0, normalise="buffer") as buffer:
        buffer.extend(experiences(4), priorities)
        batch = buffer.sample(2, 1.0, np.random.default_rng(1))
        buffer_wide = buffer.sample(1, 1.0, np.random.default_rng(3))
        assert buffer_wide.weights[0] < 1 or buffer_wide.ids[0] == 0
        buffer.update_priority([0], [8.0])  # the least priority is now that of item 1
        after = buffer.sample(2, 1.0, np.random.default_rng(1))
    np.testing.assert_allclose(after.weights, 1.0 / np.array([8.0, 1.0, 2.0, 4.0])[after.ids], rtol=1e-6)
    # With alpha and beta 1 a weight is the least priority over the item's own.
    np.testing.assert_allclose(batch.weights, 0.001 / priorities[batch.ids], rtol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("draws", ["stratified", "independent"])
def test_frequencies_match_priorities(tmp_path, draws, backend):
    rng = np.random.default_rng(0)
    priorities = rng.uniform(0.1, 5.0, 20)
    with PrioritizedReplayBuffer(tmp_path, capacity=20, alpha=0.6, draws=draws, backend=backend) as buffer:
        buffer.extend(experiences(20, num_context=0, num_tokens=1), priorities)
        drawn = np.concatenate([buffer.sample(4, 1.0, rng).ids for _ in range(3000)])
    expected = 12_000 * priorities**0.6 / (priorities**0.6).sum()
    chi_squared = ((np.bincount(drawn, minlength=20) - expected) ** 2 / expected).sum()
    assert chi_squared < 19 + 5 * np.sqrt(2 * 19)


def test_independent_draws_may_all_fall_on_one_item(tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=8, draws="independent") as buffer:
        buffer.extend(experiences(8))
        counts = [len(set(buffer.sample(8, 1.0, np.random.default_rng(i)).ids)) for i in range(50)]
    # Eight of eight draws differ with a chance of 8! / 8^8 = 0.0024.
    assert min(counts) < 8


def test_with_numba_and_without_the_same_batches_are_drawn(tmp_path):
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    given = [experience(i, num_context=int(n), num_tokens=5) for i, n in enumerate(rng.integers(0, 40, 300))]
    with (
        PrioritizedReplayBuffer(tmp_path / "a", capacity=250, backend="numba") as left,
        PrioritizedReplayBuffer(tmp_path / "b", capacity=250, backend="numpy") as right,
    ):
        for buffer in (left, right):
            buffer.extend(given, np.random.default_rng(1).lognormal(size=300))
        for step in range(5):
            for buffer in (left, right):
                ids = buffer.sample(32, 0.5, np.random.default_rng(step)).ids
                buffer.update_priority(ids, np.random.default_rng(step).lognormal(0, 9, 32))
            assert same_batches(left, right, step)


def test_without_numba_numpy_does_it(tmp_path, monkeypatch):
    monkeypatch.setattr("replay.kernels.find_spec", lambda name: None)
    with PrioritizedReplayBuffer(tmp_path, capacity=4) as buffer:
        buffer.extend(experiences(2))
        assert buffer._kernels is None
        assert len(buffer.sample(3, 1.0, np.random.default_rng(0)).experiences) == 3
    with pytest.raises(ReplayError, match="needs numba: install it"):
        PrioritizedReplayBuffer(tmp_path, capacity=4, backend="numba")


def test_a_batch_takes_one_item_of_each_stratum(tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=8) as buffer:
        buffer.extend(experiences(8))
        assert sorted(buffer.sample(8, 1.0, np.random.default_rng(3)).ids) == list(range(8))


def test_alpha_zero_draws_uniformly(tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=4, alpha=0.0) as buffer:
        buffer.extend(experiences(4), [1, 10, 100, 1000])
        batch = buffer.sample(4, 1.0, np.random.default_rng(0))
    assert batch.probabilities.tolist() == [0.25] * 4
    assert batch.weights.tolist() == [1.0] * 4


def test_new_items_enter_at_the_highest_priority_ever_given(tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=8, alpha=1.0) as buffer:
        buffer.extend(experiences(2))  # 1.0 each
        buffer.update_priority([0], [3.0])
        buffer.update_priority([0], [0.5])
        buffer.extend(experiences(1))  # 3.0, the highest so far, though nothing has it now
        assert buffer.stats()["priority_max"] == 3.0
        assert buffer.stats()["priority_mean"] == 1.5


def test_a_priority_below_eps_counts_as_eps(tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=8, alpha=1.0, eps=0.25) as buffer:
        buffer.extend(experiences(2), [0.0, 0.75])
        batch = buffer.sample(4, 1.0, np.random.default_rng(0))
    assert batch.ids.tolist() == [0, 1, 1, 1]


def test_priority_is_advantage_and_surprise_and_eps():
    np.testing.assert_allclose(priority_of([-0.5, 0.25], [1.0, 0.0], [0.75, 0.5], eps=0.125), [0.875, 0.875])


def test_an_empty_buffer_says_so(buffer):
    with pytest.raises(ReplayError, match="buffer is empty; add experiences first"):
        buffer.sample(4, 1.0, np.random.default_rng(0))
    assert buffer.extend([]).tolist() == []
    assert buffer.update_priority([], []) == (0, 0)


def test_the_oldest_are_evicted_beyond_capacity(buffer):
    buffer.extend(experiences(6))
    assert buffer.extend(experiences(5, 6)).tolist() == [6, 7, 8, 9, 10]
    assert sorted(buffer.sample(8, 1.0, np.random.default_rng(0)).ids) == list(range(3, 11))
    assert (len(buffer), buffer.stats()["evicted"]) == (8, 3)


def test_more_than_the_capacity_at_once_keeps_the_newest(buffer):
    buffer.extend(experiences(2))
    assert len(buffer.extend(experiences(20, 2))) == 20
    batch = buffer.sample(8, 1.0, np.random.default_rng(0))
    assert sorted(batch.ids) == list(range(14, 22))
    assert all(e.node == i for i, e in zip(batch.ids, batch.experiences, strict=True))
    assert (len(buffer), buffer.stats()["evicted"]) == (8, 14)


def test_the_lowest_priority_goes_first(tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=4, eviction="lowest_priority") as buffer:
        buffer.extend(experiences(4), [3.0, 1.0, 4.0, 2.0])
        buffer.update_priority([0, 1], [0.5, 9.0])
        # 0 (0.5) and 3 (2.0) make room. Their places, 0 and 3, are those of ids 4 and 7: the next that fit.
        assert buffer.extend(experiences(2, 4), [0.1, 0.2]).tolist() == [4, 7]
        assert sorted(buffer.sample(64, 0.0, np.random.default_rng(0)).ids.tolist())[-1] == 7
        assert sorted(e.node for e in everything(buffer)) == [1, 2, 4, 5]
        assert buffer.update_priority([0, 3], [9, 9]) == (0, 2)
        buffer.extend(experiences(1, 6))  # 4 has the lowest priority now
        assert sorted(e.node for e in everything(buffer)) == [1, 2, 5, 6]
        assert buffer.stats()["evicted"] == 3


def test_the_oldest_version_goes_first_and_the_older_of_equals(tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=4, eviction="oldest_version") as buffer:
        buffer.extend([experience(i, version=v) for i, v in enumerate([5, 3, 4, 3])])
        buffer.extend([experience(4, version=6)])
        assert sorted(e.node for e in everything(buffer)) == [0, 2, 3, 4]
        buffer.extend([experience(5, version=1)])  # older than all, and yet it comes in once
        assert sorted(e.node for e in everything(buffer)) == [0, 2, 4, 5]
        buffer.extend([experience(6, version=7)])
        assert sorted(e.node for e in everything(buffer)) == [0, 2, 4, 6]


def test_what_was_chosen_to_go_stays_when_nothing_could_be_stored(tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=4) as buffer:
        buffer.extend(experiences(4))
        with pytest.raises(ReplayError, match="cannot be packed"):
            buffer.extend([experience(4), experience(5, tree="\ud800")])
        assert sorted(e.node for e in everything(buffer)) == [0, 1, 2, 3]
        assert buffer.extend(experiences(2, 4)).tolist() == [4, 5]
        assert sorted(e.node for e in everything(buffer)) == [2, 3, 4, 5]


def test_a_larger_capacity_keeps_every_id_in_its_place(tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=4, eviction="lowest_priority") as buffer:
        buffer.extend(experiences(4), [3.0, 1.0, 4.0, 2.0])
        buffer.extend(experiences(2, 4), [5.0, 6.0])
    with PrioritizedReplayBuffer(tmp_path, capacity=7) as buffer:
        assert sorted(e.node for e in everything(buffer)) == [0, 2, 4, 5]
        ids = buffer.extend(experiences(3, 6))
        assert len(buffer) == len({int(i) % 8 for i in buffer._memory.ids()}) == 7
        assert buffer.update_priority(ids, [1, 1, 1]) == (3, 0)


def test_ram_is_at_most_a_quarter_more_than_the_records_and_64_bytes_a_node(tmp_path):
    count = 4000
    given = [experience(i, num_context=i % 300, num_tokens=256) for i in range(count)]
    with PrioritizedReplayBuffer(tmp_path, capacity=count) as buffer:
        buffer.extend(given)
    gc.collect()
    tracemalloc.start()
    with PrioritizedReplayBuffer(tmp_path, capacity=count, backend="numpy") as buffer:
        gc.collect()
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        raw = sum(4 * len(e.context) + 9 * len(e.ids) for e in given)
        assert raw < buffer.stats()["payload_bytes"]
        assert used < 1.25 * raw + 64 * count + 500_000  # which is what numpy and sqlite3 need anyway
        assert buffer.stats()["ram_bytes"] < 1.25 * buffer.stats()["payload_bytes"] + 64 * count


def test_batches_by_number_go_through_a_data_loader(tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=8) as buffer:
        buffer.extend(experiences(8), np.arange(1.0, 9.0))
        batches = Batches(buffer, 4, 3, seed=7, beta=lambda step: step / 2)
        by_number = [batches[i].ids.tolist() for i in range(3)]
        assert [batch.ids.tolist() for batch in batches] == by_number
        assert len(batches) == 3
        assert batches[0].weights.tolist() == [1.0] * 4  # beta 0
        loader = pytest.importorskip("torch.utils.data").DataLoader
        loaded = list(loader(batches, batch_size=None, collate_fn=lambda batch: batch))
    assert [batch.ids.tolist() for batch in loaded] == by_number
    with pytest.raises(IndexError):
        batches[3]


def test_a_stale_update_is_counted_and_changes_nobody(tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=4, alpha=1.0) as buffer:
        buffer.extend(experiences(6), [1, 1, 1, 1, 1, 1])
        # Ids 0 and 1 had the places that 4 and 5 have now; 6 was never given.
        assert buffer.update_priority([0, 1, 5, 6, -1], [9, 9, 3, 9, 9]) == (1, 4)
        batch = buffer.sample(6, 1.0, np.random.default_rng(0))
        assert batch.ids.tolist() == [4, 5, 5, 5, 2, 3]  # in order of their places: 4 % 4 is the first
        assert buffer.stats()["stale_updates"] == 4


@pytest.mark.parametrize("priority", [-1.0, np.nan, np.inf])
def test_a_bad_priority_is_refused_and_nothing_changes(buffer, priority):
    buffer.extend(experiences(2))
    before = buffer.stats()
    with pytest.raises(ReplayError, match="priorities must lie in"):
        buffer.update_priority([0, 1], [5.0, priority])
    with pytest.raises(ReplayError, match="priorities must lie in"):
        buffer.extend(experiences(1), [priority])
    assert buffer.stats() == before


def test_priorities_must_be_as_many_as_ids(buffer):
    buffer.extend(experiences(2))
    with pytest.raises(ReplayError, match=r"expected 2 priorities in one row, got shape \(3,\)"):
        buffer.update_priority([0, 1], [1, 2, 3])
    with pytest.raises(ReplayError, match="ids must be one row of int64"):
        buffer.update_priority([0.5], [1])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"advantage": np.nan}, "advantage must be finite"),
        ({"value": np.inf}, "value must be finite"),
        ({"logprobs": np.array([0, np.nan, 0, 0], np.float32)}, "logprobs must be finite"),
        ({"ids": np.zeros(3, np.int32)}, "one entry a token"),
        ({"context": np.array([2**40])}, "fit in int32"),
        ({"context": np.zeros((2, 2), np.int32)}, "context must be one row of int32"),
        ({"tree": "\ud800"}, "cannot be packed"),
    ],
)
def test_an_experience_that_could_not_be_read_back_is_refused(buffer, fields, message):
    bad = experience(1)
    bad = Experience(**{n: fields.get(n, getattr(bad, n)) for n in Experience.__dataclass_fields__})
    with pytest.raises(ReplayError, match=message):
        buffer.extend([experience(0), bad])
    assert len(buffer) == 0
    assert buffer.extend([experience(0)]).tolist() == [0]


def test_old_versions_are_dropped_and_stay_dropped(buffer):
    buffer.extend([experience(i, version=v) for i, v in enumerate([3, 1, 2, 1, 3])])
    assert buffer.drop_older_than(2) == 2
    assert buffer.drop_older_than(1) == 0
    assert buffer.update_priority([1, 2], [5, 5]) == (1, 1)
    buffer.extend([experience(5, version=1)])  # too old already when it comes
    assert set(buffer.sample(32, 1.0, np.random.default_rng(0)).ids.tolist()) == {0, 2, 4}
    assert (len(buffer), buffer.stats()["dropped"]) == (3, 3)


def test_dropping_everything_empties_the_buffer(buffer):
    buffer.extend(experiences(3, version=1))
    assert buffer.drop_older_than(2) == 3
    with pytest.raises(ReplayError, match="empty"):
        buffer.sample(1, 1.0, np.random.default_rng(0))
    assert buffer.extend(experiences(1, version=2)).tolist() == [3]
    assert len(buffer) == 1


def test_max_lag_drops_what_is_too_far_behind_the_newest(tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=16, max_lag=2) as buffer:
        for version in range(5):
            buffer.extend(experiences(2, version=version))
        ages = {e.version for e in buffer.sample(30, 1.0, np.random.default_rng(0)).experiences}
    assert ages == {2, 3, 4}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"capacity": 0}, "capacity must be at least 1, got 0"),
        ({"alpha": -1.0}, "alpha must be"),
        ({"eps": -1.0}, "eps must be"),
        ({"max_lag": -1}, "max_lag must be"),
        ({"normalise": "all"}, "normalise must be"),
        ({"durability": "none"}, "durability must be"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path, settings, message):
    with pytest.raises(ReplayError, match=message):
        PrioritizedReplayBuffer(tmp_path, **{"capacity": 4, **settings})


def test_a_reopened_buffer_is_the_same(tmp_path):
    rng = np.random.default_rng(0)
    with PrioritizedReplayBuffer(tmp_path / "a", capacity=8) as buffer:
        other = PrioritizedReplayBuffer(tmp_path / "b", capacity=8)
        for each in (buffer, other):
            each.extend([experience(i, version=i // 4) for i in range(12)])
        for each in (buffer, other):
            each.update_priority([4, 5, 6, 0], [0.1, 7.0, 2.0, 3.0])
            each.drop_older_than(2)
        ids = buffer.sample(4, 1.0, rng).ids
        buffer.update_priority(ids, [4, 3, 2, 1])
        other.update_priority(ids, [4, 3, 2, 1])
    with PrioritizedReplayBuffer(tmp_path / "a", capacity=8) as buffer, other:
        assert same_batches(buffer, other)
        assert buffer.extend(experiences(1)).tolist() == other.extend(experiences(1)).tolist() == [12]


def test_a_smaller_capacity_evicts_the_oldest(tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=8) as buffer:
        buffer.extend(experiences(8))
    for _ in range(2):
        with PrioritizedReplayBuffer(tmp_path, capacity=3) as buffer:
            assert sorted(buffer.sample(3, 1.0, np.random.default_rng(0)).ids) == [5, 6, 7]
            assert (len(buffer), buffer.stats()["evicted"]) == (3, 5)


def continue_run(buffer, rounds, seed):
    rng = np.random.default_rng(seed)
    for i in range(10 * seed, 10 * seed + rounds):
        buffer.extend([experience(int(n), version=i // 2) for n in rng.integers(0, 50, 3)])
        batch = buffer.sample(4, 0.5, rng)
        buffer.update_priority(batch.ids, rng.uniform(0, 3, 4))
        buffer.drop_older_than(i // 2 - 1)


@pytest.mark.parametrize("reopen", [False, True])
def test_a_rewound_buffer_goes_on_as_if_nothing_had_happened(tmp_path, reopen):
    straight = PrioritizedReplayBuffer(tmp_path / "straight", capacity=10)
    killed = PrioritizedReplayBuffer(tmp_path / "killed", capacity=10)
    for each in (straight, killed):
        continue_run(each, 8, seed=1)
        mark = json.loads(json.dumps(each.mark()))
    continue_run(killed, 9, seed=2)
    killed.mark()  # a checkpoint that was never written
    continue_run(killed, 3, seed=3)
    if reopen:
        killed.close()
        killed = PrioritizedReplayBuffer(tmp_path / "killed", capacity=10)
    killed.rewind(mark)
    assert same_batches(straight, killed)
    for each in (straight, killed):
        continue_run(each, 9, seed=4)
    assert straight.mark() == killed.mark()
    assert same_batches(straight, killed)
    straight.close()
    killed.close()


def test_only_the_last_marks_are_kept(buffer):
    marks = []
    for i in range(10):
        buffer.extend(experiences(1, i))
        marks.append(buffer.mark())
    with pytest.raises(ReplayError, match=r"mark 1 is not in .* kept are: 3, 4, 5, 6, 7, 8, 9, 10"):
        buffer.rewind(marks[0])
    buffer.rewind(marks[2])
    assert len(buffer) == 3
    assert buffer.mark()["mark"] == 4


def test_a_mark_of_another_buffer_is_refused_and_nothing_changes(buffer, tmp_path):
    buffer.extend(experiences(2))
    buffer.mark()
    with PrioritizedReplayBuffer(tmp_path / "other", capacity=8) as other:
        other.extend(experiences(3))
        foreign = other.mark()
    for wrong, message in ((foreign, "not the one asked for"), ({"step": 3}, "expected a mark")):
        with pytest.raises(ReplayError, match=message):
            buffer.rewind(wrong)
    assert len(buffer) == 2


def test_a_long_journal_is_folded_without_a_mark(tmp_path, monkeypatch):
    monkeypatch.setattr("replay.buffer._LEAST_FOLD", 20)
    with PrioritizedReplayBuffer(tmp_path / "a", capacity=8) as buffer:
        buffer.extend(experiences(8))
        mark = buffer.mark()
        for i in range(30):
            buffer.update_priority([i % 8, 3], [i + 1.0, 0.5])
        with ReplayReader(tmp_path / "a") as reader:
            assert reader._db.execute("SELECT count(*) FROM journal").fetchone()[0] <= 10
        before = buffer.stats()
        buffer.close()
        with PrioritizedReplayBuffer(tmp_path / "a", capacity=8) as again:
            assert again.stats() == before
            again.rewind(mark)
            assert again.stats()["priority_mean"] == 1.0


def test_stats_are_plain_numbers(tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=8, alpha=1.0) as buffer:
        assert buffer.stats()["priority_mean"] == 0
        buffer.extend(experiences(3), [1.0, 2.0, 3.0])
        stats = buffer.stats()
    assert stats["effective_sample_size"] == pytest.approx(36 / 14)
    assert {type(v) for v in json.loads(json.dumps(stats)).values()} <= {int, float}


operation = st.one_of(
    st.tuples(st.just("extend"), st.lists(st.integers(0, 4), min_size=1, max_size=5)),
    st.tuples(
        st.just("update"), st.lists(st.tuples(st.integers(0, 30), st.floats(0.01, 9)), min_size=1, max_size=5)
    ),
    st.tuples(st.just("drop"), st.integers(0, 4)),
    st.tuples(st.sampled_from(["mark", "rewind", "reopen"]), st.none()),
)


GOES_FIRST = {
    "oldest": lambda id, item: id,
    "lowest_priority": lambda id, item: (item[0], id),
    "oldest_version": lambda id, item: (item[1], id),
}


@pytest.mark.parametrize("eviction", GOES_FIRST)
@settings(max_examples=15, deadline=None)
@given(operations=st.lists(operation, max_size=20))
def test_the_buffer_behaves_as_a_dictionary_would(tmp_path_factory, eviction, operations):
    """Model: priority and version by id, the cutoff, the next id."""
    folder = tmp_path_factory.mktemp("model")
    buffer = PrioritizedReplayBuffer(folder, capacity=6, eviction=eviction, backend="numpy")
    items, cutoff, highest, next_id, saved = {}, -1, 1.0, 0, None
    for name, argument in operations:
        if name == "extend":
            ids = buffer.extend([experience(i, version=v) for i, v in enumerate(argument)]).tolist()
            assert min(ids) >= next_id
            next_id = max(ids) + 1
            new = {i: (highest, v) for i, v in zip(ids, argument, strict=True) if v >= cutoff}
            order = sorted(items, key=lambda id: GOES_FIRST[eviction](id, items[id]))
            items = {id: items[id] for id in order[max(0, len(items) + len(new) - 6) :]} | new
        elif name == "update":
            update = buffer.update_priority(*zip(*argument, strict=True))
            assert update.applied == sum(i in items for i, _ in argument)
            for i, priority in argument:
                if i in items:
                    items[i] = (priority, items[i][1])
                    highest = max(highest, priority) if next_id else highest
        elif name == "drop":
            cutoff = max(cutoff, argument)
            buffer.drop_older_than(argument)
            items = {i: item for i, item in items.items() if item[1] >= cutoff}
        elif name == "mark":
            saved = (buffer.mark(), dict(items), cutoff, highest, next_id)
        elif name == "rewind" and saved:
            buffer.rewind(saved[0])
            items, cutoff, highest, next_id = dict(saved[1]), *saved[2:]
        elif name == "reopen":
            buffer.close()
            buffer = PrioritizedReplayBuffer(folder, capacity=6, eviction=eviction, backend="numpy")
        assert len(buffer) == len(items)
    with ReplayReader(folder) as reader:
        assert {item.id: (item.priority, item.version) for item in reader.top(100)} == items
    if items:
        drawn = buffer.sample(200, 1.0, np.random.default_rng(0))
        chance = {i: p**0.6 for i, (p, _) in items.items()}
        expected = [chance[i] / sum(chance.values()) for i in drawn.ids.tolist()]
        np.testing.assert_allclose(drawn.probabilities, expected)
    buffer.close()


def test_ids_keep_their_places_past_32_bits():
    first = 2**40
    memory = Memory(Position(next_id=first + 3, num_slots=4, added=3), 4, 1.0)
    memory.add(np.arange(first, first + 3), np.zeros(3, np.int64), [b"x"] * 3, np.array([1.0, 2.0, 3.0]))
    drawn = memory.draw(np.array([0.5, 1.5, 3.5]) / 6, stratified=False)
    assert drawn.ids.tolist() == [first, first + 1, first + 2]


def test_beta_rises_to_one_and_stays():
    assert [beta_at(step, 10, start=0.4) for step in (0, 5, 10, 99)] == pytest.approx([0.4, 0.7, 1, 1])
    with pytest.raises(ReplayError, match="num_steps must be at least 1"):
        beta_at(0, 0)
    with pytest.raises(ReplayError, match="start in"):
        beta_at(0, 1, start=2)


def test_samples_are_held_to_the_ratio():
    limiter = SamplesPerInsert(ratio=2.0, min_size=4)
    assert not limiter.record(inserted=3).may_sample()
    limiter = limiter.record(inserted=4)
    assert limiter.may_sample(8)
    assert not limiter.may_sample(9)
    assert not limiter.record(sampled=8).may_sample(1)
    assert limiter.record(sampled=8).record(inserted=1).may_sample(2)
    for wrong in ({"ratio": 0.0, "min_size": 1}, {"ratio": 1.0, "min_size": 0}):
        with pytest.raises(ReplayError):
            SamplesPerInsert(**wrong)
