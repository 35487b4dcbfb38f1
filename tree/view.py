"""Trees for people: an indented tree for a terminal, and one offline HTML file.

Whatever a model wrote is shown as text: control characters are escaped in a terminal, and the page
carries its texts as data. Reads nodes and rows; must not know tokens, torch or clocks.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tree.actions import MetaAction
from tree.node import Node
from tree.record import from_row


def terminal_tree(
    nodes: Sequence[Node],
    *,
    colour: bool,
    width: int,
    best: Collection[int] | None = None,
    plain: bool = False,
) -> str:
    """The tree in lines of at most `width` cells (60 at least), most visited siblings first.

    `best` holds indices of the nodes to star, the winning line. `plain` writes ASCII only.
    """
    signs = _ASCII if plain else _UNICODE
    sheet = _Sheet(
        signs=signs,
        colour=colour,
        width=max(width, 60),
        id_cells=max(2, *(len(str(node.local_id)) for node in nodes)),
        visit_cells=max(6, *(len(str(node.visits)) for node in nodes)),
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


def html_page(rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """One HTML file that shows the rows with no network: tree, path, filters, search.

    ValueError when a row is not what `record.to_row` writes.
    """
    best = []
    for row in rows:
        nodes, _ = from_row(row)
        leaf = best_leaf(nodes, row["answer"])
        best.append(None if leaf is None else nodes[leaf].local_id)
    style, script = _asset("page.css"), _asset("page.js") + _asset("panels.js")
    parts = {
        "title": html.escape(title),
        "policy": f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:",
        "style": style,
        "script": script,
        "data": _embedded({"rows": list(rows), "best": best}),
    }
    return re.sub(r"@@(\w+)@@", lambda found: parts[found[1]], _asset("page.html"))


def best_leaf(nodes: Sequence[Node], answer: str | None) -> int | None:
    """Index of the conclusion with this answer and the highest value, the first of equals; as `Vote.leaf`."""
    if answer is None:
        return None
    leaves = [node for node in nodes if node.terminal and node.answer == answer]
    strongest = max(leaves, key=lambda node: node.value or 0.0, default=None)
    return None if strongest is None else strongest.index


_REMAINING = re.compile(r"<remaining>(\d+/\d+)</remaining>")


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


_UNICODE = _Signs("├╴", "└╴", "│ ", "…", "★", "✓", "✗", "○", "–")
_ASCII = _Signs("|-", "`-", "| ", "~", "*", "+", "x", "o", "-")

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


class _Sheet(NamedTuple):
    """How wide the columns of one printed tree are and what they are drawn with."""

    signs: _Signs
    colour: bool
    width: int
    id_cells: int
    visit_cells: int
    best: frozenset[int]

    @property
    def columns(self) -> int:
        """Cells before the guides: star, id, action, value, q, visits and mark, a space after each."""
        return 2 + self.id_cells + 1 + 8 + 1 + 5 + 1 + 4 + 1 + self.visit_cells + 1 + 2

    def paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and code else text


def _heading(sheet: _Sheet) -> str:
    ids, visits = "id".rjust(sheet.id_cells), "visits".rjust(sheet.visit_cells)
    return sheet.paint(f"  {ids} {'action':8} value {'q':>4} {visits}   thought", _DIM)


def _line(sheet: _Sheet, node: Node, guides: str) -> str:
    """One node: columns that line up, then guides and as much text as fits."""
    signs = sheet.signs
    starred = node.index in sheet.best
    mark, mark_code = _mark(node, signs)
    answer = "" if node.answer is None else f"= {node.answer} {signs.rail}"
    text = _fit(answer + node.text, sheet.width - sheet.columns - len(guides), signs)
    q = f"{node.q:.2f}" if node.visits else signs.none
    value = signs.none if node.value is None else f"{node.value:.2f}"
    cells = (
        sheet.paint(signs.star, _GOLD) if starred else " ",
        sheet.paint(str(node.local_id).rjust(sheet.id_cells), _DIM),
        sheet.paint(node.action.value.ljust(8), _ACTION_COLOURS[node.action]),
        sheet.paint(value.rjust(5), _value_colour(node.value)),
        sheet.paint(q.rjust(4), _value_colour(node.q if node.visits else None)),
        str(node.visits).rjust(sheet.visit_cells),
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


def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text("utf-8")


def _embedded(value: object) -> str:
    """JSON that no HTML or script parser can end early, whatever text it holds."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))  # ASCII, so U+2028 is escaped
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(inline: str) -> str:
    """The content security policy's word for exactly this inline style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'"
