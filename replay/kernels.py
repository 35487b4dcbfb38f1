"""The replay's inner loops compiled by numba, where it is installed: draws, new priorities, copies.

Everything here has a twin in numpy that gives the same bits (sumtree.py, arena.py, memory.py). Imported
when a buffer opens and not before: whoever only reads a file need not wait for numba.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from replay.errors import ReplayError

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]
Float64 = npt.NDArray[np.float64]
Backend = Literal["auto", "numba", "numpy"]


class _Draw(Protocol):
    def __call__(self, sums: Float64, starts: Int64, ends: Float64, masses: Float64) -> Int64: ...


class _SetSums(Protocol):
    def __call__(
        self,
        sums: Float64,
        least: Float64,
        starts: Int64,
        ends: Float64,
        slots: Int64,
        priorities: Float64,
    ) -> None: ...


class _Gather(Protocol):
    def __call__(
        self, slots: Int64, places: Int32, addresses: Int64
    ) -> tuple[npt.NDArray[np.uint8], Int64]: ...


class _Sample(Protocol):
    def __call__(
        self,
        sums: Float64,
        starts: Int64,
        ends: Float64,
        held: Int64,
        places: Int32,
        addresses: Int64,
        points: Float64,
        stratified: bool,
        least: float,
    ) -> tuple[Int64, Float64, Float64, npt.NDArray[np.uint8], Int64]: ...


class _LookUp(Protocol):
    def __call__(
        self, held: Int64, ids: Int64, priorities: Float64, eps: float, most: float
    ) -> tuple[Int64, Float64, int, float, bool]: ...


class _SetPriorities(Protocol):
    def __call__(
        self,
        held: Float64,
        unshown: npt.NDArray[np.bool_],
        draws: npt.NDArray[np.uint32],
        sums: Float64,
        starts: Int64,
        ends: Float64,
        least: Float64,
        slots: Int64,
        priorities: Float64,
        chances: Float64,
        drawn: bool,
    ) -> None: ...


class Kernels(NamedTuple):
    """The compiled loops."""

    draw: _Draw
    set_sums: _SetSums
    gather: _Gather
    sample: _Sample  # draw and gather, in one call
    look_up: _LookUp
    set_priorities: _SetPriorities


def kernels_of(backend: Backend) -> Kernels | None:
    """The compiled loops; None: numpy alone. ReplayError when numba is asked for and not there."""
    if backend not in ("auto", "numba", "numpy"):
        raise ReplayError(f"backend must be 'auto', 'numba' or 'numpy', got {backend!r}")
    is_there = find_spec("numba") is not None
    if backend == "numba" and not is_there:
        raise ReplayError("backend 'numba' needs numba: install it, or use 'auto' or 'numpy'")
    return _compiled() if is_there and backend != "numpy" else None


@cache
def _compiled() -> Kernels:
    from replay import compiled

    return Kernels(*(getattr(compiled, name) for name in Kernels._fields))
