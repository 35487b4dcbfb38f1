"""Effects of ablations as a table and as a forest plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llama_o1.measure.cells import Table, aligned, pipes, points
from llama_o1.measure.compare import ALL
from llama_o1.measure.picture import COLOURS, GREY, new_figure, png, write_png

_COLOURS = {"pays": COLOURS[2], "costs": COLOURS[1], "not told apart": GREY}


def effects_table(result: Mapping[str, Any]) -> Table:
    """One row a contrast on all problems, with what each set says in a column of its own."""
    sets = list(result["sets"])
    rows: Table = [
        ("part", "with", "without", "with %", "without %", "brings [95 %]", "p (Holm)", "verdict", *sets)
    ]
    by_set = {(row["set"], row["with_it"], row["without"]): row for row in result["effects"]}
    for row in result["effects"]:
        if row["set"] != ALL:
            continue
        pair = (row["with_it"], row["without"])
        rows.append(
            (
                row["part"],
                *pair,
                f"{100 * row['accuracy_with']:.1f}",
                f"{100 * row['accuracy_without']:.1f}",
                points(row["difference"], row["low"], row["high"]),
                f"{row['p_holm']:.3f}",
                row["verdict"],
                *(f"{100 * by_set[name, *pair]['difference']:+.1f}" for name in sets),
            )
        )
    return rows


def costs_table(result: Mapping[str, Any]) -> Table:
    """What each ablation spent and what its critics and refines came to."""
    rows: Table = [
        ("name", "right %", "tokens", "of failed", "nodes", "holds %", "repairs", "fixed", "broken")
    ]
    for name, one in result["figures"].items():
        trials, repairs = sum(one["verdicts"].values()), one["repairs"]
        rows.append(
            (
                name,
                f"{100 * one['accuracy']:.1f}",
                f"{one['tokens_used']:.0f}",
                f"{one['tokens']['failed'] / trials:.1f}",
                f"{one['nodes']:.1f}",
                f"{100 * one['holds_right']:.1f}",
                f"{repairs['compared']} of {repairs['pairs']}",
                f"{repairs['fixed']:.1f}",
                f"{repairs['broken']:.1f}",
            )
        )
    return rows


def notes(result: Mapping[str, Any]) -> list[str]:
    """What the tables show, in words."""
    counts = ", ".join(f"{len(ids)} of {name}" for name, ids in result["sets"].items())
    return [
        f"Model {result['model']}, {result['budget']} tokens a problem, seeds "
        f"{', '.join(map(str, result['seeds']))}; problems: {counts}.",
        "brings: right answers with the part less those without it, in points, with the paired 95 % "
        "bootstrap interval over problems; columns of sets are the same there. p: exact test of wins and "
        "losses, corrected for being several (Holm).",
        "repairs: critics followed by a refine that could be compared, of all; fixed: wrong without and "
        "right with them; broken: the opposite. of failed: tokens of thoughts of a kind that was switched "
        "off, and of others that came to nothing.",
    ]


def terminal(result: Mapping[str, Any]) -> str:
    """Both tables for a terminal."""
    return "\n".join([aligned(effects_table(result)), "", aligned(costs_table(result)), "", *notes(result)])


def markdown(result: Mapping[str, Any]) -> str:
    """Both tables as Markdown."""
    lines = ["# Ablations", "", *notes(result)]
    for table in (effects_table(result), costs_table(result)):
        lines += ["", *pipes(table)]
    return "\n".join(lines) + "\n"


def draw(result: Mapping[str, Any], file: Path) -> None:
    """Write one PNG: a panel for all problems and one for each set, a line for each contrast."""
    names = [ALL, *result["sets"]] if len(result["sets"]) > 1 else [ALL]
    rows = [row for row in result["effects"] if row["set"] == ALL]
    figure = new_figure(4 + 3 * len(names), 1.6 + 0.45 * len(rows))
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)
    for panel, name in zip(panels.flat, names, strict=True):
        _panel(panel, [row for row in result["effects"] if row["set"] == name], name)
    figure.supxlabel("right answers with the part less without it, points, paired 95 % interval", fontsize=9)
    write_png(file, png(figure))


def _panel(axes: Any, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    for place, row in enumerate(reversed(rows)):
        middle, low, high = (100 * row[key] for key in ("difference", "low", "high"))
        colour = _COLOURS[row["verdict"]]
        axes.plot([low, high], [place, place], color=colour, linewidth=2)
        axes.plot([middle], [place], marker="o", color=colour)
    axes.axvline(0, color="#000000", linewidth=0.8)
    axes.set_yticks(
        range(len(rows)), [f"{row['part']} ({row['without']})" for row in reversed(rows)], fontsize=8
    )
    axes.set_title(name, fontsize=10)
    axes.grid(alpha=0.25, axis="x")
