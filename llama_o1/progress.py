"""Progress bars on a terminal, a line a minute elsewhere; the other log lines are the same on both."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
from tqdm import tqdm

from llama_o1.engine.protocol import Engine, EngineFigures
from tree.node import Tree

log = logging.getLogger(__name__)

LINE_EVERY_S = 60.0


def bar(total: int, label: str, unit: str, *, position: int = 0) -> Any:
    """A tqdm bar that vanishes when done; `Lines` when stderr is not a terminal."""
    if not sys.stderr.isatty():
        return Lines(total, label, unit)
    return tqdm(
        total=total,
        desc=label,
        unit=unit,
        position=position,
        leave=False,
        dynamic_ncols=True,
    )


class Lines:
    """In place of a bar: how far it is, as a log line when the last one is a minute old."""

    disable = True  # as a tqdm bar that is not shown

    def __init__(
        self, total: int, label: str, unit: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._total, self._label, self._unit, self._clock = total, label, unit, clock
        self._done, self._postfix, self._said = 0, "", clock()

    def update(self, num: int = 1) -> None:
        """Count what was done."""
        self._done += num
        if self._clock() - self._said < LINE_EVERY_S or self._done >= self._total > 0:
            return
        self._said = self._clock()
        of = f" of {self._total}" if self._total else ""
        log.info("%s: %d%s %ss done%s", self._label, self._done, of, self._unit, self._postfix)

    def set_postfix(self, figures: Mapping[str, Any], *, refresh: bool = True) -> None:
        """What the next line also tells."""
        self.set_postfix_str(", ".join(f"{name}={value}" for name, value in figures.items()), refresh=refresh)

    def set_postfix_str(self, text: str, *, refresh: bool = True) -> None:
        """The same as text."""
        self._postfix = f" ({text})" if text else ""

    def close(self) -> None:
        """Nothing is left to clear away."""

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left to clear away."""


class Clock:
    """CPU time of this process, all threads of it, and wall time, lap by lap."""

    def __init__(self) -> None:
        self._before = time.process_time(), time.monotonic()

    def lap(self) -> dict[str, float]:
        """Seconds since the last lap, or since this was made."""
        now = time.process_time(), time.monotonic()
        cpu, wall = (round(n - before, 3) for n, before in zip(now, self._before, strict=True))
        self._before = now
        return {"cpu_s": cpu, "wall_s": wall}


class Rates:
    """What an engine did since this was made, and the rates that follow from the clock."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._before = engine.figures()
        self._began = time.perf_counter()
        self.nodes = 0
        self._problems: list[float] = []  # seconds of each finished tree

    def add(self, tree: Tree) -> None:
        """Count a finished tree."""
        self.nodes += len(tree.nodes) - 1

    def add_seconds(self, seconds: float) -> None:
        """Count the time a tree took, from its first request to its end."""
        self._problems.append(seconds)

    @property
    def seconds(self) -> float:
        """Seconds since this was made."""
        return max(time.perf_counter() - self._began, 1e-9)

    @property
    def figures(self) -> EngineFigures:
        """The engine's counters since this was made."""
        return self._engine.figures().since(self._before)

    @property
    def shown(self) -> dict[str, str]:
        """The rates for a progress bar."""
        figures = self.figures
        return {
            "tokens/s": f"{figures.tokens / self.seconds:.0f}",
            "slots": f"{figures.running}/{figures.slots}",
            "queue": f"{figures.waiting}",
            "busy": f"{figures.occupancy:.0%}",
            "cached": f"{figures.cache_hit:.0%}",
            "nodes/s": f"{self.nodes / self.seconds:.0f}",
        }

    @property
    def line(self) -> str:
        """The rates for a log line."""
        figures = self.figures
        times = ""
        if self._problems:
            times = f", {self._quantile(50):.2f} s a problem (95 % within {self._quantile(95):.2f})"
        return (
            f"{figures.tokens / self.seconds:.0f} tokens/s, {self.nodes / self.seconds:.0f} nodes/s, "
            f"slots {figures.occupancy:.0%} busy, {figures.cache_hit:.0%} of context tokens cached{times}"
        )

    def _quantile(self, percent: float) -> float:
        return float(np.percentile(self._problems, percent))

    @property
    def numbers(self) -> dict[str, float]:
        """The figures and rates as flat numbers."""
        figures, seconds = self.figures, self.seconds
        return {
            "seconds": round(seconds, 3),
            "tokens_per_s": round(figures.tokens / seconds, 1),
            "occupancy": round(figures.occupancy, 4),
            "cache_hit": round(figures.cache_hit, 4),
            "sampled_tokens": figures.sampled_tokens,
            "forced_tokens": figures.forced_tokens,
            "prefilled_tokens": figures.prefilled_tokens,
            "cached_tokens": figures.cached_tokens,
            "slots": figures.slots,
            "nodes_per_s": round(self.nodes / seconds, 1),
            **{f"problem_s_p{q}": round(self._quantile(q), 3) for q in (50, 95) if self._problems},
        }
