"""What stops a learner's step, and what is told of it. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from llama_o1.errors import RunError
from replay.experience import Experience


class NotFiniteError(RunError):
    """A loss or the gradient was NaN or infinite, and the step was not taken; carries what it was given."""

    def __init__(
        self, message: str, experiences: Sequence[Experience], weights: npt.NDArray[np.floating]
    ) -> None:
        super().__init__(message)
        self.experiences = tuple(experiences)
        self.weights = np.asarray(weights, np.float64)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device's or the CPU's memory was too small; torch has a type for devices only."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
