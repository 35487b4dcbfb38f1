"""ValueHead: a linear layer and tanh on the hidden state after a thought, in place of the rating's logits.

AlphaMath (Chen et al. 2024): V = tanh(w h + b) in [-1, 1], h the state at a step's last token,
which for us is `<start_of_rating>`. Ours is a success probability, so -1 stands for 0 and 1 for 1:
(1 + tanh x) / 2 = sigmoid(2 x). That is the two-way softmax of logits (x, -x), so whoever reads a pair of
rating logits can read the head as well. Unlike there no dropout acts before it: it would be noise between
what a search read and what the learner sees.

Engines and learner share one head. A model whose output layer is not given hidden states has none.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from llama_o1.errors import ModelError

log = logging.getLogger(__name__)

HEAD_FILE = "value_head.safetensors"


class ValueHead(nn.Module):
    """Reads x = w h + b, always in float32; a new one says nearly 0 of everything, a probability of 1/2."""

    def __init__(self, width: int, *, spread: float = 0.02, seed: int = 0) -> None:
        """`width`: of the hidden states; `spread`: standard deviation of the first weights, b begins at 0."""
        super().__init__()
        drawn = torch.randn(width, generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(spread * drawn)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, hidden: Float[Tensor, "node width"]) -> Float[Tensor, "node 2"]:
        """Logits (x, -x) of right and wrong, whose softmax is ((1 + tanh x) / 2, (1 - tanh x) / 2)."""
        # A product and a sum, which no autocast and no batch size changes, unlike a linear layer.
        x = (hidden.float() * self.weight).sum(dim=-1) + self.bias
        return torch.stack((x, -x), dim=-1)


def new_head(model: nn.Module, *, seed: int = 0) -> ValueHead:
    """A head as wide as the model, its weights spread as the model's own; ModelError: it can have none."""
    config: Any = model.config
    spread = getattr(config.get_text_config(), "initializer_range", None)
    return ValueHead(head_width(model), spread=0.02 if spread is None else spread, seed=seed)


def tell_left_out(source: str | Path) -> None:
    """Warn where the model to start from has a head and what is made of it will have none."""
    if (Path(source) / HEAD_FILE).is_file():
        log.warning(
            "%s has a value head, which fits its weights only: the model made from it has none and is used "
            "with model.value rating",
            source,
        )


def head_width(model: nn.Module) -> int:
    """Width of what the model's output layer is given; ModelError when there is no such layer."""
    layer = output_layer(model)
    if layer is None or getattr(layer, "weight", None) is None:
        raise ModelError(
            f"{type(model).__name__} has no output layer to read hidden states from; set model.value rating"
        )
    return int(layer.weight.shape[1])


def save_head(head: ValueHead, folder: Path) -> None:
    """Write the head beside a model's weights."""
    tensors = {name: tensor.contiguous().cpu() for name, tensor in head.state_dict().items()}
    save_file(tensors, folder / HEAD_FILE)


def read_head(folder: Path, head: ValueHead) -> None:
    """Put the weights of a folder's head into `head`; ModelError when they are damaged or another model's."""
    try:
        saved = load_file(folder / HEAD_FILE)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the value head {folder / HEAD_FILE} cannot be read: {error}") from error
    shapes = [{name: tuple(t.shape) for name, t in found.items()} for found in (saved, head.state_dict())]
    if shapes[0] != shapes[1]:
        raise ModelError(
            f"{folder / HEAD_FILE} is the value head of another model: it has {shapes[0]}, "
            f"expected {shapes[1]}"
        )
    head.load_state_dict(saved)


def output_layer(model: nn.Module) -> Any:
    """The layer that makes logits of hidden states; None: the model names none."""
    named: Any = model
    return named.get_output_embeddings()


@contextmanager
def watching(model: nn.Module) -> Iterator[list[Tensor]]:
    """What the output layer is given while the block lasts, one tensor [batch, positions, width] a call."""
    seen: list[Tensor] = []
    hook = output_layer(model).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()
