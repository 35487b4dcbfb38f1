"""Forward passes for models whose attention is not ours to replace; `RaggedForward` is the fast one.

Both go by what a model's own forward promises. They need no places in our memory of keys and values.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from llama_o1.engine.attend import Feed
from llama_o1.value_head import watching

_CACHES = ("past_key_values", "cache_params")  # what transformers' models call theirs


class CachedForward:
    """Every row alone, over the cache that the model returned for it in the pass before.

    New tokens go in one at a time once a row has a cache: a state-space model reads a block of them as if
    nothing went before it, by an error that grows with training and so cannot be ruled out by a look.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        inside: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
        keeps = "logits_to_keep" in signature(inside.forward).parameters
        self._settings = {"use_cache": True} | ({"logits_to_keep": 1} if keeps else {})
        # By id of the row's list of tokens, which is held so that no other list can have its id.
        self._held: dict[int, tuple[list[int], dict[str, Any]]] = {}

    def logits(self, feeds: Sequence[Feed]) -> Tensor:
        """Logits [R, V] after each row's last token. A row is known by its list of tokens, which grows."""
        return torch.cat([self._row(feed) for feed in feeds])

    def with_hidden(self, feeds: Sequence[Feed]) -> tuple[Tensor, Tensor]:
        """Logits [R, V] after each row's last token, and the hidden states [R, H] they were made of."""
        logits, hidden = [], []
        for feed in feeds:
            with watching(self._model) as seen:
                logits.append(self._row(feed))
            hidden.append(seen[-1][:, -1])
        return torch.cat(logits), torch.cat(hidden)

    def release(self, tokens: list[int]) -> None:
        """Free what is held for a row."""
        self._held.pop(id(tokens), None)

    def _row(self, feed: Feed) -> Tensor:
        cache = self._held[id(feed.tokens)][1] if feed.start else {}
        new = feed.tokens[feed.start :]
        for ids in [[token] for token in new] if cache else [new]:
            output = self._model(
                input_ids=torch.tensor([ids], device=self._device), **self._settings, **cache
            )
            cache = {name: output[name] for name in _CACHES if output.get(name) is not None}
        if not cache:
            raise ValueError("its forward returns no cache")
        self._held[id(feed.tokens)] = feed.tokens, cache
        logits: Tensor = output.logits[:, -1]
        return logits


class WholeForward:
    """Whole rows anew in every pass, right-padded: slow, right for any causal model, and holds nothing."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._device = next(model.parameters()).device

    def logits(self, feeds: Sequence[Feed]) -> Tensor:
        """Logits [R, V] after each row's last token."""
        lengths = torch.tensor([len(feed.tokens) for feed in feeds], device=self._device)
        width = int(lengths.max())
        ids = torch.tensor(
            [feed.tokens + [0] * (width - len(feed.tokens)) for feed in feeds], device=self._device
        )
        mask = torch.arange(width, device=self._device) < lengths[:, None]
        output = self._model(input_ids=ids, attention_mask=mask.long(), use_cache=False)
        logits: Tensor = output.logits[torch.arange(len(feeds)), lengths - 1]
        return logits

    def with_hidden(self, feeds: Sequence[Feed]) -> tuple[Tensor, Tensor]:
        """Logits [R, V] after each row's last token, and the hidden states [R, H] they were made of."""
        with watching(self._model) as seen:
            logits = self.logits(feeds)
        return logits, seen[-1][torch.arange(len(feeds)), [len(feed.tokens) - 1 for feed in feeds]]
