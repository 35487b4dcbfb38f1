"""A replay buffer as plain text for a terminal. Text of a model is shown with control characters escaped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from replay.experience import Experience
from replay.inspect.items import Ancestor, Detail, Held
from replay.inspect.overview import CALIBRATION_BINS, SAMPLE, Group, Overview, overview
from replay.inspect.query import ReplayReader
from replay.inspect.text import (
    ASCII,
    UNICODE,
    Signs,
    bar,
    escape,
    number,
    shortened,
    sparkline,
    table,
    titled,
)

Decode = Callable[[list[int]], str]
Lineage = Callable[[str], Mapping[str, str]]  # name of a tree: what is known of where it comes from

_MEANS = ("value", "target", "|error|", "advantage", "priority", "tokens")
_TEXT_WIDTH = 60
_BAR_WIDTH = 16


def render_summary(
    folder: str | Path,
    decode: Decode | None = None,
    limit: int = 10,
    where: str | None = None,
    sort: str = "priority",
    *,
    sample: int = SAMPLE,
    plain: bool = False,
) -> str:
    """The buffer on one screen: counts, groups, spreads, and the first `limit` nodes by `sort`.

    `decode` turns token ids into text; None: the nodes are listed without their text. `sample`: most
    nodes looked at for what is not counted over all; 0: all. `plain` draws with ASCII only.
    """
    signs = ASCII if plain else UNICODE
    with ReplayReader(folder) as reader:
        found = overview(reader, where, sample)
        top = reader.top(limit, sort, where)
        held = list(reader.held([item.id for item in top]))
    sections = [_heading(reader.path, found, where)]
    if found.num_matching:
        sections += [
            titled("By action", _groups("action", found.by_action, found, signs)),
            titled("By outcome", _groups("outcome", found.by_outcome, found, signs)),
            titled("By version", _groups("version", _in_turn(found.by_version), found, signs)),
            titled("By predicted value", _groups("predicted", _named_bins(found.by_value), found, signs)),
            titled("Spread", _spreads(found, signs)),
        ]
    if held:
        sections.append(titled(f"First {len(held)} by {escape(sort)}", _items(held, decode, signs)))
    return "\n\n".join(sections) + "\n"


def render_node(
    folder: str | Path, node_id: int, decode: Decode | None = None, lineage: Lineage | None = None
) -> str:
    """One node: where it comes from, its path, its own tokens with log-probs, what it teaches."""
    with ReplayReader(folder) as reader:
        detail = reader.node(node_id)
    experience = detail.experience
    sections = [_facts(detail, lineage)]
    if detail.ancestors:
        sections.append(titled("Path, from the root's side", _path(detail, decode)))
    for title, ids in (("Context", experience.context), ("Own text", experience.ids)):
        shown = decode(ids.tolist()) if decode else " ".join(map(str, ids.tolist()))
        sections.append(titled(f"{title} ({len(ids)} tokens)", escape(shown, keep_lines=True)))
    sections.append(titled("Tokens", _tokens(experience, decode)))
    return "\n\n".join(sections) + "\n"


def own_text(experience: Experience, decode: Decode) -> str:
    """What lies between the first and the last sampled token: what the policy wrote."""
    sampled = experience.sampled.nonzero()[0]
    written = experience.ids[sampled[0] : sampled[-1] + 1] if sampled.size else experience.ids
    return decode(written.tolist())


def _heading(path: Path, found: Overview, where: str | None) -> str:
    now = found.position
    lines = [
        f"Replay buffer {escape(str(path))}",
        f"  {found.num_live:,} live of {now.added:,} added; {now.evicted:,} evicted, {now.dropped:,} "
        f"dropped, {now.stale_updates:,} stale updates",
    ]
    if where and where.strip():
        lines.append(f"  {found.num_matching:,} match {escape(where)}")
    if found.is_sample:
        lines.append(
            f"  groups, bytes and spreads are estimates from {found.num_looked_at:,} nodes spread evenly "
            "over these; --sample 0 looks at all"
        )
    if found.versions:
        drawn, never = found.draws
        among = f" among the {found.num_looked_at:,}" if found.is_sample else ""
        lines += [
            f"  versions {found.versions[0]} to {found.versions[1]}; arrays of "
            f"{_estimated(found.payload_bytes, found)} bytes; {found.duplicates:,} duplicates{among}",
            f"  effective sample size {found.effective_sample_size:,.1f}; drawn {drawn:,} times, "
            f"{never:,} nodes never",
        ]
    return "\n".join(lines)


def _groups(name: str, groups: Sequence[Group], found: Overview, signs: Signs) -> str:
    most = max(group.num_nodes for group in groups)
    lines = [
        (
            escape(group.name),
            _estimated(group.num_nodes, found),
            bar(group.num_nodes, most, _BAR_WIDTH, signs),
            *(number(x) for x in group[2:]),
        )
        for group in groups
    ]
    return table((name, "nodes", "", *_MEANS), lines)


def _estimated(count: int, found: Overview) -> str:
    """A count of the items looked at, or three digits of what that means for all."""
    if not found.is_sample:
        return f"{count:,}"
    return f"~{int(float(f'{count * found.num_matching / found.num_looked_at:.2e}')):,}"


def _in_turn(groups: Sequence[Group]) -> list[Group]:
    """The newest ten versions; those before them as one line."""
    if len(groups) <= 11:
        return list(groups)
    older, newest = groups[:-10], groups[-10:]
    counts = [group.num_nodes for group in older]
    means = np.average([group[2:] for group in older], axis=0, weights=counts)
    first = Group(f"{older[0].name} to {older[-1].name}", sum(counts), *means.tolist())
    return [first, *newest]


def _named_bins(groups: Sequence[Group]) -> list[Group]:
    def named(group: Group) -> Group:
        low = int(group.name)
        return group._replace(name=f"{low / CALIBRATION_BINS:.1f} to {(low + 1) / CALIBRATION_BINS:.1f}")

    return [named(group) for group in groups]


def _spreads(found: Overview, signs: Signs) -> str:
    drawn = {histogram.name: sparkline(histogram.counts, signs) for histogram in found.histograms}
    header = ("", "least", "median", "mean", "90 %", "most", "from least to most")
    lines = [(s.name, *(number(x) for x in s[1:]), drawn.get(s.name, "")) for s in found.spreads]
    return table(header, lines)


def _items(held: Sequence[Held], decode: Decode | None, signs: Signs) -> str:
    header = ("id", "problem", "tree", "node", "action", "age", "priority", "draws", "advantage", "value")
    lines = []
    for item, experience in held:
        line = [str(item.id), *map(escape, (item.problem, item.tree)), str(item.node), escape(item.action)]
        line += [str(item.age), number(item.priority), number(item.draws), number(item.advantage)]
        line += [number(item.value), number(item.value_target), number(item.outcome), str(item.num_tokens)]
        if decode:
            line.append(shortened(own_text(experience, decode), _TEXT_WIDTH, signs))
        lines.append(line)
    return table((*header, "target", "outcome", "tokens", *(["text"] if decode else [])), lines)


def _facts(detail: Detail, lineage: Lineage | None) -> str:
    e = detail.experience
    facts = [
        *(lineage(e.tree).items() if lineage else ()),
        ("problem", e.problem),
        ("tree", e.tree),
        ("node", f"{e.node}, child of {e.parent}"),
        ("action", e.action),
        ("weights version", str(e.version)),
        ("temperature", number(e.temperature)),
        ("priority", number(detail.priority)),
        ("draws", number(detail.draws)),
        ("advantage", number(e.advantage)),
        ("value", number(e.value)),
        ("value target", number(e.value_target)),
        ("outcome", number(e.outcome)),
    ]
    lines = (f"  {name:<16}{escape(fact)}" for name, fact in facts)
    return "\n".join([f"Node {detail.id} ({detail.state})", *lines])


def _path(detail: Detail, decode: Decode | None) -> str:
    """The thoughts above and this one, with what each was worth."""
    path = [*reversed(detail.ancestors), Ancestor(detail.id, detail.experience)]
    lines = []
    for node_id, e in path:
        line = [str(node_id), str(e.node), escape(e.action), number(e.value), number(e.value_target)]
        line.append(number(e.advantage))
        if decode:
            line.append(shortened(own_text(e, decode), _TEXT_WIDTH, UNICODE))
        lines.append(line)
    return table(
        ("id", "node", "action", "value", "target", "advantage", *(["text"] if decode else [])), lines
    )


def _tokens(e: Experience, decode: Decode | None) -> str:
    lines = []
    for i, token in enumerate(e.ids.tolist()):
        logprob = f"{e.logprobs[i]:.4f}" if e.sampled[i] else "forced"
        lines.append((str(i), str(token), logprob, escape(decode([token])) if decode else ""))
    sampled = e.logprobs[e.sampled]
    mean = f"mean log-prob {np.mean(sampled, dtype=np.float64):.4f}" if len(sampled) else "no log-prob"
    listed = table(("", "token", "log-prob", "text" if decode else ""), lines)
    return f"{listed}\n  {len(sampled)} of {len(e.ids)} sampled, {mean}"
