"""What a buffer holds as numbers: counts, means, spreads and histograms, of all items or of a sample.

A buffer of millions is answered at once from a sample of runs of ids, spread evenly over the buffer;
what is counted over everything is said in `Overview`. Knows no terminal and no page. N items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from replay.errors import ReplayError
from replay.file import Position
from replay.inspect.query import Int64, ReplayReader

SAMPLE = 20_000  # items looked at when there are more
CALIBRATION_BINS = 5
HISTOGRAM_BINS = 20
MOST_VERSIONS = 24  # histogram bars; more versions share bars
_RUN = 50  # consecutive ids of a sample: one read of the disk, and most of one tree

Numbers = npt.NDArray[np.float64]
Columns = dict[str, npt.NDArray[Any]]

_READ = (
    "version",
    "age",
    "priority",
    "draws",
    "advantage",
    "value",
    "value_target",
    "error",
    "outcome",
    "num_context",
    "num_tokens",
    "num_sampled",
    "action",
)
_SPREAD = (
    "version",
    "age",
    "priority",
    "draws",
    "advantage",
    "value",
    "value_target",
    "error",
    "num_context",
    "num_tokens",
)


class Group(NamedTuple):
    """Items that have something in common; all but the first two are means."""

    name: str
    num_nodes: int
    value: float
    value_target: float
    error: float  # |value_target - value|
    advantage: float
    priority: float
    num_tokens: float


class Spread(NamedTuple):
    """How one column is spread."""

    name: str
    least: float
    median: float
    mean: float
    ninth_decile: float
    most: float


class Histogram(NamedTuple):
    """How many items lie in each bin; the last bin includes its upper edge."""

    name: str
    edges: list[float]  # one more than counts, rising
    counts: list[int]


@dataclass(frozen=True, slots=True)
class Overview:
    """The buffer at one moment; groups, spreads, histograms and duplicates are of the items looked at."""

    position: Position
    num_live: int
    num_matching: int  # exact
    num_looked_at: int  # fewer than num_matching: a sample
    effective_sample_size: float  # of the priorities of all matching items, with alpha 1
    draws: tuple[int, int]  # of all matching items: how many in all, and how many items never were
    versions: tuple[int, int] | None  # oldest and newest; None: nothing matches
    payload_bytes: int  # of their arrays
    duplicates: int  # items whose context and own tokens another one before them has
    by_action: list[Group]
    by_outcome: list[Group]
    by_version: list[Group]
    by_value: list[Group]  # bins of the predicted value
    spreads: list[Spread]
    histograms: list[Histogram]

    @property
    def is_sample(self) -> bool:
        """Whether not all matching items were looked at."""
        return self.num_looked_at < self.num_matching


def overview(reader: ReplayReader, where: str | None = None, sample: int = SAMPLE) -> Overview:
    """What the live items that fit the condition are like; `sample` 0 looks at every one."""
    if sample < 0:
        raise ReplayError(f"sample must be at least 0 (0: everything), got {sample}")
    ids = reader.ids(where)
    looked_at = spread_out(ids, sample) if sample else ids
    columns = reader.columns(looked_at, _READ)
    places = reader.live.places(ids)
    priorities, draws = reader.live.priorities[places], reader.live.draws[places]
    squares = float((priorities**2).sum())
    versions = columns["version"]
    size = 4 * columns["num_context"] + 9 * columns["num_tokens"]
    tokens = reader.token_bytes(looked_at)
    return Overview(
        position=reader.position,
        num_live=len(reader.live.ids),
        num_matching=len(ids),
        num_looked_at=len(looked_at),
        effective_sample_size=float(priorities.sum() ** 2 / squares) if squares else 0.0,
        draws=(int(draws.sum()), int((draws == 0).sum())),
        versions=(int(versions.min()), int(versions.max())) if len(versions) else None,
        payload_bytes=int(size.sum()),
        duplicates=len(tokens) - len(set(tokens)),
        by_action=_groups(columns["action"], columns),
        by_outcome=_groups(_outcomes(columns["outcome"]), columns),
        by_version=_groups(columns["version"].astype(np.int64), columns),
        by_value=_groups(_bins(columns["value"]), columns),
        spreads=[_spread(name, columns[name]) for name in _SPREAD if len(ids)],
        histograms=_histograms(columns) if len(ids) else [],
    )


def spread_out(ids: Int64, num_ids: int) -> Int64:  # [N]
    """At most `num_ids` of these ids: runs of neighbours, evenly spaced, both ends among them."""
    if len(ids) <= num_ids:
        return ids
    run = min(_RUN, num_ids)
    starts = np.linspace(0, len(ids) - run, num_ids // run).round().astype(np.int64)
    spread: Int64 = ids[np.unique(starts[:, None] + np.arange(run))]
    return spread


def _groups(keys: npt.NDArray[Any], columns: Columns) -> list[Group]:
    names, places, counts = np.unique(keys, return_inverse=True, return_counts=True)
    means = [
        np.bincount(places, weights=columns[name], minlength=len(names)) / np.maximum(counts, 1)
        for name in Group._fields[2:]
    ]
    lines = zip(names.tolist(), counts.tolist(), *(mean.tolist() for mean in means), strict=True)
    return [Group(str(name), *rest) for name, *rest in lines]


def _outcomes(outcome: Numbers) -> npt.NDArray[Any]:
    names = np.full(len(outcome), "partly right", dtype=object)
    names[np.isnan(outcome)] = "none"
    names[outcome >= 1] = "right"
    names[outcome <= 0] = "wrong"
    return names


def _bins(value: Numbers) -> Int64:
    """The calibration bin of each predicted value."""
    bins: Int64 = np.clip((value * CALIBRATION_BINS).astype(np.int64), 0, CALIBRATION_BINS - 1)
    return bins


def _spread(name: str, column: Numbers) -> Spread:
    median, ninth_decile = np.quantile(column, (0.5, 0.9))
    numbers = (column.min(), median, column.mean(), ninth_decile, column.max())
    return Spread(name, *(float(number) for number in numbers))


def _histograms(columns: Columns) -> list[Histogram]:
    unit = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    return [
        _histogram("value", columns["value"], unit),
        _histogram("value_target", columns["value_target"], unit),
        _histogram("advantage", columns["advantage"], _around_zero(columns["advantage"])),
        _histogram("priority", columns["priority"], _powers(columns["priority"])),
        _histogram("num_tokens", columns["num_tokens"], _whole(columns["num_tokens"])),
        _histogram("num_context", columns["num_context"], _whole(columns["num_context"])),
        _histogram("version", columns["version"], _whole(columns["version"], MOST_VERSIONS)),
        _histogram("age", columns["age"], _whole(columns["age"])),
        _histogram("draws", columns["draws"], _whole(columns["draws"])),
    ]


def _histogram(name: str, column: Numbers, edges: Numbers) -> Histogram:
    counts, _ = np.histogram(np.clip(column, edges[0], edges[-1]), edges)
    return Histogram(name, edges.tolist(), counts.tolist())


def _around_zero(column: Numbers) -> Numbers:
    reach = float(np.abs(column).max()) or 1.0
    return np.linspace(-reach, reach, HISTOGRAM_BINS + 1)


def _powers(column: Numbers) -> Numbers:
    """Edges with equal ratios; priorities span magnitudes."""
    positive = column[column > 0]
    if not len(positive):
        return np.linspace(0, 1, HISTOGRAM_BINS + 1)
    least, most = float(positive.min()), float(positive.max())
    return np.geomspace(least, max(most, least * 1.01), HISTOGRAM_BINS + 1)


def _whole(column: Numbers, most_bins: int = HISTOGRAM_BINS) -> Numbers:
    """Edges between whole numbers, one bin a number where that fits."""
    least, most = int(column.min()), int(column.max())
    step = -(-(most - least + 1) // most_bins)
    return np.arange(least, most + step + 1, step, dtype=np.float64)
