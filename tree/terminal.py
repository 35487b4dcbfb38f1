"""A tree for a terminal: one line a thought, indented, coloured where colours are wanted.

Whatever a model wrote is shown as text, control characters escaped. Must not know tokens, torch or clocks.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, TextIO

from tree.actions import MetaAction
from tree.node import Node


def terminal_tree(
    nodes: Sequence[Node],
    *,
    colour: bool,
    width: int,
    best: Collection[int] | None = None,
    plain: bool = False,
) -> str:
    """The tree in lines of at most `width` cells (60 at least), most visited siblings first.

    Columns: id, meta-action, the model's value with its frozen rating (a sign), Q, visits, how it ended.
    `best` holds indices of the nodes to star, the winning line. `plain` writes ASCII only.
    """
    signs = _ASCII if plain else _UNICODE
    sheet = _Sheet(
        signs=signs,
        colour=colour,
        width=max(width, 60),
        id_cells=max(2, *(len(str(node.local_id)) for node in nodes)),
        visit_cells=max(6, *(len(str(node.visits)) for node in nodes)),
        most_visits=max(node.visits for node in nodes),
        best=frozenset(best or ()),
    )
    lines = [_heading(sheet)]
    room = (sheet.width - sheet.columns) // 4 * 2  # an even half: guides are two cells a level
    stack = [(0, "", "")]  # index, guides of its own line, guides its children continue
    while stack:
        index, own, below = stack.pop()
        lines.append(_line(sheet, nodes[index], own))
        ordered = sorted(nodes[index].children, key=lambda i: (-nodes[i].visits, nodes[i].local_id))
        for rank, child in reversed(list(enumerate(ordered))):
            last = rank == len(ordered) - 1
            branch, rail = (signs.corner, "  ") if last else (signs.branch, signs.rail)
            stack.append((child, _clip(below + branch, room, signs), _clip(below + rail, room, signs)))
    return "\n".join(lines)


def one_line(text: str, *, plain: bool = False) -> str:
    """The whole text on one line, with nothing a terminal would obey; `plain` writes ASCII only."""
    return "".join(_printed(c, ascii_only=plain)[0] for c in " ".join(text.split()))


def wants_colour(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether to colour what is written there: a terminal that can, and no NO_COLOR (no-color.org)."""
    return stream.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def writes_signs(stream: TextIO) -> bool:
    """Whether the stream's encoding holds the signs a tree is drawn with; elsewhere it is drawn plain."""
    try:
        "".join(_UNICODE).encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


_REMAINING = re.compile(r"<remaining>(\d+(?:/\d+)?)</remaining>")


class _Signs(NamedTuple):
    """What a tree is drawn with."""

    branch: str
    corner: str
    rail: str
    cut: str  # the rest of a text or of the guides is left out
    star: str
    right: str
    wrong: str
    ungraded: str
    none: str
    positive: str  # the rating the thought was given
    negative: str


_UNICODE = _Signs("├╴", "└╴", "│ ", "…", "★", "✓", "✗", "○", "–", "▲", "▼")
_ASCII = _Signs("|-", "`-", "| ", "~", "*", "+", "x", "o", "-", "^", "v")

_BOLD, _DIM, _GOLD = "1", "2", "1;33"
_ACTION_COLOURS = {
    MetaAction.PROBLEM: "1",
    MetaAction.EXPAND: "34",
    MetaAction.DIVIDE: "35",
    MetaAction.CRITIC: "33",
    MetaAction.REFINE: "36",
    MetaAction.CONCLUDE: "32",
}
_VALUE_COLOURS = ("38;5;167", "38;5;173", "38;5;179", "38;5;143", "38;5;107", "38;5;71")  # red to green
_VISIT_COLOURS = ("2", "38;5;67", "38;5;74", "38;5;80", "1;38;5;87")  # few to most, on a log scale


class _Sheet(NamedTuple):
    """How wide the columns of one printed tree are and what they are drawn with."""

    signs: _Signs
    colour: bool
    width: int
    id_cells: int
    visit_cells: int
    most_visits: int
    best: frozenset[int]

    @property
    def columns(self) -> int:
        """Cells before the guides: star, id, action, value, q, visits and mark, a space after each."""
        return 2 + self.id_cells + 1 + 8 + 1 + 6 + 1 + 4 + 1 + self.visit_cells + 1 + 2

    def paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and code else text


def _heading(sheet: _Sheet) -> str:
    ids, visits = "id".rjust(sheet.id_cells), "visits".rjust(sheet.visit_cells)
    return sheet.paint(f"  {ids} {'action':8} {'value':6} {'q':>4} {visits}   thought", _DIM)


def _line(sheet: _Sheet, node: Node, guides: str) -> str:
    """One node: columns that line up, then guides and as much text as fits."""
    signs = sheet.signs
    starred = node.index in sheet.best
    mark, mark_code = _mark(node, signs)
    answer = "" if node.answer is None else f"= {node.answer} {signs.rail}"
    text = _fit(answer + node.text, sheet.width - sheet.columns - len(guides), signs)
    q = f"{node.q:.2f}" if node.visits else signs.none
    value = f"{signs.none} " if node.value is None else f"{node.value:.2f}{_rating(node.value, signs)}"
    cells = (
        sheet.paint(signs.star, _GOLD) if starred else " ",
        sheet.paint(str(node.local_id).rjust(sheet.id_cells), _DIM),
        sheet.paint(node.action.value.ljust(8), _ACTION_COLOURS[node.action]),
        sheet.paint(value.rjust(6), _value_colour(node.value)),
        sheet.paint(q.rjust(4), _value_colour(node.q if node.visits else None)),
        sheet.paint(str(node.visits).rjust(sheet.visit_cells), _visit_colour(node.visits, sheet.most_visits)),
        sheet.paint(mark, mark_code),
        sheet.paint(guides, _DIM) + sheet.paint(text, _BOLD if starred else ""),
    )
    return " ".join(cells).rstrip()


def _mark(node: Node, signs: _Signs) -> tuple[str, str]:
    """Sign and colour of a node's end: graded right, graded wrong, ended ungraded, or going on."""
    if node.outcome is not None:
        right = node.outcome >= 0.5
        return (signs.right, _VALUE_COLOURS[-1]) if right else (signs.wrong, _VALUE_COLOURS[0])
    return (signs.ungraded, _DIM) if node.terminal else (" ", "")


def _value_colour(value: float | None) -> str:
    if value is None:
        return _DIM
    return _VALUE_COLOURS[min(int(value * len(_VALUE_COLOURS)), len(_VALUE_COLOURS) - 1)]


def _visit_colour(visits: int, most: int) -> str:
    share = math.log1p(visits) / math.log1p(most) if most else 0.0
    return _VISIT_COLOURS[min(int(share * len(_VISIT_COLOURS)), len(_VISIT_COLOURS) - 1)]


def _rating(value: float, signs: _Signs) -> str:
    """The sign of the rating that the value froze to when the thought was made."""
    return signs.positive if value >= 0.5 else signs.negative


def _clip(guides: str, room: int, signs: _Signs) -> str:
    """Guides of at most `room` cells; the nearest levels stay."""
    return guides if len(guides) <= room else f"{signs.cut} {guides[-(room - 2) :]}"


def _fit(text: str, cells: int, signs: _Signs) -> str:
    """The text on one line with nothing a terminal would obey, cut to this many cells."""
    text = " ".join(_REMAINING.sub(r"[\1 left] ", text).split())
    shown: list[tuple[str, int]] = []
    used = 0
    for character in text:
        shown.append(_printed(character, ascii_only=signs is _ASCII))
        used += shown[-1][1]
        if used > cells:
            break
    else:
        return "".join(piece for piece, _ in shown)
    while used >= cells:
        used -= shown.pop()[1]
    return "".join(piece for piece, _ in shown) + signs.cut


def _printed(character: str, *, ascii_only: bool) -> tuple[str, int]:
    """How a terminal is given a character, and the most cells that takes; a pile of marks is no free ride."""
    if not character.isprintable() or (ascii_only and not character.isascii()):
        escaped = character.encode("unicode_escape").decode("ascii")
        return escaped, len(escaped)
    return character, 2 if unicodedata.east_asian_width(character) in "WF" else 1
