"""Experiences as tensors: which token goes where, and which logit row predicts it.

Knows no model and no loss. A `Batch` names logit rows by their place in the flattened forward pass
(row * seq + position), so a layout in which nodes share prefixes can fill the same fields.
Letters of a shape: rows and seq of the forward pass; node: one experience; own: its own tokens, padded.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from replay.experience import Experience


class Batch(NamedTuple):
    """One forward pass and what is read from it: filled here, read by forward.py and loss.py."""

    input_ids: Int[Tensor, "rows seq"]
    attention_mask: Int[Tensor, "rows seq"]  # 0 at padding
    position_ids: Int[Tensor, "rows seq"]
    targets: Int[Tensor, "node own"]  # own ids; 0 at padding
    predicted_by: Int[Tensor, "node own"]  # flat index of the logit row that predicts the own token
    sampled: Bool[Tensor, "node own"]  # False where forced, and at padding
    old_logprobs: Float[Tensor, "node own"]  # of the behaviour policy; 0 where not sampled
    rated_by: Int[Tensor, " node"]  # flat index of the logit row of the last own token, <start_of_rating>
    temperature: Float[Tensor, " node"]
    advantage: Float[Tensor, " node"]
    value_target: Float[Tensor, " node"]

    @property
    def seq(self) -> int:
        """Positions of one row of the forward pass, padding included."""
        return self.input_ids.shape[1]


def pack(experiences: Sequence[Experience], pad_id: int, device: torch.device) -> Batch:
    """One row per experience, context and own ids, padded on the right; ValueError for one unfit to learn.

    The logits at position i predict position i + 1, so own token j of a node with C context tokens is
    predicted at position C + j - 1 of its own row, whatever the padding. No token is ever cut off.
    """
    for experience in experiences:
        _check(experience)
    rows, own = len(experiences), max(e.ids.size for e in experiences)
    seq = max(_length(e) for e in experiences)
    input_ids = torch.full((rows, seq), pad_id, dtype=torch.long)
    attention_mask = torch.zeros((rows, seq), dtype=torch.long)
    targets, predicted_by = (torch.zeros((rows, own), dtype=torch.long) for _ in range(2))
    sampled = torch.zeros((rows, own), dtype=torch.bool)
    old_logprobs = torch.zeros((rows, own), dtype=torch.float32)
    for row, e in enumerate(experiences):
        start, count, end = e.context.size, e.ids.size, _length(e)
        ids = torch.as_tensor(e.ids, dtype=torch.long)
        input_ids[row, :start] = torch.as_tensor(e.context, dtype=torch.long)
        input_ids[row, start:end] = ids
        attention_mask[row, :end] = 1
        targets[row, :count] = ids
        # Without a context the first own token has no predictor; `_check` saw that it was not sampled.
        predicted_by[row, :count] = row * seq + (torch.arange(start, end) - 1).clamp_min(0)
        sampled[row, :count] = torch.as_tensor(e.sampled)
        old_logprobs[row, :count] = torch.as_tensor(e.logprobs).where(sampled[row, :count], torch.zeros(()))
    batch = Batch(
        input_ids=input_ids,
        attention_mask=attention_mask,
        position_ids=torch.arange(seq).repeat(rows, 1),
        targets=targets,
        predicted_by=predicted_by,
        sampled=sampled,
        old_logprobs=old_logprobs,
        rated_by=torch.tensor([row * seq + _length(e) - 1 for row, e in enumerate(experiences)]),
        temperature=torch.tensor([e.temperature for e in experiences], dtype=torch.float32),
        advantage=torch.tensor([e.advantage for e in experiences], dtype=torch.float32),
        value_target=torch.tensor([e.value_target for e in experiences], dtype=torch.float32),
    )
    return Batch(*(field.to(device) for field in batch))


def split(experiences: Sequence[Experience], max_tokens: int) -> list[list[int]]:
    """Indices in groups of similar length whose padded size stays within max_tokens, each index once.

    An experience longer than max_tokens gets a group of its own.
    """
    order = sorted(range(len(experiences)), key=lambda i: (_length(experiences[i]), i))
    groups: list[list[int]] = []
    for i in order:
        # Sorted upwards: the newcomer is the longest of its group.
        if groups and (len(groups[-1]) + 1) * _length(experiences[i]) <= max_tokens:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _length(experience: Experience) -> int:
    return experience.context.size + experience.ids.size


def _check(e: Experience) -> None:
    where = f"node {e.node} of tree {e.tree}"
    if not e.ids.size or not e.ids.shape == e.sampled.shape == e.logprobs.shape:
        raise ValueError(
            f"{where}: ids, sampled and logprobs must have one equal length above 0, "
            f"got {e.ids.shape}, {e.sampled.shape}, {e.logprobs.shape}"
        )
    if not e.temperature > 0:
        raise ValueError(
            f"{where}: drawn at temperature {e.temperature}; the policy can learn only from draws above 0"
        )
    if not 0 <= e.value_target <= 1:
        raise ValueError(f"{where}: value_target must be in [0, 1], got {e.value_target}")
    if e.sampled[0] and not e.context.size:
        raise ValueError(f"{where}: its first token is sampled but has no context to be predicted from")
