"""Ablations on one page: runs and trials that are missing -> effects -> table, JSON, picture."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.contrib.logging import logging_redirect_tqdm

from llama_o1 import assemble
from llama_o1.config import ModelSettings
from llama_o1.evaluation import Sets, check_same_problems, fingerprint, fitting_of, problems_of
from llama_o1.loop import Run
from llama_o1.measure.ablate_settings import FREE, TRAINED, TRAINING, AblateConfig
from llama_o1.measure.contest import Entry, contest
from llama_o1.measure.effects import effects, figures_of
from llama_o1.measure.evaluate import graded
from llama_o1.measure.forest import draw, markdown
from llama_o1.measure.ledger import Ledger
from llama_o1.measure.trial import Key, Trial
from llama_o1.play.selfplay import record_transitions, search_all
from llama_o1.progress import bar
from llama_o1.run import RunFolder, write_whole
from llama_o1.tasks.mixture import select
from tree.actions import Transitions

log = logging.getLogger(__name__)


def ablate(config: AblateConfig) -> dict[str, Any]:
    """Make the runs and trials that `config.out` lacks; what all of them came to, as it is written there."""
    sets = problems_of(config)
    folder = Path(config.out)
    with assemble.assemble(config.model, config.engine, temperature=config.thoughts.temperature) as system:
        assemble.check_serves(system)
        expander = assemble.expander(system, config.thoughts)
        expander.limits(config.budget)
        held = fitting_of(sets, expander)
        ids = {name: list(problems) for name, problems in held.sets.items()}
        settings = {**config.resolved(), "weights": fingerprint(system.loaded)}
        with Ledger(folder, settings, FREE) as ledger, logging_redirect_tqdm():
            check_same_problems(ledger, _keys(config, config.names(), ids), held.sets)
            for name in config.names():
                if name != TRAINED and name not in TRAINING:
                    _search_missing(ledger, name, held.sets, config, system, config.seeds)
    with Ledger(folder, settings, FREE) as ledger, logging_redirect_tqdm():
        for name in [TRAINED, *config.of_training] if config.of_training else []:
            for seed in config.seeds:
                _of_run(ledger, name, seed, held.sets, config)
        trials = ledger.trials
    result = {
        "model": config.model.path,
        "budget": config.budget,
        "seeds": list(config.seeds),
        "sets": ids,
        "effects": effects(trials, config.contrasts(), ids, config.budget, config.seeds),
        "figures": figures_of(trials, config.names(), ids, config.budget, config.seeds),
        "left_out": held.left_out,
        "settings": settings,
    }
    write_whole(folder / "result.json", json.dumps(result, indent=1, allow_nan=False) + "\n")
    write_whole(folder / "table.md", markdown(result))
    draw(result, folder / "effects.png")
    return result


def _keys(
    config: AblateConfig,
    names: Sequence[str],
    ids: Mapping[str, Sequence[str]],
    seeds: Sequence[int] | None = None,
) -> list[Key]:
    return [
        Key(set_name, problem, name, config.budget, seed)
        for name in names
        for set_name, problems in ids.items()
        for problem in problems
        for seed in (config.seeds if seeds is None else seeds)
    ]


def _search_missing(
    ledger: Ledger,
    name: str,
    sets: Sets,
    config: AblateConfig,
    system: assemble.System,
    seeds: Sequence[int],
) -> None:
    """Make the trials of one name and these seeds that the ledger lacks."""
    keys = _keys(config, [name], {label: list(held) for label, held in sets.items()}, seeds)
    missing = [Entry(key, sets[key.set][key.problem]) for key in keys if key not in ledger.trials]
    if not missing:
        log.info("%s: all %d trials are in %s already", name, len(keys), config.out)
        return
    searched = config.searched(name)
    transitions = Transitions()
    if searched.search.actions == "transitions":
        transitions = _learned_transitions(config, system)
    shown = bar(len(missing), name, "trial")
    made: list[Trial] = []

    def on_trial(trial: Trial) -> None:
        ledger.add(trial)
        made.append(trial)
        shown.update()

    expander = assemble.expander(system, searched.thoughts)
    contest(system.engine, missing, expander, searched.search, on_trial, transitions)
    shown.close()
    log.info(
        "%s: %.1f %% of %d right, %.0f tokens each",
        name,
        100 * float(np.mean([trial.correct for trial in made])),
        len(made),
        float(np.mean([trial.tokens for trial in made])),
    )


def _learned_transitions(config: AblateConfig, system: assemble.System) -> Transitions:
    """What kinds came to on training problems, grown with kinds drawn uniformly; kept in the folder."""
    file, transitions = Path(config.out) / "transitions.json", Transitions()
    if file.exists():
        transitions.restore(json.loads(file.read_text(encoding="utf-8")))
        return transitions
    searched = config.searched("uniform")
    problems = [
        (f"{wanted.label}/{i}", problem)
        for wanted in config.problems
        for i, problem in enumerate(
            select(
                replace(wanted, limit=config.transitions_from),
                "train",
                config.columns,
                config.skip_bad_lines,
            )
        )
    ]
    expander = assemble.expander(system, searched.thoughts)
    trees = search_all(
        system.engine,
        [(name, p.question, graded(p)) for name, p in problems if expander.holds(p.question)],
        expander,
        replace(searched.search, stop_decided=False),
        transitions,
        seed="transitions",
        on_tree=lambda index, tree: None,
    )
    for tree in trees:
        record_transitions(tree, transitions)
    write_whole(file, json.dumps(transitions.state()) + "\n")
    log.info("transitions were learned from %d trees over training problems", len(trees))
    return transitions


def _of_run(ledger: Ledger, name: str, seed: int, sets: Sets, config: AblateConfig) -> None:
    """Make a self-play run where it is missing, or its end, and the trials by what it learned."""
    run = config.run_of(name, seed)
    folder = RunFolder(Path(run.run_dir))
    last = folder.checkpoints / f"{run.iterations:06d}"
    if not last.exists():
        log.info("%s, seed %d: a self-play run of %d iterations", name, seed, run.iterations)
        folder.path.parent.mkdir(parents=True, exist_ok=True)
        Run(replace(run, resume=folder.config.exists())).train()
    model = ModelSettings(path=str(last))
    with assemble.assemble(model, config.engine, temperature=config.thoughts.temperature) as system:
        _search_missing(ledger, name, sets, config, system, [seed])
