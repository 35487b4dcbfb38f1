"""One forward pass for models whose attention is not ours to replace: everything anew, padded.

Slow, and right for any causal model; `RaggedForward` is the fast one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from llama_o1.engine.attend import Feed


class PlainForward:
    """The model's own forward over whole rows, right-padded; holds nothing between passes."""

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
