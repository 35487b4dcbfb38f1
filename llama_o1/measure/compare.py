"""Trials become the comparison: accuracies with intervals, paired tests, curves. One plain object for JSON.

Sets are reported each and, under `all`, as one. With several seeds a problem counts once, by its mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llama_o1.measure.intervals import wilson
from llama_o1.measure.statistics import (
    Answers,
    Floats,
    bootstrap,
    holm,
    majority_at_k,
    paired_bootstrap,
    pass_at_k,
    resamples,
    sign_test,
)
from llama_o1.measure.trial import VERDICTS, Key, Trial
from llama_o1.measure.ways import Way
from tree.repairs import total

ALL = "all"
CURVE_POINTS = 64
Cells = Sequence[Sequence[Trial]]  # by problem, then by seed


@dataclass(frozen=True, slots=True)
class Plan:
    """Which trials make a comparison."""

    sets: Mapping[str, Sequence[str]]  # problem ids by set
    methods: Sequence[str]
    baselines: Sequence[str]  # those without a tree; the best of them is what the others are tested against
    budgets: Sequence[int]
    seeds: Sequence[int]
    ways: Mapping[str, Way] = field(default_factory=dict)  # methods whose budgets are thinking tokens

    def wanted(self) -> list[Key]:
        """Every trial, those that are searched together side by side."""
        return [
            Key(name, problem, method, budget, seed)
            for method in self.methods
            for budget in self.budgets
            for name, problems in self.sets.items()
            for problem in problems
            for seed in self.seeds
        ]


def compare(trials: Mapping[Key, Trial], plan: Plan) -> dict[str, Any]:
    """The comparison that these trials make, as JSON; every trial of the plan must be there."""
    pooled = [(name, problem) for name, problems in plan.sets.items() for problem in problems]
    groups = {name: [(name, problem) for problem in problems] for name, problems in plan.sets.items()}
    seen = {name: _Seen(trials, plan, ids) for name, ids in {**groups, ALL: pooled}.items()}
    return {
        "sets": {name: seen[name].figures() for name in plan.sets},
        ALL: seen[ALL].figures(),
        "paired": [row for name, one in seen.items() for row in one.paired(name)],
        "curves": {name: one.curves() for name, one in seen.items()},
        "engine": {
            method: {
                str(budget): engine_figures([t for cell in seen[ALL].cells(method, budget) for t in cell])
                for budget in plan.budgets
            }
            for method in plan.methods
        },
        "methods": list(plan.methods),
        "baselines": list(plan.baselines),
        "budgets": list(plan.budgets),
        "seeds": list(plan.seeds),
    }


class _Seen:
    """The trials of some problems, with the resamples that all their intervals share."""

    def __init__(self, trials: Mapping[Key, Trial], plan: Plan, ids: Sequence[tuple[str, str]]) -> None:
        self._trials = trials
        self._plan = plan
        self._ids = ids
        self._weights = resamples(len(ids), 0)

    def cells(self, method: str, budget: int) -> list[list[Trial]]:
        """The trials of a method, by problem and seed."""
        return [
            [self._trials[Key(name, problem, method, budget, seed)] for seed in self._plan.seeds]
            for name, problem in self._ids
        ]

    def figures(self) -> dict[str, Any]:
        """What every method came to at every budget."""
        methods = {
            method: {
                "budget": {
                    str(budget): method_figures(self.cells(method, budget), self._weights)
                    for budget in self._plan.budgets
                }
            }
            for method in self._plan.methods
        }
        return {"problems": len(self._ids), "methods": methods}

    def paired(self, name: str) -> list[dict[str, Any]]:
        """Every method against the best baseline at the same budget; of equals the one that spent less."""
        rows = []
        for budget in self._plan.budgets:
            cells = {method: self.cells(method, budget) for method in self._plan.methods}
            baselines = [method for method in self._plan.baselines if method in cells]
            if not baselines:
                continue
            best = max(baselines, key=lambda m: (_shares(cells[m]).mean(), -_tokens(cells[m])))
            shares = {method: _shares(found) for method, found in cells.items()}
            tested = self._tested(shares, against=shares.pop(best))
            rows += [
                {"set": name, "budget": budget, "method": method, "against": best, **one}
                for method, one in tested.items()
            ]
        return rows

    def _tested(self, shares: Mapping[str, Floats], *, against: Floats) -> dict[str, dict[str, Any]]:
        tested: dict[str, dict[str, Any]] = {}
        for method, mine in shares.items():
            difference = paired_bootstrap(mine, against, self._weights)
            wins, losses = int((mine > against).sum()), int((mine < against).sum())
            tested[method] = {
                "difference": difference.mean,
                "low": difference.low,
                "high": difference.high,
                "wins": wins,
                "losses": losses,
                "ties": len(mine) - wins - losses,
                "p": sign_test(wins, losses),
                "test": "exact McNemar" if len(self._plan.seeds) == 1 else "exact sign test",
            }
        corrected = holm([row["p"] for row in tested.values()])
        for row, p in zip(tested.values(), corrected, strict=True):
            row["p_holm"] = p
        return tested

    def curves(self) -> dict[str, Any]:
        """Accuracy against tokens of each method, all from its runs at the greatest budget."""
        budget = max(self._plan.budgets)
        caps = np.unique(np.linspace(0, budget, CURVE_POINTS + 1).round().astype(int))
        return {
            method: curve_figures(self.cells(method, budget), caps.tolist(), self._weights)
            for method in self._plan.methods
            if method not in self._plan.ways  # their budgets are of a path, the curve is of the whole tree
        }


def method_figures(cells: Cells, weights: Floats) -> dict[str, Any]:
    """What one method came to on some problems.

    `low` and `high` are Wilson's, of as many trials as there are problems: with several seeds that is wider
    than needed, never narrower. `bootstrap` is the percentile interval over problems.
    """
    trials = [trial for cell in cells for trial in cell]
    shares = _shares(cells)
    accuracy = wilson(float(shares.sum()), len(shares))
    low, high = bootstrap(shares, weights)
    seconds = np.percentile([trial.seconds for trial in trials], (50, 95))
    return {
        "accuracy": accuracy.mean,
        "low": accuracy.low,
        "high": accuracy.high,
        "bootstrap": [float(low), float(high)],
        "tokens_used": _tokens(cells),
        "most_tokens_used": max(trial.tokens for trial in trials),
        "tokens": {
            part: sum(getattr(trial, part) for trial in trials)
            for part in ("sampled", "forced", "failed", "prefilled", "cached")
        },
        "verdicts": {state: sum(t.verdict == state for t in trials) for state in VERDICTS},
        "holds_right": float(np.mean([any(f.verdict == "correct" for f in t.found) for t in trials])),
        "seconds_p50": float(seconds[0]),
        "seconds_p95": float(seconds[1]),
        "nodes": float(np.mean([trial.nodes for trial in trials])),
        "repairs": total(trial.repairs for trial in trials)._asdict(),
        "events": sum(trial.events for trial in trials),
        "seeds": _at_k([_by_seed(cell) for cell in cells]),
        "lines": _at_k([_by_line(cell) for cell in cells]),
    }


def engine_figures(trials: Sequence[Trial]) -> dict[str, float]:
    """What the engine did for a method: rates by the clock, shares by its counters."""
    works = [trial.work for trial in trials]
    seconds = max(sum(work.seconds for work in works), 1e-9)
    possible = sum(work.steps * work.slots for work in works)
    context = sum(work.cached + work.prefilled for work in works)
    return {
        "seconds": seconds,
        "tokens_per_s": sum(work.sampled + work.forced for work in works) / seconds,
        "nodes_per_s": sum(trial.nodes for trial in trials) / seconds,
        "occupancy": sum(work.slot_steps for work in works) / possible if possible else 0.0,
        "prefix_reuse": sum(work.cached for work in works) / context if context else 0.0,
    }


def curve_figures(cells: Cells, caps: Sequence[int], weights: Floats) -> dict[str, list[float]]:
    """Accuracy with 95 % bootstrap ends, and mean tokens spent, had every search ended at each of `caps`."""
    shares = np.array([[np.mean([t.correct_at(cap) for t in cell]) for cap in caps] for cell in cells])
    low, high = bootstrap(shares, weights)
    spent = [float(np.mean([min(t.tokens, cap) for cell in cells for t in cell])) for cap in caps]
    return {
        "budget": [float(cap) for cap in caps],
        "tokens_used": spent,
        "accuracy": shares.mean(axis=0).tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
    }


def _shares(cells: Cells) -> Floats:
    """Share of right answers of each problem, over its seeds: [N]."""
    return np.array([np.mean([trial.correct for trial in cell]) for cell in cells], np.float64)


def _tokens(cells: Cells) -> float:
    return float(np.mean([trial.tokens for cell in cells for trial in cell]))


def _by_seed(cell: Sequence[Trial]) -> list[Answers]:
    """Answers of one problem, one sample a seed."""
    return _merged([Answers(trial.answer, 1, trial.correct) for trial in cell])


def _by_line(cell: Sequence[Trial]) -> list[Answers]:
    """Answers of one problem, one sample a finished line of every seed's tree."""
    return _merged(
        [Answers(f.answer, f.lines, f.verdict == "correct") for trial in cell for f in trial.found]
    )


