"""Token sequences merged into tries, so that what they share is computed once. Pure numpy.

Sequences are sorted, which puts a trie's tokens into depth-first order: a token's descendants are the tokens
from it to its `subtree_end`, and k is an ancestor of q, or q itself, if `k <= q < subtree_end[k]` (the
interval test of an Euler tour). Knows no model and no experience.
Letters of a shape: S tokens of a piece; L tokens of one sequence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer]


class Piece(NamedTuple):
    """A trie or, where one is cut, some of its branches with the path above them once more."""

    ids: Ints  # [S] depth first
    depth: Ints  # [S] tokens above it in its own sequence
    subtree_end: Ints  # [S] place after its last descendant
    places: dict[int, Ints]  # of each sequence, by number: where its tokens lie, [L]


class Row(NamedTuple):
    """Pieces side by side, each with the place where it begins."""

    pieces: list[tuple[int, Piece]]
    size: int


def pieces_of(sequences: Sequence[Ints], cap: int, even: float = math.inf) -> list[Piece]:
    """The tries of all sequences, cut where a piece would grow beyond `cap` tokens.

    A piece of S tokens is taken to cost S + S * S / even: `even` tokens attend to each other at the price
    of everything else, inf where attention skips what it does not see. Cuts are those of least total cost.
    A sequence longer than `cap` has a piece of its own: no token is ever left out.
    """
    # As big-endian bytes, numbers that are not negative sort like themselves.
    keys = [sequence.astype(">i8").tobytes() for sequence in sequences]
    order = sorted(range(len(sequences)), key=keys.__getitem__)
    inorder = [sequences[i] for i in order]
    shared = [0, *map(_shared, inorder, inorder[1:])]
    starts = [i for i, common in enumerate(shared) if common == 0]
    pieces = []
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        lengths = np.array([sequence.size for sequence in inorder[start:end]])
        for first, last in _cuts(lengths, np.array(shared[start:end]), cap, even):
            part = slice(start + first, start + last)
            pieces.append(_piece(order[part], inorder[part], shared[part]))
    return pieces


def rows_of(pieces: Sequence[Piece], capacity: int) -> list[Row]:
    """Pieces in rows of at most `capacity` tokens, or one larger piece; first fit, the largest first."""
    rows: list[Row] = []
    for piece in sorted(pieces, key=lambda piece: -piece.ids.size):
        size = piece.ids.size
        for i, row in enumerate(rows):
            if row.size + size <= capacity:
                rows[i] = Row([*row.pieces, (row.size, piece)], row.size + size)
                break
        else:
            rows.append(Row([(0, piece)], size))
    return rows


def _shared(a: Ints, b: Ints) -> int:
    """Length of the common beginning."""
    n = min(a.size, b.size)
    differs = np.flatnonzero(a[:n] != b[:n])
    return int(differs[0]) if differs.size else n


def _cuts(lengths: Ints, shared: Ints, cap: int, even: float) -> Iterator[tuple[int, int]]:
    """Ranges of sorted sequences, one a piece, of the least total cost: a dynamic programme."""
    added = np.cumsum(lengths - shared)  # tokens of the trie after each sequence
    if added[-1] <= cap and added[-1] <= even / 2:  # a cut repeats tokens and saves next to nothing
        return iter([(0, lengths.size)])
    best = np.zeros(lengths.size + 1)
    cut = np.zeros(lengths.size + 1, dtype=int)
    for end in range(1, lengths.size + 1):
        sizes = lengths[:end] + added[end - 1] - added[:end]  # of the piece from each start
        costs = best[:end] + sizes + sizes.astype(float) ** 2 / even
        costs[: end - 1][sizes[:-1] > cap] = math.inf
        cut[end] = int(costs.argmin())
        best[end] = costs[cut[end]]
    ranges = []
    end = lengths.size
    while end:
        ranges.append((int(cut[end]), end))
        end = int(cut[end])
    return reversed(ranges)


def _piece(numbers: Sequence[int], sequences: Sequence[Ints], shared: Sequence[int]) -> Piece:
    """One trie of sorted sequences; the first brings its whole path."""
    shared = [0, *shared[1:]]
    size = sum(sequence.size for sequence in sequences) - sum(shared)
    ids, depth, ends = (np.empty(size, dtype=np.int64) for _ in range(3))
    path = np.empty(max(sequence.size for sequence in sequences), dtype=np.int64)
    places: dict[int, Ints] = {}
    here = opened = 0  # tokens so far; those of `path` whose subtrees go on
    for number, sequence, common in zip(numbers, sequences, shared, strict=True):
        ends[path[common:opened]] = here
        opened, after = sequence.size, here + sequence.size - common
        path[common:opened] = np.arange(here, after)
        ids[here:after] = sequence[common:]
        depth[here:after] = np.arange(common, opened)
        places[number] = path[:opened].copy()
        here = after
    ends[path[:opened]] = here
    return Piece(ids, depth, ends, places)
