"""Which answer a finished tree gives, and how sure it is. Grades are never looked at."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import eq
from typing import Literal, NamedTuple

from tree.node import Node, Tree

Weighting = Literal["value", "count", "likelihood", "best", "visits", "pairwise"]
_LEAST = -700.0  # log-prob whose exponential is still a float
Same = Callable[[str, str], bool]  # whether two declared answers are one; symmetric, never sees the gold


class Vote(NamedTuple):
    """The answer of a tree."""

    answer: str | None  # None: no line declared one
    confidence: float  # the answer's share of all weight, in [0, 1]
    leaf: int | None  # index of its best conclusion
    weights: dict[str, float]  # by answer, heaviest first


NO_VOTE = Vote(None, 0.0, None, {})


def vote(tree: Tree, weighting: Weighting = "value", same: Same = eq) -> Vote:
    """The heaviest answer; ties go to the earlier.

    value: the model's own value times the count, as a value-weighted majority; count: plain majority (Wang
    et al. 2023, self-consistency); likelihood: the value's square times the line's own probability, each
    line once. With the value itself that is the probability that a line of the policy ends in this answer
    and is right, as far as its lines were found; the square, since a value that is calibrated over all
    problems tells too little between the lines of one (LOG.md has what other powers choose). For trees of
    short lines, where counts tell what the search looked for and not what is likely. Where lines are long
    the likeliest alone decides, which is why the unnormalized weighted sum of that paper's table 1 is worse
    than its counts. best: best-of-n by value. visits: the conclusion at the end of the most visited path
    (Silver et al. 2017), among paths that end in an answer; an answer then weighs as much as a walk which
    goes down in proportion to visits is likely to end in it. pairwise: the one that comparisons rank first
    (LLaMA-Berry; pairwise.py), which a search makes once it is over.
    """
    if weighting == "visits":
        return by_visits(tree.nodes, [node.visits for node in tree.nodes], same)
    tally = Tally(weighting, same)
    for node in tree.nodes:
        if node.answer is not None:
            tally.add(node, node.count)
    return tally.vote()


@dataclass(slots=True)
class Tally:
    """Votes of conclusions as they come in; each equal answer is filed under the first that was equal."""

    weighting: Weighting  # any but visits, which is not a sum over conclusions
    same: Same = eq
    weights: dict[str, float] = field(default_factory=dict[str, float])
    leaves: dict[str, Node] = field(default_factory=dict[str, Node])
    # Of `likelihood` alone. Probabilities are relative to the likeliest line's: long ones would all weigh 0.
    likeliest: float = -math.inf  # its log-prob
    found: float = 0.0  # probability of all lines that came in
    lines: set[int] = field(default_factory=set[int])  # indices of their conclusions

    def add(self, node: Node, times: int = 1) -> None:
        """Count a conclusion that declares an answer so many times more."""
        answer, weight = _filed(self.weights, node.answer, self.same), _weight(node, self.weighting)
        old = self.weights.get(answer, 0.0)
        if self.weighting in ("best", "pairwise"):
            self.weights[answer] = max(old, weight)
        elif self.weighting == "likelihood":
            self._add_once(node, answer, weight)
        else:
            self.weights[answer] = old + weight * times
        best = self.leaves.get(answer)
        if best is None or _worth(node, self.weighting) > _worth(best, self.weighting):
            self.leaves[answer] = node

    def open_probability(self) -> float:
        """Of lines that have not come in, by `likelihood` and relative to the likeliest one."""
        return math.exp(-self.likeliest) - self.found if self.likeliest > _LEAST else math.inf

    def _add_once(self, node: Node, answer: str, value: float) -> None:
        if node.index in self.lines:
            return
        self.lines.add(node.index)
        if node.line_logprob > self.likeliest:
            shrink = math.exp(self.likeliest - node.line_logprob)
            self.weights = {known: weight * shrink for known, weight in self.weights.items()}
            self.found *= shrink
            self.likeliest = node.line_logprob
        probability = math.exp(node.line_logprob - self.likeliest)
        self.found += probability
        self.weights[answer] = self.weights.get(answer, 0.0) + probability * value**2

    def vote(self) -> Vote:
        """The answer so far."""
        if not self.weights:
            return NO_VOTE
        ranked = _ranked(self.weights)
        answer = next(iter(ranked))
        return Vote(answer, _share(ranked, answer), self.leaves[answer].index, ranked)


def by_visits(nodes: Sequence[Node], visits: Sequence[int], same: Same = eq) -> Vote:
    """The vote `visits` over nodes that were visited so often; parents stand before children."""
    answered = [node.answer is not None and visits[node.index] > 0 for node in nodes]
    for node in reversed(nodes):
        if answered[node.index] and node.parent >= 0:
            answered[node.parent] = True
    if not answered or not answered[0]:
        return NO_VOTE
    reached = [1.0] + [0.0] * (len(nodes) - 1)  # by a walk that goes down in proportion to visits
    weights: dict[str, float] = {}
    for node in nodes:
        below = [i for i in node.children if answered[i]]
        total = sum(visits[i] for i in below)
        for i in below:
            reached[i] = reached[node.index] * visits[i] / total
        if node.answer is not None and answered[node.index]:
            answer = _filed(weights, node.answer, same)
            weights[answer] = weights.get(answer, 0.0) + reached[node.index]
    leaf = nodes[0]
    while lines := [nodes[i] for i in leaf.children if answered[i]]:
        leaf = max(lines, key=lambda child: visits[child.index])  # the first of equals
    chosen = _filed(weights, leaf.answer, same)
    ranked = _ranked(weights)
    return Vote(chosen, _share(ranked, chosen), leaf.index, ranked)


def _filed(weights: dict[str, float], answer: str | None, same: Same) -> str:
    """The answer under which this one counts: the first that was equal, or itself."""
    assert answer is not None, "only a declared answer is counted"
    return answer if answer in weights else next((known for known in weights if same(known, answer)), answer)


def _ranked(weights: dict[str, float]) -> dict[str, float]:
    return dict(sorted(weights.items(), key=lambda item: -item[1]))


def _share(weights: dict[str, float], answer: str) -> float:
    total = sum(weights.values())
    return weights[answer] / total if total else 0.0


def _weight(node: Node, weighting: Weighting) -> float:
    return 1.0 if weighting == "count" else _worth(node, weighting)


def _worth(node: Node, weighting: Weighting) -> float:
    """What tells the best of several conclusions with one answer."""
    worth = node.preference if weighting == "pairwise" else node.value
    return 0.0 if worth is None else worth
