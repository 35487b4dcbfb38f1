"""Sequences merged into tries: what lies where, who sees whom, where a trie is cut."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import create_mask

from llama_o1.learn.ancestors import _block_mask, dense_mask, sees
from llama_o1.learn.trie import Piece, pieces_of, rows_of

# Few letters, so that beginnings are shared, sequences begin others and come twice.
sequences = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=12)


def arrays(lists):
    return [np.array(ids, dtype=np.int32) for ids in lists]


def test_a_trie_worked_out_by_hand():
    # 5 6 7 and 5 6 8 9 share 5 6; 5 6 comes twice and begins both; 4 stands alone.
    alone, trie = pieces_of(arrays([[5, 6, 7], [5, 6], [5, 6, 8, 9], [4], [5, 6]]), 100)
    assert alone.ids.tolist() == [4]
    assert trie.ids.tolist() == [5, 6, 7, 8, 9]
    assert trie.depth.tolist() == [0, 1, 2, 2, 3]
    assert trie.subtree_end.tolist() == [5, 5, 3, 5, 5]
    assert {number: lie.tolist() for number, lie in trie.places.items()} == {
        1: [0, 1], 4: [0, 1], 0: [0, 1, 2], 2: [0, 1, 3, 4],
    }  # fmt: skip


def test_a_trie_too_large_is_cut_at_a_subtree_and_repeats_only_the_path_above_it():
    # Two long branches after 1 2, each with two ends: 2 + (3 + 2 * 2) + (3 + 2 * 2) = 16 tokens.
    left, right = [1, 2, 3, 3, 3], [1, 2, 4, 4, 4]
    ends = [[*left, 5, 5], [*left, 6, 6], [*right, 5, 5], [*right, 6, 6]]
    (whole,) = pieces_of(arrays(ends), 16)
    assert whole.ids.size == 16
    # At most 12: cut between the branches, 1 2 once more; between the ends of one it would be five tokens.
    first, second = pieces_of(arrays(ends), 12)
    assert first.ids.tolist() == [*left, 5, 5, 6, 6]
    assert second.ids.tolist() == [*right, 5, 5, 6, 6]
    assert sorted(first.places) == [0, 1]


def test_dense_attention_cuts_where_the_square_costs_more_than_the_path_above():
    # A path of 10 with two ends of 45: 100 tokens, or 55 twice. With even = 100: 100 + 100 against
    # 110 + 2 * 30.25; with even = 1000: 100 + 10 against 110 + 6.05.
    path = [1] * 10
    ends = arrays([[*path, *[2] * 45], [*path, *[3] * 45]])
    assert [p.ids.size for p in pieces_of(ends, 1000, even=100)] == [55, 55]
    assert [p.ids.size for p in pieces_of(ends, 1000, even=1000)] == [100]


def test_a_sequence_longer_than_the_cap_has_a_piece_of_its_own():
    pieces = pieces_of(arrays([[1, 2, 3, 4, 5], [1, 2], [1, 3]]), 3)
    assert [(p.ids.tolist(), sorted(p.places)) for p in pieces] == [
        ([1, 2], [1]), ([1, 2, 3, 4, 5], [0]), ([1, 3], [2]),
    ]  # fmt: skip


@given(sequences, st.integers(1, 30), st.sampled_from([math.inf, 6.0]))
def test_every_sequence_lies_whole_in_one_piece(lists, cap, even):
    found = arrays(lists)
    pieces = pieces_of(found, cap, even)
    assert sorted(n for piece in pieces for n in piece.places) == list(range(len(lists)))
    for piece in pieces:
        for number, lie in piece.places.items():
            assert piece.ids[lie].tolist() == lists[number]
            assert piece.depth[lie].tolist() == list(range(len(lists[number])))
        assert piece.ids.size <= cap or len({tuple(lists[n]) for n in piece.places}) == 1


@given(sequences, st.integers(1, 30))
def test_a_token_sees_its_own_beginning_and_nothing_else(lists, cap):
    for piece in pieces_of(arrays(lists), cap):
        place = np.arange(piece.ids.size)
        seen = (place[None, :] <= place[:, None]) & (place[:, None] < piece.subtree_end[None, :])
        for lie in piece.places.values():
            for length, q in enumerate(lie, start=1):
                assert np.flatnonzero(seen[q]).tolist() == lie[:length].tolist()


@given(sequences)
def test_without_a_cap_no_beginning_is_computed_twice(lists):
    pieces = pieces_of(arrays(lists), 10_000)
    beginnings = {tuple(ids[:n]) for ids in lists for n in range(1, len(ids) + 1)}
    assert sum(piece.ids.size for piece in pieces) == len(beginnings)


def test_rows_take_the_largest_pieces_first_and_fill_up_with_small_ones():
    def piece(size):
        return Piece(np.arange(size), np.arange(size), np.arange(size), {size: np.arange(size)})

    rows = rows_of([piece(n) for n in (3, 7, 2, 12, 5)], 10)
    assert [[(at, p.ids.size) for at, p in row.pieces] for row in rows] == [
        [(0, 12)], [(0, 7), (7, 3)], [(0, 5), (5, 2)],
    ]  # fmt: skip
    assert [row.size for row in rows] == [12, 10, 7]


# The trie of the first test beside one token of padding.
ENDS, DEPTH = torch.tensor([[5, 5, 3, 5, 5, 6]]), torch.tensor([[0, 1, 2, 2, 3, 0]])


def test_the_dense_mask_shows_ancestors_and_the_token_itself():
    assert dense_mask(ENDS, DEPTH, None)[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 0, 0],
        [1, 1, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]


def test_a_window_counts_depth_not_places():
    # Token 3 lies three places after token 0 and sees two: itself and 1. Token 4 sees 3 and itself.
    assert dense_mask(ENDS, DEPTH, 2)[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [0, 1, 0, 1, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]


@given(sequences, sequences, st.sampled_from([None, 1, 3]))
def test_the_block_mask_for_cuda_lets_through_what_the_dense_one_does(first, second, window):
    both = [pieces_of(arrays(lists), 10_000) for lists in (first, second)]
    rows = [rows_of(pieces, sum(p.ids.size for p in pieces))[0] for pieces in both]
    seq = max(row.size for row in rows)
    ends, depth = torch.arange(1, seq + 1).repeat(2, 1), torch.zeros(2, seq, dtype=torch.long)
    for i, row in enumerate(rows):
        for start, piece in row.pieces:
            here = slice(start, start + piece.ids.size)
            ends[i, here] = torch.as_tensor(piece.subtree_end + start)
            depth[i, here] = torch.as_tensor(piece.depth)
    expected = dense_mask(ends, depth, window)
    assert torch.equal(create_mask(sees(ends, depth, window), 2, None, seq, seq, "cpu"), expected)


@pytest.mark.parametrize("window", [None, 40])
def test_a_block_is_skipped_only_if_nothing_in_it_is_seen(window):
    rng = np.random.default_rng(0)
    trunk = rng.integers(0, 9, 90)
    (piece,) = pieces_of([np.concatenate((trunk, rng.integers(0, 9, 60))) for _ in range(6)], 10_000)
    ends, depth = (torch.as_tensor(each)[None, :384] for each in (piece.subtree_end, piece.depth))
    blocks = dense_mask(ends, depth, window)[0, 0].unflatten(0, (3, 128)).unflatten(2, (3, 128))
    seen = blocks.any(3).any(1)
    assert torch.equal(_block_mask(ends, depth, window).to_dense()[0, 0].bool(), seen)
    assert not seen.all()
