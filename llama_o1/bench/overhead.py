"""What one simulation costs by itself: a search whose thoughts come back at once, without a model."""

from __future__ import annotations

import time
from random import Random

from tree.actions import MetaAction, by_model
from tree.budget import Limits
from tree.node import Ask, Told, Tree
from tree.search import SearchSettings, mcts

_TREES = 20
_ENDLESS = 1 << 40  # tokens: simulations alone end the search
_THINKING = 256


def overhead_us(settings: SearchSettings, seed: int) -> float:
    """CPU microseconds of one simulation, the making of its answer included."""
    simulations = 0
    began = time.process_time()
    for i in range(_TREES):
        tree = Tree.of("a problem", seed=seed + i, thinking_left=_THINKING)
        _grow(tree, settings, Random(seed + i))
        simulations += tree.simulations
    return (time.process_time() - began) / simulations * 1e6


def _grow(tree: Tree, settings: SearchSettings, rng: Random) -> None:
    search = mcts(tree, settings, Limits(_ENDLESS, 80, 50), by_model)
    asks = list(next(search))
    try:
        while True:
            ask = asks.pop(0)
            asks += search.send((ask.local_id, _told(tree, ask, rng)))
    except StopIteration:
        return


def _told(tree: Tree, ask: Ask, rng: Random) -> Told:
    """A thought of half a path's length or less; one in four concludes."""
    left = tree.nodes[ask.parent].thinking_left - 32
    concludes = ask.action is MetaAction.CONCLUDE or (ask.parent > 0 and ask.local_id % 4 == 0)
    return Told(
        action=MetaAction.CONCLUDE if concludes else MetaAction.EXPAND,
        text=f"thought {ask.local_id}",
        logprob=-rng.random(),
        value=rng.random(),
        tokens=50,
        thinking_left=max(0, left),
        terminal=concludes,
        answer=str(ask.local_id % 3) if concludes else None,
    )
