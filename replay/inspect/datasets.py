"""Thoughts of one tree as lines of a data set, in the formats that TRL reads.

    sft    {"messages": [user: the question, assistant: the thoughts]}   of every right conclusion
    prm    {"prompt", "completions", "labels"}   every line of thoughts down to a graded answer; a step is
           true where a right answer was reached by it or below it, the hard estimation of Math-Shepherd
           (Wang et al., 2312.08935, section 3.3), from the thoughts that are known
    dpo    {"prompt", "chosen", "rejected"}   the best and the worst of the thoughts that one thought
           was continued by with one meta-action, where their value targets lie a margin apart
    pairs  {"prompt", "chosen", "rejected"}   a right and a wrong whole solution of one question; each
           solution is in at least one pair. A conclusion that was criticised and written anew begins another

Conversational and standard data sets as in TRL's "Dataset formats and types": language modelling,
stepwise supervision, preference. Knows neither where thoughts are kept nor how they become text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

SEPARATOR = "\n"  # between thoughts of one text
MARGIN = 0.25  # between value targets of a pair: less is within what few graded lines below say

Line = Mapping[str, Any]


class Thought(NamedTuple):
    """One thought of a tree as text."""

    node: int  # local id
    parent: int  # local id
    action: str
    text: str
    above: tuple[str, ...]  # the question and every thought down to the parent
    outcome: float | None  # grade of its own answer; None: it declared none
    value_target: float | None  # None: it is not known
    asked: bool = True  # whether it may become a line; else it only tells of others


@dataclass(slots=True)
class Counts:
    """What became of the thoughts: filled while lines are written."""

    candidates: int = 0  # what might have become a line
    taken: int = 0  # what did
    lines: int = 0  # that were written: equal ones of one tree once


class Kind(NamedTuple):
    """One format: how it is written, and what its candidates are called."""

    lines: Callable[[Sequence[Thought], Counts, float], Iterator[Line]]
    words: str


def said(kind: str, counts: Counts, margin: float) -> str:
    """What became of the candidates, in words."""
    words = KINDS[kind].words.format(margin=f"{margin:g}")
    return f"{counts.taken:,} of {counts.candidates:,} {words}"


def _sft(thoughts: Sequence[Thought], counts: Counts, margin: float) -> Iterator[Line]:
    for one in thoughts:
        if not one.asked or one.outcome is None:
            continue
        counts.candidates += 1
        if _is_right(one):
            counts.taken += 1
            yield {
                "messages": [
                    {"role": "user", "content": one.above[0]},
                    {"role": "assistant", "content": SEPARATOR.join((*one.above[1:], one.text))},
                ]
            }


def _prm(thoughts: Sequence[Thought], counts: Counts, margin: float) -> Iterator[Line]:
    known = {one.node: one for one in thoughts}
    right = {step.node for one in thoughts if _is_right(one) for step in _upwards(one, known)}
    for one in thoughts:
        if not one.asked or one.outcome is None:
            continue
        counts.candidates += 1
        labels = [step.node in right for step in _upwards(one, known)]
        if len(labels) == len(one.above):  # else a step is not known any more, and has no label
            counts.taken += 1
            steps = [*one.above[1:], one.text]
            yield {"prompt": one.above[0], "completions": steps, "labels": labels[::-1]}


def _dpo(thoughts: Sequence[Thought], counts: Counts, margin: float) -> Iterator[Line]:
    siblings: dict[tuple[int, str], list[tuple[float, Thought]]] = defaultdict(list)
    for one in thoughts:
        if one.asked and one.value_target is not None:
            siblings[one.parent, one.action].append((one.value_target, one))
    for some in siblings.values():
        (high, best), (low, worst) = max(some, key=_target), min(some, key=_target)
        if len({one.text for _, one in some}) < 2:
            continue
        counts.candidates += 1
        if high > low and high - low >= margin and best.text != worst.text:
            counts.taken += 1
            prompt = SEPARATOR.join(best.above) + SEPARATOR
            yield {"prompt": prompt, "chosen": best.text, "rejected": worst.text}


def _pairs(thoughts: Sequence[Thought], counts: Counts, margin: float) -> Iterator[Line]:
    known = {one.node: one for one in thoughts}
    right: dict[str, None] = {}  # sets that keep their order
    wrong: dict[str, None] = {}
    graded = [one for one in thoughts if one.asked and one.outcome is not None]
    for one in graded:
        (right if _is_right(one) else wrong)[_solution(one, known)] = None
    counts.candidates += bool(graded)
    if right and wrong:
        counts.taken += 1
        better, worse = list(right), list(wrong)
        for i in range(max(len(better), len(worse))):
            chosen, rejected = better[i % len(better)], worse[i % len(worse)]
            yield {"prompt": graded[0].above[0], "chosen": chosen, "rejected": rejected}


def _target(one: tuple[float, Thought]) -> float:
    return one[0]


def _is_right(one: Thought) -> bool:
    return one.outcome is not None and one.outcome >= 1


def _upwards(one: Thought, known: Mapping[int, Thought]) -> list[Thought]:
    """The thought and those above it up to the first that is not known; a cycle ends."""
    line: dict[int, Thought] = {}
    above: Thought | None = one
    while above is not None and above.node not in line:
        line[above.node] = above
        above = known.get(above.parent)
    return list(line.values())


def _solution(one: Thought, known: Mapping[int, Thought]) -> str:
    """The whole solution that ends here: what came after the last conclusion above it was criticised."""
    line = _upwards(one, known)
    texts = [*one.above[1:], one.text]
    for i, (step, above) in enumerate(pairwise(line)):
        if step.action == "critic" and above.action == "conclude":
            texts = texts[len(texts) - i :]
            break
    return SEPARATOR.join(texts)


KINDS: Mapping[str, Kind] = {
    "sft": Kind(_sft, "graded conclusions are right"),
    "prm": Kind(_prm, "graded conclusions have all their steps"),
    "dpo": Kind(_dpo, "groups of siblings have value targets {margin} apart"),
    "pairs": Kind(_pairs, "trees with graded conclusions have right and wrong ones"),
}
