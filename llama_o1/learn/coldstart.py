"""Cold start: supervised fine-tuning on written lines of thought.

Blind to how the lines were made: it sees token ids and how much each of them counts in the loss.
"""

import logging
import math
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from llama_o1.learn.settings import ColdstartSettings

log = logging.getLogger(__name__)

ROUND = 32  # lengths are padded to multiples, so that memory is used again from step to step
POOL = 512  # lines sorted by length together, so that padding stays small


def fine_tune(
    model: torch.nn.Module,
    lines: Iterator[tuple[Sequence[int], Sequence[float]]],
    settings: ColdstartSettings,
    *,
    pad_id: int,
    seed: int,
    on_step: Callable[[int, float, int], None],
) -> None:
    """Train the model in place, on a GPU where there is one; `on_step(step, loss, tokens)` after every step.

    Loss: cross-entropy of the tokens whose weight is above 0, times the weight, over their number; so a
    weight does not change what the others count. AdamW, linear warm-up, cosine to a tenth.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(), settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, settings))
    model.train()
    for step, (ids, weights) in enumerate(
        islice(_batches(lines, settings.batch_tokens, pad_id, seed), settings.steps)
    ):
        loss = _loss(model, ids.to(device), weights.to(device), bf16=settings.bf16)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimizer.step()
        schedule.step()
        on_step(step, float(loss.detach()), ids.numel())
    model.eval()


def _rate(step: int, settings: ColdstartSettings) -> float:
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    progress = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, progress)))


def _loss(
    model: torch.nn.Module,
    ids: Int[Tensor, "batch seq"],
    weights: Float[Tensor, "batch seq"],
    *,
    bf16: bool,
) -> Tensor:
    with torch.autocast("cpu" if ids.device.type == "cpu" else "cuda", torch.bfloat16, enabled=bf16):
        # Padding is on the right, where a causal model never looks from a real token.
        logits = model(input_ids=ids, use_cache=False).logits
    wanted = weights[:, 1:] > 0
    counts = weights[:, 1:][wanted]
    predicted, tokens = logits[:, :-1][wanted].float(), ids[:, 1:][wanted]
    if bool((counts == 1).all()):
        return functional.cross_entropy(predicted, tokens)
    return (counts * functional.cross_entropy(predicted, tokens, reduction="none")).mean()


def _batches(
    lines: Iterator[tuple[Sequence[int], Sequence[float]]], batch_tokens: int, pad_id: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Padded batches of lines of like length, in a seeded order."""
    rng = random.Random(seed)
    while pool := sorted(islice(lines, POOL), key=lambda line: len(line[0])):
        batches: list[list[tuple[Sequence[int], Sequence[float]]]] = [[]]
        for line in pool:
            if batches[-1] and (len(batches[-1]) + 1) * len(line[0]) > batch_tokens:
                batches.append([])
            batches[-1].append(line)
        rng.shuffle(batches)
        for batch in batches:
            longest = -(-max(len(ids) for ids, _ in batch) // ROUND) * ROUND
            ids = torch.full((len(batch), longest), pad_id)
            weights = torch.zeros((len(batch), longest))
            for row, (line_ids, line_weights) in enumerate(batch):
                ids[row, : len(line_ids)] = torch.tensor(line_ids)
                weights[row, : len(line_weights)] = torch.tensor(line_weights)
            yield ids, weights
