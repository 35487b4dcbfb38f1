"""A model's linear layers on a CPU, their weights in the layout that oneDNN multiplies fastest.

What torch takes by itself is slower by a tenth and more (measured on AVX-512). The copies are made when a
layer is first used and cost as much memory as the weights, so large models go without; whoever changes
weights must call `forget`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

_MOST_BYTES = 1 << 30  # of weights that are worth a copy
_LEAST_ROWS = 16  # fewer are faster without
_TYPICAL_ROWS = (
    64  # that the layout is made for: always the same, so that a resumed run computes the same bits
)


class PackedLinears:
    """The layers of one model."""

    def __init__(self, model: nn.Module) -> None:
        layers = [m for m in model.modules() if type(m) is nn.Linear and _is_plain(m.weight)]
        size = sum(layer.weight.nbytes for layer in layers)
        usable = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        self._layers = layers if usable and size <= _MOST_BYTES else []
        self._forwards = [self._forward(layer) for layer in self._layers]
        self._packed: dict[nn.Linear, Tensor] = {}

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """The model with these layers; without autograd."""
        for layer, forward in zip(self._layers, self._forwards, strict=True):
            layer.forward = forward  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            for layer in self._layers:
                del layer.forward

    def forget(self) -> None:
        """Drop the copies: the weights have changed."""
        self._packed.clear()

    def _forward(self, layer: nn.Linear) -> Callable[[Tensor], Tensor]:
        def forward(rows: Tensor) -> Tensor:
            if rows.numel() < _LEAST_ROWS * layer.in_features:
                return linear(rows, layer.weight, layer.bias)
            packed = self._packed.get(layer)
            if packed is None:
                packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), _TYPICAL_ROWS)
                self._packed[layer] = packed
            out: Tensor = torch.ops.mkldnn._linear_pointwise(rows, packed, layer.bias, "none", [], "")
            return out

        return forward


def _is_plain(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32
