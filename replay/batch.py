"""What a buffer hands out, what it says of updates, which priority an item should have. Knows no buffer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

from replay.experience import Experience
from replay.record import unpack

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


class Experiences(Sequence[Experience]):
    """The experiences of a batch: records in memory of its own, made objects when asked for."""

    __slots__ = ("_records", "_starts")

    def __init__(self, records: npt.NDArray[np.uint8], starts: Int64) -> None:
        """`starts`: where each record begins."""
        self._records, self._starts = records, starts

    def __len__(self) -> int:
        """How many there are."""
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> Experience: ...
    @overload
    def __getitem__(self, index: slice) -> Experiences: ...
    def __getitem__(self, index: int | slice) -> Experience | Experiences:
        """One of them, its arrays views of the batch's memory; or some, over the same memory."""
        if isinstance(index, slice):
            return Experiences(self._records, self._starts[index])
        return unpack(self._records, int(self._starts[index]))

    def __iter__(self) -> Iterator[Experience]:
        """Each in turn."""
        return (unpack(self._records, start) for start in self._starts.tolist())


class Batch(NamedTuple):
    """What `sample` draws. An item may come twice."""

    ids: Int64  # [B]
    experiences: Sequence[Experience]  # B of them; their arrays belong to the batch
    weights: Float64  # [B] importance weights in (0, 1]
    probabilities: Float64  # [B] chance of the item in one draw


class Update(NamedTuple):
    """What became of a priority update."""

    applied: int
    stale: int  # ids no longer in the buffer; nothing was changed for them


def priority_of(
    advantage: npt.ArrayLike, value_target: npt.ArrayLike, value: npt.ArrayLike, eps: float = 1e-3
) -> Float64:
    """|advantage| + |value target - value| + eps, by item."""
    surprise = np.abs(np.asarray(value_target, np.float64) - np.asarray(value, np.float64))
    priority: Float64 = np.abs(np.asarray(advantage, np.float64)) + surprise + eps
    return priority
