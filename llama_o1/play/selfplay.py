"""Self-play: problems become finished, graded trees, and what is kept of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

import numpy as np

from llama_o1.engine.protocol import Engine
from llama_o1.play.drive import Job, drive
from llama_o1.play.expand import Expander, Judge
from llama_o1.play.methods import MethodSettings, action_draw, start
from tree.actions import Transitions
from tree.curve import changes, curve
from tree.node import Tree
from tree.record import to_row
from tree.vote import Weighting, vote


def search_all(
    engine: Engine,
    tasks: Sequence[tuple[str, str, Judge]],
    expander: Expander,
    settings: MethodSettings,
    transitions: Transitions,
    *,
    seed: str,
    on_tree: Callable[[int, Tree], None],
) -> list[Tree]:
    """The tree of every (name, question, judge), in their order; `on_tree` as each is finished.

    Each tree's seed comes from `seed` and its name, so that its neighbours cannot change it. The method
    `greedy` takes the likeliest tokens, whatever the expander's temperature.
    """
    expander = expander.at(0.0) if settings.method == "greedy" else expander
    limits = expander.limits(settings.budget_tokens)
    draw = action_draw(settings.actions, transitions)
    trees = [expander.tree(question, derived(f"{seed}/{name}")) for name, question, _ in tasks]

    def jobs() -> Iterator[Job]:
        for i, (tree, (_, _, judge)) in enumerate(zip(trees, tasks, strict=True)):
            yield Job(str(i), tree, start(tree, settings, limits, draw), expander, judge)

    for job in drive(engine, jobs()):
        on_tree(int(job.name), job.tree)
    return trees


def derived(name: str) -> int:
    """A 63-bit seed that follows from a name."""
    return Random(name).getrandbits(63)


def record_transitions(tree: Tree, transitions: Transitions) -> None:
    """Add every edge of a finished tree to the statistics; changes `transitions`."""
    for node in tree.nodes[1:]:
        transitions.add(tree.nodes[node.parent].action, node.action, node.q)


def tree_row(tree: Tree, weighting: Weighting = "value", seconds: float | None = None) -> dict[str, Any]:
    """A tree, its voted answer and what it would have answered at each earlier budget, as a row to write."""
    answer = vote(tree, weighting)
    return to_row(
        tree.nodes,
        problem=tree.question,
        answer=answer.answer,
        confidence=answer.confidence,
        tokens_used=tree.tokens_used,
        seconds=seconds,
        simulations=tree.simulations,
        seed=tree.seed,
        events=tree.events,
        curve=[list(point[:4]) for point in changes(curve(tree, weighting))],
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
    }
