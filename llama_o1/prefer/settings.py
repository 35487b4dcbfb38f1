"""What `llama-o1 prefer` is told. Must not import torch: the command line reads it for `--help`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from llama_o1.errors import ConfigError
from llama_o1.format.marks import MarkSettings
from llama_o1.learn.prefer_settings import PreferenceSettings
from llama_o1.learn.settings import LoraSettings


@dataclass(frozen=True)
class PreferConfig:
    """A model that compares solutions, for searches with `--search.answer pairwise`."""

    solutions: tuple[str, ...] = ()
    """Runs, their trees/, files of trees, or JSONL with `prompt`, `chosen` and `rejected`."""
    out: str = "runs/prefer"
    """Folder of the finished model."""
    model: str = "nano"
    """What to start from; nano: the shipped one."""
    adapter: Literal["none", "lora"] = "none"
    """An adapter is merged when the model is written."""
    lora: LoraSettings = field(default_factory=LoraSettings)
    marks: MarkSettings = field(default_factory=MarkSettings)
    """Control tokens that the model was made with."""
    seed: int = 0
    """Of the order of pairs and of a new adapter."""
    held_out: float = 0.1
    """Share of the questions whose pairs are not learned from, but looked at before and after."""
    max_tokens: int = 1024
    """Of one comparison; a longer one loses the beginnings of its solutions."""
    threads: int = 0
    """CPU threads of torch; 0: as many as there are cores."""
    prefer: PreferenceSettings = field(default_factory=PreferenceSettings)

    def __post_init__(self) -> None:
        """Refuse a lesson without pairs."""
        if not self.solutions:
            raise ConfigError(
                "solutions must name at least one run or file, got none; "
                "give --solutions runs/nano, or a JSONL that `llama-o1 inspect RUN --export pairs FILE` wrote"
            )
        if not 0 <= self.held_out < 1:
            raise ConfigError(f"held_out must be in [0, 1), got {self.held_out}")
        if self.max_tokens < 64:
            raise ConfigError(f"max_tokens must be at least 64, got {self.max_tokens}")
