"""Uniforms by counter, and draws by the inverse of the cumulated distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from llama_o1.engine.draw import draw
from llama_o1.engine.sampling import uniforms


def test_uniforms_depend_on_nothing_but_their_own_counters() -> None:
    seeds, numbers, positions = [3, 3, 3, -1, 1 << 90], [0, 0, 1, 0, 0], [0, 1, 0, 0, 0]
    together = uniforms(seeds, numbers, positions)
    alone = [uniforms([s], [n], [p])[0] for s, n, p in zip(seeds, numbers, positions, strict=True)]
    assert together.tolist() == alone
    assert len(set(alone)) == 5
    many = uniforms([7] * 20000, [0] * 20000, range(20000))
    assert ((many > 0) & (many < 1)).all()
    assert many.mean() == pytest.approx(0.5, abs=4 / math.sqrt(12 * 20000))


def test_a_draw_is_the_inverse_of_the_cumulated_distribution() -> None:
    logits = torch.tensor([0.5, 0.0, 0.25, 0.25]).log().expand(5, 4)
    uniform = np.array([0.0, 0.49, 0.51, 0.74, 0.76])
    drawn = draw(logits, [1.0] * 5, uniform)
    assert drawn.ids == [0, 0, 2, 2, 3]
    np.testing.assert_allclose(np.exp(drawn.logprobs), [0.5, 0.5, 0.25, 0.25, 0.25], rtol=1e-6)
    # H = 0.5 log 2 + 2 * 0.25 log 4 = 1.5 log 2; deviations of -log p from it are half of log 2 everywhere.
    np.testing.assert_allclose(drawn.entropy, [1.5 * math.log(2)] * 5, rtol=1e-6)
    np.testing.assert_allclose(drawn.varentropy, [(0.5 * math.log(2)) ** 2] * 5, rtol=1e-5)


def test_temperature_changes_the_draw_but_not_the_entropy() -> None:
    logits = torch.tensor([0.8, 0.2]).log().expand(3, 2)
    drawn = draw(logits, [2.0, 0.0, 1.0], np.array([0.7, 0.99, 0.7]))
    # At temperature 2 the odds of 4 become 2, so P = 2/3 and 1/3; 0 takes the likeliest.
    assert drawn.ids == [1, 0, 0]
    np.testing.assert_allclose(drawn.logprobs, [math.log(1 / 3), 0.0, math.log(0.8)], rtol=1e-5)
    assert drawn.entropy[0] == pytest.approx(drawn.entropy[1])
