"""A chart as a PNG. matplotlib is imported when one is drawn; no window and no global state of it is used."""

from __future__ import annotations

import math
from typing import Any

from llama_o1.measure.picture import COLOURS, GREY, new_figure, png
from llama_o1.report.curves import Chart, Line, Panel

_COLUMNS = 3
_WIDTH, _HEIGHT = 3.6, 2.5  # inches of one panel


def draw(chart: Chart) -> bytes:
    """The chart on white, in dark ink: a page turns it round where the reader wants it dark."""
    count = len(chart.panels)
    columns = min(_COLUMNS, count)
    rows = math.ceil(count / columns)
    labels = _labels(chart)
    shared = count > 1 and len(labels) > 1  # one legend for all panels
    figure = new_figure(_WIDTH * columns, _HEIGHT * rows + 0.3 * shared)
    panels = figure.subplots(rows, columns, squeeze=False)
    for i, axes in enumerate(panels.flat):
        if i < count:
            _panel(axes, chart.panels[i], labels)
        else:
            axes.set_visible(False)
    handles = {
        label: handle
        for axes in panels.flat
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if shared:
        figure.legend(handles.values(), handles, loc="outside lower left", ncols=4, frameon=False, fontsize=8)
    elif len(labels) > 1:
        panels[0, 0].legend(frameon=False, fontsize=8)
    return png(figure)


def _labels(chart: Chart) -> list[str]:
    return list(dict.fromkeys(line.label for panel in chart.panels for line in panel.lines))


def _panel(axes: Any, panel: Panel, labels: list[str]) -> None:
    if panel.is_reliability:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        axes.set_xlim(0, 1)
    for line in panel.lines:
        _line(axes, line, labels.index(line.label), bars=panel.is_reliability)
    if panel.title:
        axes.set_title(_plain(panel.title), fontsize=9)
    if panel.top is not None:
        axes.set_ylim(0, 1.02 * panel.top)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.tick_params(labelsize=8)
    axes.margins(x=0.02)
    axes.set_xlabel("value" if panel.is_reliability else "iteration", fontsize=8)
    if not panel.is_reliability:
        axes.xaxis.get_major_locator().set_params(integer=True)
        iterations = {at for line in panel.lines for at in line.x}
        if len(iterations) == 1:
            axes.set_xlim(min(iterations) - 1, max(iterations) + 1)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _line(axes: Any, line: Line, place: int, *, bars: bool) -> None:
    colour = COLOURS[place % len(COLOURS)]
    style = "-" if place < len(COLOURS) else "--"
    if line.high and bars:
        axes.bar(line.x, line.high, width=0.03, color=colour, alpha=0.2, linewidth=0)
    elif line.high:
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
    marker = "o" if len(line.x) < 30 else None
    axes.plot(
        line.x,
        line.y,
        style,
        color=colour,
        linewidth=1.5,
        marker=marker,
        markersize=3,
        label=_plain(line.label),
    )


def _plain(text: str) -> str:
    """Text that matplotlib draws as it is: no mathematics, and shown though it begins with `_`."""
    return text.replace("$", r"\$").lstrip("_")
