"""Trials become what they say of budgets: control, scaling, performance, following, utilisation, lengths.

As plain objects for JSON. Shares at one budget have Wilson's interval, all else that of the bootstrap over
problems with the resamples of compare.py; with several seeds a problem counts once, by its mean. Letters of a
shape: N problems, P budgets, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llama_o1.measure.compare import ALL, Plan
from llama_o1.measure.intervals import wilson
from llama_o1.measure.lengths import (
    Length,
    control,
    following,
    length_figures,
    performance,
    scaling,
    utilisation,
)
from llama_o1.measure.statistics import Floats, paired_bootstrap, resamples
from llama_o1.measure.trial import Key, Trial

Cells = Sequence[Sequence[Trial]]  # of one method at one budget: by problem, then by seed


def thinking(trials: Mapping[Key, Trial], plan: Plan) -> dict[str, Any]:
    """`{"thinking": {set: {method: figures}}}` where the plan has a way to be told a budget, else {}.

    Of a method that is none, budget and length are all tokens of its tree.
    """
    if not plan.ways:
        return {}
    pooled = [(name, problem) for name, problems in plan.sets.items() for problem in problems]
    groups = {ALL: pooled} | {name: [one for one in pooled if one[0] == name] for name in plan.sets}
    return {"thinking": {name: _of_problems(trials, plan, ids) for name, ids in groups.items()}}


def _of_problems(
    trials: Mapping[Key, Trial], plan: Plan, ids: Sequence[tuple[str, str]]
) -> dict[str, dict[str, Any]]:
    weights = resamples(len(ids), 0)
    found = {
        method: {
            budget: [[trials[Key(*one, method, budget, seed)] for seed in plan.seeds] for one in ids]
            for budget in plan.budgets
        }
        for method in plan.methods
    }
    against = next((method for method in plan.baselines if method in found), None)
    return {
        method: {
            "counts": "thinking" if method in plan.ways else "tokens",
            **_of_method(plan, method, cells, weights),
            "budget": {
                str(budget): {
                    **_of_budget(plan, method, cells[budget], budget, weights),
                    **_less(plan, (method, against), found, budget, weights),
                }
                for budget in plan.budgets
            },
        }
        for method, cells in found.items()
    }


def _of_method(plan: Plan, method: str, cells: Mapping[int, Cells], weights: Floats) -> dict[str, Any]:
    """s1's three measures over all budgets of one method."""
    columns = list(cells.values())
    lengths = _columns(columns, lambda trial: float(_length(plan, trial).thinking))
    accuracies = _columns(columns, lambda trial: float(trial.correct))
    within = np.stack([_within(plan, method, cells[budget], budget) for budget in cells], axis=1)
    resampled_lengths, resampled = weights @ lengths, weights @ accuracies  # [R, P]
    return {
        "control": _estimate(float(within.mean()), weights @ within.mean(axis=1)),
        "scaling": _estimate(
            float(scaling(lengths.mean(axis=0), accuracies.mean(axis=0))),
            scaling(resampled_lengths, resampled),
        ),
        "performance": _estimate(float(performance(accuracies.mean(axis=0))), performance(resampled)),
    }


def _of_budget(plan: Plan, method: str, cells: Cells, budget: int, weights: Floats) -> dict[str, Any]:
    """What one method thinks at one budget, in trials and their shares."""
    lengths = [_length(plan, trial) for cell in cells for trial in cell]
    thought = _by_problem(cells, lambda trial: float(_length(plan, trial).thinking))
    used = utilisation(lengths, budget)
    return {
        "trials": len(lengths),
        "accuracy": _share(_by_problem(cells, lambda trial: float(trial.correct))),
        "control": _share(_within(plan, method, cells, budget)),
        "following": _share(_follows(plan, cells, budget)),
        "utilisation": None if used is None else _estimate(used, _used(plan, cells, budget, weights)),
        "thinking": _estimate(float(thought.mean()), weights @ thought),
        "lengths": length_figures(lengths, budget),
    }


def _less(
    plan: Plan,
    pair: tuple[str, str | None],
    found: Mapping[str, Mapping[int, Cells]],
    budget: int,
    weights: Floats,
) -> dict[str, Any]:
    """How much more often a method follows a budget than the first baseline does, on the same problems."""
    method, against = pair
    if against is None or method == against:
        return {}
    mine, other = (_follows(plan, found[one][budget], budget) for one in (method, against))
    difference = paired_bootstrap(mine, other, weights)
    return {"follows_more": {"against": against, **difference._asdict()}}


def _length(plan: Plan, trial: Trial) -> Length:
    """The length that the method's budget is of."""
    length = trial.length
    return length if trial.method in plan.ways else length._replace(thinking=trial.tokens)


def _least(plan: Plan, method: str, budget: int) -> int:
    return plan.ways[method].least_of(budget) if method in plan.ways else 0


def _within(plan: Plan, method: str, cells: Cells, budget: int) -> Floats:
    """Share of each problem's trials that are within the budget and its minimum: [N]."""
    least = _least(plan, method, budget)
    return _by_problem(cells, lambda trial: control([_length(plan, trial).thinking], least, budget))


def _follows(plan: Plan, cells: Cells, budget: int) -> Floats:
    """Share of each problem's trials that follow the budget: [N]."""
    return _by_problem(cells, lambda trial: following([_length(plan, trial)], budget))


def _used(plan: Plan, cells: Cells, budget: int, weights: Floats) -> Floats:
    """Utilisation of each resample [R]; NaN where none in it follows the budget."""
    follows = _follows(plan, cells, budget)
    used = _by_problem(
        cells,
        lambda trial: _length(plan, trial).thinking / budget if _length(plan, trial).follows(budget) else 0.0,
    )
    counts = weights @ follows
    return np.where(counts > 0, (weights @ used) / np.where(counts > 0, counts, 1.0), np.nan)


def _by_problem(cells: Cells, figure: Any) -> Floats:
    """The mean of a figure over each problem's trials: [N]."""
    return np.array([np.mean([figure(trial) for trial in cell]) for cell in cells], np.float64)


def _columns(cells: Sequence[Cells], figure: Any) -> Floats:
    return np.stack([_by_problem(one, figure) for one in cells], axis=1)


def _share(by_problem: Floats) -> dict[str, float]:
    """The mean share of problems [N] with Wilson's interval of as many trials."""
    return wilson(float(by_problem.sum()), len(by_problem))._asdict()


def _estimate(mean: float, resampled: Floats) -> dict[str, float] | None:
    """A figure with the ends of its 95 % percentile interval; None where it has no value."""
    known = resampled[np.isfinite(resampled)]
    if not np.isfinite(mean) or not len(known):
        return None
    low, high = np.percentile(known, (2.5, 97.5))
    return {"mean": mean, "low": float(low), "high": float(high)}
