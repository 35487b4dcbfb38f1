"""What a run folder says of its run, finished or not: settings, metrics, and looks at held-out problems.

Reads only what the run has written; loads no torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llama_o1.errors import RunError
from llama_o1.measure.summary import History
from llama_o1.run import RunFolder

Json = dict[str, Any]

# Settings that do not change what a run comes to, beside its seed.
_OF_NO_EFFECT = {"run_dir", "resume", "checkpoint_every", "keep_checkpoints", "trackers", "report"}


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run as its folder tells it."""

    path: Path
    name: str
    config: Json
    metrics: list[Json]  # one a line of metrics.jsonl, in order
    history: History  # of the newest checkpoint; empty before the first

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.config.get("seed", 0))

    @property
    def iteration(self) -> int:
        """Iterations played and learned from."""
        return max((int(line["step"]) for line in self.lines("learn")), default=0)

    @property
    def iterations(self) -> int:
        """Iterations that were asked for."""
        return int(self.config.get("iterations", self.iteration))

    @property
    def setup(self) -> dict[str, Any]:
        """Settings by dotted name but for the seed: what runs of one kind have in common."""
        kept = {key: value for key, value in self.config.items() if key not in _OF_NO_EFFECT | {"seed"}}
        return dict(_flat(kept))

    def lines(self, phase: str, **same: object) -> Iterator[Json]:
        """The metrics of a phase, those alone whose other keys are as given."""
        for line in self.metrics:
            if line["phase"] == phase and all(line.get(key) == value for key, value in same.items()):
                yield line

    def total(self, phase: str, key: str) -> float | None:
        """Sum of a number over a phase; None where no line has it."""
        found = [line[key] for line in self.lines(phase) if key in line]
        return sum(found) if found else None

    def by_iteration(self, phase: str, key: str, **same: object) -> tuple[list[int], list[float]]:
        """Iterations, ascending, and the mean of a number in each."""
        found: dict[int, list[float]] = {}
        for line in self.lines(phase, **same):
            if isinstance(line.get(key), int | float):
                found.setdefault(int(line["step"]), []).append(line[key])
        steps = sorted(found)
        return steps, [sum(found[step]) / len(found[step]) for step in steps]


def read_run(path: Path) -> RunRecord:
    """The record of a run folder; RunError when it is none, or holds what no run writes."""
    folder = RunFolder(path)
    for file in (folder.config, folder.metrics):
        if not file.is_file():
            raise RunError(f"{path} holds no {file.name}; give the folder of a run, as --run_dir named it")
    return RunRecord(
        path=path,
        name=path.resolve().name,
        config=_read(folder.config, yaml.safe_load),
        metrics=list(_whole_lines(folder.metrics)),
        history=_history(folder.checkpoints),
    )


def _whole_lines(file: Path) -> Iterator[Json]:
    """The objects of a file that may be written to: a last line without its end is left out."""
    for number, line in enumerate(file.read_bytes().split(b"\n")[:-1], start=1):
        try:
            found = json.loads(line)
            if not (isinstance(found, dict) and isinstance(found["step"], int) and "phase" in found):
                raise ValueError("no step and phase")
        except (ValueError, KeyError) as error:
            raise RunError(f"{file}, line {number}: expected an object of metrics ({error})") from None
        yield found


def _history(checkpoints: Path) -> History:
    """What the newest checkpoint remembers; one that is being replaced is passed over."""
    for folder in sorted(checkpoints.glob("[0-9]*"), reverse=True):
        try:
            return History.of(json.loads((folder / "state.json").read_text(encoding="utf-8"))["history"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return History()


def _read(file: Path, parse: Callable[[str], Any]) -> Json:
    try:
        found = parse(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise RunError(f"{file} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise RunError(f"{file} holds no settings; was it changed?")
    return found


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner
