"""Runs as tables for a terminal and as JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_o1.measure.cells import Table, aligned, percent, points
from llama_o1.measure.intervals import Interval
from llama_o1.report.groups import (
    Cost,
    Group,
    MeanOutcome,
    Outcome,
    cost,
    last_values,
    mean_outcomes,
    outcomes,
)
from llama_o1.report.record import RunRecord

VALUE_METHODS = ("search", "greedy")  # whose trees tell of the values; the first that has them


def terminal_text(found: Sequence[Group]) -> str:
    """All tables, one below the other."""
    tables = [accuracy_table(found), cost_table(found)]
    differing = differences_table(found)
    parts = [aligned(table) for table in ([*tables, differing] if differing else tables) if len(table) > 1]
    return "\n\n".join([*parts, *notes(found)])


def accuracy_table(found: Sequence[Group]) -> Table:
    """Accuracy before, after and its change, set by set with the runs below each other."""
    rows: Table = [("run", "seed", "method", "set", "problems", "before %", "after %", "change", "at")]
    each = [(group, [outcomes(run) for run in group.runs], mean_outcomes(group)) for group in found]
    kinds = dict.fromkeys(kind for _, held, _ in each for one in held for kind in one)
    for method, name in kinds:
        for group, held, means in each:
            for run, one in zip(group.runs, held, strict=True):
                if (method, name) in one:
                    cells = _cells(one[method, name])
                    rows.append((run.name, str(run.seed), method, name, *cells))
            if (method, name) in means:
                mean = means[method, name]
                intervals = (percent(*mean.before), percent(*mean.after), points(*mean.change))
                rows.append((f"mean of {mean.runs}", "", method, name, "", *intervals, ""))
    return rows


def cost_table(found: Sequence[Group]) -> Table:
    """How far each run is, what it spent, and how good its values are."""
    rows: Table = [
        ("run", "seed", "iterations", "trees", "nodes", "tokens", "evaluation", "CPU", "AUC", "ECE")
    ]
    for run in (run for group in found for run in group.runs):
        spent, values = cost(run), values_of(run)
        rows.append(
            (
                run.name,
                str(run.seed),
                f"{run.iteration}/{run.iterations}",
                f"{spent.trees}",
                f"{spent.nodes}",
                f"{spent.tokens}",
                f"{spent.evaluation_tokens}",
                "-" if spent.cpu_s is None else duration(spent.cpu_s),
                figure(values, "auc"),
                figure(values, "ece"),
            )
        )
    return rows


def differences_table(found: Sequence[Group]) -> Table | None:
    """Settings that not all groups share; None where there are none."""
    names = list(found[0].differs)
    if not names:
        return None
    return [
        ("setting", *(group.name for group in found)),
        *((name, *(str(group.differs[name]) for group in found)) for name in names),
    ]


def notes(found: Sequence[Group]) -> list[str]:
    """What the figures mean."""
    lines = [
        "[95 %] of a run: Wilson's interval over problems, and of a change the normal one over the same "
        "problems. at: the last iteration looked at. tokens: of self-play, sampled and forced. AUC, ECE: of "
        "values on held-out problems.",
    ]
    if any(len(group.runs) > 1 for group in found):
        lines.append("Means are over runs that differ by their seed, with Student's t interval over seeds.")
    return lines


def as_json(found: Sequence[Group]) -> dict[str, Any]:
    """Every figure of the tables, by run and by group; what is not known is null."""
    return {
        "runs": [_run_json(run) for group in found for run in group.runs],
        "groups": [
            {
                "runs": [str(run.path) for run in group.runs],
                "seeds": [run.seed for run in group.runs],
                "differs": group.differs,
                "accuracy": _nested(mean_outcomes(group)),
            }
            for group in found
        ],
    }


def values_of(run: RunRecord) -> dict[str, Any]:
    """The newest figures of held-out values: of search trees, else of greedy lines."""
    return next((values for method in VALUE_METHODS if (values := last_values(run, method))), {})


def values_in_words(run: RunRecord) -> list[str]:
    """How good the newest values on held-out problems are, a sentence for each method that tells of them."""
    found = {method: last_values(run, method) for method in VALUE_METHODS}
    return [
        sentence
        for method, values in found.items()
        if values
        for sentence in (
            f"Values of {values['count']} held-out thoughts of {method}, after iteration {values['step']}: "
            f"AUC {figure(values, 'auc')}, expected calibration error {figure(values, 'ece')}.",
            *_values_by_set(run, method, values["step"]),
        )
    ]


def _values_by_set(run: RunRecord, method: str, step: int) -> list[str]:
    lines = [line for line in run.lines("evaluate", method=method, step=step) if "label" in line]
    means = ", ".join(f"{line['set']} {line['value']:.2f} and {line['label']:.2f}" for line in lines)
    return [f"  Mean value, and share that came out right: {means}."] if len(lines) > 1 else []


def figure(values: Mapping[str, Any], name: str) -> str:
    """A figure of values with its interval where it has one."""
    if name not in values:
        return "-"
    text = f"{values[name]:.3f}"
    low, high = values.get(f"{name}_low"), values.get(f"{name}_high")
    return text if low is None or high is None else f"{text} [{low:.3f}, {high:.3f}]"


def duration(seconds: float) -> str:
    """Minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _cells(outcome: Outcome) -> tuple[str, ...]:
    after = "-" if outcome.after is None else percent(*outcome.after)
    change = "-" if outcome.change is None else points(*outcome.change)
    return (str(outcome.problems), percent(*outcome.before), after, change, f"{outcome.iteration}")


def _run_json(run: RunRecord) -> dict[str, Any]:
    spent: Cost = cost(run)
    return {
        "name": run.name,
        "path": str(run.path),
        "seed": run.seed,
        "iteration": run.iteration,
        "iterations": run.iterations,
        "accuracy": _nested(outcomes(run)),
        "trees": spent.trees,
        "nodes": spent.nodes,
        "tokens": spent.tokens,
        "evaluation_tokens": spent.evaluation_tokens,
        "cpu_s": spent.cpu_s,
        "values": {method: last_values(run, method) for method in VALUE_METHODS if last_values(run, method)},
    }


def _nested(found: dict[tuple[str, str], Outcome] | dict[tuple[str, str], MeanOutcome]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for (method, name), outcome in found.items():
        nested.setdefault(method, {})[name] = {
            key: value._asdict() if isinstance(value, Interval) else value
            for key, value in outcome._asdict().items()
        }
    return nested
