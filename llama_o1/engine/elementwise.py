"""What stands between a transformer's matrix products, on a CPU: one pass over memory in place of many.

Compiled by numba at the first call.

Letters of a shape: N tokens, D hidden size, H query heads, K key-value heads, E head_dim, C positions of
the memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def add_and_norm(stream: Any, added: Any, weight: Any, epsilon: Any, normed: Any) -> None:
    """Add `added` [N, D], or nothing [0, D], to `stream` [N, D]; `normed` [N, D] is its RMSNorm.

    Zhang and Sennrich 2019: x / sqrt(mean(x^2) + epsilon) * weight.
    """
    tokens, width = stream.shape
    for n in range(tokens):
        row, out = stream[n], normed[n]
        if len(added):
            more = added[n]
            for d in range(width):
                row[d] += more[d]
        total = np.float32(0)
        for d in range(width):
            total += row[d] * row[d]
        scale = np.float32(1) / np.sqrt(total / np.float32(width) + epsilon)
        for d in range(width):
            out[d] = row[d] * scale * weight[d]


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def turn_and_write(
    heads: Any, cos: Any, sin: Any, positions: Any, query: Any, keys: Any, values: Any
) -> None:
    """Rotate queries and keys, and put each where attention reads it.

    `heads` [N, H + 2 * K, E] are a token's queries, keys (rotated in place) and values; `query` [N, H, E] is
    filled, `keys` and `values` [C, K, E] of a layer at the `positions` [N]. Su et al. 2021 (RoPE), halves
    paired as in transformers; `cos` and `sin` [N, E].
    """
    asked, kept, half = query.shape[1], keys.shape[1], heads.shape[2] // 2
    for n in range(len(heads)):
        c, s = cos[n], sin[n]
        for h in range(asked + kept):
            one = heads[n, h]
            into = query[n, h] if h < asked else one
            for e in range(half):
                a, b = one[e], one[e + half]
                into[e] = a * c[e] - b * s[e]
                into[e + half] = b * c[e + half] + a * s[e + half]
        at = positions[n]
        for h in range(kept):
            keys[at, h] = heads[n, asked + h]
            values[at, h] = heads[n, asked + kept + h]
