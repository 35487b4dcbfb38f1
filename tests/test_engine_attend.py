"""The attention of the local engine against plain softmax attention: every path, on any device's own."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from llama_o1.engine.attend import Feed, Plan
from llama_o1.engine.dense import attend_padded, attention, padded
from llama_o1.engine.few import Few, attend_few
from llama_o1.engine.kv import KeyValues
from llama_o1.engine.places import Range

SCALING = 0.3


def plain(
    query: Tensor, keys: Tensor, values: Tensor, seen: Tensor, softcap: float | None
) -> tuple[Tensor, Tensor]:
    """Softmax attention [Q, H, E] of queries [Q, H, E] over what `seen` [Q, P] tells, and log-sum-exps."""
    groups = query.shape[1] // keys.shape[1]
    keys, values = (each.double().repeat_interleave(groups, 1) for each in (keys, values))
    scores = torch.einsum("qhe,phe->qhp", query.double(), keys) * SCALING
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.masked_fill(~seen[:, None], -torch.inf)
    return torch.einsum("qhp,phe->qhe", scores.softmax(-1), values).float(), scores.logsumexp(-1).float()


def scattered(rng: random.Random, lengths: list[int], positions: int) -> list[list[Range]]:
    """Ranges of a memory for rows of these lengths, in pieces and in no order; no position twice."""
    free = list(range(positions))
    rows: list[list[Range]] = []
    for length in lengths:
        ranges: list[Range] = []
        while length:
            start = rng.choice(free)
            end = start
            while end in free and end - start < min(length, rng.randint(1, 9)):
                free.remove(end)
                end += 1
            ranges.append((start, end))
            length -= end - start
        rows.append(ranges)
    return rows


def places(ranges: list[Range]) -> list[int]:
    return [position for start, end in ranges for position in range(start, end)]


heads = st.sampled_from([(1, 1), (4, 4), (4, 2), (6, 1)])
softcaps = st.sampled_from([None, 0.7, 5.0])
windows = st.sampled_from([None, 1, 3, 8, 100])


# A few tokens over long pasts.


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    heads=heads,
    dim=st.sampled_from([4, 16, 24]),
    softcap=softcaps,
    window=windows,
)
def test_few_tokens_see_their_own_past_on_every_device(
    seed: int,
    lengths: list[int],
    heads: tuple[int, int],
    dim: int,
    softcap: float | None,
    window: int | None,
) -> None:
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    rows = scattered(rng, lengths, 2 * sum(lengths) + 20)
    size = 2 * sum(lengths) + 20
    keys, values = (3 * torch.randn(size, heads[1], dim, generator=generator) for _ in range(2))
    asked = [(row, end) for row, length in enumerate(lengths) for end in range(1, length + 1)]
    asked = rng.sample(asked, min(len(asked), 12))
    tokens = rng.sample(range(len(asked) + 3), len(asked))
    query = 3 * torch.randn(len(asked) + 3, heads[0], dim, generator=generator)
    firsts = [0 if window is None else max(end - window, 0) for _, end in asked]
    few = Few(
        np.array(tokens),
        np.array(firsts),
        np.array([end for _, end in asked]),
        np.array([row for row, _ in asked]),
        np.cumsum([0, *(len(ranges) for ranges in rows)]),
        np.array([one for ranges in rows for one in ranges]),
    )
    expected = torch.full_like(query, 7.0)
    for token, first, (row, end) in zip(tokens, firsts, asked, strict=True):
        past = places(rows[row])[first:end]
        seen = torch.ones(1, len(past), dtype=torch.bool)
        expected[token] = plain(query[token : token + 1], keys[past], values[past], seen, softcap)[0]
    output = torch.full_like(query, 7.0)
    arrays = query.numpy(), keys.numpy(), values.numpy()
    attend_few(*arrays, few, output.numpy(), SCALING, softcap or 0.0)
    torch.testing.assert_close(output, expected, atol=2e-5, rtol=2e-5)
    output = torch.full_like(query, 7.0)
    attend_padded(query, keys, values, padded(few, query.device), output, SCALING, softcap)
    torch.testing.assert_close(output, expected, atol=2e-5, rtol=2e-5)


def test_threads_share_the_tokens_without_a_difference() -> None:
    generator = torch.Generator().manual_seed(0)
    keys, values = (torch.randn(3000, 2, 16, generator=generator).numpy() for _ in range(2))
    query = torch.randn(7, 8, 16, generator=generator).numpy()
    ends = np.array([3000, 1, 2999, 1500, 17, 2000, 3000])
    few = Few(
        np.arange(7), ends // 3, ends, np.zeros(7, int), np.array([0, 2]), np.array([[0, 9], [9, 3000]])
    )
    alone, together = np.empty_like(query), np.empty_like(query)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        attend_few(query, keys, values, few, alone, SCALING, 0.0)
        torch.set_num_threads(2)
        attend_few(query, keys, values, few, together, SCALING, 0.0)
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(together, alone)


# Dense attention.


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    queries=st.integers(1, 20),
    keys=st.integers(1, 30),
    heads=heads,
    kind=st.sampled_from(["all", "causal", "mask"]),
    softcap=softcaps,
)
def test_dense_attention_and_its_log_sum_exps_equal_plain_softmax(
    seed: int, queries: int, keys: int, heads: tuple[int, int], kind: str, softcap: float | None
) -> None:
    generator = torch.Generator().manual_seed(seed)
    if kind == "causal":
        keys = queries
    query = 2 * torch.randn(queries, heads[0], 8, generator=generator)
    key, value = (2 * torch.randn(keys, heads[1], 8, generator=generator) for _ in range(2))
    seen = torch.ones(queries, keys, dtype=torch.bool)
    mask: Tensor | bool | None = None
    if kind == "causal":
        mask, seen = True, seen.tril()
    elif kind == "mask":
        seen = torch.rand(queries, keys, generator=generator) < 0.5
        seen[torch.arange(queries), torch.randint(keys, (queries,), generator=generator)] = True
        mask = seen
    expected, sums = plain(query, key, value, seen, softcap)
    # A cap far above all scores changes nothing, and sends the work down the path of other devices.
    for cap in [softcap] if softcap is not None else [None, 1e4]:
        found, found_sums = dense(query, key, value, mask, cap)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found_sums.float(), sums, atol=1e-4, rtol=1e-4)


def dense(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | bool | None, softcap: float | None
) -> tuple[Tensor, Tensor]:
    """`attention` of one row."""
    found, sums = attention(query[None], key[None], value[None], mask, SCALING, softcap)
    return found[0], sums[0]


# A whole pass.


class Row:
    """A row whose keys and values of all positions are known beforehand, and where they lie."""

    def __init__(self, number: int, length: int, past: list[Range], keys: Tensor, values: Tensor) -> None:
        self.tokens = [1000 * number + t for t in range(length)]
        self.past, self.keys, self.values = past, keys, values


def plan_equals_plain(
    rng: random.Random, rows: list[Row], starts: list[int], prefixes: list[int], memory: KeyValues, **how: Any
) -> None:
    """One pass over the rows, what lies before their starts being in memory."""
    window, softcap = how.get("window"), how.get("softcap")
    query_heads, layers = how["query_heads"], 2
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    feeds = [
        Feed(row.tokens, start, row.past, prefix)
        for row, start, prefix in zip(rows, starts, prefixes, strict=True)
    ]
    for layer in range(layers):
        for row, start in zip(rows, starts, strict=True):
            at = torch.tensor(places(row.past)[:start], dtype=torch.long)
            memory.write(layer, at, row.keys[layer, :start], row.values[layer, :start])
    plan = Plan(memory, feeds)
    assert sorted(plan.flat) == [t for feed in feeds for t in feed.tokens[feed.start :]]
    assert plan.flat[-len(rows) :] == [row.tokens[-1] for row in rows]
    order = [(rows[token // 1000], token % 1000) for token in plan.flat]
    assert plan.positions.tolist() == [t for _, t in order]
    for layer in range(layers):
        key = torch.stack([row.keys[layer, t] for row, t in order], 1)[None]
        value = torch.stack([row.values[layer, t] for row, t in order], 1)[None]
        query = torch.randn(1, query_heads, len(order), key.shape[-1], generator=generator)
        output = plan.attend(query, key, value, SCALING, window, softcap)
        expected = torch.empty_like(output)
        for i, (row, t) in enumerate(order):
            first = 0 if window is None else max(t + 1 - window, 0)
            past = slice(first, t + 1)
            seen = torch.ones(1, t + 1 - first, dtype=torch.bool)
            expected[0, i] = plain(
                query[0, :, i][None], row.keys[layer, past], row.values[layer, past], seen, softcap
            )[0]
        torch.testing.assert_close(output, expected, atol=1e-4, rtol=1e-4)
        for row in rows:
            at = places(row.past)[: len(row.tokens)]
            assert memory.layer(layer)[0][at].equal(row.keys[layer])
            assert memory.layer(layer)[1][at].equal(row.values[layer])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shape=st.lists(  # of the rows: which of three prefixes, new tokens
        st.tuples(st.integers(0, 2), st.one_of(st.integers(1, 12), st.just(30), st.just(70))),
        min_size=1,
        max_size=6,
    ),
    lengths=st.tuples(st.just(0), st.integers(1, 12), st.integers(20, 40)),
    heads=heads,
    softcap=softcaps,
    window=windows,
)
def test_a_pass_over_mixed_rows_equals_plain_attention(
    seed: int,
    shape: list[tuple[int, int]],
    lengths: tuple[int, int, int],
    heads: tuple[int, int],
    softcap: float | None,
    window: int | None,
) -> None:
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    needed = sum(lengths) + sum(new for _, new in shape) + 60
    spare = rng.randint(0, 5)  # positions a row has beyond its tokens
    ranges = scattered(rng, [*lengths, *(new + spare for _, new in shape)], needed + 6 * spare)
    memory = KeyValues(2, heads[1], 8, torch.float32, torch.device("cpu"))
    memory.take(needed + 6 * spare)
    shared = [torch.randn(2, 2, length, heads[1], 8, generator=generator) for length in lengths]
    rows: list[Row] = []
    for (prefix, new), own in zip(shape, ranges[3:], strict=True):
        fresh = torch.randn(2, 2, new, heads[1], 8, generator=generator)
        keys, values = torch.cat([shared[prefix], fresh], 2)
        rows.append(Row(len(rows), lengths[prefix] + new, [*ranges[prefix], *own], keys, values))
    starts = [lengths[prefix] for prefix, _ in shape]
    prefixes = [prefix for prefix, _ in shape]
    plan_equals_plain(
        rng, rows, starts, prefixes, memory, query_heads=heads[0], window=window, softcap=softcap
    )


@pytest.mark.parametrize("new", [1, 15, 16, 17, 18, 64, 65, 66])
@pytest.mark.parametrize("window", [None, 4])
def test_blocks_around_the_length_at_which_they_are_dense(new: int, window: int | None) -> None:
    rng, generator = random.Random(new), torch.Generator().manual_seed(new)
    memory = KeyValues(2, 2, 8, torch.float32, torch.device("cpu"))
    memory.take(200)
    prefix: list[Range] = [(40, 50), (3, 8)]
    keys, values = torch.randn(2, 2, 15 + new, 2, 8, generator=generator)
    row = Row(0, 15 + new, [*prefix, (60, 60 + new)], keys, values)
    plan_equals_plain(rng, [row], [15], [1], memory, query_heads=4, window=window)


def test_log_sum_exps_join_two_parts_into_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    query, keys, values = (torch.randn(5, 2, 8, generator=generator) for _ in range(3))
    whole, sums = dense(query, keys, values, None, None)
    a, a_sums = dense(query, keys[:2], values[:2], None, None)
    b, b_sums = dense(query, keys[2:], values[2:], None, None)
    share = torch.sigmoid(b_sums - a_sums)[..., None]
    torch.testing.assert_close(torch.lerp(a, b, share), whole)
    torch.testing.assert_close(torch.logaddexp(a_sums, b_sums), sums)
    assert math.isfinite(float(sums.sum()))


@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim"), [(4, 2, 16), (3, 1, 32), (4, 2, 12), (34, 17, 32)], ids=str
)
def test_few_tokens_attend_alike_whether_sizes_are_compiled_in_or_not(
    heads: int, kv_heads: int, dim: int
) -> None:
    rng = np.random.default_rng(0)
    query = rng.standard_normal((3, heads, dim), np.float32)
    keys, values = rng.standard_normal((2, 20, kv_heads, dim), np.float32)
    # The row lies at 10 to 15 and 3 to 6. Token 2 sees all of it, token 0 its positions 2 to 5.
    few = Few(*map(np.array, ([2, 0], [0, 2], [8, 6], [0, 0], [0, 2], [[10, 15], [3, 6]])))
    output = np.zeros_like(query)
    attend_few(query, keys, values, few, output, 0.5, 0.0)
    places = np.array([10, 11, 12, 13, 14, 3, 4, 5])
    for token, seen in ((2, places), (0, places[2:6])):
        for head in range(heads):
            key, value = keys[seen, head // (heads // kv_heads)], values[seen, head // (heads // kv_heads)]
            weights = np.exp(key @ query[token, head] * 0.5)
            np.testing.assert_allclose(
                output[token, head], weights / weights.sum() @ value, rtol=2e-5, atol=2e-6
            )
    assert not output[1].any()


FRESH = """
import hashlib, numpy as np, torch
from llama_o1.engine.draw import draw
from llama_o1.engine.few import Few, attend_few

made = torch.Generator().manual_seed(0)
query, keys, values = (torch.randn(213, 2, 16, generator=made).numpy() for _ in range(3))
output, tokens, none = np.zeros((213, 2, 16), np.float32), np.arange(213), np.zeros(213, np.int64)
few = Few(tokens, none, tokens + 1, none, np.array([0, 1]), np.array([[0, 213]]))
attend_few(query, keys, values, few, output, 0.25, 0.0)
drawn = draw(torch.from_numpy(output.reshape(213, 32)), [1.0, 0.0, 0.7] * 71, np.linspace(0, 0.999, 213))
print(hashlib.sha256(output.tobytes() + repr(drawn).encode()).hexdigest())
"""


@pytest.mark.slow
def test_kernels_compute_the_same_bits_when_they_were_compiled_and_when_cached(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    compiled, cached = (
        subprocess.run(
            [sys.executable, "-c", FRESH], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    )
    assert compiled == cached
