"""Where a step turns NaN or infinite: what it was given, weights, layers on the way, losses, gradients.

Makes the step again on a learner of one's own, which may be changed by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from llama_o1.learn.guards import NotFiniteError
from llama_o1.learn.trainer import Learner
from replay.experience import Experience

_FIELDS = ("logprobs", "temperature", "advantage", "value_target")


class Finding(NamedTuple):
    """One thing that is not finite."""

    where: str  # experience, weight, layer, gradient or loss
    name: str
    not_finite: int  # numbers of it
    numbers: int


def diagnose(
    learner: Learner, experiences: Sequence[Experience], weights: npt.NDArray[np.floating]
) -> tuple[list[Finding], str | None]:
    """All that is not finite, in the order of the step, and the line with which it stops; None: it does not.

    Of layers only the first is named: after it everything is not finite.
    """
    found = list(_in_experiences(experiences, weights))
    found += [f for name, p in learner.model.named_parameters() if (f := _finding("weight", name, p))]
    layers: dict[str, Finding] = {}
    gradients: dict[str, Finding] = {}
    hooks = [*_watch_layers(learner.model, layers), *_watch_gradients(learner.model, gradients)]
    stopped = None
    try:
        learner.step(experiences, weights)
    except NotFiniteError as error:
        stopped = str(error)
    finally:
        for hook in hooks:
            hook.remove()
    return [*found, *list(layers.values())[:1], *gradients.values()], stopped


def _in_experiences(
    experiences: Sequence[Experience], weights: npt.NDArray[np.floating]
) -> Iterator[Finding]:
    for i, experience in enumerate(experiences):
        for name in _FIELDS:
            numbers = np.asarray(getattr(experience, name))
            bad = int((~np.isfinite(numbers)).sum())
            if bad:
                node = f"node {experience.node} of tree {experience.tree}"
                yield Finding("experience", f"{name} of {node}", bad, numbers.size)
        if not np.isfinite(weights[i]):
            yield Finding("experience", f"importance weight of node {experience.node}", 1, 1)


def _watch_layers(model: nn.Module, found: dict[str, Finding]) -> Iterator[Any]:
    for name, module in model.named_modules():
        if not any(module.children()):

            def look(_: nn.Module, __: Any, output: Any, name: str = name) -> None:
                if isinstance(output, Tensor) and name not in found:
                    finding = _finding("layer", name, output)
                    if finding is not None:
                        found[name] = finding

            yield module.register_forward_hook(look)


def _watch_gradients(model: nn.Module, found: dict[str, Finding]) -> Iterator[Any]:
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:

            def look(held: Tensor, name: str = name) -> None:
                finding = None if held.grad is None else _finding("gradient", name, held.grad)
                if finding is not None:
                    found[name] = finding

            yield parameter.register_post_accumulate_grad_hook(look)


def _finding(where: str, name: str, tensor: Tensor) -> Finding | None:
    if not tensor.is_floating_point():
        return None
    bad = int((~torch.isfinite(tensor.detach())).sum())
    return Finding(where, name, bad, tensor.numel()) if bad else None
