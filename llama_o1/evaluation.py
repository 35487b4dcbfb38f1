"""An evaluation on one page: problems -> trials that are missing -> comparison -> table, JSON, picture."""

from __future__ import annotations

import json
import logging
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from tqdm.contrib.logging import logging_redirect_tqdm

from llama_o1 import assemble
from llama_o1.errors import ProblemError, RunError
from llama_o1.learn.model import Loaded
from llama_o1.measure.ablate_settings import AblateConfig
from llama_o1.measure.budgets import thinking
from llama_o1.measure.compare import ALL, Plan, compare
from llama_o1.measure.contest import Entry, checksum, contest
from llama_o1.measure.ledger import Ledger
from llama_o1.measure.plot import draw
from llama_o1.measure.settings import FREE, EvalConfig
from llama_o1.measure.table import markdown
from llama_o1.measure.thinking_plot import draw_thinking
from llama_o1.measure.trial import Key, Trial
from llama_o1.progress import Rates, bar
from llama_o1.run import write_whole
from llama_o1.tasks.mixture import select
from llama_o1.tasks.problem import Problem
from llama_o1.writers import Writers, families

log = logging.getLogger(__name__)

Sets = Mapping[str, Mapping[str, Problem]]  # by name of the set, then by id


class Holds(Protocol):
    """Who knows what the model's context has room for."""

    def holds(self, question: str) -> bool:
        """Whether it has room for the question and what is to be written."""
        ...


class Fitting(NamedTuple):
    """Problems that are searched."""

    sets: Sets
    left_out: dict[str, int]  # problems by set that the model's context cannot hold


def evaluate_methods(config: EvalConfig) -> dict[str, Any]:
    """Make the trials that `config.out` lacks; what all of them came to, as it is written there."""
    sets = problems_of(config)
    temperature, folder = config.thoughts.temperature, Path(config.out)
    marks = families(config)[0]
    with assemble.assemble(config.model, config.engine, temperature=temperature, marks=marks) as system:
        assemble.check_serves(system)
        writers = Writers(config, system)
        fitting = fitting_of(sets, writers)
        plan = plan_of(config, fitting.sets)
        settings = {**config.resolved(), "weights": fingerprint(system.loaded)}
        with Ledger(folder, settings, FREE) as ledger, logging_redirect_tqdm():
            check_same_problems(ledger, plan.wanted(), fitting.sets)
            _make_missing(ledger, plan, fitting.sets, config, system, writers)
            trials = ledger.trials
    result = {
        **compare(trials, plan),
        **thinking(trials, plan),
        "model": config.model.path,
        "left_out": fitting.left_out,
        "settings": settings,
    }
    write_result(result, folder)
    return result


def problems_of(config: EvalConfig | AblateConfig) -> Sets:
    """The problems of each set, at most `limit`; ProblemError when one cannot be read or repeats an id."""
    sets: dict[str, dict[str, Problem]] = {}
    for wanted in config.problems:
        found = select(wanted, config.split, config.columns, config.skip_bad_lines)[: config.limit]
        sets[wanted.label] = {problem.id: problem for problem in found}
        if len(sets[wanted.label]) < len(found):
            ids = [problem.id for problem in found]
            twice = next(one for one in ids if ids.count(one) > 1)
            raise ProblemError(f"problem set {wanted.label} has two problems with the id {twice}")
    return sets


def plan_of(config: EvalConfig, sets: Sets) -> Plan:
    """Which trials the settings ask for."""
    return Plan(
        sets={name: list(problems) for name, problems in sets.items()},
        methods=config.methods,
        baselines=[method for method in config.baselines if method in config.methods],
        budgets=sorted(config.budgets),
        seeds=config.seeds,
        ways={name: config.ways[name] for name in config.methods if name in config.ways},
    )


def write_result(result: Mapping[str, Any], folder: Path) -> None:
    """result.json, table.md, and a picture of all problems and of each set."""
    write_whole(folder / "result.json", json.dumps(result, indent=1, allow_nan=False) + "\n")
    write_whole(folder / "table.md", markdown(result))
    for name in (ALL, *result["sets"]) if len(result["sets"]) > 1 else (ALL,):
        file = re.sub("[^A-Za-z0-9-]+", "_", name)
        if result["curves"][name]:
            draw(result, name, folder / f"accuracy_{file}.png")
        if "thinking" in result:
            draw_thinking(result, name, folder / f"thinking_{file}.png")


