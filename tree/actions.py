"""Meta-actions: what kind of thought may follow which, and how the next kind is drawn.

Knows nothing of tokens or models; the words of a meta-action in a prompt are format/'s business.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Protocol


class MetaAction(StrEnum):
    """The kind of a thought. PROBLEM is the root's own kind and is never drawn."""

    PROBLEM = "problem"
    EXPAND = "expand"
    DIVIDE = "divide"
    CRITIC = "critic"
    REFINE = "refine"
    CONCLUDE = "conclude"


DRAWABLE = tuple(action for action in MetaAction if action is not MetaAction.PROBLEM)


def allowed(parent: MetaAction, *, thinking_left: int) -> tuple[MetaAction, ...]:
    """The grammar: kinds that may follow `parent`.

    A critic follows a step, a refine follows a critic and nothing else does but going on; a
    sub-problem is not divided again at once; when the path's thinking is spent only a conclusion is left.
    """
    if thinking_left <= 0:
        return (MetaAction.CONCLUDE,)
    expand, divide, critic, refine, conclude = DRAWABLE
    return {
        MetaAction.PROBLEM: (expand, divide),
        MetaAction.EXPAND: (expand, divide, critic, conclude),
        MetaAction.DIVIDE: (expand,),
        MetaAction.CRITIC: (refine, expand, conclude),
        MetaAction.REFINE: (expand, divide, conclude),
        MetaAction.CONCLUDE: (critic,),
    }[parent]


class ActionDraw(Protocol):
    """How the kind of the next thought is chosen."""

    def __call__(self, parent: MetaAction, choices: Sequence[MetaAction], rng: Random) -> MetaAction | None:
        """One of the choices, or None to leave the choice to the model."""
        ...


def by_model(parent: MetaAction, choices: Sequence[MetaAction], rng: Random) -> MetaAction | None:
    """Leave the choice to the model, whose tag is then a policy token; only a last conclusion is forced."""
    return MetaAction.CONCLUDE if list(choices) == [MetaAction.CONCLUDE] else None


def uniformly(parent: MetaAction, choices: Sequence[MetaAction], rng: Random) -> MetaAction:
    """Any of the choices, equally likely."""
    return rng.choice(choices)


def refining(then: ActionDraw) -> ActionDraw:
    """Self-Refine (SR-MCTS, LLaMA-Berry): a whole solution is criticised, then written anew.

    What stands inside of a solution, and what a path without thinking left may still say, is drawn by `then`.

    Differences from the paper (section 3.2): a child is selected by PUCT, not UCT; the value of a solution is
    the model's own, frozen when it was written, and all below it back up to W / N, where the paper mixes
    0.1 of each child in; comparisons rank once, when the search is over (pairwise.py), where they value.
    """
    following = {MetaAction.CONCLUDE: MetaAction.CRITIC, MetaAction.CRITIC: MetaAction.REFINE}

    def draw(parent: MetaAction, choices: Sequence[MetaAction], rng: Random) -> MetaAction | None:
        wanted = following.get(parent)
        return wanted if wanted in choices else then(parent, choices, rng)

    return draw


def omitting(kinds: Collection[MetaAction], then: ActionDraw) -> ActionDraw:
    """Draws by `then` among the choices that are none of `kinds`; what the model draws itself is not its."""

    def draw(parent: MetaAction, choices: Sequence[MetaAction], rng: Random) -> MetaAction | None:
        return then(parent, [choice for choice in choices if choice not in kinds], rng)

    return draw


@dataclass(slots=True)
class Transitions:
    """Mean value of each kind after each kind, kept across problems; draws by softmax of the means.

    LLaMA-O1 sums exp(value) over edges (rich get richer) and forgets between problems; here a mean
    with `prior_count` observations of `prior_value`, so an untried kind stays in play.
    """

    temperature: float = 0.3
    prior_count: float = 4.0
    prior_value: float = 0.5
    counts: dict[str, float] = field(default_factory=dict[str, float])
    sums: dict[str, float] = field(default_factory=dict[str, float])

    def __post_init__(self) -> None:
        """Refuse numbers that make no mean and no softmax."""
        for name in ("temperature", "prior_count"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"transitions.{name} must be above 0, got {getattr(self, name)}")
        if not 0 <= self.prior_value <= 1:
            raise ValueError(f"transitions.prior_value must be in [0, 1], got {self.prior_value}")

    def mean(self, parent: MetaAction, child: MetaAction) -> float:
        """Mean value of `child` thoughts below `parent` thoughts, prior included, in [0, 1]."""
        key = f"{parent}>{child}"
        total = self.sums.get(key, 0.0) + self.prior_count * self.prior_value
        return total / (self.counts.get(key, 0.0) + self.prior_count)

    def __call__(self, parent: MetaAction, choices: Sequence[MetaAction], rng: Random) -> MetaAction:
        """A choice drawn in proportion to exp(mean / temperature)."""
        means = [self.mean(parent, choice) for choice in choices]
        highest = max(means)  # taken off, so that a low temperature does not overflow
        weights = [math.exp((mean - highest) / self.temperature) for mean in means]
        return rng.choices(list(choices), weights)[0]

    def add(self, parent: MetaAction, child: MetaAction, value: float) -> None:
        """Record one edge whose child came to `value` in [0, 1]."""
        key = f"{parent}>{child}"
        self.counts[key] = self.counts.get(key, 0.0) + 1.0
        self.sums[key] = self.sums.get(key, 0.0) + value

    def state(self) -> dict[str, dict[str, float]]:
        """What a checkpoint keeps."""
        return {"counts": dict(self.counts), "sums": dict(self.sums)}

    def restore(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Replace the statistics by those of a checkpoint."""
        self.counts, self.sums = dict(state["counts"]), dict(state["sums"])
