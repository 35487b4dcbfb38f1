"""What stands between a transformer's matrix products, on a CPU: one pass over memory in place of many.

Compiled by numba at the first call.

Letters of a shape: N tokens, D hidden size, I width between gate and down, H query heads, K key-value heads,
E head_dim, C positions of the memory, P rows of the tables.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

_LOG2_E = np.float32(1.4426950408889634)
# 2^x on [-0.5, 0.5], the factors of x^1 to x^6: Taylor, off by about one unit in the last place of a float32.
_C1, _C2, _C3, _C4, _C5, _C6 = (np.float32(math.log(2) ** n / math.factorial(n)) for n in range(1, 7))


# Inlined by force: a process that compiled its caller would call its own copy, one that found the caller in
# the cache the one inside it, and the two may differ in last bits.
@njit(nogil=True, fastmath=True, error_model="numpy", forceinline=True)
def exponential(x: Any) -> Any:
    """e^x of a float32, between 2^-126 and 2^126; in a loop over an array it becomes vector instructions."""
    x = min(max(x * _LOG2_E, np.float32(-126)), np.float32(126))
    whole = np.floor(x + np.float32(0.5))
    x -= whole
    x = np.float32(1) + x * (_C1 + x * (_C2 + x * (_C3 + x * (_C4 + x * (_C5 + x * _C6)))))
    return x * np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)


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
    heads: Any, cos: Any, sin: Any, turns: Any, positions: Any, query: Any, keys: Any, values: Any
) -> None:
    """Rotate queries and keys, and put each where attention reads it.

    `heads` [N, H + 2 * K, E] are a token's queries, keys (rotated in place) and values; `query` [N, H, E] is
    filled, `keys` and `values` [C, K, E] of a layer at the `positions` [N]. Su et al. 2021 (RoPE), halves
    paired as in transformers; `cos` and `sin` [P, E], of which a token takes the row `turns` [N].
    """
    asked, kept, half = query.shape[1], keys.shape[1], heads.shape[2] // 2
    for n in range(len(heads)):
        c, s = cos[turns[n]], sin[turns[n]]
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


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def gate(both: Any, out: Any) -> None:
    """`out` [N, I] is the SiLU of the first half of `both` [N, 2 * I] times the second (Shazeer 2020)."""
    width = out.shape[1]
    for n in range(len(out)):
        opening, through, into = both[n, :width], both[n, width:], out[n]
        for i in range(width):
            into[i] = opening[i] * through[i] / (np.float32(1) + exponential(-opening[i]))
