"""Systems measured in turn, A B A B, so that the noise of a machine hits all; ratios of neighbours.

CPU seconds are those of all threads of the process that does the work.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple


class Spent(NamedTuple):
    """One go of one system."""

    units: int  # tokens or prompts
    cpu_s: float
    wall_s: float

    @property
    def rate(self) -> float:
        """Units per CPU second."""
        return self.units / max(self.cpu_s, 1e-9)

    def __add__(self, other: object) -> Spent:
        """Both one after the other."""
        assert isinstance(other, Spent)
        return Spent(self.units + other.units, self.cpu_s + other.cpu_s, self.wall_s + other.wall_s)


class Ratio(NamedTuple):
    """The rate of one system over that of another."""

    name: str
    above: str
    below: str
    goal: str = ""
    is_cost: bool = False  # 1 - ratio: the share of the rate that is lost


class Row(NamedTuple):
    """One work, and who does it; `systems` get the number of the repeat, so that none sees a work twice."""

    name: str
    unit: str
    systems: Mapping[str, Callable[[int], Spent]]
    ratios: tuple[Ratio, ...]


class Measured(NamedTuple):
    """A row and what each system spent, one entry a repeat."""

    row: Row
    spent: dict[str, list[Spent]]

    def ratio(self, ratio: Ratio) -> list[float]:
        """The ratio in each repeat."""
        pairs = zip(self.spent[ratio.above], self.spent[ratio.below], strict=True)
        rates = [above.rate / below.rate for above, below in pairs]
        return [1 - rate for rate in rates] if ratio.is_cost else rates

    def figures(self) -> dict[str, dict[str, Any]]:
        """Medians and spreads by system."""
        return {system: _figures(self.row.unit, spent) for system, spent in self.spent.items()}


def measure(row: Row, repeats: int, done: Callable[[], None]) -> Measured:
    """Run every system of a row `repeats` times, in turn; `done` after each."""
    spent: dict[str, list[Spent]] = {system: [] for system in row.systems}
    gc.collect()
    gc.freeze()  # what was imported need not be looked through again before each go
    for repeat in range(repeats):
        for system, run in row.systems.items():
            spent[system].append(run(repeat))
            done()
    gc.unfreeze()
    return Measured(row, spent)


def timed(work: Callable[[], int]) -> Spent:
    """What `work` spends; it returns its units."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    units = work()
    return Spent(units, time.process_time() - cpu, time.perf_counter() - wall)


def _figures(unit: str, spent: Sequence[Spent]) -> dict[str, Any]:
    rates = [one.rate for one in spent]
    return {
        "unit": unit,
        "per_cpu_s": median(rates),
        "per_cpu_s_min": min(rates),
        "per_cpu_s_max": max(rates),
        "per_s": median(one.units / max(one.wall_s, 1e-9) for one in spent),
        "units": spent[0].units,
        "cpu_s": median(one.cpu_s for one in spent),
    }
