"""Accuracy, length of thinking and following against the budget as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_o1.measure.picture import COLOURS, GREY, new_figure, png, write_png

_PANELS = (
    ("accuracy", "right answers, %", 100),
    ("thinking", "thinking tokens (mean)", 1),
    ("following", "ended by itself within the budget, %", 100),
)


def draw_thinking(result: Mapping[str, Any], name: str, file: Path) -> None:
    """Write one PNG of a set, or of `all`: each figure against the budget, with its 95 % band."""
    figure = new_figure(15, 5)
    methods, budgets = result["thinking"][name], result["budgets"]
    panels = figure.subplots(1, len(_PANELS))
    for axes, (key, words, scale) in zip(panels, _PANELS, strict=True):
        for i, (method, found) in enumerate(methods.items()):
            _band(axes, [found["budget"][str(budget)][key] for budget in budgets], budgets, scale, method, i)
        if key == "thinking":
            axes.plot(budgets, budgets, color=GREY, linestyle=":", linewidth=1.2, label="the budget")
        axes.set_xlabel("budget, tokens")
        axes.set_ylabel(words)
        axes.set_ylim(bottom=0)
        axes.set_xscale("log", base=2)
        axes.set_xticks(budgets, [str(budget) for budget in budgets])
        axes.minorticks_off()
        axes.grid(alpha=0.25)
    panels[1].legend(loc="upper left", fontsize=8, frameon=False)
    held = result["all"] if name == "all" else result["sets"][name]
    seeds = f", {len(result['seeds'])} seeds" if len(result["seeds"]) > 1 else ""
    figure.suptitle(f"{name}: {held['problems']} problems{seeds}; bands: 95 %")
    write_png(file, png(figure))


def _band(
    axes: Any, points: list[dict[str, float]], budgets: list[int], scale: int, method: str, i: int
) -> None:
    """One method among all."""
    colour, dashed = COLOURS[i % len(COLOURS)], i >= len(COLOURS)
    mean, low, high = ([scale * point[key] for point in points] for key in ("mean", "low", "high"))
    axes.fill_between(budgets, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.plot(
        budgets, mean, color=colour, linestyle="--" if dashed else "-", marker="o", markersize=4, label=method
    )
