"""Golden trees over a scripted evaluator: `python tests/golden/remake.py` makes them again.

A file holds the settings that made its tree, so it is remade and checked from itself; new files are
named in NEW.
"""

import json
from dataclasses import asdict
from pathlib import Path
from random import Random

from tree.actions import MetaAction, Transitions, allowed, by_model, refining, uniformly
from tree.baselines import lines
from tree.beam import beam
from tree.best_first import best_first
from tree.budget import Limits
from tree.gumbel import gumbel
from tree.node import Told, Tree
from tree.rank import by_puct, by_ucb
from tree.record import to_row
from tree.search import SearchSettings, mcts
from tree.stop import Decided
from tree.vote import vote

FOLDER = Path(__file__).parent
BUDGET = {"seed": 3, "tokens": 2000, "thought": 24, "conclusion": 12, "thinking": 90}


def shaped(**settings):
    """Every setting of a search, so that a new default changes no golden tree."""
    return asdict(SearchSettings(max_depth=8, **settings))


NEW = {
    "mcts": BUDGET | {"draw": "model", "mcts": shaped(simulations=48)},
    "mcts_concurrent": BUDGET | {"draw": "uniform", "mcts": shaped(simulations=48, concurrency=4)},
    "mcts_short_of_tokens": BUDGET | {"draw": "transitions", "tokens": 300, "mcts": shaped(simulations=999)},
    "mcts_decided": BUDGET
    | {"draw": "model", "stop": "count", "tokens": 500, "mcts": shaped(simulations=999)},
    "ucb": BUDGET | {"draw": "model", "rank": "ucb", "entropies": True, "mcts": shaped(simulations=40)},
    "whole_solutions": BUDGET
    | {
        "draw": "model",
        "refining": True,
        "thinking": 200,
        "mcts": shaped(simulations=40, max_children=2, whole_solutions=True, prune=True),
    },
    "gumbel": BUDGET | {"draw": "model", "gumbel": shaped(simulations=40)},
    "best_first": BUDGET | {"draw": "uniform", "best_first": shaped(simulations=40, concurrency=2)},
    "beam": BUDGET | {"draw": "model", "beam": {"width": 3, "branch": 3, "max_depth": 8}},
    "dvts": BUDGET | {"draw": "model", "beam": {"width": 1, "branch": 3, "max_depth": 8, "subtrees": 3}},
    "lines": BUDGET | {"draw": "model", "lines": {"num_lines": 5, "max_depth": 8}},
}


def grow(settings):
    """The row of the tree that these settings grow."""
    tree = Tree.of("How many?", seed=settings["seed"], thinking_left=settings["thinking"])
    stops = (Decided(settings["stop"]),) if "stop" in settings else ()
    limits = Limits(
        settings["tokens"], settings["thought"], settings["conclusion"], settings["conclusion"], stops=stops
    )
    draw = {"model": by_model, "uniform": uniformly, "transitions": Transitions()}[settings["draw"]]
    search = searched(tree, settings, limits, refining(draw) if "refining" in settings else draw)
    out = []
    try:
        out += next(search)
        while True:
            # the newest first: the order makes no difference
            ask = out.pop()
            out += search.send((ask.local_id, told(tree, ask, settings)))
    except StopIteration:
        pass
    found = vote(tree)
    return to_row(
        tree.nodes,
        problem=tree.question,
        answer=found.answer,
        confidence=found.confidence,
        tokens_used=tree.tokens_used,
        simulations=tree.simulations,
        next_id=tree.next_id,
        events=tree.events,
        **({"stopped": tree.stopped} if stops else {}),
    )


def searched(tree, settings, limits, draw):
    """The search that these settings name."""
    if "mcts" in settings:
        rank = {"puct": by_puct, "ucb": by_ucb}[settings.get("rank", "puct")]
        return mcts(tree, SearchSettings(**settings["mcts"]), limits, draw, rank)
    if "gumbel" in settings:
        return gumbel(tree, SearchSettings(**settings["gumbel"]), limits, draw)
    if "best_first" in settings:
        return best_first(tree, SearchSettings(**settings["best_first"]), limits, draw)
    search, shape = (beam, settings["beam"]) if "beam" in settings else (lines, settings["lines"])
    return search(tree, **shape, limits=limits, draw=draw)


def told(tree, ask, settings):
    """What comes back depends on the seed of the ask and the parent's text; one request in 20 fails."""
    rng, parent = Random(ask.seed), tree.nodes[ask.parent]
    if rng.random() < 0.05:
        return None
    kinds = allowed(parent.action, thinking_left=parent.thinking_left)
    action = ask.action or kinds[int(rng.random() * len(kinds))]
    concludes = action is MetaAction.CONCLUDE
    sign = "good" if "bad" not in parent.text and rng.random() < 0.7 else "bad"
    tokens = 4 + int(rng.random() * (ask.max_tokens - 3))
    thinking_left = max(0, parent.thinking_left - tokens)
    return Told(
        action=action,
        text=f"{sign} {int(rng.random() * 4)}",
        logprob=-round(rng.random(), 3),
        value=round((0.5 if sign == "good" else 0.1) + 0.4 * rng.random(), 3),
        tokens=tokens,
        thinking_left=thinking_left,
        terminal=concludes and not ("refining" in settings and thinking_left),
        answer=("7" if sign == "good" else str(int(rng.random() * 3))) if concludes else None,
        outcome=float(sign == "good") if concludes and ask.local_id % 2 else None,
        entropy=round(ask.local_id % 7 / 7, 3) if "entropies" in settings else None,
        varentropy=round(ask.local_id % 5 / 5, 3) if "entropies" in settings else None,
    )


def remake():
    """Write every golden file again, and those in NEW that are not there."""
    for name, chosen in NEW.items():
        path = FOLDER / f"{name}.json"
        settings = json.loads(path.read_text("utf-8"))["settings"] if path.exists() else chosen
        golden = {"settings": settings, "tree": grow(settings)}
        path.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    remake()
