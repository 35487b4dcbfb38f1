"""Prefixes in one memory: token-exact, within the limit, and every position has one owner at all times."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llama_o1.engine.cache import PrefixCache, Segment
from llama_o1.engine.kv import KeyValues
from llama_o1.engine.places import Range, cut, positions_of

TOKEN_BYTES = 8  # keys and values, of 4 bytes


def memory() -> KeyValues:
    return KeyValues(1, 1, 1, torch.float32, torch.device("cpu"))


def count(ranges: list[Range]) -> int:
    return sum(end - start for start, end in ranges)


# The memory by hand.


def test_memory_begins_at_a_cache_line():
    for positions in range(1, 40, 7):
        kept = memory()
        kept.reserve(positions)
        assert kept.layer(0)[0].data_ptr() % 64 == 0


def test_the_first_positions_of_ranges_and_the_others() -> None:
    ranges = [(10, 13), (2, 4)]
    assert cut(ranges, 0) == ([], [(10, 13), (2, 4)])
    assert cut(ranges, 2) == ([(10, 12)], [(12, 13), (2, 4)])
    assert cut(ranges, 3) == ([(10, 13)], [(2, 4)])
    assert cut(ranges, 4) == ([(10, 13), (2, 3)], [(3, 4)])
    assert cut(ranges, 5) == ([(10, 13), (2, 4)], [])


def test_a_copy_holds_what_lies_in_some_ranges_of_all_layers_in_order() -> None:
    held = KeyValues(2, 1, 2, torch.float32, torch.device("cpu"))
    held.reserve(12)
    for layer in (0, 1):
        for i, part in enumerate(held.layer(layer)):
            part[:, 0, 0] = torch.arange(12) + 100 * layer + 1000 * i
    before = [part.clone() for layer in (0, 1) for part in held.layer(layer)]
    held.copy([(7, 9), (1, 2), (3, 5)], 6)
    for was, now in zip(before, [part for layer in (0, 1) for part in held.layer(layer)], strict=True):
        assert now[6:11].equal(was[[7, 8, 1, 3, 4]])
        assert now[:6].equal(was[:6])
    held.copy([], 0)


def test_positions_of_a_part_of_a_sequence() -> None:
    ranges = [(10, 13), (2, 4), (20, 25)]
    assert positions_of(ranges, 0, 10) == [10, 11, 12, 2, 3, 20, 21, 22, 23, 24]
    for first in range(11):
        for end in range(first, 11):
            assert positions_of(ranges, first, end) == positions_of(ranges, 0, 10)[first:end]
    assert positions_of([], 0, 0) == []


def test_memory_grows_when_nothing_fits_and_hands_out_what_was_given_back() -> None:
    held = memory()
    assert held.token_bytes == TOKEN_BYTES
    assert held.take(20) == [(0, 20)]
    assert held.take(5) == [(20, 25)]
    held.give([(0, 20)])
    assert held.layer(0)[0].shape == (25, 1, 1)
    assert held.take(12) == [(0, 12)]
    assert held.take(8) == [(12, 20)]
    assert held.layer(0)[0].shape == (25, 1, 1)


def test_neighbours_that_come_back_are_one_range_again() -> None:
    held = memory()
    held.reserve(30)
    pieces = [held.take(10) for _ in range(3)]
    assert pieces == [[(0, 10)], [(10, 20)], [(20, 30)]]
    for piece in (pieces[2], pieces[0], pieces[1]):
        held.give(piece)
    assert held.take(30) == [(0, 30)]


def test_a_sequence_is_put_together_from_pieces_that_are_not_tiny() -> None:
    held = memory()
    held.reserve(40)
    assert held.take(40) == [(0, 40)]
    held.give([(0, 10), (12, 22), (24, 27)])
    assert sorted(held.take(15)) == [(0, 10), (12, 17)]
    assert held.take(5) == [(17, 22)]
    assert held.take(3) == [(24, 27)]
    assert held.layer(0)[0].shape == (40, 1, 1)
    assert held.take(1) == [(40, 41)]


def test_what_was_written_stays_when_memory_grows() -> None:
    held = memory()
    held.take(3)
    held.write(0, torch.tensor([2, 0]), torch.tensor([[[5.0]], [[6.0]]]), torch.tensor([[[7.0]], [[8.0]]]))
    held.take(100)
    assert held.layer(0)[0][:3].flatten().tolist() == [6, 0, 5]
    assert held.layer(0)[1][:3].flatten().tolist() == [8, 0, 7]


# The cache by hand.


def fill(cache: PrefixCache, held: KeyValues, tokens: list[int]) -> Segment:
    """Keep a sequence as a row would; its end stays pinned."""
    known, segment = cache.pin(tokens, len(tokens))
    return cache.extend(segment, tokens[known:], held.take(len(tokens) - known))


def test_the_longest_known_prefix_is_found_token_by_token() -> None:
    held = memory()
    cache = PrefixCache(held, 100 * TOKEN_BYTES)
    for tokens in ([1, 2, 3, 4, 5], [1, 2, 3, 9], [1, 2, 3, 4, 5, 6]):
        fill(cache, held, tokens)
    for tokens, length in (
        ([1, 2, 3, 4, 5, 6, 7], 6),
        ([1, 2, 3, 9, 9], 4),
        ([1, 2, 8], 2),
        ([2, 1], 0),
        ([], 0),
    ):
        assert cache.known(tokens, len(tokens)) == length
    assert cache.known([1, 2, 3, 4], 2) == 2
    assert cache.held == 3 + 2 + 1 + 1


def test_a_pin_in_the_middle_splits_and_its_path_is_where_the_prefix_lies() -> None:
    held = memory()
    cache = PrefixCache(held, 100 * TOKEN_BYTES)
    whole = fill(cache, held, [1, 2, 3, 4, 5]).path()
    length, segment = cache.pin([1, 2, 9], 3)
    assert (length, segment.ids) == (2, [1, 2])
    assert positions_of(segment.path(), 0, 2) == positions_of(whole, 0, 2)
    end = cache.extend(segment, [9, 9], held.take(2))
    assert positions_of(end.path(), 0, 2) == positions_of(whole, 0, 2)
    assert cache.pin([1, 2, 3, 4, 5], 5)[1].path() == whole


def test_what_is_known_already_keeps_its_positions_and_the_second_copy_is_free() -> None:
    held = memory()
    held.reserve(9)
    cache = PrefixCache(held, 100 * TOKEN_BYTES)
    (_, one), (_, other) = cache.pin([1, 2, 3], 3), cache.pin([1, 2, 4, 5], 4)
    first = cache.extend(one, [1, 2, 3], held.take(3))
    second = cache.extend(other, [1, 2, 4, 5], held.take(4))
    assert positions_of(second.path(), 0, 2) == positions_of(first.path(), 0, 2)
    assert cache.held == 5
    assert count(held.take(2) + held.take(1) + held.take(1)) == 4
    assert held.layer(0)[0].shape == (9, 1, 1)


def test_the_leaf_that_was_not_used_for_longest_goes_first() -> None:
    held = memory()
    cache = PrefixCache(held, 6 * TOKEN_BYTES)
    for tokens in ([1, 2, 3], [1, 2, 4], [5]):
        cache.release(fill(cache, held, tokens))
    cache.release(cache.pin([1, 2, 3], 3)[1])
    cache.release(fill(cache, held, [6, 7]))
    known = [cache.known(tokens, len(tokens)) for tokens in ([1, 2, 3], [1, 2, 4], [5], [6, 7])]
    assert known == [3, 2, 1, 2]
    assert cache.held == 6


def test_what_a_row_reads_is_kept_beyond_the_limit_and_goes_when_released() -> None:
    held = memory()
    cache = PrefixCache(held, 4 * TOKEN_BYTES)
    read = fill(cache, held, [1, 2, 3])
    also = cache.pin([1, 2, 3], 3)[1]
    other = fill(cache, held, [4, 5, 6])
    assert cache.held == 6
    cache.release(read)
    assert cache.known([1, 2, 3], 3) == 3  # still read once
    cache.release(also)
    assert (cache.known([1, 2, 3], 3), cache.known([4, 5, 6], 3)) == (0, 3)
    cache.release(other)
    assert cache.held == 3


def test_a_cleared_cache_knows_nothing_and_its_positions_are_free() -> None:
    held = memory()
    held.reserve(20)
    cache = PrefixCache(held, 100 * TOKEN_BYTES)
    for tokens in ([1, 2, 3], [1, 2, 4], [5]):
        cache.release(fill(cache, held, tokens))
    cache.clear()
    assert (cache.held, cache.known([1, 2, 3], 3)) == (0, 0)
    assert held.take(20) == [(0, 20)]


def test_what_one_row_reads_in_many_ranges_is_moved_to_one_with_room_behind_it() -> None:
    held = memory()
    held.reserve(40)
    cache = PrefixCache(held, 40 * TOKEN_BYTES)
    for tokens in ([1, 2], [1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]):
        filled = fill(cache, held, tokens)
        cache.release(filled)
        held.take(1)
    assert filled.path() == [(0, 2), (3, 4), (5, 7), (8, 9)]
    keys, values = held.layer(0)
    keys[:9, 0, 0] = torch.arange(9.0)
    values[:9, 0, 0] = -torch.arange(9.0)
    _, other = cache.pin([1, 2, 9], 2)
    length, row = cache.pin([1, 2, 3, 4, 5, 6, 7], 6)
    assert (length, cache.gather(row, 3, 4)) == (6, [])  # two ranges are few enough
    assert cache.gather(row, 4, 4) == [(14, 18)]
    assert row.path() == [(0, 2), (10, 14)]  # the other row reads the first two tokens where they were
    assert keys[10:14, 0, 0].tolist() == [3, 5, 6, 8]
    assert values[10:14, 0, 0].tolist() == [-3, -5, -6, -8]
    assert cache.gather(row, 4, 4) == []
    cache.release(other)
    cache.release(row)
    assert held.take(2, 0, 3) == [(3, 4), (18, 19)]


# Whatever rows do.


class RowOfTokens:
    """What the engine's batch does with a row, with each token written as a number that tells its prefix."""

    def __init__(self, tokens: list[int], cache: PrefixCache, held: KeyValues, gathered: int) -> None:
        self.tokens, self._cache, self._held = tokens, cache, held
        self.base, self.prefix = cache.pin(tokens, len(tokens) - 1)
        self.own: list[Range] = cache.gather(self.prefix, gathered, 3)
        self.above = self.prefix.path()
        self.compute(self.base)

    def compute(self, first: int) -> None:
        """Take positions for the tokens from `first` on and write them."""
        self.own = [*self.own, *self._held.take(len(self.tokens) - first)]
        at = positions_of([*self.above, *self.own], first, len(self.tokens))
        numbers = torch.tensor(fingerprints(self.tokens)[first:])[:, None, None]
        self._held.write(0, torch.tensor(at), numbers, -numbers)

    def draw(self, tokens: list[int]) -> None:
        self.tokens = self.tokens + tokens
        self.compute(len(self.tokens) - len(tokens))

    def keep(self, end: int) -> None:
        """Give the cache what was computed up to `end`."""
        if end > self.base:
            given, self.own = cut(self.own, end - self.base)
            self.prefix = self._cache.extend(self.prefix, self.tokens[self.base : end], given)
            self.base, self.above = end, self.prefix.path()

    def leave(self) -> None:
        self._cache.release(self.prefix)
        self._held.give(self.own)


