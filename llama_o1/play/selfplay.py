"""Self-play: problems become finished, graded trees, and what is kept of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from operator import eq
from random import Random
from typing import Any

import numpy as np

from llama_o1.engine.protocol import Engine
from llama_o1.play.drive import Job, drive
from llama_o1.play.expand import Expander
from llama_o1.play.judge import Judge
from llama_o1.play.line import LineWriter
from llama_o1.play.methods import MethodSettings, action_draw, start
from llama_o1.play.pairwise import Comparing
from llama_o1.play.purse import Purse, Share
from llama_o1.play.writer import Writer
from tree.actions import ActionDraw, Transitions
from tree.budget import Limits, Stop
from tree.curve import changes, curve
from tree.interleave import Search, nothing
from tree.ledger import ledger, total
from tree.node import Tree
from tree.record import to_row
from tree.vote import Same, Weighting, vote


def search_all(
    engine: Engine,
    tasks: Sequence[tuple[str, str, Judge]],
    expander: Expander,
    settings: MethodSettings,
    transitions: Transitions,
    *,
    seed: str,
    on_tree: Callable[[int, Tree], None],
    on_seconds: Callable[[int, float], None] = lambda index, seconds: None,
    same: Same = eq,
    path_budgets: Sequence[int] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Tree]:
    """The tree of every (name, question, judge), in their order; `on_tree` as each is finished.

    Each tree's seed comes from `seed` and its name, so that its neighbours cannot change it. `on_seconds`
    hears, before, how long the tree took. `same` tells which answers are one, where a search ends once its
    answer is decided. `path_budgets`: of each task; None: the expander's own. Where the run's tokens or
    seconds are spent, a tree stays without an answer and says so.
    """
    if path_budgets is None:
        writers = [fitted(expander, settings)] * len(tasks)
    else:
        of = {budget: fitted(expander.with_(path_budget=budget), settings) for budget in {*path_budgets}}
        writers = [of[budget] for budget in path_budgets]
    for writer in {*writers}:
        writer.limits(settings.budget_tokens)
    trees = [
        writer.tree(question, derived(f"{seed}/{name}"))
        for writer, (name, question, _) in zip(writers, tasks, strict=True)
    ]
    judges = [judge for _, _, judge in tasks]
    round_ = _Round(settings, action_draw(settings, transitions), same, clock)
    for job in drive(engine, round_.jobs(trees, judges, writers)):
        index = int(job.name)
        on_seconds(index, round_.ended(index, job.tree))
        on_tree(index, job.tree)
    return trees


def fitted(expander: Expander, settings: MethodSettings) -> Writer:
    """Who writes as a method wants it: greedy takes the likeliest tokens, refine goes on after answers."""
    writer = _fitted(expander, settings)
    return Comparing(writer) if settings.weighting == "pairwise" else writer


def _fitted(expander: Expander, settings: MethodSettings) -> Writer:
    if settings.method == "line":
        return LineWriter(expander.codec, expander.settings, expander.max_context)
    without = settings.kinds_off
    if settings.method == "greedy":
        return expander.with_(temperature=0.0, without=without)
    revises = settings.method == "refine"
    return expander.with_(revises=revises, without=without) if revises or without else expander


class _Round:
    """Trees that are searched together: what each may spend, and when it was begun."""

    def __init__(
        self,
        settings: MethodSettings,
        draw: ActionDraw,
        same: Same,
        clock: Callable[[], float],
    ) -> None:
        self._settings, self._draw = settings, draw
        self._same, self._clock = same, clock
        self._purse = Purse(settings.of_a_run)
        self._began = clock()
        self._running: dict[int, tuple[float, Share]] = {}  # when it began and what it was given, by index

    def jobs(
        self, trees: Sequence[Tree], judges: Sequence[Judge], writers: Sequence[Writer]
    ) -> Iterator[Job | None]:
        """One job a tree, in their order; None while a tree must wait for what others leave."""
        for i, (tree, judge, writer) in enumerate(zip(trees, judges, writers, strict=True)):
            while (share := self._purse.take(self._settings.of_a_tree, idle=not self._running)) is None:
                yield None
            self._running[i] = (self._clock(), share)
            yield Job(str(i), tree, self._search(tree, share, writer), writer, judge)

    def ended(self, index: int, tree: Tree) -> float:
        """Take back what the tree leaves; the seconds it took."""
        began, share = self._running.pop(index)
        self._purse.give_back(share, Share(tree.tokens_used, len(tree.nodes) - 1, tree.simulations))
        return self._clock() - began

    def _search(self, tree: Tree, share: Share, writer: Writer) -> Search:
        settings = self._settings
        tree.stopped = self._nothing_for(share, writer)
        if tree.stopped is not None:
            return nothing()
        assert share.tokens is not None, "every tree has a budget of tokens"
        assert share.simulations is not None, "and one of simulations"
        limits = replace(
            writer.limits(share.tokens),
            nodes=share.nodes,
            stops=(*settings.stops(self._same), *self._timers()),
        )
        shape = replace(settings.tree, simulations=share.simulations)
        return start(tree, replace(settings, tree=shape), limits, self._draw)

    def _nothing_for(self, share: Share, writer: Writer) -> str | None:
        """Why a tree with this share cannot be begun; None: it can."""
        if not writer.affords(share.tokens or 0):
            return "the run's tokens are spent"
        if share.nodes == 0 or share.simulations == 0:
            return f"the run's {'nodes' if share.nodes == 0 else 'simulations'} are spent"
        if self._out_of_time(self._began, self._settings.run_budget_s):
            return "the run's time is over"
        return None

    def _timers(self) -> Iterator[Stop]:
        """Reasons to stop that look at the clock; few searches have one."""
        now = self._clock()
        for began, seconds in ((now, self._settings.budget_s), (self._began, self._settings.run_budget_s)):
            if seconds is not None:
                yield partial(self._is_late, began, seconds)

    def _is_late(self, began: float, seconds: float, tree: Tree, limits: Limits, most: int) -> str | None:
        return "out of time" if self._out_of_time(began, seconds) else None

    def _out_of_time(self, began: float, seconds: float | None) -> bool:
        return seconds is not None and self._clock() - began >= seconds


def derived(name: str) -> int:
    """A 63-bit seed that follows from a name."""
    return Random(name).getrandbits(63)


def record_transitions(tree: Tree, transitions: Transitions) -> None:
    """Add every edge of a finished tree to the statistics; changes `transitions`."""
    for node in tree.nodes[1:]:
        transitions.add(tree.nodes[node.parent].action, node.action, node.q)


def tree_row(
    tree: Tree, weighting: Weighting = "value", seconds: float | None = None, same: Same = eq
) -> dict[str, Any]:
    """A tree, its voted answer and what it would have answered at each earlier budget, as a row to write."""
    answer = vote(tree, weighting, same)
    return to_row(
        tree.nodes,
        problem=tree.question,
        answer=answer.answer,
        confidence=answer.confidence,
        leaf=None if answer.leaf is None else tree.nodes[answer.leaf].local_id,
        tokens_used=tree.tokens_used,
        seconds=seconds,
        simulations=tree.simulations,
        seed=tree.seed,
        events=tree.events,
        stopped=tree.stopped,
        ledger={name: entry._asdict() for name, entry in ledger(tree).items()},
        curve=[list(point[:4]) for point in changes(curve(tree, weighting, same))],
    )


def play_figures(trees: Sequence[Tree]) -> dict[str, float]:
    """What these trees were like, as flat numbers."""
    nodes = [node for tree in trees for node in tree.nodes[1:]]
    grades = [node.outcome for node in nodes if node.outcome is not None]
    return {
        "trees": len(trees),
        "nodes": len(nodes),
        "tokens": sum(tree.tokens_used for tree in trees),
        "right": float(np.mean(grades)) if grades else 0.0,
        "solved": float(np.mean([any(n.outcome == 1.0 for n in tree.nodes) for tree in trees])),
        "depth": float(np.mean([max(node.depth for node in tree.nodes) for tree in trees])),
        "events": sum(len(tree.events) for tree in trees),
        **_spent_and_gained(trees),
    }


def _spent_and_gained(trees: Sequence[Tree]) -> dict[str, float]:
    """Thoughts, tokens and gains of each meta-action, as flat numbers."""
    entries = total(map(ledger, trees))
    return {
        f"{name}_{figure}": number
        for name, entry in sorted(entries.items())
        for figure, number in entry._asdict().items()
    }
