"""What a model says of a batch: log-probs of the sampled tokens and the rating logits.

Policy and value come from one forward pass. Knows no targets and no optimizer.
Letters of a shape: node: one experience; own: its own tokens, padded; draw: one sampled token; vocab.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from inspect import signature
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llama_o1.errors import ModelError
from llama_o1.learn.ancestors import Ancestors, kind_for, seeing
from llama_o1.learn.loss import entropy_of
from llama_o1.learn.model import CausalLM, plain
from llama_o1.learn.pack import Batch
from llama_o1.value_head import ValueHead


class Readout(NamedTuple):
    """Log-probs and entropy are at the sampling temperature, 0 where a token was not sampled."""

    logprobs: Float[Tensor, "node own"]
    entropy: Float[Tensor, "node own"]  # nats
    rating: Float[Tensor, "node 2"]  # logits of (positive, negative) after the last own token, or of the head


class Outputs(NamedTuple):
    """At some places of a batch; a model that calls no output layer of the usual shape shows no states."""

    logits: Float[Tensor, "place vocab"]
    hidden: Float[Tensor, "place width"] | None  # what the output layer was given


def read(
    model: CausalLM,
    batch: Batch,
    rating_ids: tuple[int, int],
    value_head: ValueHead | None = None,
    *,
    entropy_grad: bool = False,
) -> Readout:
    """One forward pass over the batch; the entropy carries a gradient only when it is wanted.

    Logits are made at the positions that are read, in float32: about (sampled tokens + nodes) * vocab
    numbers, so `max_tokens_per_forward` bounds the memory.
    """
    at_draws = batch.predicted_by[batch.sampled]
    flat = outputs_at(model, batch, torch.cat((at_draws, batch.rated_by)))
    drawn, rated = flat.logits.split((at_draws.numel(), batch.rated_by.numel()))
    if value_head is None:
        rating = rated[:, list(rating_ids)].float()
    elif flat.hidden is None:
        raise ModelError(f"{type(plain(model)).__name__} shows no hidden states; set model.value rating")
    else:
        rating = value_head(flat.hidden[at_draws.numel() :])

    temperature = batch.temperature[:, None].expand_as(batch.sampled)[batch.sampled]
    logits: Float[Tensor, "draw vocab"] = drawn.float() / temperature[:, None]
    log_total = logits.logsumexp(dim=1)
    chosen = logits.gather(1, batch.targets[batch.sampled][:, None]).squeeze(1)
    with torch.set_grad_enabled(entropy_grad and torch.is_grad_enabled()):
        entropy = entropy_of(logits)
    return Readout(_spread(batch, chosen - log_total), _spread(batch, entropy), rating)


def logits_at(
    model: CausalLM, batch: Batch, places: Int[Tensor, " place"], ancestors: Ancestors | None = None
) -> Float[Tensor, "place vocab"]:
    """The model's logits at flat places of a batch, in one forward pass."""
    return outputs_at(model, batch, places, ancestors).logits


def outputs_at(
    model: CausalLM, batch: Batch, places: Int[Tensor, " place"], ancestors: Ancestors | None = None
) -> Outputs:
    """The model's logits at flat places of a batch and the states they are made of, in one forward pass."""
    inside: Any = plain(model)
    options: dict[str, object] = {"use_cache": False}
    if "position_ids" in signature(inside.forward).parameters:
        options["position_ids"] = batch.position_ids
    tries = batch.subtree_end is not None
    attention = seeing(inside, ancestors or ancestors_of(batch)) if tries else nullcontext()
    with attention, _only(inside.get_output_embeddings(), batch, places) as kept:
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, **options).logits
    if kept:
        return Outputs(logits[0], kept[0])
    return Outputs(logits.flatten(0, 1).index_select(0, places), None)


def ancestors_of(batch: Batch) -> Ancestors:
    """Who sees whom in a batch of tries."""
    assert batch.subtree_end is not None, "a batch of rows is causal"
    return Ancestors(batch.subtree_end, batch.position_ids, kind_for(batch.input_ids.device))


@contextmanager
def _only(head: nn.Module | None, batch: Batch, places: Int[Tensor, " place"]) -> Iterator[list[Tensor]]:
    """The output layer told to make logits at these places only; yields what it was given once it has.

    A model that calls no output layer of this shape makes all logits.
    """
    kept: list[Tensor] = []  # [place, width]

    def select(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        hidden = inputs[0]
        if kept or hidden.shape[:2] != batch.input_ids.shape:
            return None
        kept.append(hidden.flatten(0, 1).index_select(0, places))
        return (kept[0][None], *inputs[1:])

    hook = None if head is None else head.register_forward_pre_hook(select)
    try:
        yield kept
    finally:
        if hook is not None:
            hook.remove()


def _spread(batch: Batch, values: Float[Tensor, " draw"]) -> Float[Tensor, "node own"]:
    empty = torch.zeros(batch.sampled.shape, dtype=values.dtype, device=values.device)
    return empty.masked_scatter(batch.sampled, values)
