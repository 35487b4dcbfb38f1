"""Uniforms by counter, and draws by the inverse of the cumulated distribution."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llama_o1.engine.draw import Drawn, draw, draw_at_once, rating_value
from llama_o1.engine.sampling import uniforms
from llama_o1.errors import EngineError

Drawing = Callable[..., Drawn]
either = pytest.mark.parametrize("drawing", [draw, draw_at_once])


def test_uniforms_depend_on_nothing_but_their_own_counters() -> None:
    seeds, numbers, positions = [3, 3, 3, -1, 1 << 90], [0, 0, 1, 0, 0], [0, 1, 0, 0, 0]
    together = uniforms(seeds, numbers, positions)
    alone = [uniforms([s], [n], [p])[0] for s, n, p in zip(seeds, numbers, positions, strict=True)]
    assert together.tolist() == alone
    assert len(set(alone)) == 5
    many = uniforms([7] * 20000, [0] * 20000, range(20000))
    assert ((many > 0) & (many < 1)).all()
    assert many.mean() == pytest.approx(0.5, abs=4 / math.sqrt(12 * 20000))


@either
def test_a_draw_is_the_inverse_of_the_cumulated_distribution(drawing: Drawing) -> None:
    logits = torch.tensor([0.5, 0.0, 0.25, 0.25]).log().expand(5, 4)
    uniform = np.array([0.0, 0.49, 0.51, 0.74, 0.76])
    drawn = drawing(logits, [1.0] * 5, uniform)
    assert drawn.ids == [0, 0, 2, 2, 3]
    np.testing.assert_allclose(np.exp(drawn.logprobs), [0.5, 0.5, 0.25, 0.25, 0.25], rtol=1e-6)
    # H = 0.5 log 2 + 2 * 0.25 log 4 = 1.5 log 2; deviations of -log p from it are half of log 2 everywhere.
    np.testing.assert_allclose(drawn.entropy, [1.5 * math.log(2)] * 5, rtol=1e-6)
    np.testing.assert_allclose(drawn.varentropy, [(0.5 * math.log(2)) ** 2] * 5, rtol=1e-5)


@either
def test_temperature_changes_the_draw_but_not_the_entropy(drawing: Drawing) -> None:
    logits = torch.tensor([0.8, 0.2]).log().expand(3, 2)
    drawn = drawing(logits, [2.0, 0.0, 1.0], np.array([0.7, 0.99, 0.7]))
    # At temperature 2 the odds of 4 become 2, so P = 2/3 and 1/3; 0 takes the likeliest, at P of 1.
    assert drawn.ids == [1, 0, 0]
    np.testing.assert_allclose(drawn.logprobs, [math.log(1 / 3), math.log(0.8), math.log(0.8)], rtol=1e-5)
    assert drawn.entropy[0] == pytest.approx(drawn.entropy[1])


@either
@pytest.mark.parametrize("tokens", [3, 64, 200])
def test_what_is_masked_is_never_drawn(drawing: Drawing, tokens: int) -> None:
    logits = torch.full((4, tokens), -math.inf)
    logits[:2, tokens // 2], logits[2:, -1] = 5.0, -3.0
    for temperature in (1.0, 0.3, 0.0):
        drawn = drawing(logits, [temperature] * 4, np.array([0.0, 1 - 2.0**-41] * 2))
        assert drawn.ids == [tokens // 2] * 2 + [tokens - 1] * 2
        assert drawn.logprobs == drawn.entropy == drawn.varentropy == [0.0] * 4


@either
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_refused(drawing: Drawing, wrong: float) -> None:
    for place in (0, 70, 99):
        logits = torch.zeros(2, 100)
        logits[1, place] = wrong
        with pytest.raises(EngineError, match="not finite"):
            drawing(logits, [1.0, 1.0], np.array([0.5, 0.5]))
    with pytest.raises(EngineError, match="not finite"):
        drawing(torch.full((1, 100), -math.inf), [1.0], np.array([0.5]))


@given(
    seed=st.integers(0, 999),
    tokens=st.integers(1, 300),
    spread=st.sampled_from([0.1, 3.0, 30.0]),
    temperature=st.sampled_from([1.0, 0.5, 1.7]),
)
def test_a_draw_is_as_exact_as_float32_can_be(
    seed: int, tokens: int, spread: float, temperature: float
) -> None:
    generator = np.random.default_rng(seed)
    logits = torch.from_numpy((generator.normal(size=(5, tokens)) * spread).astype(np.float32))
    uniform = generator.random(5)
    drawn = draw(logits, [temperature] * 5, uniform)
    exact = torch.log_softmax(logits.double() / temperature, -1)
    ids = torch.tensor(drawn.ids)[:, None]
    np.testing.assert_allclose(drawn.logprobs, exact.gather(1, ids)[:, 0], atol=1e-5, rtol=1e-6)
    ends = exact.exp().cumsum(-1).gather(1, ids)[:, 0].numpy()
    assert (ends >= uniform - 1e-5).all()
    assert (ends - np.exp(drawn.logprobs) <= uniform + 1e-5).all()
    own = torch.log_softmax(logits.double(), -1)
    entropy = -(own.exp() * own).sum(-1)
    varentropy = (own.exp() * (own + entropy[:, None]).square()).sum(-1)
    np.testing.assert_allclose(drawn.entropy, entropy, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(drawn.varentropy, varentropy, atol=1e-3, rtol=1e-4)


@given(
    seed=st.integers(0, 99), tokens=st.integers(1, 300), first=st.integers(0, 15), count=st.integers(1, 16)
)
def test_a_row_draws_the_same_bits_alone_and_in_any_batch(
    seed: int, tokens: int, first: int, count: int
) -> None:
    generator = np.random.default_rng(seed)
    logits = torch.from_numpy(generator.normal(size=(16, tokens)).astype(np.float32) * 4)
    temperatures, uniform = [1.0, 0.0, 0.7, 1.0] * 4, generator.random(16)
    part = slice(first, first + count)
    whole = draw(logits, temperatures, uniform)
    alone = draw(logits[part], temperatures[part], uniform[part])
    assert [*alone] == [one[part] for one in whole]


def test_a_rating_is_the_share_of_right_among_right_and_wrong() -> None:
    logits = torch.tensor([math.log(3), 50.0, 0.0, -math.inf])
    assert rating_value(logits, 0, 2) == pytest.approx(3 / 4)  # odds of 3 to 1, whatever else is likely
    assert rating_value(logits, 2, 0) == pytest.approx(1 / 4)
    assert (rating_value(logits, 0, 3), rating_value(logits, 3, 0)) == (1.0, pytest.approx(0.0))
    assert rating_value(torch.tensor([-4000.0, 0.0]), 0, 1) == pytest.approx(0.0)
    assert math.isnan(rating_value(torch.tensor([math.nan, 0.0]), 0, 1))
