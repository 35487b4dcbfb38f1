"""RunFolder: where everything of one run lies, and the rules of beginning and resuming it.

config.yaml (resolved), metrics.jsonl, trees/, replay/, checkpoints/, report/, and engine_weights/ where an
engine does not share the learner's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from llama_o1.config import RunConfig
from llama_o1.errors import RunError
from llama_o1.faults import reach
from llama_o1.sft_config import SftConfig

# Settings that may differ between a run and its resumption without changing what was done so far.
FREE_ON_RESUME = {
    "run_dir",
    "resume",
    "iterations",
    "checkpoint_every",
    "keep_checkpoints",
    "engine",
    "trackers",
    "report",
}


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The paths of a run."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def trees(self) -> Path:
        """One file of tree rows an iteration."""
        return self.path / "trees"

    @property
    def paths(self) -> Path:
        """One file of paths to learn from an iteration, where a run learns from paths."""
        return self.path / "paths"

    @property
    def replay(self) -> Path:
        """The replay buffer."""
        return self.path / "replay"

    @property
    def checkpoints(self) -> Path:
        """One folder a checkpoint."""
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        """What the run came to."""
        return self.path / "report"

    @property
    def engine_weights(self) -> Path:
        """The weights that an engine beside the learner samples by."""
        return self.path / "engine_weights"

    def trees_of(self, iteration: int) -> Path:
        """The tree rows of one iteration."""
        return self.trees / f"{iteration:06d}.jsonl"

    def paths_of(self, iteration: int) -> Path:
        """The paths of one iteration."""
        return self.paths / f"{iteration:06d}.jsonl"

    def log(self, **numbers: float | int | str) -> None:
        """Append one metrics object."""
        append_metrics(self.metrics, **numbers)

    def forget_after(self, iteration: int) -> None:
        """Drop metrics, trees and paths of later iterations, which are to be made again."""
        drop_metrics_after(self.metrics, iteration)
        for file in sorted([*self.trees.glob("*.jsonl"), *self.paths.glob("*.jsonl")]):
            if int(file.stem) > iteration:
                file.unlink()
                reach("trees: removed")


def check_folder(config: RunConfig) -> None:
    """RunError when the run folder is taken, or is another run's; makes nothing.

    To resume a folder that was killed before its configuration was written is to begin.
    """
    folder = RunFolder(Path(config.run_dir))
    there = next(path for path in (folder.path, *folder.path.absolute().parents) if path.exists())
    if not there.is_dir():
        raise RunError(f"{there} is a file; choose another `--run_dir`")
    if folder.config.exists():
        if not config.resume:
            raise RunError(
                f"{folder.path} already holds a run; go on with it by `--resume true` "
                "or choose another `--run_dir`"
            )
        check_same(folder.config, config, FREE_ON_RESUME, "--run_dir")
    elif folder.path.exists() and any(path.name != _partly(folder.config) for path in folder.path.iterdir()):
        raise RunError(f"{folder.path} holds files but no run; choose another `--run_dir`")
    elif config.resume and not folder.path.exists():
        raise RunError(
            f"{folder.path} holds no run to resume; leave out `--resume true` or correct `--run_dir`"
        )


def begin(config: RunConfig) -> RunFolder:
    """The run folder, new or to be resumed; RunError as `check_folder`."""
    check_folder(config)
    folder = RunFolder(Path(config.run_dir))
    folder.path.mkdir(parents=True, exist_ok=True)
    reach("run: begun")
    write_whole(folder.config, yaml.safe_dump(plain(asdict(config)), sort_keys=False))
    for part in (folder.trees, folder.replay, folder.report):
        part.mkdir(exist_ok=True)
    reach("run: parts made")
    return folder


def append_metrics(file: Path, **numbers: Any) -> None:
    """Append one metrics object."""
    reach("metrics: before append")
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(numbers) + "\n")
    reach("metrics: appended")


def drop_metrics_after(file: Path, step: int) -> None:
    """Drop the objects of later steps, and one that a kill has cut."""
    if file.exists():
        kept = [line for line in whole_lines(file) if json.loads(line)["step"] <= step]
        write_whole(file, "".join(line + "\n" for line in kept))


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a kill leaves the old one or the new one, never a part."""
    write_lines(path, [text])


def write_lines(path: Path, lines: Iterable[str]) -> int:
    """Write lines, ends included, as `write_whole` does; how many there were."""
    temporary = path.with_name(_partly(path))
    num_lines = 0
    reach("file: before write")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            for line in lines:
                file.write(line)
                num_lines += 1
            file.flush()
            os.fsync(file.fileno())
        reach("file: before rename")
        os.replace(temporary, path)
        reach("file: renamed")
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return num_lines


def _partly(path: Path) -> str:
    """Name of a file that is not yet whole."""
    return path.name + ".tmp"


def check_same(file: Path, config: RunConfig | SftConfig, free: Set[str], other: str) -> None:
    """RunError when these settings differ from those in a file, other than the free ones.

    A setting that the file does not name is younger than the file, and was as it is by default.
    """
    saved = _filled(yaml.safe_load(file.read_text(encoding="utf-8")), plain(asdict(type(config)())))
    now = plain(asdict(config))
    differing = [key for key in now if key not in free and saved.get(key) != now[key]]
    if differing:
        raise RunError(
            f"{file.parent} was run with other settings of {', '.join(differing)}; resume with the settings "
            f"in {file}, or choose another `{other}`"
        )


def _filled(saved: Any, defaults: Any) -> Any:
    if not isinstance(saved, dict) or not isinstance(defaults, dict):
        return saved
    return defaults | {key: _filled(value, defaults.get(key)) for key, value in saved.items()}


def plain(value: Any) -> Any:
    """The value in what YAML and JSON hold: tuples become lists."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def whole_lines(path: Path) -> list[str]:
    """Lines that end in a newline: a kill may have cut the last one."""
    text = path.read_text(encoding="utf-8")
    return text[: text.rfind("\n") + 1].splitlines()
