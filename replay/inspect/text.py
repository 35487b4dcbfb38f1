"""Tables, bars and escaped text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Signs(NamedTuple):
    """What bars are drawn with: an empty cell, eighths that rise, parts of a cell that fill it, a cut."""

    rising: str
    filling: str
    cut: str


UNICODE = Signs(" ▁▂▃▄▅▆▇█", " ▏▎▍▌▋▊▉█", "…")
ASCII = Signs(" .:-=+*%#", " --===###", "~")


def escape(text: str, *, keep_lines: bool = False) -> str:
    """Text a terminal shows and never obeys: what is not printable stands as its escape."""
    return "".join(
        c if c.isprintable() or (keep_lines and c == "\n") else c.encode("unicode_escape").decode()
        for c in text
    )


def shortened(text: str, width: int, signs: Signs) -> str:
    """The text on one line of at most `width` letters."""
    text = " ".join(escape(text.replace("\n", " ")).split())
    return text if len(text) <= width else text[: width - 1] + signs.cut


def sparkline(counts: Sequence[int], signs: Signs) -> str:
    """One letter a count, as high as its share of the largest; a count above 0 is never blank."""
    most = max(counts, default=0)
    return "".join(signs.rising[-(-count * 8 // most) if most else 0] for count in counts)


def bar(count: int, most: int, width: int, signs: Signs) -> str:
    """A line as long as the share of the largest; a count above 0 is never blank."""
    eighths = -(-count * width * 8 // most) if most else 0
    full, rest = divmod(eighths, 8)
    return (signs.filling[8] * full + (signs.filling[rest] if rest else "")).ljust(width)


def number(value: float | None) -> str:
    """Four digits of a number; `-` where there is none."""
    if value is None or value != value:
        return "-"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4f}" if 0.001 <= abs(value) < 10 else f"{value:.4g}"


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; numbers to the right, the rest to the left."""
    columns = list(zip(header, *lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    to_right = [all(_is_number(cell) for cell in column[1:]) for column in columns]
    return "\n".join(
        (
            "  "
            + "  ".join(
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(line, widths, to_right, strict=True)
            )
        ).rstrip()
        for line in (header, *lines)
    )


def titled(title: str, text: str) -> str:
    """A title above a text."""
    return f"{title}\n{text}"


def _is_number(cell: str) -> bool:
    digits = cell.lstrip("-~").replace(".", "").replace(",", "").replace("e", "").replace("+", "")
    return cell in ("-", "forced", "") or digits.replace("-", "").isdigit()
