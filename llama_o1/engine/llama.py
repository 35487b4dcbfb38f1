"""The layers of Llama, Mistral and Qwen 2 on a CPU, by few large operations.

A small model spends a third of its time between its matrix products. Here layers of one input are one
product, norms and rotations one pass each, and the last layer computes only what logits are made of: the
last token of each row. Weights are read from the model's own modules.

Letters of a shape: N new tokens, R rows, D hidden size, I width between gate and down, H query heads, K
key-value heads, E head_dim, V vocabulary.
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


class _Room(NamedTuple):
    """Memory [N, any] that torch's products and our kernels fill in turn."""

    tensor: Tensor
    array: Any  # the same memory

    def of(self, made: Tensor) -> Any:
        """The array of what a product made, here or elsewhere."""
        return self.array if made is self.tensor else made.numpy()


class _Space(NamedTuple):
    """What a pass works in, layer after layer.

    Attention reads so much that all else has left the processor's caches when it ends, code too; few calls of
    few kinds then cost least. So nothing is made or turned into an array between two products.
    """

    stream: _Room
    normed: _Room
    heads: _Room  # queries, keys, values
    queries: _Room  # rotated
    mixed: _Room
    added: _Room
    both: _Room  # gate and what it lets through
    gated: _Room

    def last(self, rows: int) -> _Space:
        """The same for the last rows alone."""
        return _Space(*(_Room(tensor[-rows:], array[-rows:]) for tensor, array in self))


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
        last = int(plan.positions.max())
        turns = *self._tables(stream, last), plan.positions, plan.targets.numpy()
        here, outputs, added = self._space(stream), self._packed.outputs, _NOTHING
        for layer in self._layers:
            _add_and_norm(added, layer.before, here)
            heads = outputs(here.normed.tensor, layer.heads, here.heads.tensor)
            is_last = layer is self._layers[-1]
            self._attend(plan, here.heads.of(heads), here, turns, is_last)
            if is_last:
                here = here.last(rows)
            added = here.added.of(outputs(here.mixed.tensor, layer.mixed, here.added.tensor))
            _add_and_norm(added, layer.after, here)
            _open(outputs(here.normed.tensor, layer.gated, here.both.tensor), layer.act, here)
            added = here.added.of(outputs(here.gated.tensor, layer.down, here.added.tensor))
        _add_and_norm(added, self._inner.norm, here)
        hidden = here.normed.tensor
        return self._output(hidden), hidden

    def _space(self, stream: Tensor) -> _Space:
        """What a pass works in after these embeddings [N, D]."""
        count, hidden = stream.shape
        asked, kept = self._queries * self._dim, self._kv_heads * self._dim
        width = self._layers[0].down[0].in_features
        widths = (hidden, asked + 2 * kept, asked, asked, hidden, 2 * width, width)
        made = (stream.new_empty(count, one) for one in widths)
        return _Space(*(_Room(one, one.numpy()) for one in (stream, *made)))

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

    def _attend(self, plan: Plan, heads: Any, here: _Space, turns: tuple[Any, ...], is_last: bool) -> None:
        """Fill `here.mixed` from a layer's `heads` [N, (H + 2 * K) * E]; in the last layer only its ends."""
        asked, kept, dim = self._queries, self._kv_heads, self._dim
        heads = heads.reshape(-1, asked + 2 * kept, dim)
        queries = here.queries.array.reshape(-1, asked, dim)
        turn_and_write(heads, *turns, queries, *plan.arrays())
        new_keys, new_values = heads[:, asked : asked + kept], heads[:, asked + kept :]
        output = here.mixed.array.reshape(-1, asked, dim)
        plan.mix_arrays(queries, new_keys, new_values, output, dim**-0.5, ends_only=is_last)


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


def _add_and_norm(added: Any, norm: Any, here: _Space) -> None:
    """Add `added` to the stream, then norm it."""
    weight, epsilon = norm.weight.detach().numpy(), np.float32(norm.variance_epsilon)
    add_and_norm(here.stream.array, added, weight, epsilon, here.normed.array)


def _open(both: Tensor, act: nn.Module, here: _Space) -> None:
    """Fill `here.gated` [N, I] with the first half of `both` [N, 2 * I], activated, times the second."""
    if isinstance(act, SiLUActivation | nn.SiLU):
        gate(here.both.of(both), here.gated.array)
    else:
        opening, through = both.chunk(2, -1)
        torch.mul(act(opening), through, out=here.gated.tensor)
