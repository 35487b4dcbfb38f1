"""Search at inference: problems in, one voted answer each out, with the tree that found it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from llama_o1 import assemble
from llama_o1.config import RunConfig
from llama_o1.errors import RunError
from llama_o1.format.encode import Codec
from llama_o1.learn.checkpoint import load_checkpoint
from llama_o1.learn.shelf import latest_checkpoint
from llama_o1.learn.trainer import Learner
from llama_o1.measure.evaluate import ungraded
from llama_o1.play.pieces import tree_pieces, with_pieces
from llama_o1.play.selfplay import search_all, tree_row
from llama_o1.progress import Rates, bar
from llama_o1.run import RunFolder
from llama_o1.tasks.problem import Problem
from llama_o1.tasks.same import same_answer
from tree.actions import Transitions
from tree.node import Tree
from tree.vote import Vote, Weighting, vote


class Answered(NamedTuple):
    """One searched problem."""

    problem: Problem
    tree: Tree
    vote: Vote
    seconds: float  # from the tree's first request to its end
    codec: Codec  # that reads the tree's tokens
    weighting: Weighting = "value"

    def row(self) -> dict[str, Any]:
        """As the machine-readable result, with the tokens of every thought."""
        row = tree_row(self.tree, self.weighting, self.seconds, same_answer)
        return with_pieces(row, tree_pieces(self.tree, self.codec))


class Answers(NamedTuple):
    """All searched problems, and what the engine did for them."""

    answered: list[Answered]
    line: str  # rates, in words
    engine: dict[str, float]  # the same as flat numbers


def answer(config: RunConfig, problems: Sequence[Problem], *, run: Path | None) -> Answers:
    """Search every problem under `config.search`; with `run`, by the weights which that run learned."""
    opened = assemble.assemble(
        config.model,
        config.engine,
        seed=config.seed,
        temperature=config.thoughts.temperature,
        marks=config.thoughts.marks,
        new_value_head=run is not None,
    )
    with opened as system:
        if run is not None:
            transitions = _learned(run, system, config)
        else:
            assemble.check_serves(system)
            transitions = Transitions()
        return _search(config, problems, system, transitions)


def _search(
    config: RunConfig, problems: Sequence[Problem], system: assemble.System, transitions: Transitions
) -> Answers:
    expander = assemble.expander(system, config.thoughts)
    rates = Rates(system.engine)
    searches = bar(len(problems), "search", "problem")
    seconds = [0.0] * len(problems)

    def on_seconds(i: int, taken: float) -> None:
        rates.add_seconds(taken)
        seconds[i] = taken

    def on_tree(i: int, tree: Tree) -> None:
        rates.add(tree)
        searches.set_postfix(rates.shown, refresh=False)
        searches.update()

    trees = search_all(
        system.engine,
        [(str(i), problem.question, ungraded(problem)) for i, problem in enumerate(problems)],
        expander,
        config.search,
        transitions,
        seed=f"search/{config.seed}",
        on_tree=on_tree,
        on_seconds=on_seconds,
        same=same_answer,
    )
    searches.close()
    line, numbers = rates.line, rates.numbers
    weighting = config.search.weighting
    found = [
        Answered(p, tree, vote(tree, weighting, same_answer), s, expander.codec, weighting)
        for p, tree, s in zip(problems, trees, seconds, strict=True)
    ]
    return Answers(found, line, numbers)


def settings_of_run(run: Path) -> dict[str, Any]:
    """The resolved settings of a run; RunError when the folder holds none."""
    folder = RunFolder(run)
    if not folder.config.exists():
        raise RunError(f"{run} holds no run (no config.yaml); give the folder that `llama-o1 train` wrote")
    settings: dict[str, Any] = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    return settings


def _learned(run: Path, system: assemble.System, config: RunConfig) -> Transitions:
    """Put the run's last weights into model and engine, and give its transition statistics."""
    checkpoint = latest_checkpoint(run / "checkpoints")
    if checkpoint is None:
        raise RunError(f"{run} has no whole checkpoint yet; let the run finish an iteration")
    loaded = system.loaded
    settings = replace(config.learner, kl_weight=0.0)
    learner = Learner(
        loaded.model, loaded.special, settings, pad_id=loaded.pad_id, value_head=loaded.value_head
    )
    state = load_checkpoint(checkpoint, learner)
    assemble.publish(system, state["iteration"])
    transitions = Transitions()
    transitions.restore(state["transitions"])
    return transitions
