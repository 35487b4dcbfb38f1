"""Attention in which a token sees its ancestors in a trie and itself, through the model's own modules.

Registered with transformers under a name of its own, as an attention and as a maker of masks: the model asks
for a mask for each kind of its layers, with the window of the kind, and hands it to the layers. A window
counts depth, as it would in a row of its own. Dense masks and torch's attention on a CPU; on CUDA a
FlexAttention block mask, which skips what is not seen.
Letters of a shape: rows and seq of the forward pass; head; width of one head.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.flex_attention import flex_attention_forward
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

Kind = Literal["dense", "flex"]

_NAME = "llama_o1_ancestors"
_UNSUPPORTED = ("s_aux", "position_bias")  # change the scores in ways not done here


def kind_for(device: torch.device) -> Kind:
    """FlexAttention where it has kernels with gradients, dense masks elsewhere."""
    return "flex" if device.type == "cuda" else "dense"


class Ancestors:
    """Who sees whom in one forward pass; a mask is made once for each window."""

    def __init__(
        self,
        subtree_end: Int[Tensor, "rows seq"],
        depth: Int[Tensor, "rows seq"],
        kind: Kind,
        *,
        caps: bool = True,
    ) -> None:
        """`caps`: soft-cap scores where a layer asks for it."""
        self._subtree_end, self._depth, self._kind = subtree_end, depth, kind
        self._masks: dict[int | None, Tensor | BlockMask] = {}
        self.caps = caps
        self.num_layers = 0  # that have asked so far

    def mask(self, window: int | None) -> Tensor | BlockMask:
        """Of layers in which a token sees `window` tokens, itself included; None: all above it."""
        if window not in self._masks:
            make = dense_mask if self._kind == "dense" else _block_mask
            self._masks[window] = make(self._subtree_end, self._depth, window)
        return self._masks[window]


@contextmanager
def seeing(model: nn.Module, ancestors: Ancestors) -> Iterator[None]:
    """The model with attention to these ancestors only; `model` is the plain one, its config is put back."""
    config: Any = model.config.get_text_config()  # type: ignore[union-attr, operator]
    before = config._attn_implementation
    # transformers' sdpa knows no soft-capping: a model that runs on it goes without, here as there.
    ancestors.caps = ancestors.caps and before != "sdpa"
    token = _ACTIVE.set(ancestors)
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        _ACTIVE.reset(token)


def sees(
    subtree_end: Int[Tensor, "rows seq"], depth: Int[Tensor, "rows seq"], window: int | None
) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Whether query q sees key k in a row: the function of indices that FlexAttention wants."""

    def mask_mod(row: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        seen = (k <= q) & (q < subtree_end[row, k])
        return seen if window is None else seen & (depth[row, k] > depth[row, q] - window)

    return mask_mod


def dense_mask(
    subtree_end: Int[Tensor, "rows seq"], depth: Int[Tensor, "rows seq"], window: int | None
) -> Bool[Tensor, "rows 1 seq seq"]:
    """True where a query sees a key: the same function of all indices."""
    rows, seq = subtree_end.shape
    place = torch.arange(seq, device=depth.device)
    row = torch.arange(rows, device=depth.device)[:, None, None]
    return sees(subtree_end, depth, window)(row, row, place[:, None], place[None, :])[:, None]


def _block_mask(
    subtree_end: Int[Tensor, "rows seq"], depth: Int[Tensor, "rows seq"], window: int | None
) -> BlockMask:
    rows, seq = subtree_end.shape
    return create_block_mask(
        sees(subtree_end, depth, window),
        B=rows,
        H=None,
        Q_LEN=seq,
        KV_LEN=seq,
        device=subtree_end.device,
        _compile=subtree_end.is_cuda,
    )


_ACTIVE: ContextVar[Ancestors] = ContextVar("ancestors")


def _make_mask(
    *_: Any, local_size: int | None = None, use_vmap: bool = False, config: Any = None, **__: Any
) -> Tensor | BlockMask:
    """What transformers calls for each kind of layer; `local_size` is the kind's window."""
    if use_vmap:
        raise ValueError("its masks are functions of its own")
    if local_size is not None and getattr(config, "attention_chunk_size", None) is not None:
        raise ValueError("its layers attend in chunks")
    return _ACTIVE.get().mask(local_size)


def _attention(
    module: nn.Module,
    query: Float[Tensor, "rows head seq width"],
    key: Float[Tensor, "rows _ seq width"],
    value: Float[Tensor, "rows _ seq _"],
    attention_mask: Tensor | BlockMask | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    **settings: Any,
) -> tuple[Tensor, Tensor | None]:
    """The function that transformers calls in every layer."""
    for name in _UNSUPPORTED:
        if settings.get(name) is not None:
            raise ValueError(f"attention with {name}")
    if attention_mask is None:
        raise ValueError("its attention is given no mask")
    ancestors = _ACTIVE.get()
    ancestors.num_layers += 1
    softcap = softcap if ancestors.caps else None
    if isinstance(attention_mask, BlockMask):
        found: tuple[Tensor, Tensor | None] = flex_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, softcap=softcap, dropout=dropout
        )
        return found
    if softcap is None:
        found = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=False
        )
        return found
    return _capped(query, key, value, attention_mask, scaling, softcap), None


def _capped(
    query: Float[Tensor, "rows head seq width"],
    key: Float[Tensor, "rows _ seq width"],
    value: Float[Tensor, "rows _ seq _"],
    mask: Bool[Tensor, "rows 1 seq seq"],
    scaling: float | None,
    softcap: float,
) -> Float[Tensor, "rows seq head _"]:
    """Scores s become softcap * tanh(s / softcap) before the mask (Gemma 2, section 2)."""
    groups = query.shape[1] // key.shape[1]
    scores = query @ repeat_kv(key, groups).transpose(2, 3) * (scaling or 1 / math.sqrt(query.shape[-1]))
    scores = (torch.tanh(scores / softcap) * softcap).masked_fill(~mask, -torch.inf)
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    return (weights @ repeat_kv(value, groups)).transpose(1, 2).contiguous()


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, _make_mask)
