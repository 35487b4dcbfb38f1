"""A matplotlib figure, and its PNG. matplotlib is imported when one is made; no window, no global state."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import Any

# Okabe and Ito's colours, which also the colour-blind tell apart; then the same dashed.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")
GREY = "#888888"
_DPI = 130


def new_figure(width: float, height: float) -> Any:
    """An empty figure of so many inches, whose panels leave each other room."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Any) -> bytes:
    """The figure as a PNG; the same bytes for the same figure."""
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a sign that the font lacks is drawn as a box
        figure.savefig(out, format="png", dpi=_DPI, metadata={"Software": None})
    return out.getvalue()


def write_png(file: Path, content: bytes) -> None:
    """Write a file so that a kill leaves the old one or the new one, never a part."""
    partial = file.with_name(f".{file.name}.partial")
    partial.write_bytes(content)
    os.replace(partial, file)
