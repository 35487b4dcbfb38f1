"""What a model says of a packed batch: log-probs of the sampled tokens and the rating logits.

Policy and value come from one forward pass. Knows no loss and no optimizer.
Letters of a shape: node: one experience; own: its own tokens, padded; draw: one sampled token; vocab.
"""

from inspect import signature
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llama_o1.learn.model import CausalLM, plain
from llama_o1.learn.pack import Batch


class Readout(NamedTuple):
    """Log-probs and entropy are at the sampling temperature, 0 where a token was not sampled."""

    logprobs: Float[Tensor, "node own"]
    entropy: Float[Tensor, "node own"]  # nats
    rating: Float[Tensor, "node 2"]  # logits of (positive, negative) after the last own token


def read(
    model: CausalLM, batch: Batch, rating_ids: tuple[int, int], *, entropy_grad: bool = False
) -> Readout:
    """One forward pass over the batch; the entropy carries a gradient only when it is wanted.

    Logits are made at the positions that are read, in float32: about
    (sampled tokens + padding) * vocab numbers, so `max_tokens_per_forward` bounds the memory.
    """
    at_draws = batch.predicted_by[batch.sampled]
    flat, rows = _logits_at(model, batch, torch.cat((at_draws, batch.rated_by)))
    draws, nodes = rows[: at_draws.numel()], rows[at_draws.numel() :]
    rating = flat[nodes[:, None], torch.tensor(rating_ids, device=flat.device)].float()

    temperature = batch.temperature[:, None].expand_as(batch.sampled)[batch.sampled]
    logits: Float[Tensor, "draw vocab"] = flat.index_select(0, draws).float() / temperature[:, None]
    log_total = logits.logsumexp(dim=1)
    chosen = logits.gather(1, batch.targets[batch.sampled][:, None]).squeeze(1)
    with torch.set_grad_enabled(entropy_grad and torch.is_grad_enabled()):
        entropy = log_total - (logits.softmax(dim=1) * logits).sum(dim=1)
    return Readout(_spread(batch, chosen - log_total), _spread(batch, entropy), rating)


def _logits_at(
    model: CausalLM, batch: Batch, places: Int[Tensor, " place"]
) -> tuple[Float[Tensor, "kept vocab"], Int[Tensor, " place"]]:
    """Logits of the columns in which a place lies, and the row of each place in them."""
    accepted = signature(plain(model).forward).parameters
    options: dict[str, object] = {"use_cache": False}
    if "position_ids" in accepted:
        options["position_ids"] = batch.position_ids
    columns = torch.arange(batch.seq, device=places.device)
    if "logits_to_keep" in accepted:
        columns = torch.unique(places % batch.seq)
        options["logits_to_keep"] = columns
    logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, **options).logits
    row, column = places // batch.seq, torch.searchsorted(columns, places % batch.seq)
    return logits.flatten(0, 1), row * columns.numel() + column


def _spread(batch: Batch, values: Float[Tensor, " draw"]) -> Float[Tensor, "node own"]:
    empty = torch.zeros(batch.sampled.shape, dtype=values.dtype, device=values.device)
    return empty.masked_scatter(batch.sampled, values)
