"""A model's linear layers on a CPU, their weights in the layout that oneDNN multiplies fastest.

What torch takes by itself is slower by a tenth and more (measured on AVX-512), and layers of one input are
faster as one. The copies are made when a layer is first used and cost as much memory as the weights, so
large models go without; whoever changes weights must call `forget`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

_MOST_BYTES = 1 << 30  # of weights that are worth a copy
_LEAST_ROWS = 16  # fewer are faster without
_TYPICAL_ROWS = (
    64  # that the layout is made for: always the same, so that a resumed run computes the same bits
)

Layers = tuple[nn.Linear, ...]  # of one input, their outputs side by side


class _Packed(NamedTuple):
    weight: Tensor  # in a layout that only oneDNN reads
    bias: Tensor | None


class PackedLinears:
    """The layers of one model."""

    def __init__(self, model: nn.Module) -> None:
        layers = [m for m in model.modules() if type(m) is nn.Linear and _is_plain(m.weight)]
        size = sum(layer.weight.nbytes for layer in layers)
        usable = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        self._layers = layers if usable and size <= _MOST_BYTES else []
        self._forwards = [self._forward(layer) for layer in self._layers]
        self._packed: dict[Layers, _Packed] = {}

    def holds(self, layers: Layers) -> bool:
        """Whether these are worth a copy."""
        return all(layer in self._layers for layer in layers)

    def outputs(self, rows: Tensor, layers: Layers) -> Tensor:
        """What the layers make of rows [..., in], side by side: [..., out]; without autograd."""
        if rows.numel() < _LEAST_ROWS * layers[0].in_features:
            parts = [linear(rows, layer.weight, layer.bias) for layer in layers]
            return parts[0] if len(parts) == 1 else torch.cat(parts, -1)
        packed = self._packed.get(layers)
        if packed is None:
            packed = self._packed[layers] = _pack(layers)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(rows, *packed, "none", [], "")
        return out

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """The model with these layers; without autograd."""
        for layer, forward in zip(self._layers, self._forwards, strict=True):
            vars(layer)["forward"] = forward  # a module's own way to set it takes long
        try:
            yield
        finally:
            for layer in self._layers:
                del vars(layer)["forward"]

    def forget(self) -> None:
        """Drop the copies: the weights have changed."""
        self._packed.clear()

    def _forward(self, layer: nn.Linear) -> Callable[[Tensor], Tensor]:
        return lambda rows: self.outputs(rows, (layer,))


def _pack(layers: Layers) -> _Packed:
    weight = torch.cat([layer.weight.detach() for layer in layers])
    biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
    return _Packed(
        torch.ops.mkldnn._reorder_linear_weight(weight, _TYPICAL_ROWS), torch.cat(biases) if biases else None
    )


def _is_plain(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32
