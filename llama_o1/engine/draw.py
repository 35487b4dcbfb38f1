"""Drawing tokens from logits: inverse-CDF sampling, with log-probs, entropy and varentropy.

Letters of a shape: D rows that draw, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from llama_o1.engine.sampling import Float64
from llama_o1.errors import EngineError

_LOG_ZERO = -1e9  # stands for -inf, whose product with a probability of 0 would be NaN


class Drawn(NamedTuple):
    """One token a row, and its statistics."""

    ids: list[int]
    logprobs: list[float]  # under the sampled distribution; 0 at temperature 0
    entropy: list[float]  # nats, at temperature 1
    varentropy: list[float]  # nats squared, at temperature 1


def draw(logits: Tensor, temperatures: Sequence[float], uniform: Float64) -> Drawn:
    """One token for each row of `logits` [D, V]; `uniform` [D] decides it."""
    logprobs = torch.log_softmax(logits.float(), dim=-1).clamp_min_(_LOG_ZERO)
    probs = logprobs.exp()
    entropy = -torch.linalg.vecdot(probs, logprobs)
    # REFERENCE of the formula: LLaMA-O1, varentropy = sum_v P(v) (log P(v) + H)^2.
    varentropy = torch.linalg.vecdot(probs, (logprobs + entropy[:, None]).square_())
    ids, chosen = _choose(logits, logprobs, probs, temperatures, uniform)
    numbers = torch.stack((chosen, entropy, varentropy)).tolist()
    if not torch.isfinite(entropy).all():
        raise EngineError("the model's logits are not finite; its weights are damaged or training diverged")
    return Drawn(ids.tolist(), *numbers)


def rating_value(logits: Tensor, positive: int, negative: int) -> float:
    """P(positive) / (P(positive) + P(negative)) from the logits [V] after a token."""
    return float(torch.sigmoid(logits[positive].double() - logits[negative].double()))


def _choose(
    logits: Tensor, logprobs: Tensor, probs: Tensor, temperatures: Sequence[float], uniform: Float64
) -> tuple[Tensor, Tensor]:
    """Ids [D] and their log-probs [D] under the distribution that was sampled."""
    if any(temperature not in (0.0, 1.0) for temperature in temperatures):
        divisors = [temperature or 1.0 for temperature in temperatures]
        scaled = logits.float() / torch.tensor(divisors, device=logits.device)[:, None]
        logprobs = torch.log_softmax(scaled, dim=-1)
        probs = logprobs.exp()
    cumulated = probs.cumsum(-1, dtype=torch.float64)
    targets = torch.from_numpy(uniform).to(logits.device)[:, None] * cumulated[:, -1:]
    ids = torch.searchsorted(cumulated, targets, right=True).clamp_max_(logits.shape[-1] - 1)
    chosen = logprobs.gather(1, ids)
    if 0.0 in temperatures:
        greedy = torch.tensor([temperature == 0.0 for temperature in temperatures], device=logits.device)[
            :, None
        ]
        ids = torch.where(greedy, logits.argmax(-1, keepdim=True), ids)
        chosen = chosen.masked_fill(greedy, 0.0)
    return ids[:, 0], chosen[:, 0]
