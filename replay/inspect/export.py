"""Nodes of a buffer as data sets, one JSON object a line, in the formats that TRL reads.

    sft    {"messages": [user: the question, assistant: the thoughts]}   of every right conclusion
    prm    {"prompt", "completions", "labels"}   every line of thoughts down to a graded answer; a step is
           true where a right answer was reached by it or below it, the hard estimation of Math-Shepherd
           (Wang et al., 2312.08935, section 3.3), from the nodes that are still in the buffer
    dpo    {"prompt", "chosen", "rejected"}   the best and the worst of the thoughts that one context
           was continued by with one meta-action, where their value targets differ
    jsonl  everything that is stored, tokens and log-probs included

Conversational and standard data sets as in TRL's "Dataset formats and types": language modelling,
stepwise supervision, preference. Token ids become text outside, by `Texts`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, Protocol

from replay.errors import ReplayError
from replay.inspect.items import Held
from replay.inspect.query import ReplayReader

KINDS = ("sft", "prm", "dpo", "jsonl")
SEPARATOR = "\n"  # between thoughts of one text
_TREES = 256  # held at once

Line = Mapping[str, Any]


class Texts(Protocol):
    """How token ids are read."""

    def decode(self, ids: list[int]) -> str:
        """The text of ids, special tokens included."""
        ...

    def thoughts(self, ids: list[int]) -> list[str]:
        """The plain texts of the thoughts in ids, in order; the first of a context is the question."""
        ...


class Family(NamedTuple):
    """The nodes of one tree: all that live, and which of them were asked for."""

    held: list[Held]
    asked: Collection[int]

    def chosen(self) -> Iterator[Held]:
        """The nodes that were asked for."""
        return (one for one in self.held if one.item.id in self.asked)


def export(
    reader: ReplayReader,
    kind: str,
    texts: Texts | None,
    *,
    where: str | None = None,
    sort: str = "priority",
    limit: int | None = None,
) -> Iterator[str]:
    """Lines of JSON of the nodes that fit, the first `limit` by `sort`; in the order they were added.

    ReplayError: an unknown kind, or text is needed and there is no tokenizer.
    """
    if kind not in KINDS:
        raise ReplayError(f"export must be one of {', '.join(KINDS)}, got {kind!r}")
    if texts is None and kind != "jsonl":
        raise ReplayError(f"{kind} holds text, and there is no tokenizer; name one by --tokenizer")
    ids = reader.ids(where).tolist() if limit is None else [i.id for i in reader.top(limit, sort, where)]
    return _written(reader, kind, texts, ids)


def _written(reader: ReplayReader, kind: str, texts: Texts | None, ids: list[int]) -> Iterator[str]:
    lines = (
        _all(reader, ids, texts) if texts is None or kind == "jsonl" else _taught(reader, kind, texts, ids)
    )
    last: set[str] = set()
    for line in lines:
        text = json.dumps(line, allow_nan=False)
        if kind == "jsonl" or text not in last:  # equal samples teach nothing twice
            last.add(text)
            yield text + "\n"


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


def _taught(reader: ReplayReader, kind: str, texts: Texts, ids: list[int]) -> Iterator[Line]:
    asked = set(ids)
    write: Callable[[Family, Texts], Iterator[Line]] = {"sft": _sft, "prm": _prm, "dpo": _dpo}[kind]
    trees = [tree for tree in reader.by_tree() if not asked.isdisjoint(tree)]
    trees.sort(key=lambda tree: tree[0])
    for start in range(0, len(trees), _TREES):
        some = trees[start : start + _TREES]
        held = iter(list(reader.held([i for tree in some for i in tree])))
        for tree in some:
            yield from write(Family([next(held) for _ in tree], asked), texts)


def _sft(family: Family, texts: Texts) -> Iterator[Line]:
    for one in family.chosen():
        if _is_right(one):
            question, *thoughts = _line(one, texts)
            yield {
                "messages": [
                    {"role": "user", "content": question},
                    {"role": "assistant", "content": SEPARATOR.join(thoughts)},
                ]
            }


def _prm(family: Family, texts: Texts) -> Iterator[Line]:
    by_node = {one.item.node: one for one in family.held}
    right = {i for one in family.held if _is_right(one) for i in _upwards(one, by_node)}
    for one in family.chosen():
        if one.item.outcome is None:
            continue
        question, *thoughts = _line(one, texts)
        labels = [i in right for i in _upwards(one, by_node)]
        if len(labels) == len(thoughts):  # else a step is no longer in the buffer, and has no label
            yield {"prompt": question, "completions": thoughts, "labels": labels[::-1]}


def _is_right(one: Held) -> bool:
    return one.item.outcome is not None and one.item.outcome >= 1


def _upwards(one: Held, by_node: Mapping[int, Held]) -> list[int]:
    """Local ids from this node up to the first that is not in the buffer; a cycle ends."""
    line: dict[int, None] = {}
    above: Held | None = one
    while above is not None and above.item.node not in line:
        line[above.item.node] = None
        above = by_node.get(above.item.parent)
    return list(line)


def _dpo(family: Family, texts: Texts) -> Iterator[Line]:
    siblings: dict[tuple[bytes, str], list[Held]] = defaultdict(list)
    for one in family.chosen():
        siblings[one.experience.context.tobytes(), one.item.action].append(one)
    for some in siblings.values():
        best = max(some, key=lambda one: one.item.value_target)
        worst = min(some, key=lambda one: one.item.value_target)
        if best.item.value_target > worst.item.value_target:
            prompt = SEPARATOR.join(texts.thoughts(best.experience.context.tolist()))
            chosen, rejected = (_own(one, texts) for one in (best, worst))
            if chosen != rejected:
                yield {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _line(one: Held, texts: Texts) -> Sequence[str]:
    """The question and every thought down to this node."""
    return [*texts.thoughts(one.experience.context.tolist()), _own(one, texts)]


def _own(one: Held, texts: Texts) -> str:
    return SEPARATOR.join(texts.thoughts(one.experience.ids.tolist()))
