"""Where a learner's step spends its CPU time: the model's passes, the optimizer's update, everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import process_time
from typing import Any, NamedTuple, Self

from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from llama_o1.learn.trainer import Learner


class Shares(NamedTuple):
    """Of one step's CPU time."""

    model: float  # forward and backward
    optimizer: float
    outside: float  # the rest

    @classmethod
    def of(cls, learner: Learner, step: Callable[[], object]) -> Self:
        """The shares of one step."""
        model, optimizer = _Clock(), _Clock()
        with _watching(learner, model, optimizer):
            began = process_time()
            step()
            total = process_time() - began
        return cls(model.spent / total, optimizer.spent / total, 1 - (model.spent + optimizer.spent) / total)


class _Clock:
    def __init__(self) -> None:
        self.spent = 0.0
        self._began = 0.0

    def start(self, *_: Any) -> None:
        self._began = process_time()

    def stop(self, *_: Any) -> None:
        self.spent += process_time() - self._began


@contextmanager
def _watching(learner: Learner, model: _Clock, optimizer: _Clock) -> Iterator[None]:
    """The clocks run while the model computes and while an optimizer updates."""
    backward = learner.accelerator.backward

    def timed(*arguments: Any, **options: Any) -> None:
        model.start()
        backward(*arguments, **options)
        model.stop()

    with ExitStack() as stack:
        for handle in (
            learner.model.register_forward_pre_hook(model.start),
            learner.model.register_forward_hook(model.stop),
            register_optimizer_step_pre_hook(optimizer.start),
            register_optimizer_step_post_hook(optimizer.stop),
        ):
            stack.callback(handle.remove)
        learner.accelerator.backward = timed
        stack.callback(lambda: vars(learner.accelerator).pop("backward"))
        yield
