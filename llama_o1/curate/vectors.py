"""Questions as vectors: the mean of a causal LM's last hidden states over their tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from llama_o1.learn.model import read_plain
from llama_o1.threads import torch_threads

AT_ONCE = 16
LONGEST = 512  # tokens; what a question has more is cut


def vectors(
    questions: Sequence[str], model: str, threads: int, told: Callable[[int], object]
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """One row of length 1 a question, [questions, width]; `told` hears how many more are done."""
    read, tokenizer = read_plain(model)
    body = read.base_model.eval()
    room = min(LONGEST, getattr(read.config.get_text_config(), "max_position_embeddings", LONGEST))
    ids = [tokenizer.encode(q, add_special_tokens=False)[:room] or [0] for q in questions]
    rows: dict[int, torch.Tensor] = {}
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    with torch_threads(threads), torch.no_grad():
        for start in range(0, len(order), AT_ONCE):
            part = order[start : start + AT_ONCE]
            longest = max(len(ids[i]) for i in part)
            mask = torch.tensor([[1] * len(ids[i]) + [0] * (longest - len(ids[i])) for i in part])
            tokens = torch.tensor([ids[i] + [0] * (longest - len(ids[i])) for i in part])
            states = body(input_ids=tokens, attention_mask=mask).last_hidden_state.float()
            means = (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
            rows.update(zip(part, torch.nn.functional.normalize(means, dim=-1), strict=True))
            told(len(part))
    return np.stack([rows[i].numpy() for i in range(len(ids))]).astype(np.float32)
