"""What a buffer refuses: settings out of range, priorities that cannot be. Knows no buffer."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from replay.errors import ReplayError

_HIGHEST = 1e100  # so that a million squares of them have a sum


def check(name: str, found: object, fits: bool, expected: str) -> None:
    """ReplayError when a setting does not fit."""
    if not fits:
        raise ReplayError(f"{name} must be {expected}, got {found!r}")


def check_choice(name: str, found: object, choices: Any) -> None:
    """ReplayError when a setting is none of the choices of a Literal."""
    names = get_args(choices)
    check(name, found, found in names, f"one of {', '.join(map(repr, names))}")


def checked_priorities(priorities: npt.ArrayLike, num_ids: int, eps: float) -> npt.NDArray[np.float64]:
    """So many priorities, none below `eps`. ReplayError when one is negative, too high or not a number."""
    given = np.asarray(priorities, dtype=np.float64)
    if given.shape != (num_ids,):
        raise ReplayError(f"expected {num_ids} priorities in one row, got shape {given.shape}")
    # Ufuncs rather than methods: on few priorities a method costs more than what it does.
    if num_ids and not (np.minimum.reduce(given) >= 0 and np.maximum.reduce(given) <= _HIGHEST):
        bad = ~((given >= 0) & (given <= _HIGHEST))
        raise ReplayError(f"priorities must lie in [0, {_HIGHEST:g}], got {given[bad][0]}")
    return np.maximum(given, eps)
