"""The named points at which a run may be killed; a test hooks into them, a run pays one comparison each.

Before and after every write, rename, removal and change of a pointer; what lies between two points is
one call of the operating system, of SQLite, or changes memory only.
"""

from __future__ import annotations

from collections.abc import Callable

POINTS = (
    "run: begun",
    "run: parts made",
    "file: before write",
    "file: before rename",
    "file: renamed",
    "metrics: before append",
    "metrics: appended",
    "trees: removed",
    "trees: before write",
    "trees: written",
    "replay: before extend",
    "replay: extended",
    "replay: rewound",
    "replay: before priorities",
    "replay: priorities updated",
    "replay: before mark",
    "replay: marked",
    "learner: before step",
    "learner: stepped",
    "engine: before weights",
    "engine: weights changed",
    "checkpoint: before begin",
    "checkpoint: begun",
    "checkpoint: weights written",
    "checkpoint: tokenizer written",
    "checkpoint: optimizer written",
    "checkpoint: generators written",
    "checkpoint: counters written",
    "checkpoint: state written",
    "checkpoint: parts on disk",
    "checkpoint: manifest written",
    "checkpoint: before rename",
    "checkpoint: old one aside",
    "checkpoint: renamed",
    "checkpoint: old one removed",
    "checkpoint: before pruning",
    "checkpoint: pruned",
)

_hook: Callable[[str], None] | None = None


def reach(point: str) -> None:
    """Call the hook where one is set; `point` is one of POINTS."""
    if _hook is not None:
        _hook(point)


def on_reach(hook: Callable[[str], None] | None) -> None:
    """Call this with the name of every point that is reached; None: nothing."""
    global _hook
    _hook = hook
