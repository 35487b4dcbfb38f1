"""Several processes of one run, as `accelerate launch` starts them: all learn, the first does the rest.

The first process searches, writes and evaluates; it hands each batch to the others, and every process makes
its share of the passes of a step (learn/share.py). Between steps the others wait. They read the checkpoint
that a run resumes from themselves, so they must see the run folder.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from llama_o1 import assemble
from llama_o1.config import RunConfig
from llama_o1.errors import RunError
from llama_o1.learn.batch_file import decode
from llama_o1.learn.checkpoint import load_checkpoint
from llama_o1.learn.trainer import Learner

log = logging.getLogger(__name__)

Order = Literal["load", "mark", "step", "end"]
_ORDERS: tuple[Order, ...] = ("load", "mark", "step", "end")


def is_assistant() -> bool:
    """Whether this is one of the other processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and int(os.environ.get("RANK", "0")) > 0


class Crew:
    """What passes between the first process and the others; alone, nothing."""

    def __init__(self, learner: Learner) -> None:
        self._state = learner.accelerator.state

    @property
    def is_alone(self) -> bool:
        """Whether there are no others."""
        return bool(self._state.num_processes == 1)

    def tell(self, order: Order, content: bytes = b"") -> None:
        """Let the others do this; only of the first process."""
        if not self.is_alone:
            self._pass_on(torch.tensor([_ORDERS.index(order), len(content)]))
            if content:
                self._pass_on(torch.frombuffer(bytearray(content), dtype=torch.uint8))

    def listen(self) -> tuple[Order, bytes]:
        """What the first process tells next; waits for it."""
        order, length = self._pass_on(torch.zeros(2, dtype=torch.int64)).tolist()
        content = self._pass_on(torch.zeros(length, dtype=torch.uint8)).numpy().tobytes() if length else b""
        return _ORDERS[order], content

    def leave(self) -> None:
        """End the group of processes."""
        if not self.is_alone:
            self._state.destroy_process_group()

    def _pass_on(self, tensor: Tensor) -> Tensor:
        on_device = tensor.to(self._state.device)
        dist.broadcast(on_device, 0)
        return on_device.cpu()


def assist(config: RunConfig) -> None:
    """Be one of the other processes until the run ends."""
    loaded = assemble.load(config.model, seed=config.seed, marks=config.thoughts.marks)
    learner = Learner(
        loaded.model, loaded.special, config.learner, pad_id=loaded.pad_id, value_head=loaded.value_head
    )
    crew = Crew(learner)
    while True:
        order, content = crew.listen()
        if order == "end":
            crew.leave()
            return
        if order == "load":
            load_checkpoint(Path(content.decode()), learner)
        elif order == "mark":
            learner.mark_proximal()
        else:
            try:
                learner.step(*decode(content))
            except RunError:  # the first process has the same one, and shows it
                log.debug("a step was stopped")
