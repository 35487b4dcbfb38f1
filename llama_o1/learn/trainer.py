"""Learner: one optimizer step on the experiences it is given.

Knows no buffer, no trees and no files; checkpoint.py reads and writes its state.
Dropout never acts here: it would be noise in the ratio of two policies.
Letters of a shape: N experiences; T own tokens of one.
"""

import logging
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator, DistributedType, InitProcessGroupKwargs
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor

from llama_o1.errors import ConfigError, RunError
from llama_o1.format.tokens import SpecialIds
from llama_o1.learn.batches import Batcher
from llama_o1.learn.figures import Figures, Float32, StepResult, node_figures, path_step_figures, step_result
from llama_o1.learn.forward import Readout, read
from llama_o1.learn.guards import NotFiniteError, is_out_of_memory
from llama_o1.learn.loss import value_of
from llama_o1.learn.model import CausalLM
from llama_o1.learn.optimizer import take_tensors, tensors_of
from llama_o1.learn.pack import Batch, Group
from llama_o1.learn.settings import LearnerSettings
from llama_o1.learn.share import share_of, sum_gradients, sum_up
from llama_o1.threads import torch_threads
from llama_o1.value_head import ValueHead
from replay.experience import Experience

log = logging.getLogger(__name__)

_LONGEST_SEARCH = timedelta(days=7)  # other processes wait for the one that searches; the default is minutes


