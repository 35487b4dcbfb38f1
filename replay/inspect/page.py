"""A buffer as one offline page: histograms, a table of nodes, and each node with its tokens.

Whatever a model wrote is data: it cannot leave the element that holds it, and the script sets it as text.
The page's style and script lie beside this file. The same page, empty, asks a server (serve.py).
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any, Protocol

from replay.experience import Experience
from replay.inspect.items import Detail, Held, Item
from replay.inspect.overview import SAMPLE, overview
from replay.inspect.query import ReplayReader

MOST_ROWS = 100_000  # of one page
MOST_TOKENS = 1_000  # rows whose tokens a page holds one by one
SCRIPTS = ("charts.js", "table.js", "panel.js", "page.js")  # in this order, one script
_CODED = ("problem", "tree", "action")  # texts that repeat
_DIGITS = 6

Json = dict[str, Any]


class Pieces(Protocol):
    """How tokens become text."""

    def decode_all(self, rows: list[list[int]]) -> list[str]:
        """The text of many rows of ids."""
        ...

    def pieces(self, experience: Experience) -> Sequence[tuple[str, float | None]]:
        """A node's own tokens as text, each with its log-prob; None where it was forced."""
        ...


def offline_page(
    reader: ReplayReader,
    texts: Pieces | None,
    ids: Sequence[int],
    *,
    where: str | None = None,
    sort: str = "priority",
    sample: int = SAMPLE,
    trees: Mapping[str, str] | None = None,
) -> str:
    """One HTML file with no network that holds these nodes, the first by `sort` of those that fit.

    `trees`: where the page of a tree lies, by its name; the local id of a node is put behind it.
    """
    held = list(reader.held(ids))
    data = {
        "overview": overview_json(reader, where, sample),
        "nodes": nodes_json(held, texts),
        "sort": sort,
        "trees": dict(trees or {}),
        "tokens": [_tokens(one.experience, texts) for one in held[:MOST_TOKENS]],
    }
    return _page(data, "connect-src 'none'")


def live_page() -> str:
    """The page that asks the server it came from."""
    return _page(None, "connect-src 'self'")


def overview_json(reader: ReplayReader, where: str | None = None, sample: int = SAMPLE) -> Json:
    """The overview as JSON can hold it, with the file and the condition."""
    found = overview(reader, where, sample)
    named = asdict(found) | {
        "position": found.position._asdict(),
        "spreads": [spread._asdict() for spread in found.spreads],
        "histograms": [histogram._asdict() for histogram in found.histograms],
    }
    for groups in ("by_action", "by_outcome", "by_version", "by_value"):
        named[groups] = [group._asdict() for group in getattr(found, groups)]
    return {"file": str(reader.path), "where": where, "is_sample": found.is_sample, **named}


def nodes_json(held: Sequence[Held], texts: Pieces | None) -> Json:
    """Columns of nodes, with `text`, what was written; one that repeats is a place among its `names`."""
    columns: Json = {
        name: [_short(getattr(one.item, name)) for one in held] for name in Item.__dataclass_fields__
    }
    for name in _CODED:
        names = list(dict.fromkeys(columns[name]))
        place = {text: i for i, text in enumerate(names)}
        columns[name] = {"names": names, "places": [place[text] for text in columns[name]]}
    columns["text"] = texts.decode_all([written(one.experience) for one in held]) if texts else None
    return columns


def node_json(detail: Detail, texts: Pieces | None) -> Json:
    """One node with its tokens, and what lies above it."""
    e = detail.experience
    above = [
        {"id": one.id, **_facts(one.experience), "text": _text(one.experience, texts)}
        for one in reversed(detail.ancestors)
    ]
    own = {"id": detail.id, "state": detail.state, "priority": detail.priority, "draws": detail.draws}
    return {**own, **_facts(e), "text": _text(e, texts), "tokens": _tokens(e, texts), "above": above}


def written(experience: Experience) -> list[int]:
    """The ids between the first and the last that the policy sampled."""
    sampled = experience.sampled.nonzero()[0]
    ids: list[int] = experience.ids.tolist()
    return ids[sampled[0] : sampled[-1] + 1] if sampled.size else ids


def to_json(value: object) -> str:
    """JSON that no HTML or script parser can end early, whatever text it holds."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))  # ASCII, so U+2028 is escaped
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _facts(e: Experience) -> Json:
    names = ("problem", "tree", "node", "parent", "action", "version", "temperature")
    numbers = ("advantage", "value", "value_target", "outcome")
    return {name: getattr(e, name) for name in (*names, *numbers)}


def _text(experience: Experience, texts: Pieces | None) -> str | None:
    return texts.decode_all([written(experience)])[0] if texts else None


def _tokens(e: Experience, texts: Pieces | None) -> list[Any]:
    """Text and log-prob of each token, or its id where there is no text."""
    if texts is not None:
        return [[text, _short(logprob)] for text, logprob in texts.pieces(e)]
    pairs = zip(e.ids.tolist(), e.logprobs.tolist(), e.sampled.tolist(), strict=True)
    return [[str(token), _short(logprob) if sampled else None] for token, logprob, sampled in pairs]


def _short(value: Any) -> Any:
    """A number with as many digits as a page shows."""
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    return float(f"{value:.{_DIGITS}g}")


def _page(data: Json | None, connect: str) -> str:
    style, script = _asset("page.css"), "".join(map(_asset, SCRIPTS))
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:"
    name = "Replay buffer" if data is None else f"Replay buffer {data['overview']['file']}"
    parts = {
        "title": html.escape(name),
        "policy": f"{policy}; {connect}; base-uri 'none'; form-action 'none'",
        "style": style,
        "script": script,
        "data": to_json(data),
    }
    return re.sub(r"@@(\w+)@@", lambda found: parts[found[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return (files("replay.inspect") / name).read_text("utf-8")


def _hash(inline: str) -> str:
    """The content security policy's word for exactly this inline style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'"