def _merged(samples: Sequence[Answers]) -> list[Answers]:
    """Equal answers as one; they are right or wrong together unless their texts were not the same."""
    counts: dict[tuple[str | None, bool], int] = {}
    for sample in samples:
        key = (sample.answer, sample.correct)
        counts[key] = counts.get(key, 0) + sample.samples
    return [Answers(answer, n, correct) for (answer, correct), n in counts.items()]


def _at_k(problems: Sequence[Sequence[Answers]]) -> dict[str, Any]:
    """avg@k, pass@k and maj@k of problems with samples each, for every power of 2 that all have samples for.

    Lines are independent samples only where a method draws whole lines; in a tree they share beginnings.
    Under a budget of tokens short lines are more.
    """
    totals = [sum(group.samples for group in groups) for groups in problems]
    right = [sum(group.samples for group in groups if group.correct) for groups in problems]
    least = min(totals)
    ks = sorted({2**i for i in range(least.bit_length()) if 2**i <= least} | ({least} if least else set()))
    pairs = list(zip(totals, right, strict=True))
    return {
        "samples": sum(totals),
        "least": least,
        "avg": float(np.mean([c / n for n, c in pairs])) if least else None,
        "pass_at": {str(k): float(np.mean([pass_at_k(n, c, k) for n, c in pairs])) for k in ks},
        "maj_at": {str(k): float(np.mean([majority_at_k(groups, k) for groups in problems])) for k in ks},
    }
