"""Attention of few new tokens a row over long pasts, on a CPU: bound by memory, so every key is read once.

torch's own kernels want each row's keys in one block padded to one length, and spend microseconds a row
and head. Compiled by numba at the first call.

Letters of a shape: N new tokens, M of them asked, H query heads, K key-value heads, E head_dim,
C positions of the memory, S ranges of all rows.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from numba import njit

from llama_o1.engine.elementwise import exponential

Int64 = npt.NDArray[np.int64]

_SMALL = 1024  # heads times head_dim up to which a kernel is compiled for a model's own sizes
_LANES = 16  # float32 of a vector of the processor
_WORTH_A_THREAD = 16384  # positions times heads; less is done before another thread has woken up


class Few(NamedTuple):
    """The asked tokens and what each sees: positions `first` to `end` of its row's past, itself included."""

    tokens: Int64  # [M] of the N
    first: Int64  # [M]
    end: Int64  # [M] above `first`
    row: Int64  # [M] its ranges are `bounds[row]:bounds[row + 1]`
    bounds: Int64  # [rows + 1]
    ranges: Int64  # [S, 2] of the memory


def attend_few(
    query: Any, keys: Any, values: Any, few: Few, output: Any, scaling: float, softcap: float
) -> None:
    """Fill rows of `output` [N, H, E] from `query` [N, H, E] and a layer's keys and values [C, K, E].

    All float32, contiguous and numpy's. `softcap` 0: none.
    """
    arrays = query, keys, values, output
    scale, cap = np.float32(scaling), np.float32(softcap)
    attend = _kernel(query.shape[1], keys.shape[1], query.shape[2])
    threads = torch.get_num_threads()
    parts = 1
    if threads > 1:
        work = int((few.end - few.first).sum()) * query.shape[1]
        parts = max(1, min(threads, work // _WORTH_A_THREAD, len(few.tokens)))
    if parts == 1:
        attend(*arrays, *few, 0, len(few.tokens), scale, cap)
        return
    cuts = [part * len(few.tokens) // parts for part in range(parts + 1)]

    def run(part: int) -> None:
        attend(*arrays, *few, cuts[part], cuts[part + 1], scale, cap)

    list(_pool(threads).map(run, range(parts)))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


@cache
def _kernel(heads: int, kv_heads: int, dim: int) -> Any:
    """`attend` below for these sizes: loops of a known small length are faster by a tenth and more."""
    if heads * dim > _SMALL or dim % _LANES:
        return _made(0, 0, 0)
    return _made(heads, heads // kv_heads, dim)


@cache
def _made(known_heads: int, known_groups: int, known_dim: int) -> Any:
    """`attend`; 0: it is to read that size from its arrays."""

    @njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
    def attend(
        query: Any,
        keys: Any,
        values: Any,
        output: Any,
        tokens: Any,
        first: Any,
        end: Any,
        row: Any,
        bounds: Any,
        ranges: Any,
        begin: int,
        stop: int,
        scaling: Any,
        cap: Any,
    ) -> None:
        """Tokens `begin` to `stop` of those that are asked."""
        heads, dim = known_heads or query.shape[1], known_dim or query.shape[2]
        groups = known_groups or query.shape[1] // keys.shape[1]
        longest = 0
        for m in range(begin, stop):
            longest = max(longest, end[m])
        weights = np.empty((heads, longest), np.float32)
        mixed = np.empty((heads, dim), np.float32)
        for m in range(begin, stop):
            own = ranges[bounds[row[m]] : bounds[row[m] + 1]]
            _score(query[tokens[m]], keys, own, first[m], end[m], scaling, weights, heads, groups, dim)
            for head in range(heads):
                _soften(weights[head, first[m] : end[m]], cap)
            _mix(weights, values, own, first[m], end[m], mixed, heads, groups, dim)
            output[tokens[m]] = mixed

    return attend


# Inlined by force: a process that compiled them would call its own copies, one that found the kernel in the
# cache those inside it, and the two may differ in last bits.
@njit(nogil=True, fastmath=True, error_model="numpy", forceinline=True)
def _score(
    query: Any,
    keys: Any,
    own: Any,
    first: Any,
    end: Any,
    scaling: Any,
    weights: Any,
    heads: int,
    groups: int,
    dim: int,
) -> None:
    """Scaled dot products of all heads; memory is read in its order, which is what counts."""
    before = 0
    for s in range(len(own)):
        shift = before - own[s, 0]
        for t in range(own[s, 0] + max(first - before, 0), min(own[s, 1], end - shift)):
            key = keys[t]
            for head in range(heads):
                asked, one = query[head], key[head // groups]
                score = np.float32(0)
                for e in range(dim):
                    score += asked[e] * one[e]
                weights[head, t + shift] = score * scaling
        before += own[s, 1] - own[s, 0]
        if before >= end:
            break


@njit(nogil=True, fastmath=True, error_model="numpy", forceinline=True)
def _soften(scores: Any, cap: Any) -> None:
    """Scores to probabilities, in place."""
    if cap > 0:
        for j in range(len(scores)):
            scores[j] = cap * math.tanh(scores[j] / cap)
    top = scores[0]
    for j in range(len(scores)):
        top = max(top, scores[j])
    total = np.float32(0)
    for j in range(len(scores)):
        scores[j] = exponential(scores[j] - top)
        total += scores[j]
    share = np.float32(1) / total
    for j in range(len(scores)):
        scores[j] *= share


@njit(nogil=True, fastmath=True, error_model="numpy", forceinline=True)
def _mix(
    weights: Any,
    values: Any,
    own: Any,
    first: Any,
    end: Any,
    mixed: Any,
    heads: int,
    groups: int,
    dim: int,
) -> None:
    """The weighted sums of the values."""
    mixed[:] = np.float32(0)
    before = 0
    for s in range(len(own)):
        shift = before - own[s, 0]
        for t in range(own[s, 0] + max(first - before, 0), min(own[s, 1], end - shift)):
            value = values[t]
            for head in range(heads):
                weight, one, into = weights[head, t + shift], value[head // groups], mixed[head]
                for e in range(dim):
                    into[e] += weight * one[e]
        before += own[s, 1] - own[s, 0]
        if before >= end:
            break
