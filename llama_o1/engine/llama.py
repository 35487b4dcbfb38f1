"""The layers of Llama, Mistral and Qwen 2 on a CPU, by few large operations.

A small model spends a third of its time between its matrix products. Here layers of one input are one
product, norms and rotations one pass each, and the last layer computes only what logits are made of: the
last token of each row. Weights are read from the model's own modules.

Letters of a shape: N new tokens, R rows, D hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers.activations import SiLUActivation

from llama_o1.engine.attend import Plan
from llama_o1.engine.elementwise import add_and_norm, gate, turn_and_write
from llama_o1.engine.packed import Layers, PackedLinears

_MODELS = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM")
_ATTENTION, _GATED = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
_PIECE = 1024  # positions
_NOTHING = np.empty((0, 1), np.float32)


class _Layer(NamedTuple):
    """The modules of one layer, in the order in which they work."""

    before: Any  # RMSNorm
    heads: Layers  # queries, keys, values
    mixed: Layers
    after: Any  # RMSNorm
    gated: Layers  # gate and what it lets through
    act: nn.Module
    down: Layers


class LlamaLayers:
    """A model's forward pass over a plan."""

    def __init__(self, model: nn.Module, packed: PackedLinears) -> None:
        """ValueError when the model is another one, or its layers are not worth a packed copy."""
        if type(model).__name__ not in _MODELS:
            raise ValueError(f"{type(model).__name__} is none of {', '.join(_MODELS)}")
        known: Any = model
        self._inner, self._output = known.model, known.lm_head
        self._packed = packed
        self._layers = [_layer(layer, packed) for layer in self._inner.layers]
        config = known.config
        self._queries = config.num_attention_heads
        self._kv_heads = config.num_key_value_heads
        self._dim = self._inner.layers[0].self_attn.head_dim
        rotary = getattr(self._inner.rotary_emb, "rope_type", "default")
        if "dynamic" in rotary or rotary == "longrope":
            raise ValueError("its rotary frequencies change with the length")
        nothing = np.empty((0, self._dim), np.float32)
        self._turns: tuple[Any, ...] = nothing, nothing  # cosines and sines [P, E] by position

    def logits(self, plan: Plan, rows: int) -> tuple[Tensor, Tensor]:
        """Logits [R, V] after each row's last token, and the hidden states [R, D] they were made of."""
        stream = self._inner.embed_tokens(torch.tensor(plan.flat))
        positions = np.array(plan.positions)
        cos, sin = self._tables(stream, int(positions.max()))
        turns = cos, sin, positions
        added = None
        for layer in self._layers:
            normed = _normed(stream, added, layer.before)
            is_last = layer is self._layers[-1]
            mixed = self._attend(plan, layer, normed, turns, is_last)
            if is_last:
                stream, mixed = stream[-rows:], mixed[-rows:]
            added = self._packed.outputs(mixed.flatten(1), layer.mixed)
            normed = _normed(stream, added, layer.after)
            added = self._packed.outputs(
                _gated(self._packed.outputs(normed, layer.gated), layer.act), layer.down
            )
        hidden = _normed(stream, added, self._inner.norm)
        return self._output(hidden), hidden

    def _tables(self, like: Tensor, last: int) -> tuple[Any, ...]:
        """Cosines and sines of all positions up to `last`; they hold for as long as the model does.

        Made in pieces of one size: the last bits of a cosine may depend on where in a piece it stands, and
        those of a resumed run must not.
        """
        while last >= (held := len(self._turns[0])):
            positions = torch.arange(held, held + _PIECE)
            more = self._inner.rotary_emb(like, positions[None])
            self._turns = tuple(
                np.concatenate((table, one[0].numpy())) for table, one in zip(self._turns, more, strict=True)
            )
        return self._turns

    def _attend(
        self, plan: Plan, layer: _Layer, normed: Tensor, turns: tuple[Any, Any, Any], is_last: bool
    ) -> Tensor:
        """Attention output [N, H, E] of one layer; in the last one only of the last token of each row."""
        asked, kept = self._queries, self._kv_heads
        heads = self._packed.outputs(normed, layer.heads).view(len(normed), asked + 2 * kept, self._dim)
        queries = heads.new_empty(len(heads), asked, self._dim)
        keys, values = plan.here()
        turn_and_write(
            heads.numpy(), *turns, plan.targets.numpy(), queries.numpy(), keys.numpy(), values.numpy()
        )
        new_keys, new_values = heads[:, asked : asked + kept], heads[:, asked + kept :]
        return plan.mix(queries, new_keys, new_values, self._dim**-0.5, None, None, ends_only=is_last)


def _layer(layer: Any, packed: PackedLinears) -> _Layer:
    attention, gated = layer.self_attn, layer.mlp
    parts = _weighted(attention), _weighted(gated)
    if parts != ({*_ATTENTION}, {*_GATED}):
        raise ValueError(f"its layers have other parts: {sorted(set.union(*parts))}")
    if getattr(attention, "sliding_window", None) or getattr(attention.config, "sliding_window", None):
        raise ValueError("its attention has a window")
    linears = tuple(getattr(attention, name) for name in _ATTENTION)
    linears += tuple(getattr(gated, name) for name in _GATED)
    if not packed.holds(linears):
        raise ValueError("its linear layers are adapted, in half precision, on a GPU or too large")
    queries, keys, values, mixed, gate, through, down = linears
    return _Layer(
        layer.input_layernorm,
        (queries, keys, values),
        (mixed,),
        layer.post_attention_layernorm,
        (gate, through),
        gated.act_fn,
        (down,),
    )


def _weighted(module: nn.Module) -> set[str]:
    """Names of the modules in it that have weights."""
    return {name for name, child in module.named_children() if any(True for _ in child.parameters())}


def _normed(stream: Tensor, added: Tensor | None, norm: Any) -> Tensor:
    """The norm of `stream` [N, D], to which `added` [N, D] is added in place first."""
    normed = torch.empty_like(stream)
    add_and_norm(
        stream.numpy(),
        _NOTHING if added is None else added.numpy(),
        norm.weight.detach().numpy(),
        np.float32(norm.variance_epsilon),
        normed.numpy(),
    )
    return normed


def _gated(both: Tensor, act: nn.Module) -> Tensor:
    """Of `both` [N, 2 * I] the first half, activated, times the second: [N, I]."""
    if not isinstance(act, SiLUActivation | nn.SiLU):
        opening, through = both.chunk(2, -1)
        return torch.mul(act(opening), through)
    out = both.new_empty(len(both), both.shape[1] // 2)
    gate(both.numpy(), out.numpy())
    return out
