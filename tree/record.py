"""Search trees as rows on disk: one JSON object a problem, one line a row.

Ids in a row are local ids, the ones a prompt shows. Derived numbers (prior, q, depth) are written for
readers and worked out again when a row is read. A node's payload and requests in flight are not written.
"""

from __future__ import annotations

import json
import math
import os
import reprlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from tree.actions import MetaAction
from tree.node import Node

FORMAT = 1  # of a row; raised when an older reader would misread a newer row

Row = dict[str, Any]


def to_row(
    nodes: Sequence[Node],
    *,
    problem: str,
    answer: str | None,
    confidence: float | None,
    tokens_used: int,
    seconds: float | None = None,
    **extra: object,
) -> Row:
    """One searched problem as a row that JSON can hold; `extra` keys stand beside ours."""
    if "format" in extra:
        raise ValueError("a row's own key cannot be given as extra: 'format'")
    priors = _priors(nodes)
    return {
        "format": FORMAT,
        "problem": problem,
        "answer": answer,
        "confidence": confidence,
        "tokens_used": tokens_used,
        "seconds": seconds,
        **extra,
        "nodes": [_to_record(nodes, node, prior) for node, prior in zip(nodes, priors, strict=True)],
    }


def from_row(row: Mapping[str, Any]) -> tuple[list[Node], Row]:
    """The nodes of a row and its other keys, such that `to_row(nodes, **rest)` gives the row again.

    ValueError when the row is of a newer format, lacks a key, or its nodes are not one tree with
    parents before children.
    """
    version = _checked(row, {"format": _Field(int, 1)}, "row")["format"]
    if version > FORMAT:
        raise ValueError(f"row has format {version}, this release reads up to {FORMAT}; update llama-o1")
    records = _checked(row, _ROW_FIELDS, "row")["nodes"]
    if not records:
        raise ValueError("row: nodes is empty, expected at least the root")
    nodes: list[Node] = []
    index_of: dict[int, int] = {}
    for position, record in enumerate(records):
        node = _to_node(record, nodes, index_of, f"row, node at position {position}")
        if node.parent >= 0:
            nodes[node.parent].children.append(position)
        index_of[node.local_id] = position
        nodes.append(node)
    return nodes, {key: value for key, value in row.items() if key not in ("format", "nodes")}


def write_rows(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace a file by these rows, whole or not at all; a pipe or device is written straight through.

    ValueError, and the file as it was, when a row holds NaN or an infinity.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        with path.open("w", encoding="ascii") as stream:
            stream.writelines(map(_to_line, rows))
        return
    path = path.resolve()  # a link stays a link, its target is replaced
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="ascii", newline="\n") as file:
            file.writelines(map(_to_line, rows))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def read_rows(path: str | Path) -> Iterator[Row]:
    """Every row of a file, checked as `from_row` does; ValueError names file and line.

    Blank lines are skipped.
    """
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode(), parse_constant=_refuse_constant)
                from_row(row)
            except RecursionError:
                raise ValueError(f"{path}, line {number}: nested too deeply for a row") from None
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
            yield row


class _Field(NamedTuple):
    """What a key of a row may hold."""

    kind: type
    low: float = -sys.float_info.max
    high: float = sys.float_info.max
    nullable: bool = False

    def holds(self, value: object) -> bool:
        if value is None:
            return self.nullable
        if isinstance(value, bool) or self.kind not in (int, float):
            return type(value) is self.kind
        if isinstance(value, int) or (self.kind is float and isinstance(value, float)):
            return self.low <= value <= self.high  # false for NaN
        return False

    def __str__(self) -> str:
        words = {int: "an integer", float: "a number", str: "a string", bool: "true or false", list: "a list"}
        limits = f" of at least {self.low:g}" if self.low > -sys.float_info.max else ""
        limits += f" and at most {self.high:g}" if self.high < sys.float_info.max else ""
        return words[self.kind] + limits + (" or null" if self.nullable else "")


_SHARE = _Field(float, 0, 1)
_SHARE_OR_NULL = _Field(float, 0, 1, nullable=True)
_NUMBER_OR_NULL = _Field(float, nullable=True)
_COUNT = _Field(int, 0)
_STRING_OR_NULL = _Field(str, nullable=True)

_ROW_FIELDS = {
    "problem": _Field(str),
    "answer": _STRING_OR_NULL,
    "confidence": _SHARE_OR_NULL,
    "tokens_used": _COUNT,
    "seconds": _Field(float, 0, nullable=True),
    "nodes": _Field(list),
}
_NODE_FIELDS = {
    "id": _COUNT,
    "parent": _Field(int, -1),
    "action": _Field(str),
    "text": _Field(str),
    "visits": _COUNT,
    "value": _SHARE_OR_NULL,
    "prior": _SHARE,
    "terminal": _Field(bool),
    "q": _SHARE,
    "value_sum": _Field(float, 0),
    "count": _Field(int, 1),
    "logprob": _Field(float),
    "entropy": _NUMBER_OR_NULL,
    "varentropy": _NUMBER_OR_NULL,
    "answer": _STRING_OR_NULL,
    "outcome": _SHARE_OR_NULL,
    "tokens": _COUNT,
    "thinking_left": _COUNT,
    "depth": _COUNT,
    "closed": _Field(bool),
}
_OPTIONAL = {"preference": _SHARE, "line_logprob": _Field(float)}


