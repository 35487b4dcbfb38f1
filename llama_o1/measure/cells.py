"""Figures as cells of a table, and a table as text: aligned for a terminal, or as Markdown."""

from __future__ import annotations

from collections.abc import Container, Sequence

Table = list[tuple[str, ...]]  # the headings first


def between(mean: float, low: float, high: float, scale: float, form: str) -> str:
    """A figure times `scale` with its interval, each number in this format."""
    return f"{scale * mean:{form}} [{scale * low:{form}}, {scale * high:{form}}]"


def percent(share: float, low: float, high: float) -> str:
    """A share with its interval, in per cent."""
    return between(share, low, high, 100, ".1f")


def points(difference: float, low: float, high: float) -> str:
    """A difference of shares with its interval, in points."""
    return between(difference, low, high, 100, "+.1f")


def aligned(rows: Sequence[Sequence[str]], left: Container[int] = (0,)) -> str:
    """Columns as wide as their widest entry; those of `left` begin alike, figures end alike."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            entry.ljust(width) if i in left else entry.rjust(width)
            for i, (entry, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def pipes(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as a Markdown table, figures to the right."""
    head, *body = rows
    rule = ["---" if i == 0 else "---:" for i in range(len(head))]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *body)]
