"""Tuner: supervised fine-tuning on lines, one optimizer step after another.

Blind to how the lines were made: it sees token ids and how much each of them counts in the loss.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from llama_o1.errors import ConfigError, RunError
from llama_o1.learn.model import CausalLM
from llama_o1.learn.optimizer import take_tensors, tensors_of
from llama_o1.learn.rows import Line, Pass, passes
from llama_o1.learn.settings import ColdstartSettings
from llama_o1.value_head import ValueHead


class Tuner:
    """A model that is fine-tuned in place, and its optimizer."""

    def __init__(self, model: CausalLM, settings: ColdstartSettings, *, pad_id: int, steps: int) -> None:
        """`steps`: of the whole fine-tuning, on which the learning rate depends.

        ConfigError when rows are to hold several lines and the model does not keep them apart.
        """
        if settings.row_tokens is not None:
            _check_apart(model)
        self.model = model
        self.value_head: ValueHead | None = None  # ratings are taught, a head is not
        self.num_steps = 0
        self.max_tokens = settings.batch_tokens
        self._settings, self._pad_id, self._steps = settings, pad_id, steps
        self._trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._optimizer = torch.optim.AdamW(
            list(self._trainable.values()),
            settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
        )

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return self._settings.learning_rate * self._settings.rate(self.num_steps, self._steps)

    def step(self, lines: Sequence[Line]) -> tuple[float, int]:
        """Learn once from these lines; their loss before that, and the tokens it took, padding included.

        Loss: cross-entropy of the tokens whose weight is above 0, times the weight, over their number; so a
        weight does not change what the others count. RunError when it is not finite.
        """
        made = passes(lines, self._settings, self._pad_id)
        counts = [_counted(one) for one in made]
        self._optimizer.zero_grad(set_to_none=True)
        self.model.train()
        loss = 0.0
        for one, count in zip(made, counts, strict=True):
            if count:
                part = self._loss(one) * (count / sum(counts))
                part.backward()
                loss += float(part.detach())
        self.model.eval()
        self._check_finite(loss)
        torch.nn.utils.clip_grad_norm_(list(self._trainable.values()), self._settings.max_grad_norm)
        self._optimizer.param_groups[0]["lr"] = self.learning_rate
        self._optimizer.step()
        self.num_steps += 1
        return loss, sum(one.ids.numel() for one in made)

    @torch.no_grad()
    def loss(self, lines: Sequence[Line]) -> float:
        """Mean loss over the tokens of held-out lines that count, each by its weight."""
        total, counted = 0.0, 0
        for line in sorted(lines, key=lambda line: len(line.ids)):
            for one in passes([line], self._settings, self._pad_id):
                here = _counted(one)
                if here:
                    total += here * float(self._loss(one))
                    counted += here
        return total / max(1, counted)

    def optimizer_state(self) -> dict[str, Tensor]:
        """AdamW's tensors under `parameter/name`."""
        return tensors_of(self._optimizer, self._trainable)

    def load_optimizer_state(
        self, tensors: Mapping[str, Tensor], num_steps: int, max_tokens: int | None = None
    ) -> None:
        """Take up what `optimizer_state` gave after num_steps steps; RunError when it is another model's."""
        take_tensors(self._optimizer, self._trainable, tensors)
        self.num_steps = num_steps

    def _loss(self, one: Pass) -> Tensor:
        ids, weights, labels = (tensor.to(self.model.device) for tensor in one[:3])
        packed = {} if one.positions is None else {"position_ids": one.positions.to(self.model.device)}
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=self._settings.bf16):
            logits = self.model(input_ids=ids, use_cache=False, **packed).logits
        wanted = weights[:, 1:] > 0
        counts = weights[:, 1:][wanted]
        predicted, tokens = logits[:, :-1][wanted].float(), labels[:, 1:][wanted]
        if bool((counts == 1).all()):
            return functional.cross_entropy(predicted, tokens)
        return (counts * functional.cross_entropy(predicted, tokens, reduction="none")).mean()

    def _check_finite(self, loss: float) -> None:
        if not torch.isfinite(torch.tensor(loss)):
            raise RunError(
                f"step {self.num_steps + 1}: the loss is {loss}, so the step was not taken; lower "
                "sft.learning_rate and go on from the last checkpoint by `--resume true`"
            )


def _counted(one: Pass) -> int:
    """Tokens that count; nothing predicts the first."""
    return int((one.weights[:, 1:] > 0).sum())


@torch.no_grad()
def _check_apart(model: CausalLM) -> None:
    """ConfigError unless a line behind another one in its row has the logits that it has alone."""
    line = torch.tensor([[1, 2, 3]], device=model.device)
    row, positions = line.repeat(1, 2), torch.tensor([[0, 1, 2, 0, 1, 2]], device=model.device)
    model.eval()
    alone = model(input_ids=line, use_cache=False).logits
    behind = model(input_ids=row, position_ids=positions, use_cache=False).logits[:, 3:]
    if not torch.allclose(alone.float(), behind.float(), rtol=1e-3, atol=1e-3):
        raise ConfigError(
            f"a {model.config.model_type} model lets lines of one row see each other; set no sft.row_tokens"
        )
