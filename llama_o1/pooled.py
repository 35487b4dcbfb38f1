"""Trials of several evaluations as one: models that were taught differently, on the same problems.

Each evaluation must differ from the others in its seeds or in the names of its methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llama_o1.errors import RunError
from llama_o1.evaluation import write_result
from llama_o1.format.marks import MarkSettings
from llama_o1.measure.budgets import thinking
from llama_o1.measure.compare import Plan, compare
from llama_o1.measure.ledger import differences, read_trials
from llama_o1.measure.trial import Key, Trial
from llama_o1.measure.ways import Way

SAME = ("problems", "split", "limit", "columns")  # settings that say which problems there are


def pooled(folders: Sequence[Path], out: Path, baselines: Sequence[str]) -> dict[str, Any]:
    """What the trials of all folders come to, written to `out`; methods are tested against `baselines`.

    RunError where folders hold the same trial, differ in their problems, or a method lacks a trial that
    another one has.
    """
    if out.exists() and any(out.iterdir()):
        raise RunError(f"{out} already holds files; choose another --out or remove it")
    settings, trials = _joined(folders)
    plan = _plan(trials, settings, baselines)
    missing = next((key for key in plan.wanted() if key not in trials), None)
    if missing is not None:
        raise RunError(
            f"no folder holds method {missing.method} at budget {missing.budget} with seed {missing.seed} on "
            f"problem {missing.problem}; evaluate it too, or leave out the folder that has more"
        )
    models = ", ".join(str(one["model"]["path"]) for one in settings)
    result = {**compare(trials, plan), **thinking(trials, plan), "model": models, "left_out": {}}
    out.mkdir(parents=True, exist_ok=True)
    write_result({**result, "settings": settings[0]}, out)
    return result


def _joined(folders: Sequence[Path]) -> tuple[list[dict[str, Any]], dict[Key, Trial]]:
    """Settings by folder, and all trials."""
    settings: list[dict[str, Any]] = []
    trials: dict[Key, Trial] = {}
    for folder in folders:
        found, more = read_trials(folder)
        twice = next((key for key in more if key in trials), None)
        if twice is not None:
            raise RunError(
                f"{folder} holds trials of method {twice.method} with seed {twice.seed}, which another "
                "folder holds too; evaluate each model with a seed of its own, or under a name of its own"
            )
        if settings:
            first, now = ({key: one.get(key) for key in SAME} for one in (settings[0], found))
            differing = "; ".join(differences(first, now))
            if differing:
                raise RunError(f"{folder} was evaluated on other problems than {folders[0]}: {differing}")
        settings.append(found)
        trials |= more
    return settings, trials


def _plan(trials: Mapping[Key, Trial], settings: Sequence[dict[str, Any]], baselines: Sequence[str]) -> Plan:
    """Every method with every budget and seed that there is."""
    sets: dict[str, dict[str, None]] = {}
    for key in trials:
        sets.setdefault(key.set, {})[key.problem] = None
    methods = list(dict.fromkeys(key.method for key in trials))
    unknown = next((name for name in baselines if name not in methods), None)
    if unknown is not None:
        raise RunError(f"no folder holds the method {unknown} of baselines; there are {', '.join(methods)}")
    ways = {name: way for one in settings for name, way in one["thinking"].items() if name in methods}
    return Plan(
        sets={name: list(problems) for name, problems in sets.items()},
        methods=methods,
        baselines=list(baselines),
        budgets=sorted({key.budget for key in trials}),
        seeds=sorted({key.seed for key in trials}),
        ways={name: _way(fields) for name, fields in ways.items()},
    )


def _way(fields: Mapping[str, Any]) -> Way:
    marks = fields["marks"]
    return Way(**{**fields, "marks": None if marks is None else MarkSettings(**marks)})
