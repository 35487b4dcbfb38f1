"""The losses, each a pure function of tensors, one number a node.

Policy losses look at sampled tokens only and take the mean per node, so neither padding, nor forced
tokens, nor a node's length changes its weight; a node without sampled tokens adds 0.
Letters of a shape: node: one experience; own: its own tokens, padded.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


class PolicyLoss(NamedTuple):
    """PPO-clip per node and, without gradient, how far the policy has moved."""

    loss: Float[Tensor, " node"]
    ratio: Float[Tensor, " node"]  # mean of new / old probability; 1 for a node without sampled tokens
    clipped: Float[Tensor, " node"]  # share of tokens on which the clip holds back the gradient
    approx_kl: Float[Tensor, " node"]  # k3 estimate of KL(old || new), nats a token


def ppo_clip(
    logprobs: Float[Tensor, "node own"],
    old_logprobs: Float[Tensor, "node own"],
    advantage: Float[Tensor, " node"],
    sampled: Bool[Tensor, "node own"],
    clip: float,
) -> PolicyLoss:
    """Clipped surrogate -min(r A, clip(r) A), r = new / old, kept in 1 +- clip (Schulman et al. 2017, eq. 7).

    Old is the behaviour policy as recorded, not the base model; both are at the sampling temperature.
    """
    log_ratio = torch.where(sampled, logprobs - old_logprobs, 0.0)
    ratio = log_ratio.exp()
    a = advantage[:, None]
    held = ratio.clamp(1 - clip, 1 + clip)
    loss = masked_mean(-torch.minimum(ratio * a, held * a), sampled)
    with torch.no_grad():
        binds = (held * a < ratio * a).to(ratio.dtype)
        nothing_sampled = (~sampled.any(dim=1)).to(ratio.dtype)
        return PolicyLoss(
            loss=loss,
            ratio=masked_mean(ratio, sampled) + nothing_sampled,
            clipped=masked_mean(binds, sampled),
            approx_kl=masked_mean(ratio - 1 - log_ratio, sampled),
        )


def value_cross_entropy(
    rating_logits: Float[Tensor, "node 2"], target: Float[Tensor, " node"]
) -> Float[Tensor, " node"]:
    """Cross-entropy of (positive, negative) against the soft label (target, 1 - target), target in [0, 1].

    The two-way softmax that is trained is the one that search reads.
    """
    logp = F.log_softmax(rating_logits, dim=1)
    return -(target * logp[:, 0] + (1 - target) * logp[:, 1])


def value_of(rating_logits: Float[Tensor, "node 2"]) -> Float[Tensor, " node"]:
    """V = P(positive) / (P(positive) + P(negative)), in [0, 1]."""
    return torch.sigmoid(rating_logits[:, 0] - rating_logits[:, 1])


def k3_kl(
    logprobs: Float[Tensor, "node own"],
    reference: Float[Tensor, "node own"],
    sampled: Bool[Tensor, "node own"],
) -> Float[Tensor, " node"]:
    """Estimate of KL(policy || reference), r - 1 - log r with r = reference / policy; at least 0."""
    log_ratio = torch.where(sampled, reference - logprobs, 0.0)
    return masked_mean(log_ratio.exp() - 1 - log_ratio, sampled)


def masked_mean(values: Float[Tensor, "node own"], mask: Bool[Tensor, "node own"]) -> Float[Tensor, " node"]:
    """Mean over the true places of each row; 0 for a row without any."""
    total = torch.where(mask, values, 0.0).sum(dim=1)
    return total / mask.sum(dim=1).clamp_min(1)


class Weights(NamedTuple):
    """What each part of the loss counts."""

    policy: float
    value: float
    kl: float
    entropy: float


def combine(
    policy: Float[Tensor, " node"],
    value: Float[Tensor, " node"],
    kl: Float[Tensor, " node"],
    entropy: Float[Tensor, " node"],
    weights: Weights,
    importance: Float[Tensor, " node"],
) -> Float[Tensor, " node"]:
    """Loss of each node: the weighted parts, entropy as a bonus, times its importance weight."""
    loss = weights.policy * policy + weights.value * value + weights.kl * kl - weights.entropy * entropy
    return importance * loss