def up_from(segment: Segment | None) -> list[Segment]:
    return [] if segment is None else [segment, *up_from(segment.parent)]


def free(held: KeyValues) -> list[Range]:
    return sorted(held._free._ends.items())


def fingerprints(tokens: list[int]) -> list[float]:
    return [float(hash(tuple(tokens[: i + 1])) % 1_000_003) for i in range(len(tokens))]


tokens_of_a_row = st.lists(st.integers(0, 2), min_size=1, max_size=30)


class Rows(RuleBasedStateMachine):
    """Rows come, grow, are kept and leave in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.limit = 40
        self.held = memory()
        self.cache = PrefixCache(self.held, self.limit * TOKEN_BYTES)
        self.rows: list[RowOfTokens] = []

    @rule(tokens=tokens_of_a_row, gathered=st.sampled_from([0, 10, 99]))
    def come(self, tokens: list[int], gathered: int) -> None:
        self.rows.append(RowOfTokens(tokens, self.cache, self.held, gathered))

    @precondition(lambda self: self.rows)
    @rule(which=st.integers(0, 99), tokens=tokens_of_a_row)
    def draw(self, which: int, tokens: list[int]) -> None:
        self.rows[which % len(self.rows)].draw(tokens)

    @precondition(lambda self: self.rows)
    @rule(which=st.integers(0, 99), share=st.floats(0, 1))
    def keep(self, which: int, share: float) -> None:
        row = self.rows[which % len(self.rows)]
        row.keep(round(share * len(row.tokens)))

    @precondition(lambda self: self.rows)
    @rule(which=st.integers(0, 99), all_of_it=st.booleans())
    def leave(self, which: int, all_of_it: bool) -> None:
        row = self.rows.pop(which % len(self.rows))
        if all_of_it:
            row.keep(len(row.tokens))
        row.leave()

    @precondition(lambda self: not self.rows)
    @rule()
    def clear(self) -> None:
        self.cache.clear()
        assert count(free(self.held)) == self.held.layer(0)[0].shape[0]

    def segments(self) -> list[Segment]:
        found, stack = [], [self.cache._root]
        while stack:
            segment = stack.pop()
            found.append(segment)
            stack += segment.below.values()
        return found[1:]

    @invariant()
    def every_position_has_one_owner(self) -> None:
        ranges = free(self.held)
        for segment in self.segments():
            assert count(segment.ranges) == len(segment.ids) > 0
            ranges += segment.ranges
        for row in self.rows:
            ranges += row.own
        owned = sorted(position for start, end in ranges for position in range(start, end))
        assert owned == list(range(self.held.layer(0)[0].shape[0]))

    @invariant()
    def free_ranges_are_in_order_and_do_not_touch(self) -> None:
        assert all(start < end for start, end in free(self.held))
        assert all(before[1] < after[0] for before, after in pairwise(free(self.held)))

    @invariant()
    def a_row_reads_what_was_written_for_its_tokens(self) -> None:
        keys, values = (each.flatten() for each in self.held.layer(0))
        for row in self.rows:
            at = positions_of([*row.above, *row.own], 0, len(row.tokens))
            assert keys[at].tolist() == (-values[at]).tolist() == fingerprints(row.tokens)

    @invariant()
    def the_limit_is_kept_as_far_as_nothing_is_read(self) -> None:
        segments = self.segments()
        assert self.cache.held == sum(len(segment.ids) for segment in segments)
        assert set(self.cache._by_age) == set(segments)
        read = Counter(id(segment) for row in self.rows for segment in up_from(row.prefix))
        assert all(segment.readers == read[id(segment)] for segment in segments)
        if self.cache.held > self.limit:
            assert all(segment.below or segment.readers for segment in segments)

    @invariant()
    def the_tree_is_a_tree_of_first_ids(self) -> None:
        for segment in self.segments():
            assert segment.parent is not None
            assert segment.parent.below[segment.ids[0]] is segment


Rows.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRows = Rows.TestCase


@pytest.mark.parametrize("seed", range(3))
def test_many_rows_for_long_lose_nothing_and_find_what_they_kept(seed: int) -> None:
    rng, machine = random.Random(seed), Rows()
    stems = [[rng.randrange(3) for _ in range(rng.randrange(1, 25))] for _ in range(4)]
    for step in range(1500):
        chance = rng.random()
        if not machine.rows or (chance < 0.4 and len(machine.rows) < 8):
            tail = [rng.randrange(3) for _ in range(rng.randrange(1, 10))]
            machine.come(rng.choice(stems) + tail, rng.choice([0, 10, 99]))
        elif chance < 0.7:
            machine.draw(rng.randrange(99), [rng.randrange(3)])
        elif chance < 0.8:
            machine.keep(rng.randrange(99), rng.random())
        else:
            machine.leave(rng.randrange(99), rng.random() < 0.8)
        if step % 10 == 0:
            machine.every_position_has_one_owner()
            machine.free_ranges_are_in_order_and_do_not_touch()
            machine.a_row_reads_what_was_written_for_its_tokens()
            machine.the_limit_is_kept_as_far_as_nothing_is_read()
    while machine.rows:
        machine.leave(0, True)
    assert machine.cache.held <= machine.limit
    machine.clear()
