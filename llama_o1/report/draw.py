"""A chart as a PNG. matplotlib is imported when one is drawn; no window and no global state of it is used."""

from __future__ import annotations

import io
import math
import warnings
from typing import Any

from llama_o1.report.curves import Chart, Line, Panel

# Okabe and Ito's colours, which also the colour-blind tell apart; then the same dashed.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")
_COLUMNS = 3
_WIDTH, _HEIGHT = 3.6, 2.5  # inches of one panel
_DPI = 130
_GREY = "#777777"


def draw(chart: Chart) -> bytes:
    """The chart on white, in dark ink: a page turns it round where the reader wants it dark."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(chart.panels)
    columns = min(_COLUMNS, count)
    rows = math.ceil(count / columns)
    labels = _labels(chart)
    shared = count > 1 and len(labels) > 1  # one legend for all panels
    figure: Any = Figure(figsize=(_WIDTH * columns, _HEIGHT * rows + 0.3 * shared), layout="constrained")
    FigureCanvasAgg(figure)
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
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a sign that the font lacks is drawn as a box
        figure.savefig(out, format="png", dpi=_DPI)
    return out.getvalue()


def _labels(chart: Chart) -> list[str]:
    return list(dict.fromkeys(line.label for panel in chart.panels for line in panel.lines))


def _panel(axes: Any, panel: Panel, labels: list[str]) -> None:
    if panel.is_reliability:
        axes.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8, linestyle=":")
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
    colour = _COLOURS[place % len(_COLOURS)]
    style = "-" if place < len(_COLOURS) else "--"
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