def _make_missing(
    ledger: Ledger,
    plan: Plan,
    sets: Sets,
    config: EvalConfig,
    system: assemble.System,
    writers: Writers,
) -> None:
    """Search what is not in the ledger yet, budget by budget: one method, or several that share trees."""
    keys = plan.wanted()
    missing = [key for key in keys if key not in ledger.trials]
    if len(missing) < len(keys):
        log.info("%d of %d trials are in %s already", len(keys) - len(missing), len(keys), config.out)
    progress = bar(len(keys), "eval", "trial")
    progress.update(len(keys) - len(missing))
    for methods, budget, entries in _phases(missing, sets, config):
        rates = Rates(system.engine)
        made: dict[str, list[Trial]] = {method: [] for method in methods}

        def on_trial(
            trial: Trial, made: dict[str, list[Trial]] = made, rates: Rates = rates, first: str = methods[0]
        ) -> None:
            if trial.method == first:
                rates.nodes += trial.nodes
            if trial.key in ledger.trials:
                return  # of a method that had it before those with which it shares trees
            ledger.add(trial)
            made[trial.method].append(trial)
            progress.set_postfix(
                {"method": trial.method, "budget": trial.budget, **rates.shown}, refresh=False
            )
            progress.update()

        settings = {method: config.settings_of(method, budget) for method in methods}
        own = settings.pop(methods[0])
        expander = writers.expander(methods[0], budget)
        contest(system.engine, entries, expander, own, on_trial, also=settings)
        took = f"{rates.seconds:.1f} s ({rates.line})"
        for method, trials in made.items():
            _tell(trials, took if method == methods[0] else f"the trees of {methods[0]}")
    progress.close()


def _tell(trials: Sequence[Trial], took: str) -> None:
    log.info(
        "%s at %d tokens: %.1f %% of %d right, %.0f tokens each, %s",
        trials[0].method,
        trials[0].budget,
        100 * float(np.mean([trial.correct for trial in trials])),
        len(trials),
        float(np.mean([trial.tokens for trial in trials])),
        took,
    )


def _phases(
    missing: Sequence[Key], sets: Sets, config: EvalConfig
) -> Iterator[tuple[list[str], int, list[Entry]]]:
    """What is searched together: all problems and seeds of one budget, and of methods that share trees."""
    sharing: list[tuple[Any, int, list[str]]] = []
    for method, budget in dict.fromkeys((key.method, key.budget) for key in missing):
        grown = config.thoughts_of(method, budget), config.settings_of(method, budget).growth
        same = (names for growth, tokens, names in sharing if (growth, tokens) == (grown, budget))
        if names := next(same, None):
            names.append(method)
        else:
            sharing.append((grown, budget, [method]))
    for _, budget, methods in sharing:
        wanted = [key._replace(method=methods[0]) for key in missing if key.method in methods]
        trees = dict.fromkeys(key for key in wanted if key.budget == budget)
        yield methods, budget, [Entry(key, sets[key.set][key.problem]) for key in trees]


def fitting_of(sets: Sets, writers: Holds) -> Fitting:
    """The problems that the context has room for, the same for every method."""
    fitting = {
        name: {key: problem for key, problem in problems.items() if writers.holds(problem.question)}
        for name, problems in sets.items()
    }
    left_out = {name: len(sets[name]) - len(problems) for name, problems in fitting.items()}
    for name, count in left_out.items():
        if not fitting[name]:
            raise ProblemError(
                f"no problem of {name} fits the model's context; use a model with a longer one, or lower "
                "budgets"
            )
        if count:
            log.warning("%s: %d problems do not fit the model's context and are left out", name, count)
    return Fitting(fitting, left_out)


def check_same_problems(ledger: Ledger, keys: Iterable[Key], sets: Sets) -> None:
    """RunError where a finished trial is of another problem than the one that has its id now."""
    for key in keys:
        trial = ledger.trials.get(key)
        if trial is not None and trial.question != checksum(sets[key.set][key.problem]):
            raise RunError(
                f"problem {key.problem} of {key.set} is another one now than when it was searched; "
                "choose another `--out`"
            )


def fingerprint(loaded: Loaded) -> str:
    """What tells the weights of one model from those of another: a checksum of the head of each tensor."""
    crc, named = 0, dict(loaded.model.named_parameters())
    if loaded.value_head is not None:
        named |= {f"value_head.{name}": tensor for name, tensor in loaded.value_head.named_parameters()}
    for name, tensor in sorted(named.items()):
        head = tensor.detach().flatten()[:4096].float().cpu().numpy()
        crc = zlib.crc32(head.tobytes(), zlib.crc32(f"{name} {tuple(tensor.shape)}".encode(), crc))
    return f"{crc:08x}"