def _checked(record: object, fields: Mapping[str, _Field], where: str) -> Mapping[str, Any]:
    """The record itself, once it holds every field as it should."""
    if not isinstance(record, Mapping):
        raise ValueError(f"{where}: expected an object, got {reprlib.repr(record)}")
    held = cast(Mapping[str, Any], record)
    for name, field in fields.items():
        if name not in held:
            raise ValueError(f"{where}: key {name!r} is missing")
        if not field.holds(held[name]):
            raise ValueError(f"{where}: {name} must be {field}, got {reprlib.repr(held[name])}")
    return held


def _to_record(nodes: Sequence[Node], node: Node, prior: float) -> Row:
    compared = {} if node.preference is None else {"preference": node.preference}
    drawn = {"line_logprob": node.line_logprob} if node.line_logprob else {}
    return {
        "id": node.local_id,
        "parent": nodes[node.parent].local_id if node.parent >= 0 else -1,
        "action": node.action.value,
        "text": node.text,
        "visits": node.visits,
        "value": node.value,
        "prior": prior,
        "terminal": node.terminal,
        "q": node.q,
        "value_sum": node.value_sum,
        "count": node.count,
        "logprob": node.logprob,
        "entropy": node.entropy,
        "varentropy": node.varentropy,
        "answer": node.answer,
        "outcome": node.outcome,
        "tokens": node.tokens,
        "thinking_left": node.thinking_left,
        "depth": node.depth,
        "closed": node.closed,
        **compared,
        **drawn,
    }


def _to_node(record: object, nodes: Sequence[Node], index_of: Mapping[int, int], where: str) -> Node:
    """The node of one record; `nodes` and `index_of` (by local id) hold those before it."""
    held = _checked(record, _NODE_FIELDS, where)
    _checked(record, {name: field for name, field in _OPTIONAL.items() if name in held}, where)
    where = f"{where} (id {held['id']})"
    if held["id"] in index_of:
        raise ValueError(f"{where}: the id is taken by the node at position {index_of[held['id']]}")
    if (held["parent"] == -1) != (not nodes):
        raise ValueError(f"{where}: parent is {held['parent']}; the first node and no other is the root, -1")
    if nodes and held["parent"] not in index_of:
        raise ValueError(f"{where}: parent {held['parent']} does not stand before it")
    if held["action"] not in list(MetaAction):
        known = ", ".join(MetaAction)
        raise ValueError(f"{where}: action must be one of {known}, got {reprlib.repr(held['action'])}")
    parent = index_of[held["parent"]] if nodes else -1
    return Node(
        index=len(nodes),
        local_id=held["id"],
        parent=parent,
        depth=nodes[parent].depth + 1 if nodes else 0,
        action=MetaAction(held["action"]),
        text=held["text"],
        value=_number(held["value"]),
        outcome=_number(held["outcome"]),
        answer=held["answer"],
        terminal=held["terminal"],
        thinking_left=held["thinking_left"],
        tokens=held["tokens"],
        logprob=float(held["logprob"]),
        line_logprob=float(held.get("line_logprob", 0.0)),
        entropy=_number(held["entropy"]),
        varentropy=_number(held["varentropy"]),
        count=held["count"],
        visits=held["visits"],
        value_sum=float(held["value_sum"]),
        closed=held["closed"],
        preference=_number(held.get("preference")),
    )


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


def _priors(nodes: Sequence[Node]) -> list[float]:
    """Each node's share of exp(logprob) * count among its siblings; 1 at the root."""
    peak: dict[int, float] = {}  # by parent; shifting by it keeps long improbable thoughts above 0
    for node in nodes:
        peak[node.parent] = max(peak.get(node.parent, -math.inf), node.logprob)
    weights = [math.exp(node.logprob - peak[node.parent]) * node.count for node in nodes]
    totals: dict[int, float] = {}
    for node, weight in zip(nodes, weights, strict=True):
        totals[node.parent] = totals.get(node.parent, 0.0) + weight
    return [weight / totals[node.parent] for node, weight in zip(nodes, weights, strict=True)]


def _to_line(row: Mapping[str, Any]) -> str:
    try:
        return json.dumps(row, allow_nan=False) + "\n"
    except ValueError as error:
        raise ValueError(
            f"row of problem {reprlib.repr(row.get('problem'))} cannot be written: {error}"
        ) from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _sync_folder(folder: Path) -> None:
    """Make a rename in the folder survive a power cut, where folders can be synced (POSIX)."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
