"""Nodes of a buffer as data sets, one JSON object a line: TRL's formats (datasets.py), and everything.

`jsonl` is everything that is stored, tokens and log-probs included. Ids become text outside, by `Texts`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Protocol

from replay.errors import ReplayError
from replay.inspect.datasets import KINDS, MARGIN, SEPARATOR, Counts, Line, Thought, said
from replay.inspect.items import Held
from replay.inspect.query import ReplayReader

EVERYTHING = "jsonl"
_TREES = 256  # held at once


class Texts(Protocol):
    """How token ids are read."""

    def decode(self, ids: list[int]) -> str:
        """The text of ids, special tokens included."""
        ...

    def thoughts(self, ids: list[int]) -> list[str]:
        """The plain texts of the thoughts in ids, in order; the first of a context is the question."""
        ...


@dataclass(frozen=True, slots=True)
class Export:
    """Lines of a data set, made as they are drawn, and what became of all that might have been one."""

    kind: str
    lines: Iterator[str]
    counts: Counts
    margin: float = MARGIN

    def said(self) -> str:
        """What became of it, in words, once the lines are drawn; empty where all are lines."""
        return "" if self.kind == EVERYTHING else f": {said(self.kind, self.counts, self.margin)}"


def export(
    reader: ReplayReader,
    kind: str,
    texts: Texts | None,
    *,
    where: str | None = None,
    sort: str = "priority",
    limit: int | None = None,
    margin: float = MARGIN,
) -> Export:
    """The nodes that fit, the first `limit` by `sort`, as lines of JSON; in the order they were added.

    ReplayError: an unknown kind, or text is needed and there is no tokenizer.
    """
    if kind != EVERYTHING:
        check_kind(kind, margin, f", {EVERYTHING}")
        if texts is None:
            raise ReplayError(f"{kind} holds text, and there is no tokenizer; name one by --tokenizer")
    ids = reader.ids(where).tolist() if limit is None else [i.id for i in reader.top(limit, sort, where)]
    counts = Counts()
    if texts is None or kind == EVERYTHING:
        return Export(kind, (_json(line) for line in _all(reader, ids, texts)), counts)
    return Export(kind, written(kind, _trees(reader, texts, ids), counts, margin), counts, margin)


def check_kind(kind: str, margin: float, more: str = "") -> None:
    """ReplayError for an unknown kind, and for a margin that value targets cannot have."""
    if kind not in KINDS:
        raise ReplayError(f"export must be one of {', '.join(KINDS)}{more}, got {kind!r}")
    if not 0 <= margin <= 1:
        raise ReplayError(f"margin must be in [0, 1], where value targets lie, got {margin}")


def written(kind: str, trees: Iterator[list[Thought]], counts: Counts, margin: float) -> Iterator[str]:
    """Lines of JSON of the thoughts of each tree; equal ones teach nothing twice. Adds to `counts`."""
    last: set[str] = set()
    for thoughts in trees:
        for line in KINDS[kind].lines(thoughts, counts, margin):
            text = _json(line)
            if text not in last:
                last.add(text)
                counts.lines += 1
                yield text


def _json(line: Line) -> str:
    return json.dumps(line, allow_nan=False) + "\n"


def _all(reader: ReplayReader, ids: list[int], texts: Texts | None) -> Iterator[Line]:
    for item, e in reader.held(sorted(ids)):
        text = (
            {"text": texts.decode(e.ids.tolist()), "prompt": texts.decode(e.context.tolist())}
            if texts
            else {}
        )
        logprobs = [p if s else None for p, s in zip(e.logprobs.tolist(), e.sampled.tolist(), strict=True)]
        tokens = {"context_ids": e.context.tolist(), "ids": e.ids.tolist(), "logprobs": logprobs}
        yield {**asdict(item), **text, **tokens}  # a log-prob is null where the token was forced


def _trees(reader: ReplayReader, texts: Texts, ids: list[int]) -> Iterator[list[Thought]]:
    """The thoughts of each tree that holds one that was asked for, all that live."""
    asked = set(ids)
    trees = [tree for tree in reader.by_tree() if not asked.isdisjoint(tree)]
    trees.sort(key=lambda tree: tree[0])
    for start in range(0, len(trees), _TREES):
        some = trees[start : start + _TREES]
        held = iter(list(reader.held([i for tree in some for i in tree])))
        for tree in some:
            yield [_thought(next(held), texts, asked) for _ in tree]


def _thought(one: Held, texts: Texts, asked: Collection[int]) -> Thought:
    item, experience = one
    return Thought(
        node=item.node,
        parent=item.parent,
        action=item.action,
        text=SEPARATOR.join(texts.thoughts(experience.ids.tolist())),
        above=tuple(texts.thoughts(experience.context.tolist())),
        outcome=item.outcome,
        value_target=item.value_target,
        asked=item.id in asked,
    )
