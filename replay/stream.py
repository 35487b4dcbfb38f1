"""Batches by number: what torch's DataLoader, or a plain loop, can go through.

Knows a buffer by its `sample` only. Does not import torch: a DataLoader takes any object that has a length
and items.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from replay.batch import Batch
from replay.errors import ReplayError


class Sampled(Protocol):
    """What draws batches."""

    def sample(self, batch_size: int, beta: float, rng: np.random.Generator) -> Batch:
        """A batch."""
        ...


class Batches:
    """`num_batches` batches, each drawn when it is asked for, from the buffer as it is then.

    Batch i is drawn with a generator made of (seed, i), so that a run that goes on at step i draws what it
    would have drawn. For torch: `DataLoader(batches, batch_size=None, collate_fn=...)`. New priorities go
    back through the buffer.
    """

    def __init__(
        self,
        buffer: Sampled,
        batch_size: int,
        num_batches: int,
        *,
        seed: int = 0,
        beta: float | Callable[[int], float] = 1.0,
    ) -> None:
        """`beta`: of all batches, or by number."""
        if num_batches < 0:
            raise ReplayError(f"num_batches must not be negative, got {num_batches}")
        self._buffer, self._batch_size, self._num_batches = buffer, batch_size, num_batches
        self._seed, self._beta = seed, beta

    def __len__(self) -> int:
        """How many batches there are."""
        return self._num_batches

    def __getitem__(self, step: int) -> Batch:
        """Batch number `step`; IndexError past the end, which ends a loop."""
        if not 0 <= step < self._num_batches:
            raise IndexError(step)
        beta = self._beta(step) if callable(self._beta) else self._beta
        return self._buffer.sample(self._batch_size, beta, np.random.default_rng([self._seed, step]))
