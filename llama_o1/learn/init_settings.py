"""How new tokens start. Must not import torch: `--help` reads this.

No slots here: jsonargparse reads defaults through `vars`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from llama_o1.errors import ConfigError
from llama_o1.format.marks import MarkSettings


@dataclass(frozen=True)
class InitSettings:
    """From what the rows of new tokens start, and which tokens there are."""

    seed: int = 0
    """Of the noise that tells the new rows apart."""
    start: Literal["structure", "mean"] = "structure"
    """The mean row of the newline, begin and end tokens, or of all tokens."""
    reference: str | None = None
    """Start from this token's row instead, such as `<|im_start|>`."""
    noise: float = 0.02
    """Times the spread of all rows; 0 leaves rows that no training can tell apart."""
    pad_to: int = 1
    """Pad the rows to a multiple, such as 64, for the speed of GPUs."""
    marks: MarkSettings = field(default_factory=MarkSettings)

    def __post_init__(self) -> None:
        """Refuse values without a meaning."""
        if not 0 <= self.noise < float("inf"):
            raise ConfigError(f"noise must be finite and at least 0, got {self.noise}")
        if self.pad_to < 1:
            raise ConfigError(f"pad_to must be at least 1, got {self.pad_to}")
