"""What the passes of one step find of each node: losses, ratios, values; and what they come to.

Letters of a shape: N experiences; node: one of them; own: its own tokens, padded.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from llama_o1.learn.forward import Readout
from llama_o1.learn.loss import (
    PolicyLoss,
    Weights,
    combine,
    imitation,
    k3_kl,
    masked_mean,
    path_loss,
    ppo_clip,
    value_cross_entropy,
    value_of,
)
from llama_o1.learn.pack import Batch
from llama_o1.learn.settings import LearnerSettings
from replay.experience import Experience

Float32 = npt.NDArray[np.float32]


class StepResult(NamedTuple):
    """What one step found, measured before the weights changed, in the order of the experiences."""

    values: Float32  # [N] the model's value, in [0, 1]
    td_errors: Float32  # [N] |value target - value|
    ratios: Float32  # [N] mean of new / behaviour probability over sampled tokens
    metrics: dict[str, float]  # means over the experiences, importance weights in `loss` only


class Figures(NamedTuple):
    """Per node, in the order of the metrics."""

    loss: Float[Tensor, " node"]
    policy_loss: Float[Tensor, " node"]
    value_loss: Float[Tensor, " node"]
    reference_kl: Float[Tensor, " node"]
    entropy: Float[Tensor, " node"]
    ratio_mean: Float[Tensor, " node"]
    clip_fraction: Float[Tensor, " node"]
    approx_kl: Float[Tensor, " node"]
    value_mean: Float[Tensor, " node"]


def node_figures(
    new: Readout,
    batch: Batch,
    importance: Float[Tensor, " node"],
    s: LearnerSettings,
    *,
    reference: Float[Tensor, "node own"] | None,
    proximal: Float[Tensor, "node own"] | None,
    tokens: float | None = None,
) -> Figures:
    """The figures of nodes by themselves; `reference` and `proximal`: log-probs, where settings want them.

    `tokens`: drawn tokens of a node of the whole batch, on average, where each token counts alike; None: each
    node does.
    """
    policy = _policy_loss(new.logprobs, batch, s, proximal)
    if tokens is not None:
        policy = policy._replace(loss=policy.loss * batch.sampled.sum(dim=1) / tokens)
    value = value_cross_entropy(new.rating, batch.value_target)
    kl = torch.zeros_like(value) if reference is None else k3_kl(new.logprobs, reference, batch.sampled)
    entropy = masked_mean(new.entropy, batch.sampled)
    weights = Weights(s.policy_weight, s.value_weight, s.kl_weight, s.entropy_weight, s.behaviour_kl_weight)
    return Figures(
        loss=combine(policy, value, kl, entropy, weights, importance),
        policy_loss=policy.loss,
        value_loss=value,
        reference_kl=kl,
        entropy=entropy,
        ratio_mean=policy.ratio,
        clip_fraction=policy.clipped,
        approx_kl=policy.approx_kl,
        value_mean=value_of(new.rating),
    )


def path_step_figures(
    new: Readout,
    batch: Batch,
    importance: Float[Tensor, " node"],
    s: LearnerSettings,
    *,
    labels: int,
    steps: int,
) -> Figures:
    """The figures of steps of solution paths; what only a policy gradient has is 0, its ratio 1.

    `labels` and `steps`: taught tokens and path steps of the whole batch, all its passes together.
    """
    policy, value = path_loss(
        new.logprobs, batch.sampled, new.rating, batch.value_target, labels=labels, steps=steps
    )
    zero = torch.zeros_like(value)
    return Figures(
        loss=importance * (s.policy_weight * policy + s.value_weight * value),
        policy_loss=policy,
        value_loss=value,
        reference_kl=zero,
        entropy=masked_mean(new.entropy, batch.sampled),
        ratio_mean=zero + 1,
        clip_fraction=zero,
        approx_kl=zero,
        value_mean=value_of(new.rating),
    )


def step_result(figures: Figures, experiences: Sequence[Experience], extra: dict[str, float]) -> StepResult:
    """What a step is told to have found; `extra` joins its metrics."""
    values = figures.value_mean.numpy()
    targets = np.array([e.value_target for e in experiences], dtype=np.float32)
    td_errors = np.abs(targets - values)
    metrics = {name: float(column.mean()) for name, column in figures._asdict().items()}
    metrics |= {"value_target_mean": float(targets.mean()), "td_error": float(td_errors.mean())} | extra
    return StepResult(values, td_errors, figures.ratio_mean.numpy(), metrics)


def _policy_loss(
    logprobs: Float[Tensor, "node own"],
    batch: Batch,
    s: LearnerSettings,
    proximal: Float[Tensor, "node own"] | None,
) -> PolicyLoss:
    drawn = logprobs, batch.old_logprobs, batch.advantage, batch.sampled
    if s.objective == "imitation":
        return imitation(*drawn)
    return ppo_clip(*drawn, s.clip, dual_clip=s.dual_clip, proximal=proximal)
