"""Drawing from logits on a CPU, a row at a time, in place of many passes over all; see draw.py.

Compiled by numba at the first call. Every sum is taken in one fixed order, whatever the compiler makes of the
loops, so that a row's numbers are the same bits alone, in any batch and in any process.

Letters of a shape: D rows that draw, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from llama_o1.engine.elementwise import exponential

_LANES = 64  # scores weighed side by side: a block, so that only one of a row is cumulated token by token
_STRIP = 16  # blocks whose sums are taken in float32
_LEAST = np.float32(-87)  # a score of less weighs nothing: e to it is no normal float32
_FAR = np.float32(-1e30)  # a logit of less is as good as -inf
_BELOW_1 = 1 - 1e-12


@njit(cache=True, nogil=True, error_model="numpy")
def choose(logits: Any, temperatures: Any, uniform: Any, ids: Any, numbers: Any) -> bool:
    """One token for each row of `logits` [D, V] float32; False when a row has no finite maximum, or a NaN.

    Fills `ids` [D] and `numbers` [3, D]: log-probs, entropies and varentropies, as in `Drawn`.
    """
    vocab = logits.shape[1]
    blocks = -(-vocab // _LANES)
    row = np.full(blocks * _LANES, _FAR, np.float32)
    weights = np.empty(blocks * _LANES, np.float32)
    ends = np.empty(blocks, np.float64)
    lanes = np.empty((3, _LANES), np.float32)
    for d in range(len(logits)):
        row[:vocab] = logits[d]
        top = _greatest(row, lanes[0], lanes[1])
        if not np.abs(top) < -_FAR:
            return False
        total, mean, square = _weigh(row, top, np.float32(1), weights, ends, lanes)
        # LLaMA-O1: varentropy = sum_v P(v) (log P(v) + H)^2, the variance of log P and so of the scores.
        numbers[1, d] = np.log(total) - mean
        numbers[2, d] = max(square - mean * mean, 0.0)
        temperature = temperatures[d]
        if temperature == 0:
            ids[d], numbers[0, d] = _first(row, top), -np.log(total)
            continue
        if temperature != 1:
            factor = min(np.float32(1) / temperature, -_FAR)
            total = _weigh(row, top, factor, weights, ends, lanes)[0]
        chosen = _invert(weights, ends, uniform[d])
        ids[d] = chosen
        numbers[0, d] = min(np.float64(row[chosen] - top) / temperature - np.log(total), 0.0)
    return True


# Inlined by force, as in elementwise.py.
@njit(nogil=True, error_model="numpy", forceinline=True)
def _greatest(row: Any, tops: Any, nothing: Any) -> Any:
    """The maximum of a row; NaN if one is in it."""
    tops[:] = _FAR
    nothing[:] = 0
    for b in range(len(row) // _LANES):
        for i in range(_LANES):
            logit = row[b * _LANES + i]
            logit = _FAR if logit < _FAR else logit
            tops[i] = logit if logit > tops[i] else tops[i]
            nothing[i] += logit * np.float32(0)  # NaN once and for all
    top = tops[0]
    for i in range(_LANES):
        top = max(top, tops[i] + nothing[i])
        if nothing[i] != 0:
            return np.float32(np.nan)
    return top


@njit(nogil=True, error_model="numpy", forceinline=True)
def _weigh(row: Any, top: Any, factor: Any, weights: Any, ends: Any, lanes: Any) -> Any:
    """Fill `weights` with e to the scores times `factor`, `ends` with their sums up to the end of each block.

    The whole sum comes back, and the scores' mean and mean square under the weights.
    """
    sums, means, squares = lanes[0], lanes[1], lanes[2]
    means[:] = 0
    squares[:] = 0
    total = mean = square = 0.0
    for b in range(len(ends)):
        for i in range(_LANES):
            score = (row[b * _LANES + i] - top) * factor
            score = score if score > _LEAST else _LEAST
            weight = exponential(score)
            weight = weight if score > _LEAST else np.float32(0)
            weights[b * _LANES + i] = weight
            sums[i] = weight
            means[i] += weight * score
            squares[i] += weight * score * score
        total += _folded(sums)
        ends[b] = total
        if b % _STRIP == _STRIP - 1 or b == len(ends) - 1:
            mean += _folded(means)
            square += _folded(squares)
            means[:] = 0
            squares[:] = 0
    return total, mean / total, square / total


@njit(nogil=True, error_model="numpy", forceinline=True)
def _folded(lanes: Any) -> Any:
    """The sum of all lanes, halves added upon halves."""
    for i in range(32):
        lanes[i] += lanes[32 + i]
    for i in range(16):
        lanes[i] += lanes[16 + i]
    for i in range(8):
        lanes[i] += lanes[8 + i]
    for i in range(4):
        lanes[i] += lanes[4 + i]
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])


@njit(nogil=True, error_model="numpy", forceinline=True)
def _first(row: Any, top: Any) -> int:
    """Where the maximum stands."""
    best = 0
    while row[best] != top:
        best += 1
    return best


@njit(nogil=True, error_model="numpy", forceinline=True)
def _invert(weights: Any, ends: Any, uniform: float) -> int:
    """The first token whose cumulated weight exceeds the uniform share of all; none that weighs nothing."""
    b, target = 0, uniform * ends[-1]
    while target >= ends[b] and b < len(ends) - 1:
        b += 1
    before = ends[b - 1] if b else 0.0
    share = min(max((target - before) / (ends[b] - before), 0.0), _BELOW_1)
    inside = weights[b * _LANES : (b + 1) * _LANES]
    whole = 0.0
    for i in range(_LANES):
        whole += inside[i]
    place, reached = 0, np.float64(inside[0])
    while reached <= share * whole:
        place += 1
        reached += inside[place]
    return b * _LANES + place
