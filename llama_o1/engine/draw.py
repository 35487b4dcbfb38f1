"""Drawing tokens from logits: inverse-CDF sampling, with log-probs, entropy and varentropy.

Letters of a shape: D rows that draw, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llama_o1.engine.choose import choose
from llama_o1.engine.sampling import Float64
from llama_o1.errors import EngineError

_LOG_ZERO = -1e9  # stands for -inf, whose product with a probability of 0 would be NaN
_NOT_FINITE = "the model's logits are not finite; its weights are damaged or training diverged"
_MOST = 700.0  # e to it is a float
_BLOCK = 64  # probabilities summed first, so that only one block of a row is cumulated token by token


class Drawn(NamedTuple):
    """One token a row, and its statistics."""

    ids: list[int]
    logprobs: list[float]  # under the sampled distribution; at temperature 0 under that of temperature 1
    entropy: list[float]  # nats, at temperature 1
    varentropy: list[float]  # nats squared, at temperature 1


def draw(logits: Tensor, temperatures: Sequence[float], uniform: Float64) -> Drawn:
    """One token for each row of `logits` [D, V]; `uniform` [D] decides it."""
    if logits.device.type != "cpu":
        return draw_at_once(logits, temperatures, uniform)
    ids, numbers = np.empty(len(uniform), np.int64), np.empty((3, len(uniform)))
    rows = logits.detach().float().contiguous().numpy()
    if not choose(rows, np.array(temperatures, np.float32), uniform, ids, numbers):
        raise EngineError(_NOT_FINITE)
    return Drawn(ids.tolist(), *numbers.tolist())


def draw_at_once(logits: Tensor, temperatures: Sequence[float], uniform: Float64) -> Drawn:
    """As `draw`, all rows in each of few operations, as a GPU is fast."""
    scores = logits.float() - logits.amax(-1, keepdim=True)
    scores.clamp_min_(_LOG_ZERO)
    probs = torch.softmax(scores, dim=-1)
    weighted = probs * scores
    mean = weighted.sum(-1)
    # The greatest score is 0, so its probability is one over the sum that the softmax divides by.
    entropy = -probs.amax(-1).log() - mean
    # LLaMA-O1: varentropy = sum_v P(v) (log P(v) + H)^2, the variance of log P and so of the scores.
    varentropy = (torch.linalg.vecdot(weighted, scores) - mean.square()).clamp_min_(0)
    if not torch.isfinite(entropy).all():
        raise EngineError(_NOT_FINITE)
    ids, chosen = _choose(scores, probs, temperatures, uniform)
    numbers = torch.stack((chosen, entropy, varentropy)).tolist()
    return Drawn(ids.tolist(), *numbers)


def rating_value(logits: Tensor, positive: int, negative: int) -> float:
    """P(positive) / (P(positive) + P(negative)) from the logits [V] after a token."""
    difference = logits[negative].item() - logits[positive].item()
    return 1 / (1 + exp(min(difference, _MOST)))


def _choose(
    scores: Tensor, probs: Tensor, temperatures: Sequence[float], uniform: Float64
) -> tuple[Tensor, Tensor]:
    """Ids [D] and their log-probs [D] under the distribution that was sampled, at temperature 0 of 1."""
    device = scores.device
    if any(temperature not in (0.0, 1.0) for temperature in temperatures):
        divisors = [temperature or 1.0 for temperature in temperatures]
        probs = torch.softmax(scores / torch.tensor(divisors, device=device)[:, None], dim=-1)
    ids = _invert(probs, torch.from_numpy(uniform).to(device)[:, None])
    if 0.0 in temperatures:
        greedy = torch.tensor([temperature == 0.0 for temperature in temperatures], device=device)[:, None]
        ids = torch.where(greedy, scores.argmax(-1, keepdim=True), ids)
    return ids[:, 0], probs.gather(1, ids)[:, 0].log().clamp_max_(0.0)


def _invert(probs: Tensor, uniform: Tensor) -> Tensor:
    """Ids [D, 1]: the first whose cumulated probability exceeds the uniform [D, 1]; none of probability 0."""
    vocab = probs.shape[1]
    whole = vocab // _BLOCK
    blocks = probs[:, : whole * _BLOCK].unflatten(1, (whole, _BLOCK)).sum(-1)
    blocks = torch.cat((blocks, probs[:, whole * _BLOCK :].sum(-1, keepdim=True)), dim=1).double()
    ends = blocks.cumsum(-1)
    targets = uniform * ends[:, -1:]
    block = torch.searchsorted(ends, targets, right=True).clamp_max_(whole)
    size = blocks.gather(1, block)
    share = (targets - ends.gather(1, block) + size) / size  # of the block, in [0, 1)
    places = block * _BLOCK + torch.arange(_BLOCK, device=probs.device)
    inside = probs.gather(1, places.clamp_max(vocab - 1)).masked_fill(places >= vocab, 0.0)
    ends = inside.double().cumsum(-1)
    place = torch.searchsorted(ends, share.clamp(0, 1 - 1e-12) * ends[:, -1:], right=True)
    return block * _BLOCK + place
