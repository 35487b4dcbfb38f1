"""Nodes to learn from, made by self-play of the bench's own model."""

from __future__ import annotations

from llama_o1.bench.model import Speaker
from llama_o1.bench.settings import TrainBench
from llama_o1.engine.local import LocalEngine
from llama_o1.measure.evaluate import graded
from llama_o1.play.collect import collect
from llama_o1.play.expand import Expander
from llama_o1.play.selfplay import search_all
from llama_o1.tasks.generator import generate
from llama_o1.tasks.problem import Problem
from replay.experience import Experience
from tree.actions import Transitions


def problems(settings: TrainBench) -> list[Problem]:
    """One for each tree, of the kind that configs/nano.yaml mostly trains on."""
    return generate("word", "train", settings.trees, settings.seed, 4, 4)


def searched(settings: TrainBench, spoken: Speaker) -> list[list[Experience]]:
    """The experiences of each tree."""
    engine = LocalEngine(spoken.model, slots=settings.slots, threads=settings.threads)
    asked = problems(settings)
    trees = search_all(
        engine,
        [(str(i), problem.question, graded(problem)) for i, problem in enumerate(asked)],
        Expander(spoken.codec, settings.thoughts, engine.max_context),
        settings.search,
        Transitions(),
        seed=f"bench/{settings.seed}",
        on_tree=lambda index, tree: None,
    )
    engine.close()
    return [
        collect(tree, problem=p.id, name=str(i), mode="tree", mix=0.5, discount=1.0, trace=0.95)
        for i, (p, tree) in enumerate(zip(asked, trees, strict=True))
    ]
