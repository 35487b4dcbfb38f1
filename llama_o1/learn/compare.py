"""How far two learners are from each other that should be the same: logits, losses, gradients, step by step.

Used to prove that experiences packed as tries teach what they teach alone in padded rows.
Letters of a shape: N experiences; V vocabulary.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llama_o1.format.tokens import SpecialIds
from llama_o1.learn.forward import logits_at
from llama_o1.learn.model import CausalLM
from llama_o1.learn.settings import LearnerSettings, Packing
from llama_o1.learn.trainer import Learner
from llama_o1.value_head import ValueHead
from replay.experience import Experience

PACKINGS: tuple[Packing, Packing] = ("trie", "padded")
# Largest differences that rounding explains, by the type the learner computes in; over the largest entry.
LIMITS = {torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 1e-2, torch.float64: 1e-10}


class Differences(NamedTuple):
    """Largest differences at one step, each over the largest entry of what it is compared with."""

    step: int
    logits: float  # before the step: of each experience's first, last and rating prediction
    logprobs: float
    ratings: float
    entropy: float
    loss: float  # of all steps so far; over the size of its parts, whose signs may cancel
    gradient: float  # of this step, all parameters together

    @property
    def largest(self) -> float:
        """Of all quantities."""
        return max(self[1:])


def compare_packing(
    model: CausalLM,
    special: SpecialIds,
    settings: LearnerSettings,
    experiences: Sequence[Experience],
    *,
    pad_id: int,
    steps: int,
    value_head: ValueHead | None = None,
) -> Iterator[Differences]:
    """Differences at the first and the last step of two copies of a model, one learning from tries, one not.

    Every step takes the next `batch_size` experiences, in turn, with importance weights from 0.5 to 1.5.
    """
    ours, theirs = (
        Learner(
            deepcopy(model),
            special,
            replace(settings, packing=packing),
            pad_id=pad_id,
            value_head=deepcopy(value_head),
        )
        for packing in PACKINGS
    )
    size = min(settings.batch_size, len(experiences))
    weights = np.linspace(0.5, 1.5, size)
    loss = 0.0
    for step in range(1, steps + 1):
        batch = [experiences[i % len(experiences)] for i in range((step - 1) * size, step * size)]
        looked = step in (1, steps)
        said = [said_by(learner, batch) for learner in (ours, theirs)] if looked else []
        losses = [learner.step(batch, weights).metrics["loss"] for learner in (ours, theirs)]
        parts = settings.policy_weight * float(np.mean(weights * [abs(e.advantage) for e in batch]))
        loss = max(loss, abs(losses[0] - losses[1]) / max(abs(losses[1]), parts, 1e-12))
        if looked:
            gradients = [_gradient(learner.model) for learner in (ours, theirs)]
            logits, logprobs, ratings, entropy = map(relative, *said)
            yield Differences(step, logits, logprobs, ratings, entropy, loss, relative(*gradients))


def relative(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest entry of what is expected."""
    if not expected.numel():
        return 0.0
    return float((found - expected).abs().max()) / max(float(expected.abs().max()), 1e-12)


@torch.no_grad()
def said_by(learner: Learner, experiences: Sequence[Experience]) -> list[Tensor]:
    """Logits [N, 3, V], log-probs [N, own], ratings [N, 2] and entropies [N, own], as compared above."""
    own = max(e.ids.size for e in experiences)
    parts: dict[int, list[Tensor]] = {}
    for group, batch in learner.batches(experiences):
        last = torch.tensor([experiences[i].ids.size - 1 for i in group], device=batch.targets.device)
        ends = batch.predicted_by.gather(1, last[:, None])
        places = torch.cat((batch.predicted_by[:, :1], ends, batch.rated_by[:, None]), dim=1)
        with learner.accelerator.autocast():
            logits = logits_at(learner.model, batch, places.flatten()).float().unflatten(0, places.shape)
        readout = learner.read(batch)
        pad = (0, own - batch.targets.shape[1])
        spread = [torch.nn.functional.pad(each, pad) for each in (readout.logprobs, readout.entropy)]
        for row, i in enumerate(group):
            parts[i] = [logits[row], spread[0][row], readout.rating[row], spread[1][row]]
    return [torch.stack([parts[i][kind] for i in range(len(experiences))]) for kind in range(4)]


def _gradient(model: CausalLM) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
