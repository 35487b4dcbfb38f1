"""`llama-o1 pool`: what several evaluations found, as one comparison."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llama_o1.arguments import build, parse, parser_of
from llama_o1.errors import ConfigError
from llama_o1.printed import printed


@dataclass(frozen=True)
class PoolConfig:
    """Finished evaluations to be compared as one."""

    folders: tuple[str, ...] = ()
    """Folders that `llama-o1 eval` wrote: `--folders runs/a,runs/b`."""
    out: str = "runs/pool"
    """Where table, JSON and pictures go."""
    baselines: tuple[str, ...] = ()
    """Methods that the others are tested against."""

    def __post_init__(self) -> None:
        """Refuse what compares nothing."""
        if len(self.folders) < 2:
            raise ConfigError(f"folders must name at least two evaluations, got {len(self.folders)}")


def pool(arguments: list[str]) -> int:
    """Compare the trials of several evaluations."""
    words = "Compare what several evaluations found, of models that were taught differently."
    config = build(PoolConfig, parse(parser_of("pool", words, PoolConfig), arguments))
    from llama_o1.measure.table import terminal_table
    from llama_o1.pooled import pooled

    result = pooled([Path(folder) for folder in config.folders], Path(config.out), config.baselines)
    printed(terminal_table(result))
    printed(f"wrote {config.out}: result.json, table.md and pictures")
    return 0
