"""Accuracy against generated tokens as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_o1.measure.picture import COLOURS, GREY, new_figure, png, write_png

_COLUMNS = 4


def draw(result: Mapping[str, Any], name: str, file: Path) -> None:
    """Write one PNG of a set, or of `all`.

    Above, every method: lines from its runs at the greatest budget, points from runs at each budget, at the
    tokens that were really spent. Below, each with its 95 % bootstrap band, before the best baseline in grey.
    """
    methods = list(result["curves"][name])
    rows = math.ceil(len(methods) / _COLUMNS)
    figure = new_figure(11, 5.2 + 2.1 * rows)
    above, below = figure.subfigures(2, 1, height_ratios=(5.2, 2.1 * rows))
    axes = above.add_subplot()
    for i, method in enumerate(methods):
        _line(axes, result, name, method, i)
    axes.set_xlabel("generated tokens a problem, sampled and forced (mean)")
    axes.set_ylabel("right answers, %")
    axes.set_title(_title(result, name), fontsize=11)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    panels = below.subplots(rows, min(_COLUMNS, len(methods)), sharex=True, sharey=True, squeeze=False)
    for i, panel in enumerate(panels.flat):
        if i < len(methods):
            _panel(panel, result, name, methods[i], i)
            panel.tick_params(labelbottom=i + _COLUMNS >= len(methods))
        else:
            panel.set_visible(False)
    below.supxlabel(
        "the same tokens; each method with its 95 % bootstrap band, grey: the best baseline, dotted: its end",
        fontsize=9,
    )
    write_png(file, png(figure))


def _line(axes: Any, result: Mapping[str, Any], name: str, method: str, i: int) -> None:
    """One method among all."""
    curve = result["curves"][name][method]
    style = {"color": COLOURS[i % len(COLOURS)], "linestyle": "-" if i < len(COLOURS) else "--"}
    axes.plot(curve["tokens_used"], _percent(curve["accuracy"]), label=method, linewidth=1.6, **style)
    points = _at_budgets(result, name, method)
    axes.plot(
        [one["tokens_used"] for one in points],
        _percent([one["accuracy"] for one in points]),
        marker="o",
        linestyle="none",
        markersize=6,
        color=style["color"],
        markerfacecolor=style["color"] if i < len(COLOURS) else "white",
    )


def _panel(axes: Any, result: Mapping[str, Any], name: str, method: str, i: int) -> None:
    """One method with its band."""
    curves = result["curves"][name]
    against = [row["against"] for row in result["paired"] if row["set"] == name and row["against"] in curves]
    for shown, colour in [*((best, GREY) for best in against[-1:]), (method, COLOURS[i % len(COLOURS)])]:
        curve = result["curves"][name][shown]
        axes.fill_between(
            curve["tokens_used"],
            _percent(curve["low"]),
            _percent(curve["high"]),
            color=colour,
            alpha=0.22,
            linewidth=0,
        )
        axes.plot(curve["tokens_used"], _percent(curve["accuracy"]), color=colour, linewidth=1.3)
    for best in against[-1:]:  # it would still answer so with more tokens than it spent
        end = result["curves"][name][best]["accuracy"][-1]
        axes.axhline(100 * end, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_title(method, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.2)


def _at_budgets(result: Mapping[str, Any], name: str, method: str) -> list[dict[str, Any]]:
    held = result["all"] if name == "all" else result["sets"][name]
    return [held["methods"][method]["budget"][str(budget)] for budget in result["budgets"]]


def _percent(shares: list[float]) -> list[float]:
    return [100 * share for share in shares]


def _title(result: Mapping[str, Any], name: str) -> str:
    held = result["all"] if name == "all" else result["sets"][name]
    seeds = len(result["seeds"])
    words = f"{held['problems']} problems" + (f", {seeds} seeds" if seeds > 1 else "")
    sets = f" ({', '.join(result['sets'])})" if name == "all" else ""
    return (
        f"{name}{sets}: {words}\nlines: what the runs at {max(result['budgets'])} tokens would have answered "
        "earlier; points: runs at each budget"
    )
