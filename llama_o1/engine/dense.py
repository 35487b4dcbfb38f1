"""Attention by torch's own products, on any device: many tokens over one past, or few over their own, padded.

Letters of a shape: R rows, Q queries, P keys, H query heads, K key-value heads, E head_dim, N new tokens,
M of them asked, G query heads a key-value head, C positions of the memory.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from llama_o1.engine.few import Few
from llama_o1.engine.places import positions_of


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


def attend_padded(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    few: Few,
    output: Tensor,
    scaling: float,
    softcap: float | None,
) -> None:
    """What `attend_few` does, on any device: every asked token's past is gathered, padded to the longest."""
    longest = int(few.end.max())
    rows = [
        positions_of([(int(a), int(b)) for a, b in few.ranges[start:end]], 0, longest)
        for start, end in zip(few.bounds, few.bounds[1:], strict=False)
    ]
    padded = np.array([row + [0] * (longest - len(row)) for row in rows], dtype=np.int64)[few.row]
    at = np.arange(longest)
    seen = (at >= few.first[:, None]) & (at < few.end[:, None])
    device = queries.device
    past, hidden = torch.from_numpy(padded).to(device), torch.from_numpy(~seen).to(device)
    tokens = torch.from_numpy(few.tokens).to(device)
    groups = queries.shape[1] // keys.shape[1]
    query = queries[tokens].unflatten(1, (keys.shape[1], groups))  # [M, K, G, E]
    scores = torch.einsum("mkge,mpke->mkgp", query, keys[past]).float() * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    weights = scores.masked_fill(hidden[:, None, None], -torch.inf).softmax(-1).to(values.dtype)
    output[tokens] = torch.einsum("mkgp,mpke->mkge", weights, values[past]).flatten(1, 2)
