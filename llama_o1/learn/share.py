"""Which process works on what, and how their findings come together. One process: nothing to do.

Not torch's DistributedDataParallel, which wants every process to make equally many passes: packed tries
give each as many as its trees need. Gradients are summed once a step, after the last pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor

from replay.experience import Experience


def share_of(experiences: Sequence[Experience], process: int, num_processes: int) -> list[int]:
    """Indices of the experiences that one process works on; all processes together have each index once.

    Thoughts of one tree share a prefix, so they stay together as far as even work allows.
    """
    if num_processes == 1:
        return list(range(len(experiences)))
    order = sorted(range(len(experiences)), key=lambda i: (experiences[i].tree, experiences[i].node, i))
    lengths = [experiences[i].context.size + experiences[i].ids.size for i in order]
    total, before, mine = sum(lengths), 0, []
    for i, length in zip(order, lengths, strict=True):
        middle = before + length / 2
        if int(middle * num_processes / total) == process:
            mine.append(i)
        before += length
    return mine


def sum_up(accelerator: Accelerator, tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its sum over all processes."""
    if accelerator.num_processes > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)


def sum_gradients(accelerator: Accelerator, parameters: Sequence[Tensor]) -> None:
    """Replace each gradient by the sum over all processes; a process that had no pass adds 0."""
    if accelerator.num_processes == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)
