"""A pairwise loss on the answer to a comparison, and the steps that learn by it.

LLaMA-Berry trains its preference model by DPO (Rafailov et al. 2023) on the answers Yes and No. Of answers of
one token it leaves -log sigmoid(beta * (m - m_before)), m the log-prob of the right answer less that of the
wrong one, which is the difference of their logits. Without m_before it is the logistic loss of Bradley and
Terry. Both orders of a pair are learned in one step. Blind to how comparisons are written: it sees token ids.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from copy import deepcopy
from itertools import islice
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from peft import PeftModel
from torch import Tensor
from torch.nn import functional

from llama_o1.errors import RunError
from llama_o1.learn.model import CausalLM
from llama_o1.learn.prefer_settings import PreferenceSettings


class Asked(NamedTuple):
    """A pair as token ids, ready to be answered: the better solution first, and second."""

    better_first: Sequence[int]
    better_second: Sequence[int]


class Stood(NamedTuple):
    """How a model answers pairs."""

    accuracy: float  # share of pairs whose better one it prefers, both orders together; an even one is half
    agreement: float  # share of pairs whose orders it answers alike
    loss: float  # mean -log P(right answer) over both orders


def preference_loss(
    margins: Float[Tensor, " batch"], before: Float[Tensor, " batch"], beta: float
) -> Float[Tensor, ""]:
    """Mean of -log sigmoid(beta * (margin - margin before)); before is 0 for the plain logistic loss."""
    return -functional.logsigmoid(beta * (margins - before)).mean()


def learn_preferences(
    model: CausalLM,
    pairs: Sequence[Asked],
    settings: PreferenceSettings,
    *,
    ratings: tuple[int, int],
    pad_id: int,
    seed: int,
    on_step: Callable[[int, float, float], None],
) -> None:
    """Train the model in place; `on_step(step, loss, kl)` after every step, counted from 1.

    `ratings`: ids of the positive and the negative rating. RunError when the loss is not finite.
    """
    needs_before = settings.loss == "dpo" or settings.keep > 0
    before = deepcopy(model) if needs_before and not isinstance(model, PeftModel) else model
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, settings))
    model.train()
    batches = _batches(pairs, settings.batch_pairs, random.Random(seed))
    for step, batch in enumerate(islice(batches, settings.steps), start=1):
        rows = [row for pair in batch for row in pair]
        ids, mask = _padded(rows, pad_id, model.device)
        logits = model(input_ids=ids, use_cache=False).logits.float()
        old = _before(before, ids) if needs_before else None
        margins = _margins(logits, mask, ratings)
        reference = torch.zeros_like(margins)
        if settings.loss == "dpo" and old is not None:
            reference = _margins(old, mask, ratings)
        loss = preference_loss(margins, reference, settings.beta)
        kl = torch.zeros(()) if old is None or not settings.keep else _kl(old, logits, mask)
        whole = loss + settings.keep * kl
        _check_finite(step, float(whole.detach()))
        optimizer.zero_grad(set_to_none=True)
        whole.backward()
        torch.nn.utils.clip_grad_norm_(trained, settings.max_grad_norm)
        optimizer.step()
        schedule.step()
        on_step(step, float(loss.detach()), float(kl.detach()))
    model.eval()


@torch.no_grad()
def answered(
    model: CausalLM, pairs: Sequence[Asked], *, ratings: tuple[int, int], pad_id: int, batch_pairs: int
) -> Stood:
    """How the model answers these pairs, at least one."""
    margins: list[Tensor] = []
    for start in range(0, len(pairs), batch_pairs):
        rows = [row for pair in pairs[start : start + batch_pairs] for row in pair]
        ids, mask = _padded(rows, pad_id, model.device)
        margins.append(_margins(model(input_ids=ids, use_cache=False).logits.float(), mask, ratings))
    both = torch.cat(margins).double().reshape(-1, 2)
    margin = both.sum(1)  # above 0 just where the mean of both orders' probabilities is above 1/2
    right = (margin > 0).double() + 0.5 * (margin == 0).double()
    alike = (both[:, 0] > 0) == (both[:, 1] > 0)
    loss = -functional.logsigmoid(both).mean()
    return Stood(float(right.mean()), float(alike.double().mean()), float(loss))


def _check_finite(step: int, loss: float) -> None:
    if not math.isfinite(loss):
        raise RunError(f"step {step}: the loss is {loss}, so nothing is written; lower prefer.learning_rate")


def _rate(step: int, settings: PreferenceSettings) -> float:
    warm = (step + 1) / (settings.warmup_steps + 1)
    return min(warm, (settings.steps - step) / max(1, settings.steps - settings.warmup_steps))


def _batches(pairs: Sequence[Asked], size: int, rng: random.Random) -> Iterator[list[Asked]]:
    """All pairs in a new order, again and again."""
    left: list[Asked] = []
    while True:
        while len(left) < size:
            left += rng.sample(pairs, len(pairs))
        yield left[:size]
        left = left[size:]


def _padded(
    rows: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[Int[Tensor, "batch seq"], Bool[Tensor, "batch seq"]]:
    """Ids padded on the right, where a causal model never looks from a real token, and which are real."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(list(row))
        mask[i, : len(row)] = True
    return ids.to(device), mask.to(device)


def _margins(
    logits: Float[Tensor, "batch seq vocab"], mask: Bool[Tensor, "batch seq"], ratings: tuple[int, int]
) -> Float[Tensor, " batch"]:
    """The log-prob of the right answer less that of the wrong one, by row; rows alternate their order."""
    ends = logits[torch.arange(len(logits), device=logits.device), mask.sum(1) - 1]
    first_better = ends[:, ratings[0]] - ends[:, ratings[1]]
    signs = torch.ones_like(first_better)
    signs[1::2] = -1.0
    return signs * first_better


def _kl(
    old: Float[Tensor, "batch seq vocab"],
    new: Float[Tensor, "batch seq vocab"],
    mask: Bool[Tensor, "batch seq"],
) -> Float[Tensor, ""]:
    """KL(before || now) per token, all tokens but each row's last."""
    inner = mask.clone()
    inner[torch.arange(len(mask), device=mask.device), mask.sum(1) - 1] = False
    before, now = old[inner].log_softmax(-1), new[inner].log_softmax(-1)
    return functional.kl_div(now, before, log_target=True, reduction="batchmean")


@torch.no_grad()
def _before(model: CausalLM, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq vocab"]:
    """Logits of the model as it was."""
    was_training = model.training
    model.eval()
    with model.disable_adapter() if isinstance(model, PeftModel) else nullcontext():
        logits: Tensor = model(input_ids=ids, use_cache=False).logits.float()
    model.train(was_training)
    return logits
