"""What is in a replay buffer: read-only questions to its file, also while a trainer writes.

Knows the file only: no buffer, no tokenizer, no terminal. N ids of an answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from replay.errors import ReplayError
from replay.experience import Experience
from replay.file import (
    FILE_NAME,
    connect_reader,
    named_errors,
    read_record,
)
from replay.inspect.items import Ancestor, Detail, Held, Item, Kept
from replay.inspect.live import read_live
from replay.inspect.where import known_column, parse_where
from replay.journal import read_whole_position
from replay.record import COLUMNS, unpack

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

NEARBY = 4096  # ids on each side among which the other nodes of a tree are looked for; they enter together
_CHUNK = 1024  # rows held at once


_IN_FILE = tuple(name for name in Item.__dataclass_fields__ if name not in ("priority", "draws"))


class ReplayReader:
    """One moment of a buffer. The writer is never held up; what it writes later is not seen."""

    FIRST_LOOKS = (256, 4096)  # ids looked at in order of a column in RAM before every row is read

    def __init__(self, folder: str | Path) -> None:
        """Open a replay folder or a run folder; ReplayError when there is no buffer, or it is damaged."""
        self.path = find_file(Path(folder))
        self._db = connect_reader(self.path)
        try:
            with named_errors(self.path):
                self._db.execute("BEGIN")
                self.position = read_whole_position(self._db, self.path)
                self.live = read_live(self._db, self.path, self.position)
                self._make_items()
        except BaseException:
            self._db.close()
            raise

    def ids(self, where: str | None = None) -> Int64:  # [N]
        """Ids of the live items that fit the condition (see where.py), in the order they were added."""
        if not (where and where.strip()):
            return self.live.ids
        condition = parse_where(where)
        sql = f"SELECT id FROM items WHERE {condition.sql} ORDER BY id"
        return np.array([i for (i,) in self._ask(sql, condition.parameters)], dtype=np.int64)

    def items(self, ids: Sequence[int] | Int64) -> list[Item]:
        """The live items among these ids, in this order."""
        asked = [int(i) for i in ids]
        sql = f"SELECT {', '.join(_IN_FILE)} FROM items WHERE id IN (SELECT value FROM json_each(?))"
        lines = {line[0]: line for line in self._ask(sql, (json.dumps(asked),))}
        found = [i for i in asked if i in lines]
        places = self.live.places(np.array(found, dtype=np.int64))
        held = (self.live.priorities[places].tolist(), self.live.draws[places].tolist())
        return [
            Item(**dict(zip(_IN_FILE, lines[i], strict=True)), priority=priority, draws=draws)
            for i, priority, draws in zip(found, *held, strict=True)
        ]

    def held(self, ids: Sequence[int] | Int64) -> Iterator[Held]:
        """The live items among these ids with their arrays, checked, in this order."""
        asked = [int(i) for i in ids]
        for start in range(0, len(asked), _CHUNK):
            items = self.items(asked[start : start + _CHUNK])
            records = self._records([item.id for item in items])
            yield from (Held(item, records[item.id]) for item in items)

    def top(self, limit: int = 20, sort: str = "priority", where: str | None = None) -> list[Item]:
        """The first `limit` items, greatest first; `sort` is a column, with `asc` for least first."""
        if limit < 0:
            raise ReplayError(f"limit must not be negative, got {limit}")
        condition = parse_where(where)
        column, direction = _order(sort)
        limit = min(limit, 2**31)
        for ids in self._first_ids(column, direction) if limit <= self.FIRST_LOOKS[0] else ():
            sql = f"SELECT id FROM items WHERE id IN (SELECT value FROM json_each(?)) AND {condition.sql}"
            fitting = {i for (i,) in self._ask(sql, (json.dumps(ids), *condition.parameters))}
            if len(fitting) >= limit:
                return self.items([i for i in ids if i in fitting][:limit])
        order = f"{column} {direction} NULLS LAST, id"
        sql = f"SELECT id FROM items WHERE {condition.sql} ORDER BY {order} LIMIT ?"
        return self.items([i for (i,) in self._ask(sql, (*condition.parameters, limit))])

    def node(self, node_id: int) -> Detail:
        """Everything about one node, checked; ReplayError when the file does not have it."""
        experience = self._records([node_id]).get(node_id) if abs(node_id) < 2**63 else None
        if experience is None:
            ids = self.live.ids
            found = f"live ids are {ids[0]} to {ids[-1]}" if len(ids) else "none is live"
            raise ReplayError(f"no node {node_id}; {found}")
        item = next(iter(self.items([node_id])), None)
        newest_gone = self.position.min_version
        dropped = newest_gone is not None and experience.version < newest_gone
        return Detail(
            id=node_id,
            state="live" if item else "dropped" if dropped else "evicted",
            priority=item.priority if item else None,
            draws=item.draws if item else None,
            experience=experience,
            ancestors=self._ancestors(node_id, experience),
        )

    def tree(self, name: str) -> list[Kept]:
        """Every node of this tree that the file has, checked, in the order they were added."""
        ids = [i for (i,) in self._ask("SELECT id FROM nodes WHERE tree = ? ORDER BY id", (name,))]
        records = self._records(ids)
        priorities = {item.id: item.priority for item in self.items(ids)}
        return [Kept(records[i], priorities.get(i)) for i in ids]

    def by_tree(self) -> list[list[int]]:
        """Ids of the live items, those of one tree together, parents before children."""
        lines = self._ask("SELECT id, tree, problem FROM items ORDER BY tree, problem, id", ())
        groups: list[list[int]] = []
        last = None
        for node_id, *tree in lines:
            if tree != last:
                groups.append([])
                last = tree
            groups[-1].append(node_id)
        return groups

    def trees_of(self, ids: Sequence[int]) -> list[str]:
        """Names of the trees of these live items, in the order they first come."""
        found = "SELECT id, tree FROM items WHERE id IN (SELECT value FROM json_each(?))"
        names = dict(self._ask(found, (json.dumps(list(ids)),)))
        return list(dict.fromkeys(names[i] for i in ids if i in names))

    def columns(self, ids: Int64, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:  # [N] -> [N] each
        """Columns of live ids in id order; text as objects, an outcome that is not there as NaN."""
        stored = [known_column(name) for name in names if name not in ("priority", "draws")]
        sql = f"SELECT {', '.join(stored)} FROM items"
        if len(ids) < len(self.live.ids):
            chosen = f"{sql} WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id"
            lines = self._ask(chosen, (json.dumps(ids.tolist()),))
        else:
            lines = self._ask(f"{sql} ORDER BY id", ())
        each = list(zip(*lines, strict=True)) if lines else [()] * len(stored)
        columns = {name: _column(name, values) for name, values in zip(stored, each, strict=True)}
        places = self.live.places(ids)
        held = {"priority": self.live.priorities[places], "draws": self.live.draws[places].astype(np.float64)}
        return columns | {name: held[name] for name in held if name in names}

    def token_bytes(self, ids: Int64) -> list[bytes]:
        """What the policy saw and wrote at each of these ids, as bytes: equal where all tokens are."""
        sql = (
            "SELECT CAST(substr(payload, 1, 4 * (num_context + num_tokens)) AS BLOB) FROM nodes "
            "JOIN payloads USING (id) WHERE id IN (SELECT value FROM json_each(?))"
        )
        return [tokens for (tokens,) in self._ask(sql, (json.dumps(ids.tolist()),))]

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        """The reader itself; it is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make_items(self) -> None:
        """Give the connection a view `items`: live nodes, priorities and draws as in RAM."""
        newest = self._db.execute(
            "SELECT coalesce(max(version), 0) FROM nodes WHERE id >= ?", (self.position.next_id - NEARBY,)
        ).fetchone()[0]
        self._db.create_function("priority_of", 1, lambda i: self._by_id["priority"][i], deterministic=True)
        self._db.create_function("draws_of", 1, lambda i: self._by_id["draws"][i], deterministic=True)
        self._db.execute(
            f"""CREATE TEMP VIEW items AS SELECT nodes.*, max({int(newest)} - version, 0) AS age,
                abs(value_target - value) AS error, priority_of(id) AS priority, draws_of(id) AS draws
                FROM main.nodes WHERE id NOT IN (SELECT id FROM main.evicted)"""
        )

    @cached_property
    def _by_id(self) -> dict[str, dict[int, float]]:
        """Priorities and draws by id, for questions that pass over every row."""
        ids = self.live.ids.tolist()
        columns = {"priority": self.live.priorities.tolist(), "draws": self.live.draws.tolist()}
        return {name: dict(zip(ids, column, strict=True)) for name, column in columns.items()}

    def _first_ids(self, column: str, direction: str) -> Iterator[list[int]]:
        """The first ids by a column that is in RAM, more each time; none by another column."""
        held = {"priority": self.live.priorities, "draws": self.live.draws}.get(column)
        if held is None:
            return
        keys = -held if direction == "DESC" else held
        for num_ids in self.FIRST_LOOKS:
            if num_ids >= len(keys):
                return
            edge = np.partition(keys, num_ids - 1)[num_ids - 1]
            within = np.flatnonzero(keys < edge)  # all that come before the edge, however many equal it
            if not len(within):
                within = np.flatnonzero(keys == edge)[:num_ids]
            order = within[np.argsort(keys[within], kind="stable")]
            yield self.live.ids[order].tolist()

    def _records(self, ids: Sequence[int]) -> dict[int, Experience]:
        sql = (
            f"SELECT id, {', '.join(COLUMNS)}, payload, crc32 FROM nodes LEFT JOIN payloads USING (id) "
            "WHERE id IN (SELECT value FROM json_each(?))"
        )
        lines = self._ask(sql, (json.dumps(list(ids)),))
        return {
            line[0]: unpack(np.frombuffer(bytearray(read_record(self.path, line)), np.uint8))
            for line in lines
        }

    def _ancestors(self, node_id: int, experience: Experience) -> list[Ancestor]:
        lines = self._ask(
            "SELECT id, node, parent FROM nodes WHERE id BETWEEN ? AND ? AND tree = ? AND problem = ?",
            (node_id - NEARBY, node_id + NEARBY, experience.tree, experience.problem),
        )
        by_node = {node: (i, parent) for i, node, parent in lines}
        above: list[int] = []
        found = by_node.pop(experience.parent, None)
        while found is not None:
            above.append(found[0])
            found = by_node.pop(found[1], None)
        records = self._records(above)
        return [Ancestor(i, records[i]) for i in above]

    def _ask(self, sql: str, parameters: tuple[int | float | str, ...]) -> list[Any]:
        with named_errors(self.path):
            return self._db.execute(sql, parameters).fetchall()


def find_file(folder: Path) -> Path:
    """The buffer's file of a replay folder or a run folder; ReplayError when there is none."""
    for path in (folder / FILE_NAME, folder / "replay" / FILE_NAME):
        if path.is_file():
            return path
    raise ReplayError(f"no replay buffer in {folder}: expected {FILE_NAME} or replay/{FILE_NAME} there")


def _order(sort: str) -> tuple[str, str]:
    match = re.fullmatch(r"\s*(\S+)(?:\s+(asc|desc))?\s*", sort, re.IGNORECASE)
    if match is None:
        raise ReplayError(f"sort must be a column, with asc or desc after it if wanted, got {sort[:40]!r}")
    return known_column(match[1]), "ASC" if (match[2] or "").lower() == "asc" else "DESC"


def _column(name: str, values: Sequence[Any]) -> npt.NDArray[Any]:
    if name in ("problem", "tree", "action"):
        return np.array(values, dtype=object)
    return np.array(values, dtype=np.float64)
