"""A model's linear layers on a CPU, their weights in the layouts that are multiplied fastest.

What torch takes by itself is slower by a tenth and more (measured on AVX-512), and layers of one input are
faster as one. A large product is left to oneDNN; a small one is faster by `torch.mm` over a transposed copy,
which starts sooner. The copies are made when first used and cost as much memory as the weights, small layers
up to twice, so large models go without; whoever changes weights must call `forget`.
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
_SMALL = 10_000_000  # multiply-adds of a product up to which what it costs to start oneDNN counts
_TYPICAL_ROWS = (
    64  # that the layout is made for: always the same, so that a resumed run computes the same bits
)

Layers = tuple[nn.Linear, ...]  # of one input, their outputs side by side


class _Weights(NamedTuple):
    """Of layers side by side."""

    weight: Tensor  # in a layout that only oneDNN reads, or [in, out]
    bias: Tensor | None


class _Copies:
    """What was made of some layers so far, and how many weights they have."""

    __slots__ = ("packed", "size", "turned")

    def __init__(self, layers: Layers) -> None:
        self.size = sum(layer.weight.numel() for layer in layers)
        self.packed: _Weights | None = None
        self.turned: _Weights | None = None


class PackedLinears:
    """The layers of one model."""

    def __init__(self, model: nn.Module) -> None:
        layers = [m for m in model.modules() if type(m) is nn.Linear and _is_plain(m.weight)]
        size = sum(layer.weight.nbytes for layer in layers)
        usable = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        self._layers = layers if usable and size <= _MOST_BYTES else []
        self._forwards = [self._forward(layer) for layer in self._layers]
        self._copies: dict[Layers, _Copies] = {}

    def holds(self, layers: Layers) -> bool:
        """Whether these are worth a copy."""
        return all(layer in self._layers for layer in layers)

    def outputs(self, rows: Tensor, layers: Layers, out: Tensor | None = None) -> Tensor:
        """What the layers make of rows [..., in], side by side: [..., out]; without autograd.

        A small product of rows [N, in] is put into `out` [N, out], which comes back.
        """
        width = layers[0].in_features
        count = rows.numel() // width
        if count < _LEAST_ROWS:
            parts = [linear(rows, layer.weight, layer.bias) for layer in layers]
            return parts[0] if len(parts) == 1 else torch.cat(parts, -1)
        copies = self._copies.get(layers)
        if copies is None:
            copies = self._copies[layers] = _Copies(layers)
        if count * copies.size <= _SMALL:
            if copies.turned is None:
                copies.turned = _turn(layers)
            return _multiply(rows, *copies.turned, out)
        if copies.packed is None:
            copies.packed = _pack(layers)
        made: Tensor = torch.ops.mkldnn._linear_pointwise.default(rows, *copies.packed, "none", [], "")
        return made

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
        self._copies.clear()

    def _forward(self, layer: nn.Linear) -> Callable[[Tensor], Tensor]:
        return lambda rows: self.outputs(rows, (layer,))


def _pack(layers: Layers) -> _Weights:
    """In the layout that oneDNN makes of them."""
    weight, bias = _joined(layers)
    return _Weights(torch.ops.mkldnn._reorder_linear_weight(weight, _TYPICAL_ROWS), bias)


def _turn(layers: Layers) -> _Weights:
    """Transposed, [in, out]."""
    weight, bias = _joined(layers)
    return _Weights(weight.t().contiguous(), bias)


def _joined(layers: Layers) -> tuple[Tensor, Tensor | None]:
    """Weights [out, in] and biases of layers with one input."""
    biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
    return torch.cat([layer.weight.detach() for layer in layers]), torch.cat(biases) if biases else None


def _multiply(rows: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor | None) -> Tensor:
    """Rows [..., in] times the weight [in, out]."""
    flat = rows if rows.dim() == 2 else rows.reshape(-1, rows.shape[-1])
    made = torch.mm(flat, weight, out=out) if bias is None else torch.addmm(bias, flat, weight, out=out)
    return made if rows.dim() == 2 else made.view(*rows.shape[:-1], -1)


def _is_plain(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32
