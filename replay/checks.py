"""What a buffer refuses: settings out of range, priorities that cannot be. Knows no buffer."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from replay.errors import ReplayError

Float64 = npt.NDArray[np.float64]

HIGHEST = 1e100  # so that a million squares of them have a sum


def check(name: str, found: object, fits: bool, expected: str) -> None:
    """ReplayError when a setting does not fit."""
    if not fits:
        raise ReplayError(f"{name} must be {expected}, got {found!r}")


def check_choice(name: str, found: object, choices: Any) -> None:
    """ReplayError when a setting is none of the choices of a Literal."""
    names = get_args(choices)
    check(name, found, found in names, f"one of {', '.join(map(repr, names))}")


def row_of_priorities(priorities: npt.ArrayLike, num_ids: int) -> Float64:
    """So many priorities; ReplayError when they are not."""
    given = np.asarray(priorities, dtype=np.float64)
    if given.shape != (num_ids,):
        raise ReplayError(f"expected {num_ids} priorities in one row, got shape {given.shape}")
    return given


def checked_priorities(priorities: Float64, eps: float) -> Float64:  # [N] -> [N]
    """The priorities, none below `eps`. ReplayError when one is negative, too high or not a number."""
    # Ufuncs rather than methods: on few priorities a method costs more than what it does.
    if len(priorities) and not (
        np.minimum.reduce(priorities) >= 0 and np.maximum.reduce(priorities) <= HIGHEST
    ):
        bad = ~((priorities >= 0) & (priorities <= HIGHEST))
        raise ReplayError(f"priorities must lie in [0, {HIGHEST:g}], got {priorities[bad][0]}")
    return np.maximum(priorities, eps)
