"""Which batches a model is given: tries where its attention proves to take them, else padded rows.

The proof is the model's own word: a few short sequences, each alone in a row, against the same as tries.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llama_o1.learn.ancestors import Ancestors, kind_for
from llama_o1.learn.forward import ancestors_of, logits_at
from llama_o1.learn.model import CausalLM, plain
from llama_o1.learn.pack import Batch, Group, pack, pack_tries, split
from llama_o1.learn.settings import Packing
from llama_o1.learn.trie import Ints
from replay.experience import Experience

log = logging.getLogger(__name__)

# Of the logits' spread. A wrong mask or position is off by far more; float32 and bfloat16 by less.
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}
_TOLERANCE_HALF = 0.2
# Two tries, the first with branches on three levels, one sequence that begins another and one twice.
_SEQUENCES = ([2, 3, 4], [2, 3, 4, 5, 6, 7, 3], [2, 3, 4, 5, 6, 8, 9, 9], [2, 3, 5, 4], [2, 3, 5, 4],
              [2, 3, 4, 5, 3, 3, 3, 3, 3, 3, 3, 3, 4], [6, 5, 4, 3, 2, 2], [6, 5, 4, 4])  # fmt: skip
_WIDEST_DENSE = 2048  # tokens of a row with a dense mask, whose size and price are the square of it


class Batcher:
    """Cuts experiences into forward passes for one model."""

    def __init__(self, model: CausalLM, packing: Packing, pad_id: int) -> None:
        self._model = model
        self._pad_id = pad_id
        self._packing = packing
        self._tries: bool | None = None if packing == "trie" else False  # None: not yet proven

    def batches(self, experiences: Sequence[Experience], max_tokens: int) -> list[Group]:
        """Forward passes of at most max_tokens, padding included; a longer experience goes alone."""
        device = self._model.device
        if self.takes_tries:
            even, widest = math.inf, None
            if kind_for(device) == "dense":
                # A layer's weights are about 12 * hidden ** 2, its attention 2 * hidden a token seen.
                even = 6.0 * plain(self._model).config.get_text_config().hidden_size
                widest = _WIDEST_DENSE
            return pack_tries(experiences, max_tokens, self._pad_id, device, even=even, widest=widest)
        groups = split(experiences, max_tokens)
        return [(group, pack([experiences[i] for i in group], self._pad_id, device)) for group in groups]

    @property
    def takes_tries(self) -> bool:
        """Whether batches are tries; looked at once, and said in a warning where they are wanted and not."""
        if self._tries is None:
            reason = why_no_tries(self._model, self._pad_id)
            self._tries = reason is None
            if reason is not None:
                log.warning(
                    "%s cannot learn from tries (%s); every experience is computed alone in a padded row",
                    type(plain(self._model)).__name__,
                    reason,
                )
        return self._tries


@torch.no_grad()
def why_no_tries(model: CausalLM, pad_id: int = 0) -> str | None:
    """Why the model's attention cannot take the mask of a trie; None when it proves right on a small one."""
    inside: Any = plain(model)
    vocab = inside.get_input_embeddings().weight.shape[0]
    examples = [_example(np.array(ids) % vocab) for ids in _SEQUENCES]
    try:
        (group, tries), *_ = pack_tries(examples, 1 << 20, pad_id, model.device)
        assert group == list(range(len(examples))), "one pass holds them all"
        ancestors = ancestors_of(tries)
        found = _logits(model, tries, ancestors)
        layers = inside.config.get_text_config().num_hidden_layers
        if ancestors.num_layers != layers:
            return f"{ancestors.num_layers} of its {layers} layers call transformers' attention functions"
        parts = [_logits(model, pack([one], pad_id, model.device)) for one in examples]
        alone = [torch.cat(logits) for logits in zip(*parts, strict=True)]
        spread = float(torch.cat(alone).std())
        difference = max(float((a - b).abs().max()) for a, b in zip(found, alone, strict=True)) / spread
    except Exception as failure:  # whatever a model raises that was given what it does not know
        return f"{type(failure).__name__}: {' '.join(str(failure).split())[:200]}"
    if difference <= _TOLERANCE.get(model.dtype, _TOLERANCE_HALF):
        return None
    return f"its logits are off by {difference:.2g} of their spread"


def _example(ids: Ints) -> Experience:
    """A sequence as an experience whose every token but the first is predicted."""
    own = ids[1:].astype(np.int32)
    return Experience(
        context=ids[:1].astype(np.int32),
        ids=own,
        sampled=np.ones(own.size, np.bool_),
        logprobs=np.zeros(own.size, np.float32),
        temperature=1.0,
        advantage=0.0,
        value=0.5,
        value_target=0.5,
        outcome=None,
        version=0,
        action="expand",
        problem="",
        tree="",
        node=0,
        parent=0,
    )


def _logits(model: CausalLM, batch: Batch, ancestors: Ancestors | None = None) -> tuple[Tensor, Tensor]:
    """Logits that predict the sequences [tokens, vocab], and those after their ends [node, vocab]."""
    at = batch.predicted_by[batch.sampled]
    logits = logits_at(model, batch, torch.cat((at, batch.rated_by)), ancestors).float()
    predicting, after = logits.split((at.numel(), batch.rated_by.numel()))
    return predicting, after
