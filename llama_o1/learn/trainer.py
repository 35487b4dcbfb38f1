"""Learner: one optimizer step on the experiences it is given.

Knows no buffer, no trees and no files; checkpoint.py reads and writes its state.
Dropout never acts here: it would be noise in the ratio of two policies.
Letters of a shape: N experiences; T own tokens of one.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor

from llama_o1.errors import ConfigError, RunError
from llama_o1.format.tokens import SpecialIds
from llama_o1.learn.batches import Batcher
from llama_o1.learn.forward import Readout, read
from llama_o1.learn.loss import Weights, combine, k3_kl, masked_mean, ppo_clip, value_cross_entropy, value_of
from llama_o1.learn.model import CausalLM
from llama_o1.learn.pack import Batch, Group
from llama_o1.learn.settings import LearnerSettings
from llama_o1.threads import torch_threads
from replay.experience import Experience

Float32 = npt.NDArray[np.float32]


class StepResult(NamedTuple):
    """What one step found, measured before the weights changed, in the order of the experiences."""

    values: Float32  # [N] the model's value, in [0, 1]
    td_errors: Float32  # [N] |value target - value|
    ratios: Float32  # [N] mean of new / behaviour probability over sampled tokens
    metrics: dict[str, float]  # means over the experiences, importance weights in `loss` only


class Learner:
    """A model and its optimizer; the model is trained in place, so an engine may share it."""

    def __init__(
        self, model: CausalLM, special: SpecialIds, settings: LearnerSettings, *, pad_id: int
    ) -> None:
        if settings.kl_weight > 0 and not isinstance(model, PeftModel):
            raise ConfigError(
                f"kl_weight {settings.kl_weight} needs LoRA: the reference is the model without its adapter; "
                "set an adapter, or kl_weight 0"
            )
        self.settings = settings
        self.accelerator = Accelerator(mixed_precision=settings.mixed_precision)
        self.model = model.to(self.accelerator.device).eval()
        self.num_steps = 0
        self.batcher = Batcher(self.model, settings.packing, pad_id)
        self._rating_ids = (special.positive, special.negative)
        self._trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._optimizer = torch.optim.AdamW(
            list(self._trainable.values()),
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
        )
        self._proximal: dict[str, Tensor] = {}
        self.mark_proximal()

    def step(self, experiences: Sequence[Experience], weights: npt.NDArray[np.floating]) -> StepResult:
        """Learn once from the experiences, each loss times its importance weight; mean over the batch.

        The batch is cut into forward passes of `max_tokens_per_forward`, which leaves the result as it is.
        RunError when a loss or the gradient is not finite; the weights are then as they were.
        """
        if not experiences or len(weights) != len(experiences):
            raise ValueError(f"got {len(experiences)} experiences and {len(weights)} importance weights")
        with torch_threads(self.settings.threads):
            return self._step(experiences, weights)

    def mark_proximal(self) -> None:
        """Take the weights as they are for the proximal policy, until the next call; if settings want one."""
        if self.settings.decoupled:
            self._proximal = {name: p.detach().clone() for name, p in self._trainable.items()}

    def values(self, experiences: Sequence[Experience]) -> Float32:
        """The model's value of each experience, [N] in [0, 1]."""
        values = np.zeros(len(experiences), dtype=np.float32)
        for group, readout in self._readouts(experiences):
            values[group] = value_of(readout.rating).cpu().numpy()
        return values

    def logprobs(self, experiences: Sequence[Experience]) -> list[Float32]:
        """Log-probs of the own tokens at the sampling temperature, [T] each; 0 where forced."""
        rows: dict[int, Float32] = {}
        for group, readout in self._readouts(experiences):
            for i, row in zip(group, readout.logprobs.cpu().numpy(), strict=True):
                rows[i] = row[: experiences[i].ids.size]
        return [rows[i] for i in range(len(experiences))]

    def batches(self, experiences: Sequence[Experience]) -> list[Group]:
        """Forward passes over all experiences: indices of those in each, and its batch."""
        return self.batcher.batches(experiences, self.settings.max_tokens_per_forward)

    def read(self, batch: Batch, *, entropy_grad: bool = False) -> Readout:
        """What the model says of a batch, in the precision of the settings."""
        with self.accelerator.autocast():
            return read(self.model, batch, self._rating_ids, entropy_grad=entropy_grad)

    def optimizer_state(self) -> dict[str, Tensor]:
        """AdamW's tensors under `parameter/name`; empty before the first step."""
        return {
            f"{name}/{key}": tensor
            for name, parameter in self._trainable.items()
            for key, tensor in self._optimizer.state.get(parameter, {}).items()
        }

    def load_optimizer_state(self, tensors: Mapping[str, Tensor], num_steps: int) -> None:
        """Take up what `optimizer_state` gave after num_steps steps; RunError when it is another model's."""
        found: dict[str, dict[str, Tensor]] = {}
        for place, tensor in tensors.items():
            name, _, key = place.rpartition("/")
            parameter = self._trainable.get(name)
            if parameter is None or (tensor.ndim and tensor.shape != parameter.shape):
                raise RunError(
                    f"the optimizer state of {name} does not fit this model; resume with the run's model"
                )
            device = parameter.device if tensor.ndim else "cpu"  # AdamW counts its steps on the CPU
            found.setdefault(name, {})[key] = tensor.to(device, copy=True)
        self._optimizer.state.clear()
        self._optimizer.state.update({self._trainable[name]: state for name, state in found.items()})
        self.num_steps = num_steps

    def _step(self, experiences: Sequence[Experience], weights: npt.NDArray[np.floating]) -> StepResult:
        rate = self._learning_rate()
        self._optimizer.param_groups[0]["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        figures = torch.empty((len(experiences), len(_Figures._fields)))
        for group, batch in self.batches(experiences):
            importance = torch.tensor([float(weights[i]) for i in group], device=self.accelerator.device)
            found = self._losses(batch, importance)
            self._check_finite(found.loss, [experiences[i] for i in group])
            self.accelerator.backward(found.loss.sum() / len(experiences))
            figures[group] = torch.stack(found, dim=1).detach().float().cpu()
        grad_norm = self._clip_gradient()
        self._optimizer.step()
        self.num_steps += 1
        return _result(_Figures(*figures.T), experiences, {"grad_norm": grad_norm, "learning_rate": rate})

    def _learning_rate(self) -> float:
        s = self.settings
        return s.learning_rate * min(1.0, (self.num_steps + 1) / max(1, s.warmup_steps))

    def _readouts(self, experiences: Sequence[Experience]) -> Iterator[tuple[list[int], Readout]]:
        with torch.no_grad():
            for group, batch in self.batches(experiences):
                yield group, self.read(batch)

    def _losses(self, batch: Batch, importance: Float[Tensor, " node"]) -> "_Figures":
        s = self.settings
        reference = self._reference(batch) if s.kl_weight > 0 else None
        proximal = self._proximal_logprobs(batch) if s.decoupled else None
        new = self.read(batch, entropy_grad=s.entropy_weight > 0)
        policy = ppo_clip(
            new.logprobs,
            batch.old_logprobs,
            batch.advantage,
            batch.sampled,
            s.clip,
            dual_clip=s.dual_clip,
            proximal=proximal,
        )
        value = value_cross_entropy(new.rating, batch.value_target)
        kl = torch.zeros_like(value) if reference is None else k3_kl(new.logprobs, reference, batch.sampled)
        entropy = masked_mean(new.entropy, batch.sampled)
        weights = Weights(s.policy_weight, s.value_weight, s.kl_weight, s.entropy_weight)
        return _Figures(
            loss=combine(policy.loss, value, kl, entropy, weights, importance),
            policy_loss=policy.loss,
            value_loss=value,
            reference_kl=kl,
            entropy=entropy,
            ratio_mean=policy.ratio,
            clip_fraction=policy.clipped,
            approx_kl=policy.approx_kl,
            value_mean=value_of(new.rating),
        )

    def _proximal_logprobs(self, batch: Batch) -> Float[Tensor, "node own"]:
        with torch.no_grad(), self._as_marked():
            return self.read(batch).logprobs

    @contextmanager
    def _as_marked(self) -> Iterator[None]:
        """The model with the weights of `mark_proximal`."""
        now = {name: p.data for name, p in self._trainable.items()}
        for name, p in self._trainable.items():
            p.data = self._proximal[name]
        try:
            yield
        finally:
            for name, p in self._trainable.items():
                p.data = now[name]

    def _reference(self, batch: Batch) -> Float[Tensor, "node own"]:
        assert isinstance(self.model, PeftModel), "checked when the learner was made"
        with torch.no_grad(), self.model.disable_adapter():
            return self.read(batch).logprobs

    def _check_finite(self, loss: Float[Tensor, " node"], experiences: Sequence[Experience]) -> None:
        finite = loss.detach().isfinite().tolist()
        if not all(finite):
            bad = experiences[finite.index(False)]
            self._stop(f"the loss of node {bad.node} of tree {bad.tree}")

    def _clip_gradient(self) -> float:
        norm = self.accelerator.clip_grad_norm_(list(self._trainable.values()), self.settings.max_grad_norm)
        if not torch.isfinite(norm):
            self._stop("the gradient")
        return float(norm)

    def _stop(self, what: str) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        raise RunError(
            f"step {self.num_steps + 1}: {what} is not finite, so the step was not taken; "
            "lower learning_rate, or go back to an earlier checkpoint"
        )


class _Figures(NamedTuple):
    """Per node, in the order of the metrics."""

    loss: Float[Tensor, " node"]
    policy_loss: Float[Tensor, " node"]
    value_loss: Float[Tensor, " node"]
    reference_kl: Float[Tensor, " node"]
    entropy: Float[Tensor, " node"]
    ratio_mean: Float[Tensor, " node"]
    clip_fraction: Float[Tensor, " node"]
    approx_kl: Float[Tensor, " node"]
    value_mean: Float[Tensor, " node"]


def _result(figures: _Figures, experiences: Sequence[Experience], extra: dict[str, float]) -> StepResult:
    values = figures.value_mean.numpy()
    targets = np.array([e.value_target for e in experiences], dtype=np.float32)
    td_errors = np.abs(targets - values)
    metrics = {name: float(column.mean()) for name, column in figures._asdict().items()}
    metrics |= {"value_target_mean": float(targets.mean()), "td_error": float(td_errors.mean())} | extra
    return StepResult(values, td_errors, figures.ratio_mean.numpy(), metrics)
