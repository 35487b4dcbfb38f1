"""One method on many problems at one budget: searches become trials, graded when they are over.

During a search the judge keeps the grade to itself; the gold answer is read when the tree has voted.
"""

from __future__ import annotations

import time
import zlib
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple, cast

from llama_o1.engine.protocol import Engine, EngineFigures, Reply, Request
from llama_o1.measure.evaluate import ungraded
from llama_o1.measure.path import length_of
from llama_o1.measure.trial import Found, Key, Point, Trial, Work
from llama_o1.play.expand import Expander
from llama_o1.play.methods import MethodSettings
from llama_o1.play.selfplay import search_all
from llama_o1.tasks.problem import Problem, VerdictState
from llama_o1.tasks.same import same_answer
from llama_o1.tasks.verify import verify
from tree.actions import Transitions
from tree.curve import changes, curve
from tree.node import Tree
from tree.repairs import repairs
from tree.vote import Weighting, vote


class Entry(NamedTuple):
    """A trial that is to be made."""

    key: Key
    problem: Problem


def contest(
    engine: Engine,
    entries: Sequence[Entry],
    expander: Expander,
    settings: MethodSettings,
    on_trial: Callable[[Trial], None],
    transitions: Transitions | None = None,
    also: Mapping[str, MethodSettings] | None = None,
) -> None:
    """Make the trials of these entries, all of one method at one budget; each is told when it is over.

    `also`: methods by name whose trees are the same (equal `growth`), for each of which every tree makes
    another trial, with the same tokens and times.

    A tree's seed follows from the entry's seed, set and problem alone: the same for every method and budget,
    and whichever trials are made beside it. The engine's cache is emptied first, so that no method reads
    what another one computed.
    """
    engine.load(None, 0)
    counted = _Counted(engine)
    seconds: dict[int, float] = {}
    before, then = engine.figures(), time.perf_counter()

    def on_tree(index: int, tree: Tree) -> None:
        nonlocal before, then
        figures, now = engine.figures(), time.perf_counter()
        work = Work.of(figures.since(before), now - then)
        before, then = figures, now
        counts = counted.of_tree.pop(index)
        entry = entries[index]
        on_trial(_trial(entry, tree, counts, expander, settings, seconds[index], work))
        for name, otherwise in (also or {}).items():
            other = Entry(entry.key._replace(method=name), entry.problem)
            on_trial(_trial(other, tree, counts, expander, otherwise, seconds[index], work))

    search_all(
        counted,
        [(f"{k.seed}/{k.set}/{k.problem}", p.question, ungraded(p)) for k, p in entries],
        expander,
        settings,
        transitions or Transitions(),
        seed="eval",
        on_tree=on_tree,
        on_seconds=seconds.__setitem__,
        same=same_answer,
    )


class _Counted:
    """An engine that counts the tokens of each tree: sampled, and the context's prefilled and cached ones.

    Reads the keys of play/drive.py: the number of a tree, from 1 in the order of entries, and a local id.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._contexts: dict[Hashable, int] = {}  # lengths, by key in flight
        self.of_tree: dict[int, Counter[str]] = {}

    @property
    def max_context(self) -> int:
        """As the engine."""
        return self._engine.max_context

    @property
    def slots(self) -> int:
        """As the engine."""
        return self._engine.slots

    def submit(self, key: Hashable, request: Request) -> None:
        """As the engine."""
        self._engine.submit(key, request)
        self._contexts[key] = len(request.context)

    def poll(self) -> list[tuple[Hashable, Reply]]:
        """As the engine; counts what came back."""
        replies = self._engine.poll()
        for key, reply in replies:
            number, _ = cast(tuple[int, int], key)
            self.of_tree.setdefault(number - 1, Counter()).update(
                sampled=sum(int(sample.sampled.sum()) for sample in reply.samples),
                prefilled=self._contexts.pop(key) - reply.cached_prefix,
                cached=reply.cached_prefix,
            )
        return replies

    def cancel(self, key: Hashable) -> None:
        """As the engine."""
        self._contexts.pop(key, None)
        self._engine.cancel(key)

    def load(self, weights: object, version: int) -> None:
        """As the engine."""
        self._engine.load(weights, version)

    def figures(self) -> EngineFigures:
        """As the engine."""
        return self._engine.figures()

    def close(self) -> None:
        """As the engine."""
        self._engine.close()


def checksum(problem: Problem) -> str:
    """What tells whether a problem is the one it was."""
    text = "\n".join(
        map(str, (problem.question, problem.answer, problem.kind, problem.numbers, problem.target))
    )
    return f"{zlib.crc32(text.encode()):08x}"


def _trial(
    entry: Entry,
    tree: Tree,
    counts: Counter[str],
    expander: Expander,
    settings: MethodSettings,
    seconds: float,
    work: Work,
) -> Trial:
    """The finished tree, graded: each distinct text once."""
    verdicts: dict[str, VerdictState] = {}

    def graded(index: int | None) -> VerdictState:
        if index is None:
            return "unparsed"
        text = tree.nodes[index].text
        if text not in verdicts:
            verdicts[text] = verify(text, entry.problem).verdict
        return verdicts[text]

    key, voted = entry.key, vote(tree, settings.weighting, same_answer)
    length = length_of(tree, voted.leaf, expander, settings.method)
    last = Point(tree.tokens_used, voted.answer, graded(voted.leaf))
    return Trial(
        **key._asdict(),
        question=checksum(entry.problem),
        answer=voted.answer,
        verdict=last.verdict,
        confidence=voted.confidence,
        tokens=tree.tokens_used,
        sampled=counts["sampled"],
        forced=tree.tokens_used - counts["sampled"],
        failed=sum(arrival.tokens for arrival in tree.arrivals if arrival.node < 0),
        prefilled=counts["prefilled"],
        cached=counts["cached"],
        seconds=round(seconds, 6),
        nodes=len(tree.nodes) - 1,
        events=len(tree.events),
        thinking=length.thinking,
        answer_tokens=length.answer,
        ended=length.ended,
        stopped=tree.stopped,
        curve=_curve(tree, settings.weighting, graded, last),
        found=_found(tree, graded),
        work=work,
        repairs=repairs(tree, lambda end: graded(end.index) == "correct"),
    )


def _curve(
    tree: Tree, weighting: Weighting, graded: Callable[[int | None], VerdictState], last: Point
) -> tuple[Point, ...]:
    """What the tree would have answered, where answer or verdict change.

    The last is the tree's vote, where of equally heavy answers the curve may name another.
    """
    earlier = [
        Point(at.tokens, at.answer, graded(at.leaf)) for at in changes(curve(tree, weighting, same_answer))
    ]
    kept: list[Point] = []
    for point in (*earlier, last):
        if not kept or kept[-1][1:] != point[1:]:
            kept.append(point)
    return tuple(kept)


def _found(tree: Tree, graded: Callable[[int | None], VerdictState]) -> tuple[Found, ...]:
    """The answers of all finished lines, also of those that were merged."""
    counts: dict[tuple[str | None, VerdictState], int] = {}
    for node in tree.nodes:
        if node.answer is not None or node.terminal:
            found = (node.answer, "unparsed" if node.answer is None else graded(node.index))
            counts[found] = counts.get(found, 0) + node.count
    return tuple(Found(answer, count, verdict) for (answer, verdict), count in counts.items())
