"""How far the values of thoughts on held-out problems can be believed, worked out once their trees are done.

The label of a conclusion is its grade: 1 when the answer it declares is right, 0 when it is wrong or declares
none. The label of a thought before it is the share of right ones among the conclusions below it, merged ones
counted each time, as in Math-Shepherd's soft estimation (Wang et al. 2024, section 3.3, eq. 3). A thought
with none below has no label and is left out. The standard elsewhere is the grade of one completion sampled
from the thought; the share is its mean, and as a thought counts as right by its share in calibrate.py, each
figure means what it would over all those completions, one by one. Of a greedy line the two are the same. In
a tree the completions are those that the search chose to make, not independent draws.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from llama_o1.measure.calibrate import calibration, calibration_error, intervals, reliability
from llama_o1.measure.statistics import resamples
from tree.actions import MetaAction
from tree.node import Tree

RESAMPLES = 1000  # of the intervals: enough for a 95 % interval, and cheap in a run


class Rated(NamedTuple):
    """A thought with the value it was given and what came of it."""

    problem: int  # thoughts of one problem are drawn together when intervals are made
    depth: int
    action: str
    value: float  # in [0, 1]
    label: float  # in [0, 1]


def rated(tree: Tree, problem: int, is_right: Callable[[str], bool]) -> Iterator[Rated]:
    """The thoughts of a finished tree with a value and a label; `is_right` grades a conclusion's text."""
    counts, rights = [0] * len(tree.nodes), [0.0] * len(tree.nodes)
    for node in reversed(tree.nodes):  # children come after parents in the list
        if node.action is MetaAction.CONCLUDE or node.answer is not None:
            counts[node.index] += node.count
            rights[node.index] += node.count * is_right(node.text)
        if node.parent >= 0:
            counts[node.parent] += counts[node.index]
            rights[node.parent] += rights[node.index]
    for node in tree.nodes[1:]:
        count = counts[node.index]
        if count and node.value is not None:
            yield Rated(problem, node.depth, str(node.action), node.value, rights[node.index] / count)


def value_figures(sets: Sequence[Sequence[Rated]], seed: int) -> dict[str, float]:
    """Flat numbers of all sets together: Brier score, ECE and AUC by depth and by meta-action, with counts.

    Over all thoughts also 95 % intervals by a bootstrap over problems (`auc_low`), the figures of what is
    no conclusion (`auc_inner`), and the bins of the reliability diagram (`bin_9_value`). Of no thoughts none.
    """
    thoughts = [one for held in sets for one in held]
    if not thoughts:
        return {}
    values, labels = [one.value for one in thoughts], [one.label for one in thoughts]
    depths, actions = [one.depth for one in thoughts], [one.action for one in thoughts]
    figures: dict[str, float] = {"count": len(thoughts), **calibration(values, labels, depths, actions)}
    groups = Counter([*(f"depth_{depth}" for depth in depths), *actions])
    figures |= {f"count_{name}": count for name, count in groups.items()}
    inner = [one for one in thoughts if one.action != str(MetaAction.CONCLUDE)]
    if inner:
        of_inner = calibration([one.value for one in inner], [one.label for one in inner], (), ())
        figures |= {f"{name}_inner": figure for name, figure in of_inner.items()}
        figures["count_inner"] = len(inner)
    named = [(i, one.problem) for i, held in enumerate(sets) for one in held]
    place = {name: i for i, name in enumerate(dict.fromkeys(named))}
    problems = np.array([place[name] for name in named])
    weights = resamples(len(place), seed, RESAMPLES)
    for name, (low, high) in intervals(values, labels, problems, weights).items():
        figures |= {f"{name}_low": low, f"{name}_high": high}
    for i, found in enumerate(reliability(values, labels)):
        figures[f"bin_{i}_count"] = found.num_thoughts
        if found.num_thoughts:
            figures |= {f"bin_{i}_value": found.value, f"bin_{i}_label": found.label}
    return figures


def set_figures(thoughts: Sequence[Rated]) -> dict[str, float]:
    """Of one set: number of thoughts, their mean value and mean label, and ECE. Of no thoughts none."""
    if not thoughts:
        return {}
    values, labels = np.array([(one.value, one.label) for one in thoughts]).T
    return {
        "thoughts": len(thoughts),
        "value": float(values.mean()),
        "label": float(labels.mean()),
        "ece": calibration_error(values, labels),
    }
