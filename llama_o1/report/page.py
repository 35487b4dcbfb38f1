"""A report as one offline HTML file: tables, pictures inside it, and links to what lies beside it. No script.

Every text is escaped, names of sets, of runs and of settings too.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import yaml

from llama_o1.measure.cells import Table
from llama_o1.report.curves import Chart
from llama_o1.report.groups import Group, cost, last_values
from llama_o1.report.record import RunRecord
from llama_o1.report.table import (
    VALUE_METHODS,
    accuracy_table,
    cost_table,
    differences_table,
    duration,
    figure,
    notes,
)

_TEXTS = ("run", "seed", "method", "set", "setting", "thoughts")  # columns that hold no figures

_LABEL = (
    "What came of a thought: of a conclusion its grade; of a thought before it the share of right ones among "
    "the conclusions below it, which is the mean over single sampled completions, the usual label. [95 %]: "
    "bootstrap over problems. AUC: area under the ROC curve. ECE: expected calibration error in ten bins."
)


class Link(NamedTuple):
    """Something that lies beside the page."""

    words: str
    address: str  # from where the page lies; parts of it are quoted already


class Picture(NamedTuple):
    """A chart that was drawn."""

    chart: Chart
    png: bytes


def report_page(
    found: Sequence[Group],
    pictures: Sequence[Picture],
    links: Sequence[Link] = (),
    commands: Mapping[str, str] | None = None,
) -> str:
    """The page of one run, or of several beside each other. `commands`: what shows more, by what it shows."""
    runs = [run for group in found for run in group.runs]
    sections = [
        _section("Held-out accuracy", _table(accuracy_table(found)), *map(_words, notes(found))),
        *([_section("Runs", _table(cost_table(found)))] if len(runs) > 1 else []),
        *_differences(found),
        _section("Curves", f'<div class="charts">{"".join(map(_figure, pictures))}</div>')
        if pictures
        else "",
        *([_values(runs[0])] if len(runs) == 1 else []),
        _beside(links, commands or {}),
        *([_settings(runs[0])] if len(runs) == 1 else []),
    ]
    style = _asset("page.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    parts = {
        "title": html.escape(f"Run {runs[0].name}" if len(runs) == 1 else f"{len(runs)} runs compared"),
        "policy": f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:",
        "style": style,
        "place": html.escape(", ".join(str(run.path) for run in runs)),
        "facts": _facts(runs),
        "sections": "\n".join(filter(None, sections)),
    }
    return re.sub(r"@@(\w+)@@", lambda match: parts[match[1]], _asset("page.html"))


def _facts(runs: Sequence[RunRecord]) -> str:
    if len(runs) > 1:
        facts = {"runs": str(len(runs)), "seeds": ", ".join(sorted({str(run.seed) for run in runs}))}
    else:
        run, spent = runs[0], cost(runs[0])
        facts = {
            "iterations": f"{run.iteration} of {run.iterations}",
            "seed": str(run.seed),
            "model": str(run.config.get("model", {}).get("path", "-")),
            "trees": f"{spent.trees:,}",
            "thoughts": f"{spent.nodes:,}",
            "tokens of self-play": f"{spent.tokens:,}",
            "tokens of evaluation": f"{spent.evaluation_tokens:,}",
            "CPU time": "not written" if spent.cpu_s is None else duration(spent.cpu_s),
        }
    return "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(fact)}</dd></div>" for name, fact in facts.items()
    )


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{''.join(parts)}</section>"


def _words(text: str) -> str:
    return f'<p class="words">{html.escape(text)}</p>'


def _table(rows: Table) -> str:
    """The rows, the first as headings; changes clear of zero are coloured, means stand out."""
    head, *body = rows
    if not body:
        return _words("Nothing was evaluated yet.")
    texts = [name in _TEXTS for name in head]
    lines = [_row("th", head, texts)]
    for row in body:
        classes = [_change(cell) if name == "change" else "" for name, cell in zip(head, row, strict=True)]
        kind = ' class="mean"' if row[0].startswith("mean of ") else ""
        lines.append(_row("td", row, texts, classes).replace("<tr>", f"<tr{kind}>", 1))
    return f'<div class="wide" tabindex="0"><table>{"".join(lines)}</table></div>'


def _row(tag: str, cells: Sequence[str], texts: Sequence[bool], classes: Iterable[str] = ()) -> str:
    named = [*classes] or [""] * len(cells)
    made = []
    for cell, is_text, name in zip(cells, texts, named, strict=True):
        words = " ".join(filter(None, ("text" if is_text else "", name)))
        attribute = f' class="{words}"' if words else ""
        made.append(f"<{tag}{attribute}>{html.escape(cell)}</{tag}>")
    return f"<tr>{''.join(made)}</tr>"


def _change(cell: str) -> str:
    """`up` or `down` for a change whose interval is clear of zero."""
    ends = re.search(r"\[([+-][\d.]+), ([+-][\d.]+)\]", cell)
    if ends is None:
        return ""
    return "up" if float(ends[1]) > 0 else "down" if float(ends[2]) < 0 else ""


def _differences(found: Sequence[Group]) -> list[str]:
    rows = differences_table(found)
    return [] if rows is None else [_section("Settings that differ", _table(rows))]


def _figure(picture: Picture) -> str:
    chart = picture.chart
    source = "data:image/png;base64," + base64.b64encode(picture.png).decode()
    kind = {1: "", 2: ' class="two"'}.get(len(chart.panels), ' class="broad"')
    title, words = html.escape(chart.title), html.escape(chart.words)
    return (
        f'<figure{kind} id="{html.escape(chart.name)}"><h3>{title}</h3>'
        f'<img src="{source}" alt="{title}: {words}"><figcaption>{words}</figcaption></figure>'
    )


def _values(run: RunRecord) -> str:
    """How good the newest values are, by what kind of thought."""
    tables = []
    for method in VALUE_METHODS:
        values = last_values(run, method)
        if values:
            tables += [
                _words(f"By {method}, after iteration {values['step']}:"),
                _table(_values_table(values)),
            ]
    return _section("Values on held-out problems", *tables, _words(_LABEL)) if tables else ""


def _values_table(values: Mapping[str, Any]) -> Table:
    """Of all thoughts, of those that are no conclusion, by meta-action, and by depth."""
    named = [name.removeprefix("count_") for name in values if name.startswith("count_")]
    depths = sorted((name for name in named if name.startswith("depth_")), key=lambda name: int(name[6:]))
    actions = sorted(set(named) - set(depths) - {"inner"})
    rows: Table = [("thoughts", "count", "AUC", "ECE", "Brier")]
    for name in ("", *(name for name in ("inner", *actions, *depths) if name in named)):
        end = f"_{name}" if name else ""
        cells = [_of_group(values, key, end) for key in ("auc", "ece", "brier")]
        words = {"": "all", "inner": "before the conclusion"}.get(name, name.replace("_", " "))
        rows.append((words, str(values[f"count{end}"]), *cells))
    return rows


def _of_group(values: Mapping[str, Any], key: str, end: str) -> str:
    """A figure of all thoughts with its interval; of a group of them alone."""
    return figure(values if not end else {key: values[key + end]} if key + end in values else {}, key)


def _beside(links: Sequence[Link], commands: Mapping[str, str]) -> str:
    items = [
        f'<li><a href="{html.escape(link.address)}">{html.escape(link.words)}</a></li>' for link in links
    ]
    items += [
        f"<li>{html.escape(words)}: <code>{html.escape(command)}</code></li>"
        for words, command in commands.items()
    ]
    return _section("More of it", f"<ul>{''.join(items)}</ul>") if items else ""


def _settings(run: RunRecord) -> str:
    text = yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True)
    return f"<details><summary>Settings</summary><pre>{html.escape(text)}</pre></details>"


def _asset(name: str) -> str:
    return (files("llama_o1.report") / name).read_text("utf-8")
