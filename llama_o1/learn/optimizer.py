"""An optimizer's tensors by the names of the parameters: what a checkpoint holds of it."""

from collections.abc import Mapping

import torch
from torch import Tensor

from llama_o1.errors import RunError


def tensors_of(optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Its tensors under `parameter/name`; empty before the first step."""
    return {
        f"{name}/{key}": tensor
        for name, parameter in parameters.items()
        for key, tensor in optimizer.state.get(parameter, {}).items()
    }


def take_tensors(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> None:
    """Put back what `tensors_of` gave; RunError when it is another model's."""
    found: dict[str, dict[str, Tensor]] = {}
    for place, tensor in tensors.items():
        name, _, key = place.rpartition("/")
        parameter = parameters.get(name)
        if parameter is None or (tensor.ndim and tensor.shape != parameter.shape):
            raise RunError(
                f"the optimizer state of {name} does not fit this model; resume with the run's model"
            )
        device = parameter.device if tensor.ndim else "cpu"  # AdamW counts its steps on the CPU
        found.setdefault(name, {})[key] = tensor.to(device, copy=True)
    optimizer.state.clear()
    optimizer.state.update({parameters[name]: state for name, state in found.items()})
