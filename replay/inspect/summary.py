"""A replay buffer as plain text for a terminal. Text of a model is shown with control characters escaped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from replay.experience import Experience
from replay.inspect.query import CALIBRATION_BINS, Detail, Group, Item, Overview, ReplayReader

Decode = Callable[[list[int]], str]

_MEANS = ("nodes", "value", "target", "|error|", "advantage", "priority", "tokens")
_TEXT_WIDTH = 60


def render_summary(
    folder: str | Path,
    decode: Decode | None = None,
    limit: int = 20,
    where: str | None = None,
    sort: str = "priority",
) -> str:
    """The buffer on one screen: counts, groups, spreads, and the first `limit` nodes by `sort`.

    `decode` turns token ids into text; None: the nodes are listed without their text.
    """
    with ReplayReader(folder) as reader:
        overview = reader.overview(where)
        top = reader.top(limit, sort, where)
        texts = [_own_text(reader.node(item.id).experience, decode) for item in top] if decode else None
    sections = [_heading(reader.path, overview, where)]
    if overview.num_matching:
        spreads = [(s.name, *(_number(x) for x in s[1:])) for s in overview.spreads]
        sections += [
            _titled("By action", _groups("action", overview.by_action)),
            _titled("By outcome", _groups("outcome", overview.by_outcome)),
            _titled("By predicted value", _groups("predicted", _named_bins(overview.by_value))),
            _titled("Spread", _table(("", "least", "median", "mean", "90 %", "most"), spreads)),
        ]
    if top:
        sections.append(_titled(f"First {len(top)} by {escape(sort)}", _items(top, texts)))
    return "\n\n".join(sections) + "\n"


def render_node(folder: str | Path, node_id: int, decode: Decode | None = None) -> str:
    """One node: where it comes from, its path, its own tokens with log-probs, what it teaches."""
    with ReplayReader(folder) as reader:
        detail = reader.node(node_id)
    experience = detail.experience
    sections = [_facts(detail)]
    if detail.ancestors:
        lines = [
            (str(a.id), str(a.node), escape(a.action), _number(a.value), _number(a.value_target))
            for a in detail.ancestors
        ]
        sections.append(_titled("Above it", _table(("id", "node", "action", "value", "target"), lines)))
    for title, ids in (("Context", experience.context), ("Own text", experience.ids)):
        shown = decode(ids.tolist()) if decode else " ".join(map(str, ids.tolist()))
        sections.append(_titled(f"{title} ({len(ids)} tokens)", escape(shown, keep_lines=True)))
    sections.append(_titled("Tokens", _tokens(experience, decode)))
    return "\n\n".join(sections) + "\n"


def escape(text: str, *, keep_lines: bool = False) -> str:
    """Text a terminal shows and never obeys: what is not printable stands as its escape."""
    return "".join(
        c if c.isprintable() or (keep_lines and c == "\n") else c.encode("unicode_escape").decode()
        for c in text
    )


def _heading(path: Path, overview: Overview, where: str | None) -> str:
    now = overview.position
    lines = [
        f"Replay buffer {escape(str(path))}",
        f"  {overview.num_live} live of {now.next_id} added; {now.evicted} evicted, {now.dropped} dropped, "
        f"{now.stale_updates} stale updates",
    ]
    if where:
        lines.append(f"  {overview.num_matching} match {escape(where)}")
    if overview.versions:
        lines.append(
            f"  versions {overview.versions[0]} to {overview.versions[1]}; arrays of "
            f"{overview.payload_bytes:,} bytes; effective sample size {overview.effective_sample_size:.1f}"
        )
    return "\n".join(lines)


def _groups(name: str, groups: Sequence[Group]) -> str:
    lines = [(escape(group.name), str(group.num_nodes), *(_number(x) for x in group[2:])) for group in groups]
    return _table((name, *_MEANS), lines)


def _named_bins(groups: Sequence[Group]) -> list[Group]:
    def named(group: Group) -> Group:
        low = int(group.name)
        return group._replace(name=f"{low / CALIBRATION_BINS:.1f} to {(low + 1) / CALIBRATION_BINS:.1f}")

    return [named(group) for group in groups]


def _items(items: Sequence[Item], texts: Sequence[str] | None) -> str:
    header = ("id", "problem", "tree", "node", "action", "age", "priority", "advantage")
    lines = []
    for i, item in enumerate(items):
        line = [str(item.id), escape(item.problem), escape(item.tree), str(item.node), escape(item.action)]
        line += [str(item.age), _number(item.priority), _number(item.advantage), _number(item.value)]
        line += [_number(item.value_target), _number(item.outcome), str(item.num_tokens)]
        lines.append([*line, texts[i]] if texts else line)
    return _table((*header, "value", "target", "outcome", "tokens", *(["text"] if texts else [])), lines)


def _facts(detail: Detail) -> str:
    e = detail.experience
    facts = [
        ("problem", escape(e.problem)),
        ("tree", escape(e.tree)),
        ("node", f"{e.node}, child of {e.parent}"),
        ("action", escape(e.action)),
        ("weights version", str(e.version)),
        ("temperature", _number(e.temperature)),
        ("priority", _number(detail.priority)),
        ("advantage", _number(e.advantage)),
        ("value", _number(e.value)),
        ("value target", _number(e.value_target)),
        ("outcome", _number(e.outcome)),
    ]
    return "\n".join([f"Node {detail.id} ({detail.state})", *(f"  {name:<16}{fact}" for name, fact in facts)])


def _tokens(e: Experience, decode: Decode | None) -> str:
    lines = []
    for i, token in enumerate(e.ids.tolist()):
        logprob = f"{e.logprobs[i]:.4f}" if e.sampled[i] else "forced"
        lines.append((str(i), str(token), logprob, escape(decode([token])) if decode else ""))
    sampled = e.logprobs[e.sampled]
    mean = f"mean log-prob {np.mean(sampled, dtype=np.float64):.4f}" if len(sampled) else "no log-prob"
    table = _table(("", "token", "log-prob", "text" if decode else ""), lines)
    return f"{table}\n  {len(sampled)} of {len(e.ids)} sampled, {mean}"


def _own_text(experience: Experience, decode: Decode) -> str:
    """What lies between the first and the last sampled token: what the policy wrote."""
    sampled = experience.sampled.nonzero()[0]
    written = experience.ids[sampled[0] : sampled[-1] + 1] if sampled.size else experience.ids
    text = escape(decode(written.tolist()))
    return text if len(text) <= _TEXT_WIDTH else text[: _TEXT_WIDTH - 3] + "..."


def _number(number: float | None) -> str:
    return "-" if number is None else f"{number:.4g}"


def _titled(title: str, text: str) -> str:
    return f"{title}\n{text}"


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; numbers to the right, the rest to the left."""
    columns = list(zip(header, *lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    to_right = [all(_is_number(cell) for cell in column[1:]) for column in columns]
    return "\n".join(
        "  "
        + "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, to_right, strict=True)
        ).rstrip()
        for line in (header, *lines)
    )


def _is_number(cell: str) -> bool:
    return (
        cell in ("-", "forced")
        or cell.lstrip("-").replace(".", "").replace("e", "").replace("+", "").isdigit()
    )
