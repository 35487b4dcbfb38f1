"""Trees as one offline HTML file: the rows as data, and the style and scripts that show them.

Whatever a model wrote is data: it cannot leave the element that holds it, and the scripts set it as text.
The scripts lie beside this file and are joined into one, page.js (what is on show) first and panels.js, which
starts it all, last. Must not know tokens, torch or clocks.

Beside what `record.to_row` writes, a row may hold `name` (what the tree is called), `leaf` (the id of its
winning conclusion) and `curve` (its answer at earlier budgets, `[tokens, nodes, answer, confidence]` each), a
node `pieces` (see pieces.py), `priority`, `value_target` and `advantage` (numbers, what the node teaches).
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, cast

from tree.node import Node
from tree.pieces import check_pieces
from tree.record import from_row

SCRIPTS = ("page.js", "diff.js", "lines.js", "path.js", "keys.js", "panels.js")
LESSONS = ("priority", "value_target", "advantage")


def html_page(
    rows: Sequence[Mapping[str, Any]], title: str, *, compare: tuple[int, int] | None = None
) -> str:
    """One HTML file that shows the rows with no network: tree, path, tokens, filters, search, diff.

    `compare` holds indices of two rows of the same problem that are shown side by side at first.
    ValueError when a row is not what the page can show, or the two are of different problems.
    """
    best: list[int | None] = []
    for row in rows:
        nodes, _ = from_row(row)
        _check_extras(row)
        leaf = winning_leaf(nodes, row)
        best.append(None if leaf is None else nodes[leaf].local_id)
    if compare is not None and rows[compare[0]]["problem"] != rows[compare[1]]["problem"]:
        raise ValueError("two trees can be compared when they are of the same problem, these are not")
    style, script = _asset("page.css"), "".join(map(_asset, SCRIPTS))
    parts = {
        "title": html.escape(title),
        "policy": f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:",
        "style": style,
        "script": script,
        "data": _embedded({"rows": list(rows), "best": best, "compare": compare}),
    }
    return re.sub(r"@@(\w+)@@", lambda found: parts[found[1]], _asset("page.html"))


def winning_leaf(nodes: Sequence[Node], row: Mapping[str, Any]) -> int | None:
    """Index of the conclusion that the row names as its `leaf`; else of the best with the row's answer."""
    named = next((node.index for node in nodes if node.local_id == row.get("leaf")), None)
    return best_leaf(nodes, row["answer"]) if named is None else named


def best_leaf(nodes: Sequence[Node], answer: str | None) -> int | None:
    """Index of the conclusion with this answer and the highest value, the first of equals; as `Vote.leaf`."""
    if answer is None:
        return None
    leaves = [node for node in nodes if node.answer == answer]
    strongest = max(leaves, key=lambda node: node.value or 0.0, default=None)
    return None if strongest is None else strongest.index


def _check_extras(row: Mapping[str, Any]) -> None:
    if not isinstance(row.get("name", ""), str):
        raise ValueError(f"row: name must be a string, got {row['name']!r:.60}")
    curve: object = row.get("curve") or []
    if not (isinstance(curve, list) and all(map(_is_point, cast(list[object], curve)))):
        raise ValueError("row: curve must be a list of [tokens, nodes, answer or null, confidence]")
    for position, record in enumerate(row["nodes"]):
        where = f"row, node at position {position}"
        check_pieces(record.get("pieces"), where)
        for key in LESSONS:
            figure = record.get(key)
            if figure is not None and not _is_number(figure):
                raise ValueError(f"{where}: {key} must be a number or null, got {figure!r:.60}")


def _is_point(point: object) -> bool:
    figures = cast(Sequence[object], point) if isinstance(point, list | tuple) else ()
    if len(figures) != 4:
        return False
    tokens, nodes, answer, confidence = figures
    return all(map(_is_number, (tokens, nodes, confidence))) and (answer is None or isinstance(answer, str))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _asset(name: str) -> str:
    return (files("tree") / name).read_text("utf-8")


def _embedded(value: object) -> str:
    """JSON that no HTML or script parser can end early, whatever text it holds."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))  # ASCII, so U+2028 is escaped
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(inline: str) -> str:
    """The content security policy's word for exactly this inline style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'"