class Learner:
    """A model and its optimizer; the model is trained in place, so an engine may share it."""

    def __init__(
        self,
        model: CausalLM,
        special: SpecialIds,
        settings: LearnerSettings,
        *,
        pad_id: int,
        value_head: ValueHead | None = None,
    ) -> None:
        """Values are read from the `value_head`, which is trained with the model; None: from the rating."""
        if settings.kl_weight > 0 and not isinstance(model, PeftModel):
            raise ConfigError(
                f"kl_weight {settings.kl_weight} needs LoRA: the reference is the model without its adapter; "
                "set an adapter, or kl_weight 0"
            )
        self.settings = settings
        self.accelerator = Accelerator(
            mixed_precision=settings.mixed_precision,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=_LONGEST_SEARCH)],
        )
        if self.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
            raise ConfigError(
                f"{self.accelerator.distributed_type.value} shards the weights, but each process holds them "
                "whole, since engines and checkpoints read them; use `accelerate launch --multi_gpu`, and "
                "where memory is short train an adapter (model.adapter lora)"
            )
        self.model = model.to(self.accelerator.device).eval()
        self.value_head = None if value_head is None else value_head.to(self.accelerator.device)
        self.num_steps = 0
        self.max_tokens = settings.max_tokens_per_forward
        """Of one forward pass; halved once when memory is too small for it."""
        self.batcher = Batcher(self.model, settings.packing, pad_id)
        self._rating_ids = (special.positive, special.negative)
        self._trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if self.value_head is not None:
            self._trainable |= {f"value_head.{name}": p for name, p in self.value_head.named_parameters()}
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

        The batch is cut into forward passes of `max_tokens`, which leaves the result as it is. Of several
        processes each is given the same batch and makes its share of the passes; the result is one process's.
        NotFiniteError when a loss or the gradient is not finite; the weights are then as they were. When
        memory is too small, the passes are halved, once in the learner's life.
        """
        if not experiences or len(weights) != len(experiences):
            raise ValueError(f"got {len(experiences)} experiences and {len(weights)} importance weights")
        with torch_threads(self.settings.threads):
            figures = self._figures(experiences, weights)
            if figures is None:
                self._halve()
                figures = self._figures(experiences, weights)
            if figures is None:
                raise RunError(
                    f"out of memory in passes of {self.max_tokens} tokens, which were halved before; set "
                    "a lower learner.max_tokens_per_forward, or train an adapter (model.adapter lora)"
                )
            return self._take_step(figures, experiences, weights)

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
        return self.batcher.batches(experiences, self.max_tokens)

    def read(self, batch: Batch, *, entropy_grad: bool = False) -> Readout:
        """What the model says of a batch, in the precision of the settings."""
        with self.accelerator.autocast():
            return read(self.model, batch, self._rating_ids, self.value_head, entropy_grad=entropy_grad)

    def optimizer_state(self) -> dict[str, Tensor]:
        """AdamW's tensors under `parameter/name`; empty before the first step."""
        return tensors_of(self._optimizer, self._trainable)

    def load_optimizer_state(
        self, tensors: Mapping[str, Tensor], num_steps: int, max_tokens: int | None = None
    ) -> None:
        """Take up what `optimizer_state` gave after num_steps steps; max_tokens None: the settings'.

        RunError when it is another model's.
        """
        take_tensors(self._optimizer, self._trainable, tensors)
        self.num_steps = num_steps
        self.max_tokens = min(self.settings.max_tokens_per_forward, max_tokens or sys.maxsize)

    def _figures(
        self, experiences: Sequence[Experience], weights: npt.NDArray[np.floating]
    ) -> Figures | None:
        """What the passes found, gradients added up, over all processes; None: some memory was too small."""
        self._optimizer.zero_grad(set_to_none=True)
        figures = torch.zeros((len(experiences), len(Figures._fields)), device=self.accelerator.device)
        short = torch.zeros(1, device=self.accelerator.device)
        try:
            self._make_passes(experiences, weights, figures)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            short += 1
        sum_up(self.accelerator, [short])
        if short.item():
            self._optimizer.zero_grad(set_to_none=True)
            return None
        sum_up(self.accelerator, [figures])
        return Figures(*figures.cpu().T)

    def _make_passes(
        self, experiences: Sequence[Experience], weights: npt.NDArray[np.floating], figures: Tensor
    ) -> None:
        """Add this process's rows to `figures` and its gradients to the parameters'."""
        losses = self._losses
        drawn = [int(e.sampled.sum()) for e in experiences]
        if self.settings.objective == "paths":
            losses = partial(self._path_losses, labels=sum(drawn), steps=len(experiences))
        elif self.settings.policy_mean == "token":
            # With the weights, so that the policy loss as a whole keeps its weight beside the value loss.
            tokens = float(np.dot(drawn, weights) / max(float(np.sum(weights)), 1e-12))
            losses = partial(self._losses, tokens=max(tokens, 1.0))
        mine = share_of(experiences, self.accelerator.process_index, self.accelerator.num_processes)
        for group, batch in self.batches([experiences[i] for i in mine]) if mine else ():
            rows = [mine[i] for i in group]
            importance = torch.tensor([float(weights[i]) for i in rows], device=self.accelerator.device)
            found = losses(batch, importance)
            self.accelerator.backward(found.loss.sum() / len(experiences))
            figures[rows] = torch.stack(found, dim=1).detach().float()

    def _take_step(
        self, figures: Figures, experiences: Sequence[Experience], weights: npt.NDArray[np.floating]
    ) -> StepResult:
        """Move the weights; NotFiniteError, and they are as they were, for a number that is none."""
        finite = figures.loss.isfinite().tolist()
        if not all(finite):
            bad = experiences[finite.index(False)]
            self._stop(f"the loss of node {bad.node} of tree {bad.tree}", experiences, weights)
        sum_gradients(self.accelerator, list(self._trainable.values()))
        norm = self.accelerator.clip_grad_norm_(list(self._trainable.values()), self.settings.max_grad_norm)
        if not torch.isfinite(norm):
            self._stop("the gradient", experiences, weights)
        rate = self._learning_rate()
        self._optimizer.param_groups[0]["lr"] = rate
        self._optimizer.step()
        self.num_steps += 1
        return step_result(figures, experiences, {"grad_norm": float(norm), "learning_rate": rate})

    def _halve(self) -> None:
        if self.max_tokens < self.settings.max_tokens_per_forward:
            return
        self.max_tokens = max(1, self.max_tokens // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        log.warning(
            "out of memory: from now on forward passes of %d tokens instead of %d; set "
            "learner.max_tokens_per_forward %d to begin with them",
            self.max_tokens, self.settings.max_tokens_per_forward, self.max_tokens,
        )  # fmt: skip

    def _learning_rate(self) -> float:
        s, step = self.settings, self.num_steps
        falls = 1.0
        if s.cosine_steps:
            step %= s.cosine_steps
            falls = 0.5 * (1 + math.cos(math.pi * step / s.cosine_steps))
        return s.learning_rate * falls * min(1.0, (step + 1) / max(1, s.warmup_steps))

    def _readouts(self, experiences: Sequence[Experience]) -> Iterator[tuple[list[int], Readout]]:
        with torch.no_grad():
            for group, batch in self.batches(experiences):
                yield group, self.read(batch)

    def _losses(
        self, batch: Batch, importance: Float[Tensor, " node"], *, tokens: float | None = None
    ) -> Figures:
        s = self.settings
        reference = self._reference(batch) if s.kl_weight > 0 else None
        proximal = self._proximal_logprobs(batch) if s.decoupled else None
        new = self.read(batch, entropy_grad=s.entropy_weight > 0)
        return node_figures(new, batch, importance, s, reference=reference, proximal=proximal, tokens=tokens)

    def _path_losses(
        self, batch: Batch, importance: Float[Tensor, " node"], *, labels: int, steps: int
    ) -> Figures:
        new = self.read(batch)
        return path_step_figures(new, batch, importance, self.settings, labels=labels, steps=steps)

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

    def _stop(
        self, what: str, experiences: Sequence[Experience], weights: npt.NDArray[np.floating]
    ) -> NoReturn:
        self._optimizer.zero_grad(set_to_none=True)
        raise NotFiniteError(
            f"step {self.num_steps + 1}: {what} is not finite, so the step was not taken; "
            "lower learner.learning_rate, or go back to an earlier checkpoint",
            experiences,
            weights,
        )
