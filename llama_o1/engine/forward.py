"""Which forward pass fits a model: the fastest that proves right on a few tokens."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from llama_o1.engine.attend import Feed
from llama_o1.engine.packed import PackedLinears
from llama_o1.engine.plain import CachedForward, WholeForward
from llama_o1.engine.ragged import RaggedForward

Forward = RaggedForward | CachedForward | WholeForward

_log = logging.getLogger(__name__)

# Of the logits' spread. A wrong mask or position is off by far more; float32 and bfloat16 by less.
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}
_TOLERANCE_HALF = 0.2
_ROWS = ([0, 1, 2, 0, 1, 1, 2, 2, *[0, 1] * 8], [2, 1, 0, 0, 1, 2, 2])
_ENDS = (3, 5, -1, None)  # up to which a pass feeds each row: contexts, short and long blocks, single tokens


def make_forward(model: nn.Module, packed: PackedLinears) -> Forward:
    """Ragged with shared prefixes, by our own layers where they fit; else a cache for each row; else
    everything anew, which a warning tells.
    """
    expected = _own_logits(model)
    forward: Forward | None
    forward, reason = _proven(model, expected, partial(RaggedForward, model, packed))
    if forward is not None:
        return forward
    _log.debug("%s by its own layers: %s", type(model).__name__, reason)
    forward, reason = _proven(model, expected, partial(RaggedForward, model))
    if forward is not None:
        return forward
    cost = "each row runs alone over a cache of its own: a step costs one forward pass a row"
    forward, _ = _proven(model, expected, partial(CachedForward, model))
    if forward is None:
        forward = WholeForward(model)
        cost = "its own cache does not serve either: every token costs a pass over its row's whole context"
    _log.warning(
        "%s cannot use our attention (%s); no prefix is shared and %s", type(model).__name__, reason, cost
    )
    return forward


def _proven(
    model: nn.Module, expected: Tensor, make: Callable[[], RaggedForward | CachedForward]
) -> tuple[RaggedForward | CachedForward | None, str]:
    """A forward that gives the expected logits, or None and why not."""
    try:
        forward = make()
        difference = _difference(forward, expected)
    except Exception as failure:
        return None, f"{type(failure).__name__}: {' '.join(str(failure).split())[:200]}"
    if difference <= _TOLERANCE.get(next(model.parameters()).dtype, _TOLERANCE_HALF):
        return forward, ""
    return None, f"its logits are off by {difference:.2g} of their spread"


def _own_logits(model: nn.Module) -> Tensor:
    """What the model says at each end of each row, which it sees whole and alone: [ends * rows, V]."""
    whole = WholeForward(model)
    parts = [row[:end] for end in _ENDS for row in _ROWS]
    return torch.cat([whole.logits([Feed(part, 0, [])]) for part in parts]).float()


def _difference(forward: RaggedForward | CachedForward, expected: Tensor) -> float:
    """Largest difference of the logits, over their standard deviation, when rows come in parts."""
    memory = forward.memory if isinstance(forward, RaggedForward) else None
    pasts = [memory.take(len(row)) if memory else [] for row in _ROWS]
    rows: list[list[int]] = [[] for _ in _ROWS]
    found: list[Tensor] = []
    for end in _ENDS:
        starts = [len(row) for row in rows]
        for row, tokens in zip(rows, _ROWS, strict=True):
            row += tokens[len(row) : end]
        feeds = zip(rows, starts, pasts, range(len(rows)), strict=True)
        found.append(forward.logits([Feed(*feed) for feed in feeds]).float())
    for row, past in zip(rows, pasts, strict=True):
        if isinstance(forward, RaggedForward):
            forward.memory.give(past)
        else:
            forward.release(row)
    return float((torch.cat(found) - expected).abs().max() / expected.std())
