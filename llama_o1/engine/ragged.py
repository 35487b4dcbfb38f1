"""One forward pass over rows of different lengths, through the model's own modules.

All new tokens of all rows go through the model as one flat sequence, so no token is padding; our
attention function, registered with transformers, hands the queries of every layer to the plan of the pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from llama_o1.engine.attend import Feed, Plan
from llama_o1.engine.dense import attention
from llama_o1.engine.kv import KeyValues
from llama_o1.engine.llama import LlamaLayers
from llama_o1.engine.packed import PackedLinears
from llama_o1.value_head import watching

_NAME = "llama_o1_ragged"
_UNSUPPORTED = ("s_aux", "position_bias")  # change the scores in ways not done here


class RaggedForward:
    """The memory of keys and values, and the forward pass that extends rows in it."""

    def __init__(self, model: nn.Module, packed: PackedLinears | None = None) -> None:
        """With `packed` by our own layers over it in place of the model's forward.

        Whatever a model that does not fit raises comes through; `make_forward` asks first.
        """
        self._model = model
        self._layers = None if packed is None else LlamaLayers(model, packed)
        self._device = next(model.parameters()).device
        probe = _Probe([])
        self._run(probe, [0, 0], [0, 1], 1)
        layers = model.config.get_text_config().num_hidden_layers  # type: ignore[union-attr, operator]
        if len(probe.shapes) != layers:
            raise ValueError(f"{len(probe.shapes)} of {layers} layers call transformers' attention functions")
        if len(set(probe.shapes)) != 1:
            raise ValueError(f"layers with unlike keys and values: {probe.shapes}")
        kv_heads, head_dim, dtype = probe.shapes[0]
        self.memory = KeyValues(len(probe.shapes), kv_heads, head_dim, dtype, self._device)

    def logits(self, feeds: Sequence[Feed]) -> Tensor:
        """Logits [R, V] after each row's last token."""
        plan = Plan(self.memory, feeds)
        if self._layers is not None:
            return self._layers.logits(plan, len(feeds))[0]
        return self._run(plan, plan.flat, plan.positions.tolist(), len(feeds))

    def with_hidden(self, feeds: Sequence[Feed]) -> tuple[Tensor, Tensor]:
        """Logits [R, V] after each row's last token, and the hidden states [R, H] they were made of."""
        if self._layers is not None:
            return self._layers.logits(Plan(self.memory, feeds), len(feeds))
        with watching(self._model) as seen:
            logits = self.logits(feeds)
        return logits, seen[-1][0]

    def _run(self, attention: _Attention, flat: list[int], positions: list[int], keep: int) -> Tensor:
        token = _ACTIVE.set(attention)
        try:
            with _implementation(self._model, _NAME):
                output = self._model(
                    input_ids=torch.tensor([flat], device=self._device),
                    position_ids=torch.tensor([positions], device=self._device),
                    use_cache=False,
                    logits_to_keep=keep,
                )
        finally:
            _ACTIVE.reset(token)
        logits: Tensor = output.logits[0]
        return logits


@dataclass
class _Probe:
    """Plain causal attention that notes what the layers' keys and values look like."""

    shapes: list[tuple[int, int, torch.dtype]]  # kv_heads, head_dim

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float | None,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:
        if key.shape != value.shape:
            raise ValueError(f"keys {tuple(key.shape)} unlike values {tuple(value.shape)}")
        self.shapes.append((key.shape[1], key.shape[3], key.dtype))
        output, _ = attention(
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            True,
            scaling or query.shape[-1] ** -0.5,
            softcap,
        )
        return output


_Attention = Plan | _Probe
_ACTIVE: ContextVar[_Attention] = ContextVar("ragged_attention")


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """The function that transformers calls in every layer; the plan of the running pass does the work."""
    for name in _UNSUPPORTED:
        if settings.get(name) is not None:
            raise ValueError(f"attention with {name}")
    return _ACTIVE.get().attend(query, key, value, scaling, sliding_window, softcap), None


# No mask function goes with it: transformers then builds no mask, and a flat sequence has no padding to hide.
AttentionInterface.register(_NAME, _attention)


@contextmanager
def _implementation(model: nn.Module, name: str) -> Iterator[None]:
    """The model with another attention function; a learner that shares the module gets its own back."""
    config = model.config.get_text_config()  # type: ignore[union-attr, operator]
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before
