"""Attention by torch's own products, on any device: many tokens over one past, or few over their own, padded.

Letters of a shape: R rows, Q queries, P keys, H query heads, K key-value heads, E head_dim, N new tokens,
M of them asked, G query heads a key-value head, C positions of the memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llama_o1.engine.few import Few


def attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | bool | None,
    scaling: float,
    softcap: float | None,
) -> tuple[Tensor, Tensor]:
    """Attention and log-sum-exps [R, Q, H] of queries [R, Q, H, E] over keys and values [R, P, K, E].

    `mask` [Q, P] tells what is seen; True: query i sees the first i + 1 keys; None: all see all.
    """
    query = queries.transpose(1, 2)
    key, value = (each.transpose(1, 2).to(queries.dtype) for each in (keys, values))
    added = None
    if isinstance(mask, Tensor):
        added = torch.zeros(mask.shape, dtype=query.dtype, device=query.device).masked_fill_(
            ~mask, -torch.inf
        )
    if query.device.type == "cpu" and softcap is None:
        part, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, mask is True, attn_mask=added, scale=scaling
        )
        return part.transpose(1, 2), sums.transpose(1, 2)
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = (query @ key.transpose(-1, -2)).float() * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if added is not None:
        scores = scores + added
    elif mask is True:
        after = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(after, -torch.inf)
    sums = scores.logsumexp(-1)
    part = (scores - sums[..., None]).exp().to(value.dtype) @ value
    return part.transpose(1, 2), sums.transpose(1, 2)


class Padded(NamedTuple):
    """The asked tokens of R rows side by side, and what each sees: the same in all layers of a pass."""

    tokens: Tensor  # [R, Q] of the N, padded by repeating a row's last
    kept: Tensor  # [M] of R * Q, those that are not padding
    past: Tensor  # [R, P] of the memory, padded by repeating a row's last
    hidden: Tensor  # [R, Q, P]


def padded(few: Few, device: torch.device) -> Padded:
    """Each row's asked tokens and past, padded to the most tokens and the longest past."""
    order = np.argsort(few.row, kind="stable")
    rows, counts = np.unique(few.row, return_counts=True)
    slots = np.arange(counts.max())
    asked = order[(counts.cumsum() - counts)[:, None] + np.minimum(slots, counts[:, None] - 1)]
    kept = np.flatnonzero(slots < counts[:, None])
    lengths = few.ranges[:, 1] - few.ranges[:, 0]
    ends = np.concatenate(([0], lengths.cumsum()))
    positions = np.arange(ends[-1]) + np.repeat(few.ranges[:, 0] - ends[:-1], lengths)
    at = np.arange(few.end.max())
    begin, stop = ends[few.bounds[rows], None], ends[few.bounds[rows + 1], None]
    past = positions[np.minimum(begin + at, stop - 1)]
    hidden = (at < few.first[asked][..., None]) | (at >= few.end[asked][..., None])
    arrays = few.tokens[asked], kept, past, hidden
    return Padded(*(torch.from_numpy(array).to(device) for array in arrays))


def attend_padded(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    asked: Padded,
    output: Tensor,
    scaling: float,
    softcap: float | None,
) -> None:
    """What `attend_few` does, on any device: every row's past is gathered, padded to the longest."""
    groups = queries.shape[1] // keys.shape[1]
    query = queries[asked.tokens].unflatten(2, (keys.shape[1], groups))  # [R, Q, K, G, E]
    scores = torch.einsum("rqkge,rpke->rkgqp", query, keys[asked.past]).float() * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    weights = scores.masked_fill(asked.hidden[:, None, None], -torch.inf).softmax(-1).to(values.dtype)
    made = torch.einsum("rkgqp,rpke->rqkge", weights, values[asked.past])
    output[asked.tokens.flatten()[asked.kept]] = made.flatten(2, 3).flatten(0, 1)[asked.kept]
