"""Accuracy on held-out problems: the same driver as self-play, but the judge keeps the grade to itself.

During an evaluation a search never sees an outcome: the tree votes first and is graded afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice

from llama_o1.engine.protocol import Engine
from llama_o1.measure.intervals import Interval, wilson
from llama_o1.measure.values import Rated, rated
from llama_o1.play.expand import Expander
from llama_o1.play.judge import Grade, Judge
from llama_o1.play.methods import MethodSettings
from llama_o1.play.selfplay import search_all
from llama_o1.tasks.problem import Problem
from llama_o1.tasks.same import same_answer
from llama_o1.tasks.verify import canonical_answer, verify
from tree.actions import Transitions
from tree.node import Tree
from tree.vote import Weighting, vote


@dataclass(frozen=True, slots=True)
class Score:
    """What one method got on one set."""

    correct: tuple[bool, ...]  # by problem, in the order given
    tokens: int  # of all trees, forced ones included
    nodes: int
    rated: tuple[Rated, ...]  # thoughts with their values and what came of them, by place of the problem

    @property
    def accuracy(self) -> Interval:
        """Share of right answers with its 95 % interval."""
        return wilson(sum(self.correct), len(self.correct))


def evaluate(
    engine: Engine,
    sets: Mapping[str, Sequence[Problem]],
    expander: Expander,
    settings: MethodSettings,
    transitions: Transitions,
    *,
    weighting: Weighting,
    seed: int,
    on_tree: Callable[[int, Tree], None],
) -> dict[str, Score]:
    """The score of one method on each set; deterministic given the engine's weights and the seed."""
    tasks = [
        (f"{name}/{i}", problem.question, ungraded(problem))
        for name, held in sets.items()
        for i, problem in enumerate(held)
    ]
    trees = iter(
        search_all(
            engine,
            tasks,
            expander,
            settings,
            transitions,
            seed=f"evaluate/{seed}",
            on_tree=on_tree,
            same=same_answer,
        )
    )
    return {name: _score(list(islice(trees, len(held))), held, weighting) for name, held in sets.items()}


def ungraded(problem: Problem) -> Judge:
    """A judge that names the declared answer and tells no grade; it reads no gold answer."""
    kind = problem.kind
    return lambda text: Grade(canonical_answer(text, kind), None)


def graded(problem: Problem) -> Judge:
    """A judge that also tells whether the answer is right; undeclared answers are wrong."""

    def judge(text: str) -> Grade:
        verdict = verify(text, problem)
        return Grade(verdict.answer, 1.0 if verdict.verdict == "correct" else 0.0)

    return judge


def is_right(tree: Tree, problem: Problem, weighting: Weighting) -> bool:
    """Whether the answer that the tree votes for is right."""
    leaf = vote(tree, weighting, same_answer).leaf
    return leaf is not None and verify(tree.nodes[leaf].text, problem).verdict == "correct"


def _score(trees: Sequence[Tree], problems: Sequence[Problem], weighting: Weighting) -> Score:
    correct = tuple(is_right(t, p, weighting) for t, p in zip(trees, problems, strict=True))
    values = [
        one
        for i, (tree, problem) in enumerate(zip(trees, problems, strict=True))
        for one in rated(tree, i, _grader(problem))
    ]
    num_nodes = sum(len(tree.nodes) - 1 for tree in trees)
    return Score(correct, sum(tree.tokens_used for tree in trees), num_nodes, tuple(values))


def _grader(problem: Problem) -> Callable[[str], bool]:
    """Whether a text's declared answer is right; each text is looked at once."""
    return cache(lambda text: verify(text, problem).verdict == "correct")
