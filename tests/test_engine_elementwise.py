"""What stands between the products of a layer: numbers worked out by hand, and torch in float64."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import rms_norm, silu

from llama_o1.engine.elementwise import add_and_norm, exponential, gate, turn_and_write

NOTHING = np.empty((0, 1), np.float32)


def numbers(*rows: object) -> np.ndarray:
    return np.array(rows, np.float32)


def drawn(seed: int, *shape: int) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=shape) * 3).astype(np.float32)


def test_the_exponential_is_as_exact_as_its_exponent_is_in_float32() -> None:
    for x in np.linspace(-87, 87, 2001, dtype=np.float32):
        assert math.isclose(exponential(x), math.exp(x), rel_tol=2e-7 + 2.0**-24 * 1.5 * abs(float(x)))
    assert exponential(np.float32(0)) == 1
    # Beyond what a normal float32 can hold it stays where it is: never 0, never infinite.
    assert exponential(np.float32(-1e9)) == 2.0**-126
    assert exponential(np.float32(1e9)) == 2.0**126


def test_a_gate_opens_by_silu() -> None:
    # SiLU(x) = x / (1 + e^-x): 0 of 0, and of log 3 it is log 3 times 3/4.
    out = np.empty((2, 2), np.float32)
    gate(numbers([0, math.log(3), 7, 4], [math.log(3), 0, 8, 9]), out)
    np.testing.assert_allclose(out, [[0, 3 * math.log(3)], [6 * math.log(3), 0]], rtol=1e-6)


@given(seed=st.integers(0, 99), tokens=st.integers(1, 5), width=st.integers(1, 70))
def test_a_gate_is_torchs(seed: int, tokens: int, width: int) -> None:
    both, out = drawn(seed, tokens, 2 * width), np.empty((tokens, width), np.float32)
    gate(both, out)
    opening, through = torch.from_numpy(both).double().chunk(2, -1)
    np.testing.assert_allclose(out, silu(opening) * through, rtol=2e-6, atol=1e-30)


def test_a_norm_divides_by_the_root_of_the_mean_square() -> None:
    # 3 and 4 have a mean square of 12.5; with an epsilon of as much the root is 5.
    stream, normed = numbers([3, 4]), np.empty((1, 2), np.float32)
    add_and_norm(stream, NOTHING, np.array([1, 2], np.float32), np.float32(12.5), normed)
    np.testing.assert_allclose(normed, [[3 / 5, 2 * 4 / 5]], rtol=1e-6)
    assert stream.tolist() == [[3, 4]]


def test_what_is_added_stays_in_the_stream() -> None:
    stream, normed = numbers([2, 5], [0, 1]), np.empty((2, 2), np.float32)
    add_and_norm(stream, numbers([1, -1], [0, 0]), np.ones(2, np.float32), np.float32(0), normed)
    assert stream.tolist() == [[3, 4], [0, 1]]
    root = math.sqrt(12.5)
    np.testing.assert_allclose(normed, [[3 / root, 4 / root], [0, math.sqrt(2)]], rtol=1e-6)


@given(seed=st.integers(0, 99), tokens=st.integers(1, 5), width=st.integers(1, 70))
def test_a_norm_is_torchs(seed: int, tokens: int, width: int) -> None:
    stream, added, weight = drawn(seed, tokens, width), drawn(seed + 1, tokens, width), drawn(seed + 2, width)
    whole, normed = stream + added, np.empty_like(stream)
    add_and_norm(stream, added, weight, np.float32(1e-5), normed)
    np.testing.assert_array_equal(stream, whole)
    expected = rms_norm(torch.from_numpy(whole).double(), (width,), torch.from_numpy(weight).double(), 1e-5)
    np.testing.assert_allclose(normed, expected, rtol=2e-6)


def test_queries_and_keys_are_rotated_and_put_where_attention_reads_them() -> None:
    # One head of two numbers each. At position 0 nothing turns, at 1 by a right angle: (a, b) to (-b, a).
    cos, sin = numbers([1, 1], [0, 0]), numbers([0, 0], [1, 1])
    heads = numbers([[1, 2], [3, 4], [5, 6]], [[1, 2], [3, 4], [7, 8]])
    query = np.empty((2, 1, 2), np.float32)
    keys, values = np.zeros((4, 1, 2), np.float32), np.zeros((4, 1, 2), np.float32)
    turn_and_write(heads, cos, sin, np.array([0, 1]), np.array([3, 1]), query, keys, values)
    assert query.tolist() == [[[1, 2]], [[-2, 1]]]
    assert keys.tolist() == [[[0, 0]], [[-4, 3]], [[0, 0]], [[3, 4]]]
    assert values.tolist() == [[[0, 0]], [[7, 8]], [[0, 0]], [[5, 6]]]


def test_several_query_heads_share_the_keys_of_one() -> None:
    cos, sin = np.zeros((1, 4), np.float32), np.ones((1, 4), np.float32)
    heads = np.arange(16, dtype=np.float32).reshape(1, 4, 4)  # two query heads, one of keys, one of values
    query, keys, values = (np.zeros((1, n, 4), np.float32) for n in (2, 1, 1))
    turn_and_write(heads, cos, sin, np.array([0]), np.array([0]), query, keys, values)
    # Halves are paired: (0, 1, 2, 3) turns to (-2, -3, 0, 1).
    assert query.tolist() == [[[-2, -3, 0, 1], [-6, -7, 4, 5]]]
    assert keys.tolist() == [[[-10, -11, 8, 9]]]
    assert values.tolist() == [[[12, 13, 14, 15]]]
