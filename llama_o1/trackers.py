"""Metrics to experiment trackers by name, through accelerate. `metrics.jsonl` is written always, by run.py.

A resumed run writes its steps since the last checkpoint once more; only `metrics.jsonl` forgets them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import is_tensorboard_available, is_trackio_available, is_wandb_available

from llama_o1.errors import ConfigError

_AVAILABLE = {
    "tensorboard": is_tensorboard_available,
    "wandb": is_wandb_available,
    "trackio": is_trackio_available,
}


def check_installed(names: Sequence[str]) -> None:
    """ConfigError when one of these is not installed, which accelerate would pass over in silence."""
    for name in names:
        if not _AVAILABLE[name]():
            raise ConfigError(
                f"tracker {name} is not installed: `pip install {name}`, or leave it out of trackers"
            )


class Trackers:
    """The trackers of one run; none is fine, too."""

    def __init__(self, names: Sequence[str], folder: Path, config: Mapping[str, Any]) -> None:
        """Open them; what they write here goes under `folder`, and `config` beside it where they can."""
        self._trackers: list[Any] = []
        if names:
            accelerator = Accelerator(log_with=list(names), project_dir=str(folder))
            accelerator.init_trackers("llama-o1", config=_flat(config))
            self._trackers = list(accelerator.trackers)

    def log(self, numbers: Mapping[str, float | int | str], learner_step: int) -> None:
        """Send one line of metrics under `phase/name`, evaluations under their method and set."""
        words = [str(numbers[key]) for key in ("phase", "method", "set") if key in numbers]
        values = {
            "/".join([*words, name]): value
            for name, value in numbers.items()
            if isinstance(value, int | float) and name not in ("step", "learner_step")
        }
        for tracker in self._trackers:
            tracker.log(values, step=learner_step)

    def close(self) -> None:
        """Let them write what they hold."""
        for tracker in self._trackers:
            tracker.finish()


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted names; what a tracker cannot hold as text."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value if isinstance(value, bool | int | float | str) else str(value)
    return found
