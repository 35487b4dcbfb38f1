"""The losses, each a pure function of tensors, one number a node.

Policy losses look at sampled tokens only and take the mean per node, so neither padding, nor forced
tokens, nor a node's length changes its weight (figures.py gives the weight back where tokens shall count
alike); a node without sampled tokens adds 0.
Advantages come with the experiences: tree/targets.py makes them, by mode.
Letters of a shape: node: one experience; own: its own tokens, padded.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


class PolicyLoss(NamedTuple):
    """PPO-clip per node, and how far the policy has moved; ratio and clipped are without gradient."""

    loss: Float[Tensor, " node"]
    ratio: Float[Tensor, " node"]  # mean of new / behaviour probability; 1 for a node without sampled tokens
    clipped: Float[Tensor, " node"]  # share of tokens on which the clip holds back the gradient
    approx_kl: Float[Tensor, " node"]  # k3 estimate of KL(behaviour || new), nats a token, with gradient


def ppo_clip(
    logprobs: Float[Tensor, "node own"],
    old_logprobs: Float[Tensor, "node own"],
    advantage: Float[Tensor, " node"],
    sampled: Bool[Tensor, "node own"],
    clip: float,
    *,
    dual_clip: float | None = None,
    proximal: Float[Tensor, "node own"] | None = None,
) -> PolicyLoss:
    """Clipped surrogate -min(r A, clip(r) A), r = new / old, kept in 1 +- clip (Schulman et al. 2017, eq. 7).

    Old is the behaviour policy as recorded, not the base model; all are at the sampling temperature.

    `dual_clip` c > 1 (Ye et al. 2020, eq. 5): where A < 0 the surrogate is at least c A, so that a token that
    became many times likelier does not pull without bound.

    `proximal`: log-probs under recent weights, for data that older ones drew (Hilton et al. 2022, eq. 1,
    decoupled objective): r = new / proximal is what is clipped, and each token counts proximal / old, without
    gradient. We do not truncate that weight: replay drops what is too old.
    """
    log_ratio = torch.where(sampled, logprobs - old_logprobs, 0.0)
    if proximal is None:
        log_step, weight = log_ratio, torch.ones_like(log_ratio)
    else:
        log_step = torch.where(sampled, logprobs - proximal, 0.0)
        weight = torch.where(sampled, proximal - old_logprobs, 0.0).detach().exp()
    r, a = log_step.exp(), advantage[:, None]
    held = r.clamp(1 - clip, 1 + clip)
    surrogate, binds = torch.minimum(r * a, held * a), held * a < r * a
    if dual_clip is not None:
        falls = (a < 0) & (surrogate < dual_clip * a)
        surrogate, binds = torch.where(falls, dual_clip * a, surrogate), binds | falls
    return _figures(masked_mean(-weight * surrogate, sampled), log_ratio, binds, sampled)


def imitation(
    logprobs: Float[Tensor, "node own"],
    old_logprobs: Float[Tensor, "node own"],
    advantage: Float[Tensor, " node"],
    sampled: Bool[Tensor, "node own"],
) -> PolicyLoss:
    """Cross-entropy of the sampled tokens, times the advantage, which should not be negative.

    Expert iteration (Anthony et al. 2017): what an expert found is shown to the policy. Unlike a policy
    gradient it has no ratio and no clip; old log-probs are looked at for the figures only.
    """
    log_ratio = torch.where(sampled, logprobs - old_logprobs, 0.0)
    return _figures(
        -advantage * masked_mean(logprobs, sampled), log_ratio, torch.zeros_like(sampled), sampled
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


class PathLoss(NamedTuple):
    """Per step of solution paths; the mean over the steps of a batch is the loss of the batch."""

    policy: Float[Tensor, " node"]
    value: Float[Tensor, " node"]


def path_loss(
    logprobs: Float[Tensor, "node own"],
    labelled: Bool[Tensor, "node own"],
    rating_logits: Float[Tensor, "node 2"],
    target: Float[Tensor, " node"],
    *,
    labels: int,
    steps: int,
) -> PathLoss:
    """Cross-entropy of the labelled tokens, and (v - Q)^2 at the end of each step, both in [-1, 1].

    The multi-task loss of AlphaMath (Chen et al. 2024): the first is a mean over the `labels` of the batch,
    the second over its `steps`, with 1e-3 added to their number as in their code. `target` is (1 + Q) / 2. A
    batch without a label, all of its paths wrong, has a cross-entropy of 0 and not of 0 / 0.
    """
    cross_entropy = -torch.where(labelled, logprobs, 0.0).sum(dim=1)
    off = 2 * value_of(rating_logits) - 2 * target  # v - Q: both are moved from [-1, 1] alike
    return PathLoss(cross_entropy * (steps / max(1, labels)), off.square() * (steps / (steps + 1e-3)))


def k3_kl(
    logprobs: Float[Tensor, "node own"],
    reference: Float[Tensor, "node own"],
    sampled: Bool[Tensor, "node own"],
) -> Float[Tensor, " node"]:
    """Estimate of KL(policy || reference), r - 1 - log r with r = reference / policy; at least 0."""
    log_ratio = torch.where(sampled, reference - logprobs, 0.0)
    return masked_mean(log_ratio.exp() - 1 - log_ratio, sampled)


def entropy_of(logits: Float[Tensor, "draw vocab"]) -> Float[Tensor, " draw"]:
    """Entropy of the softmax of each row, in nats: -sum p log p."""
    logp = F.log_softmax(logits, dim=1)
    return -(logp.exp() * logp).sum(dim=1)


def masked_mean(values: Float[Tensor, "node own"], mask: Bool[Tensor, "node own"]) -> Float[Tensor, " node"]:
    """Mean over the true places of each row; 0 for a row without any."""
    total = torch.where(mask, values, 0.0).sum(dim=1)
    return total / mask.sum(dim=1).clamp_min(1)


def _figures(
    loss: Float[Tensor, " node"],
    log_ratio: Float[Tensor, "node own"],
    binds: Bool[Tensor, "node own"],
    sampled: Bool[Tensor, "node own"],
) -> PolicyLoss:
    """The loss with how far the policy has moved and where the clip binds."""
    ratio = log_ratio.exp()
    nothing_sampled = (~sampled.any(dim=1)).to(ratio.dtype)
    return PolicyLoss(
        loss=loss,
        ratio=(masked_mean(ratio, sampled) + nothing_sampled).detach(),
        clipped=masked_mean(binds.to(ratio.dtype), sampled),
        approx_kl=masked_mean(ratio - 1 - log_ratio, sampled),
    )


class Weights(NamedTuple):
    """What each part of the loss counts."""

    policy: float
    value: float
    kl: float
    entropy: float
    behaviour_kl: float = 0.0


def combine(
    policy: PolicyLoss,
    value: Float[Tensor, " node"],
    kl: Float[Tensor, " node"],
    entropy: Float[Tensor, " node"],
    weights: Weights,
    importance: Float[Tensor, " node"],
) -> Float[Tensor, " node"]:
    """Loss of each node: the weighted parts, entropy as a bonus, times its importance weight.

    `behaviour_kl` weighs KL(behaviour || policy), the penalty of Schulman et al. 2017, section 4, eq. 8, with
    a fixed coefficient and beside the clip: the clip stops what the policy loss pulls at, not what the value
    loss moves by the way in weights that both share.
    """
    loss = weights.policy * policy.loss + weights.value * value + weights.kl * kl - weights.entropy * entropy
    if weights.behaviour_kl:
        loss = loss + weights.behaviour_kl * policy.approx_kl
    return importance * loss
