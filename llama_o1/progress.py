"""Progress bars on a terminal, nothing elsewhere; the log lines are the same on both."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

from tree.node import Tree


def bar(total: int, label: str, unit: str, *, position: int = 0) -> Any:
    """A tqdm bar that vanishes when done; silent when stderr is not a terminal."""
    return tqdm(
        total=total,
        desc=label,
        unit=unit,
        position=position,
        leave=False,
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
    )


class Rates:
    """Nodes and tokens a second since this was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self.nodes = 0
        self.tokens = 0

    def add(self, tree: Tree) -> None:
        """Count a finished tree."""
        self.nodes += len(tree.nodes) - 1
        self.tokens += tree.tokens_used

    @property
    def seconds(self) -> float:
        """Seconds since this was made."""
        return max(time.perf_counter() - self._began, 1e-9)

    @property
    def shown(self) -> dict[str, str]:
        """The rates for a progress bar."""
        return {
            "nodes/s": f"{self.nodes / self.seconds:.0f}",
            "tokens/s": f"{self.tokens / self.seconds:.0f}",
        }
