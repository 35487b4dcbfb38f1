"""Which forward pass fits a model: ragged where it proves right, plain otherwise."""

from __future__ import annotations

import logging

import torch
from torch import nn

from llama_o1.engine.attend import Feed
from llama_o1.engine.plain import PlainForward
from llama_o1.engine.ragged import RaggedForward

_log = logging.getLogger(__name__)

# Of the logits' spread. A wrong mask or position is off by far more; float32 and bfloat16 by less.
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}
_TOLERANCE_HALF = 0.2


def make_forward(model: nn.Module) -> RaggedForward | PlainForward:
    """The ragged forward if it gives the model's own logits on a small batch, else the plain one."""
    try:
        forward = RaggedForward(model)
        difference = _difference(forward, PlainForward(model))
    except Exception as failure:
        reason = f"{type(failure).__name__}: {failure}"
    else:
        if difference <= _TOLERANCE.get(next(model.parameters()).dtype, _TOLERANCE_HALF):
            return forward
        reason = f"its logits are off by {difference:.2g} of their spread"
    _log.warning(
        "%s cannot use ragged attention and prefix caching (%s); every token computes its whole context anew",
        type(model).__name__,
        reason,
    )
    return PlainForward(model)


def _difference(ragged: RaggedForward, plain: PlainForward) -> float:
    """Largest difference of the logits after chunks and single tokens, over their standard deviation."""
    rows = [[0, 1, 2, 0, 1, 1, 2, 2, *[0, 1] * 8], [2, 1, 0, 0]]
    pasts = [ragged.memory.take(len(row)) for row in rows]
    ragged.logits([Feed(row[:3], 0, past) for row, past in zip(rows, pasts, strict=True)])
    found = ragged.logits(
        [Feed(row, 3, past, i) for i, (row, past) in enumerate(zip(rows, pasts, strict=True))]
    )
    for past in pasts:
        ragged.memory.give(past)
    expected = plain.logits([Feed(row, 0, []) for row in rows]).float()
    return float((found.float() - expected).abs().max() / expected.std())
