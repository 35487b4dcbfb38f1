"""The folder of a fine-tuning: the finished model, and beside it what a stopped one needs to go on.

sft.yaml (resolved), metrics.jsonl, checkpoints/, card.json and README.md (written last); with a second stage
own_lines.jsonl, and the first stage in worked/.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from llama_o1.errors import RunError
from llama_o1.run import append_metrics, check_same, drop_metrics_after, plain, write_whole
from llama_o1.sft_config import SftConfig

# Settings that change nothing of what was learned so far.
FREE_ON_RESUME = {"out", "resume", "checkpoint_every", "keep_checkpoints"}


@dataclass(frozen=True, slots=True)
class SftFolder:
    """The paths of a fine-tuning."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "sft.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """One folder a checkpoint."""
        return self.path / "checkpoints"

    @property
    def first_stage(self) -> Path:
        """The folder of the first stage, where there are two."""
        return self.path / "worked"

    @property
    def own_lines(self) -> Path:
        """What the model of the first stage wrote, one block of problems a line."""
        return self.path / "own_lines.jsonl"

    @property
    def card(self) -> Path:
        """What the model is; there when it is finished."""
        return self.path / "card.json"

    def check(self, config: SftConfig) -> None:
        """RunError when the folder is taken, or is of another fine-tuning; makes nothing."""
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file; choose another --out")
        begun = self.config.name + ".tmp"  # all that is there of one that was killed as it began
        held = self.path.exists() and any(path.name != begun for path in self.path.iterdir())
        if not config.resume:
            if held:
                go_on = "go on with it by `--resume true`, " if self.config.exists() else ""
                raise RunError(f"{self.path} already holds files; {go_on}choose another --out or remove it")
            return
        if not self.path.exists():
            raise RunError(
                f"{self.path} holds no fine-tuning to resume; leave out `--resume true` or correct --out"
            )
        if self.config.exists():
            check_same(self.config, config, FREE_ON_RESUME, "--out")
        elif held:
            raise RunError(f"{self.path} holds files but no fine-tuning to resume; choose another --out")

    def begin(self, config: SftConfig) -> None:
        """Make the folder, with the resolved configuration in it."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_whole(self.config, yaml.safe_dump(plain(asdict(config)), sort_keys=False))

    def log(self, **numbers: float | int | str) -> None:
        """Append one metrics object."""
        append_metrics(self.metrics, **numbers)

    def forget_after(self, step: int) -> None:
        """Drop metrics of later steps, which are to be made again."""
        drop_metrics_after(self.metrics, step)
