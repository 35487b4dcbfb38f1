"""Experiences as tensors: which token goes where, and which logit row predicts it.

Knows no model and no loss. A `Batch` names logit rows by their place in the flattened forward pass
(row * seq + position), so that experiences may lie alone in rows or share them as tries.
Letters of a shape: rows and seq of the forward pass; node: one experience; own: its own tokens, padded.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from llama_o1.learn.trie import Ints, Row, pieces_of, rows_of
from replay.experience import Experience


class Batch(NamedTuple):
    """One forward pass and what is read from it: filled here, read by forward.py and loss.py."""

    input_ids: Int[Tensor, "rows seq"]
    attention_mask: Int[Tensor, "rows seq"]  # 0 at padding
    position_ids: Int[Tensor, "rows seq"]  # depth in tokens
    subtree_end: Int[Tensor, "rows seq"] | None  # k is seen from q if k <= q < subtree_end[k]; None: causal
    targets: Int[Tensor, "node own"]  # own ids; 0 at padding
    predicted_by: Int[Tensor, "node own"]  # flat index of the logit row that predicts the own token
    sampled: Bool[Tensor, "node own"]  # False where forced, and at padding
    old_logprobs: Float[Tensor, "node own"]  # of the behaviour policy; 0 where not sampled
    rated_by: Int[Tensor, " node"]  # flat index of the logit row of the last own token, <start_of_rating>
    temperature: Float[Tensor, " node"]
    advantage: Float[Tensor, " node"]
    value_target: Float[Tensor, " node"]

    @property
    def seq(self) -> int:
        """Positions of one row of the forward pass, padding included."""
        return self.input_ids.shape[1]


Group = tuple[list[int], Batch]  # indices of the experiences in the order of the batch's nodes


def pack(experiences: Sequence[Experience], pad_id: int, device: torch.device) -> Batch:
    """One row per experience, context and own ids, padded on the right; ValueError for one unfit to learn.

    The logits at position i predict position i + 1, so own token j of a node with C context tokens is
    predicted at position C + j - 1 of its own row, whatever the padding. No token is ever cut off.
    """
    check(experiences)
    sequences = [_sequence(e) for e in experiences]
    seq = max(sequence.size for sequence in sequences)
    input_ids = np.full((len(sequences), seq), pad_id, dtype=np.int64)
    attention_mask = np.zeros((len(sequences), seq), dtype=np.int64)
    places = []
    for row, sequence in enumerate(sequences):
        input_ids[row, : sequence.size] = sequence
        attention_mask[row, : sequence.size] = 1
        places.append(row * seq + np.arange(sequence.size))
    positions = np.tile(np.arange(seq), (len(sequences), 1))
    return _batch(experiences, places, input_ids, attention_mask, positions, None, device)


def split(experiences: Sequence[Experience], max_tokens: int) -> list[list[int]]:
    """Indices in groups of similar length whose padded size stays within max_tokens, each index once.

    An experience longer than max_tokens gets a group of its own.
    """
    order = sorted(range(len(experiences)), key=lambda i: (_length(experiences[i]), i))
    groups: list[list[int]] = []
    for i in order:
        # Sorted upwards: the newcomer is the longest of its group.
        if groups and (len(groups[-1]) + 1) * _length(experiences[i]) <= max_tokens:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def pack_tries(
    experiences: Sequence[Experience],
    max_tokens: int,
    pad_id: int,
    device: torch.device,
    *,
    even: float = math.inf,
    widest: int | None = None,
) -> list[Group]:
    """All experiences merged into tries by their ids, in forward passes of at most max_tokens.

    What experiences share lies there once, at position = depth in tokens. A trie too large for a row is
    cut at a subtree and repeats the path above it. `even` is the price of dense attention (trie.py), inf
    where it is not dense; `widest` bounds a row below max_tokens. ValueError as for `pack`.
    """
    check(experiences)
    cap = min(max_tokens, widest or max_tokens)
    pieces = pieces_of([_sequence(e) for e in experiences], cap, even)
    # Dense attention pays for the square of a row: none wider than the largest piece.
    rows = rows_of(pieces, cap if math.isinf(even) else max(piece.ids.size for piece in pieces))
    rows.sort(key=lambda row: -row.size)
    passes: list[list[Row]] = []
    for row in rows:
        if passes and (len(passes[-1]) + 1) * passes[-1][0].size <= max_tokens:
            passes[-1].append(row)
        else:
            passes.append([row])
    return [_tries(experiences, rows, pad_id, device) for rows in passes]


def check(experiences: Sequence[Experience]) -> None:
    """Raise a ValueError that names the first experience unfit to learn."""
    for experience in experiences:
        _check(experience)


def _tries(experiences: Sequence[Experience], rows: list[Row], pad_id: int, device: torch.device) -> Group:
    """One forward pass of rows, the widest first."""
    shape = (len(rows), rows[0].size)
    input_ids, attention_mask = np.full(shape, pad_id, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    depth = np.zeros(shape, dtype=np.int64)
    ends = np.tile(np.arange(1, shape[1] + 1), (shape[0], 1))  # padding sees itself: a row needs a key
    places: dict[int, Ints] = {}
    for i, row in enumerate(rows):
        for start, piece in row.pieces:
            here = slice(start, start + piece.ids.size)
            input_ids[i, here], attention_mask[i, here] = piece.ids, 1
            depth[i, here], ends[i, here] = piece.depth, piece.subtree_end + start
            for number, lie in piece.places.items():
                places[number] = lie + (i * shape[1] + start)
    group = sorted(places)
    found = [experiences[i] for i in group]
    lies = [places[i] for i in group]
    return group, _batch(found, lies, input_ids, attention_mask, depth, ends, device)


def _batch(
    experiences: Sequence[Experience],
    places: Sequence[Ints],
    input_ids: Ints,
    attention_mask: Ints,
    position_ids: Ints,
    subtree_end: Ints | None,
    device: torch.device,
) -> Batch:
    """The batch of experiences whose context and own tokens lie at these flat places, one array each."""
    counts = np.array([e.ids.size for e in experiences])
    filled = np.arange(counts.max()) < counts[:, None]  # [node, own]

    def spread(values: Sequence[Any], dtype: type) -> npt.NDArray[Any]:
        padded: npt.NDArray[Any] = np.zeros(filled.shape, dtype=dtype)
        padded[filled] = np.concatenate(values)
        return padded

    # Without a context the first own token has no predictor; `_check` saw that it was not sampled.
    before = [
        lie[np.maximum(np.arange(lie.size - count, lie.size) - 1, 0)]
        for lie, count in zip(places, counts, strict=True)
    ]
    sampled = spread([e.sampled for e in experiences], np.bool_)
    old = spread([e.logprobs for e in experiences], np.float32)
    numbers = np.array([(e.temperature, e.advantage, e.value_target) for e in experiences], dtype=np.float32)

    def tensor(array: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    return Batch(
        input_ids=tensor(input_ids),
        attention_mask=tensor(attention_mask),
        position_ids=tensor(position_ids),
        subtree_end=None if subtree_end is None else tensor(subtree_end),
        targets=tensor(spread([e.ids for e in experiences], np.int64)),
        predicted_by=tensor(spread(before, np.int64)),
        sampled=tensor(sampled),
        old_logprobs=tensor(np.where(sampled, old, np.float32(0))),
        rated_by=tensor(np.array([lie[-1] for lie in places])),
        temperature=tensor(numbers[:, 0]),
        advantage=tensor(numbers[:, 1]),
        value_target=tensor(numbers[:, 2]),
    )


def _sequence(experience: Experience) -> Ints:
    return np.concatenate((experience.context, experience.ids))


def _length(experience: Experience) -> int:
    return experience.context.size + experience.ids.size


def _check(e: Experience) -> None:
    where = f"node {e.node} of tree {e.tree}"
    if not e.ids.size or not e.ids.shape == e.sampled.shape == e.logprobs.shape:
        raise ValueError(
            f"{where}: ids, sampled and logprobs must have one equal length above 0, "
            f"got {e.ids.shape}, {e.sampled.shape}, {e.logprobs.shape}"
        )
    if not e.temperature > 0:
        raise ValueError(
            f"{where}: drawn at temperature {e.temperature}; the policy can learn only from draws above 0"
        )
    if not 0 <= e.value_target <= 1:
        raise ValueError(f"{where}: value_target must be in [0, 1], got {e.value_target}")
    if e.sampled[0] and not e.context.size:
        raise ValueError(f"{where}: its first token is sampled but has no context to be predicted from")
