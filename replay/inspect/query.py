"""What is in a replay buffer: read-only questions to its file, also while a trainer writes.

Knows the file only: no buffer, no tokenizer, no terminal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from replay.errors import ReplayError
from replay.experience import Experience
from replay.file import (
    FILE_NAME,
    Position,
    connect_reader,
    named_errors,
    read_record,
)
from replay.inspect.where import known_column, parse_where
from replay.journal import read_priorities, read_whole_position
from replay.record import COLUMNS, unpack

CALIBRATION_BINS = 5
_MEANS = "count(*), avg(value), avg(value_target), avg(error), avg(advantage), avg(priority), avg(num_tokens)"
_OUTCOME = (
    "CASE WHEN outcome IS NULL THEN 'none' WHEN outcome >= 1 THEN 'right' "
    "WHEN outcome <= 0 THEN 'wrong' ELSE 'partly right' END"
)
_BIN = f"max(min(CAST(value * {CALIBRATION_BINS} AS INTEGER), {CALIBRATION_BINS - 1}), 0)"


class Group(NamedTuple):
    """Items that have something in common; all but the first two are means."""

    name: str
    num_nodes: int
    value: float
    value_target: float
    error: float  # |value_target - value|
    advantage: float
    priority: float
    num_tokens: float


class Spread(NamedTuple):
    """How one column is spread."""

    name: str
    least: float
    median: float
    mean: float
    ninth_decile: float
    most: float


@dataclass(frozen=True, slots=True)
class Overview:
    """The buffer at one moment. Everything but `position` and `num_live` is of the matching items."""

    position: Position
    num_live: int
    num_matching: int
    versions: tuple[int, int] | None  # oldest and newest; None: nothing matches
    payload_bytes: int  # of their arrays
    effective_sample_size: float  # of their priorities with alpha 1
    by_action: list[Group]
    by_outcome: list[Group]
    by_value: list[Group]  # bins of the predicted value
    spreads: list[Spread]  # age, priority, num_context, num_tokens


@dataclass(frozen=True, slots=True)
class Item:
    """One live item without its arrays."""

    id: int
    problem: str
    tree: str
    node: int
    parent: int
    action: str
    version: int
    age: int  # versions behind the newest
    priority: float
    advantage: float
    value: float
    value_target: float
    outcome: float | None
    num_tokens: int


class Ancestor(NamedTuple):
    """A node above another, as far as the file has it."""

    id: int
    node: int
    parent: int
    action: str
    value: float
    value_target: float


@dataclass(frozen=True, slots=True)
class Detail:
    """One node with everything the file knows of it."""

    id: int
    state: Literal["live", "dropped", "evicted"]
    priority: float | None  # None: it is not live
    experience: Experience
    ancestors: list[Ancestor]  # the parent first


class Kept(NamedTuple):
    """A node of a tree that the file still has."""

    experience: Experience
    priority: float | None  # None: it is not live


class ReplayReader:
    """One moment of a buffer. The writer is never held up; what it writes later is not seen."""

    def __init__(self, folder: str | Path) -> None:
        """Open a replay folder or a run folder; ReplayError when there is no buffer, or it is damaged."""
        self.path = _find(Path(folder))
        self._db = connect_reader(self.path)
        try:
            with named_errors(self.path):
                self._db.execute("BEGIN")
                self.position = read_whole_position(self._db, self.path)
                self._make_items()
        except BaseException:
            self._db.close()
            raise

    def overview(self, where: str | None = None) -> Overview:
        """Counts, means and spreads of the live items that fit the condition (see where.py)."""
        condition = parse_where(where)
        matching = f"FROM items WHERE {condition.sql}"
        columns = self._ask(
            f"SELECT age, priority, num_context, num_tokens, version {matching}", condition.parameters
        )
        table = np.array(columns, dtype=np.float64).reshape(-1, 5)
        squares = float((table[:, 1] ** 2).sum())
        return Overview(
            position=self.position,
            num_live=self.position.num_live,
            num_matching=len(table),
            versions=(int(table[:, 4].min()), int(table[:, 4].max())) if len(table) else None,
            payload_bytes=int((4 * table[:, 2] + 9 * table[:, 3]).sum()),
            effective_sample_size=float(table[:, 1].sum() ** 2 / squares) if squares else 0.0,
            by_action=self._groups("action", matching, condition.parameters),
            by_outcome=self._groups(_OUTCOME, matching, condition.parameters),
            by_value=self._groups(_BIN, matching, condition.parameters),
            spreads=[
                _spread(name, table[:, i])
                for i, name in enumerate(("age", "priority", "num_context", "num_tokens"))
                if len(table)
            ],
        )

    def top(self, limit: int = 20, sort: str = "priority", where: str | None = None) -> list[Item]:
        """The first `limit` items, greatest first; `sort` is a column, with `asc` for least first."""
        if limit < 0:
            raise ReplayError(f"limit must not be negative, got {limit}")
        condition = parse_where(where)
        fields = ", ".join(Item.__dataclass_fields__)
        sql = f"SELECT {fields} FROM items WHERE {condition.sql} ORDER BY {_order(sort)}, id LIMIT ?"
        return [Item(*line) for line in self._ask(sql, (*condition.parameters, min(limit, 2**31)))]

    def node(self, node_id: int) -> Detail:
        """Everything about one node, checked; ReplayError when the file does not have it."""
        sql = f"SELECT id, {', '.join(COLUMNS)}, payload, crc32 FROM nodes LEFT JOIN payloads USING (id)"
        lines = self._ask(f"{sql} WHERE id = ?", (node_id,)) if abs(node_id) < 2**63 else []
        if not lines:
            low, high = self._ask("SELECT min(id), max(id) FROM priorities", ())[0]
            live = "none is live" if low is None else f"live ids are {low} to {high}"
            raise ReplayError(f"no node {node_id}; {live}")
        experience = unpack(np.frombuffer(bytearray(read_record(self.path, lines[0])), np.uint8))
        priority = self._ask("SELECT priority FROM items WHERE id = ?", (node_id,))
        limit = self.position.min_version
        dropped = limit is not None and experience.version < limit
        return Detail(
            id=node_id,
            state="live" if priority else "dropped" if dropped else "evicted",
            priority=priority[0][0] if priority else None,
            experience=experience,
            ancestors=self._ancestors(experience),
        )

    def tree(self, name: str) -> list[Kept]:
        """Every node of this tree that the file has, checked, in the order they were added."""
        sql = f"SELECT id, {', '.join(COLUMNS)}, payload, crc32 FROM nodes LEFT JOIN payloads USING (id)"
        lines = self._ask(f"{sql} WHERE tree = ? ORDER BY id", (name,))
        live = dict(self._ask("SELECT id, priority FROM items WHERE tree = ?", (name,)))
        records = [bytearray(read_record(self.path, line)) for line in lines]
        return [
            Kept(unpack(np.frombuffer(record, np.uint8)), live.get(line[0]))
            for line, record in zip(lines, records, strict=True)
        ]

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        """The reader itself; it is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make_items(self) -> None:
        """Give the connection a view `items`: live nodes with what the journal says of them."""
        priorities = read_priorities(self._db, self.path)
        updated = dict(zip(priorities.ids.tolist(), priorities.current.tolist(), strict=True))
        (newest,) = self._db.execute("SELECT max(version) FROM nodes JOIN priorities USING (id)").fetchone()
        self._db.execute("CREATE TEMP TABLE updated (id INTEGER PRIMARY KEY, priority REAL NOT NULL)")
        self._db.executemany("INSERT INTO updated VALUES (?, ?)", updated.items())
        self._db.execute(
            f"""CREATE TEMP VIEW items AS SELECT nodes.*, {int(newest or 0)} - version AS age,
                abs(value_target - value) AS error, coalesce(updated.priority, shown.priority) AS priority
                FROM main.nodes JOIN main.priorities AS shown USING (id)
                LEFT JOIN temp.updated USING (id)"""
        )

    def _groups(self, key: str, matching: str, parameters: tuple[int | float | str, ...]) -> list[Group]:
        lines = self._ask(
            f"SELECT {key} AS name, {_MEANS} {matching} GROUP BY name ORDER BY name", parameters
        )
        return [Group(str(name), *means) for name, *means in lines]

    def _ancestors(self, experience: Experience) -> list[Ancestor]:
        lines = self._ask(
            f"SELECT {', '.join(Ancestor._fields)} FROM nodes WHERE tree = ? AND problem = ? ORDER BY id",
            (experience.tree, experience.problem),
        )
        by_node = {line[1]: Ancestor(*line) for line in lines}
        ancestors: list[Ancestor] = []
        above = by_node.pop(experience.parent, None)
        while above is not None:
            ancestors.append(above)
            above = by_node.pop(above.parent, None)
        return ancestors

    def _ask(self, sql: str, parameters: tuple[int | float | str, ...]) -> list[Any]:
        with named_errors(self.path):
            return self._db.execute(sql, parameters).fetchall()


def _find(folder: Path) -> Path:
    for path in (folder / FILE_NAME, folder / "replay" / FILE_NAME):
        if path.is_file():
            return path
    raise ReplayError(f"no replay buffer in {folder}: expected {FILE_NAME} or replay/{FILE_NAME} there")


def _order(sort: str) -> str:
    match = re.fullmatch(r"\s*(\S+)(?:\s+(asc|desc))?\s*", sort, re.IGNORECASE)
    if match is None:
        raise ReplayError(f"sort must be a column, with asc or desc after it if wanted, got {sort[:40]!r}")
    direction = "ASC" if (match[2] or "").lower() == "asc" else "DESC"
    return f"{known_column(match[1])} {direction} NULLS LAST"


def _spread(name: str, column: np.ndarray[Any, np.dtype[np.float64]]) -> Spread:
    median, ninth_decile = np.quantile(column, (0.5, 0.9))
    return Spread(
        name,
        float(column.min()),
        float(median),
        float(column.mean()),
        float(ninth_decile),
        float(column.max()),
    )
