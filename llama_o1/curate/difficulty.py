"""Which problems are too easy: models are asked, and every answer is kept at once, so a kill loses none.

The answers of each solver lie in a ledger as an evaluation's do (measure/ledger.py); a problem is asked as
one is there, with the same seed whichever problems are asked beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm.contrib.logging import logging_redirect_tqdm

from llama_o1 import assemble
from llama_o1.config import EngineSettings
from llama_o1.curate.candidate import Candidate
from llama_o1.curate.settings import SolverSettings
from llama_o1.errors import RunError
from llama_o1.evaluation import fingerprint
from llama_o1.measure.contest import Entry, checksum, contest
from llama_o1.measure.ledger import Ledger
from llama_o1.measure.trial import Key, Trial
from llama_o1.play.selfplay import fitted
from llama_o1.progress import Rates, bar

log = logging.getLogger(__name__)

AT_ONCE = 1024  # problems whose trees are in memory together


def solved(
    pool: Sequence[Candidate], name: str, solver: SolverSettings, engine: EngineSettings, folder: Path
) -> set[int]:
    """Indices of the problems that the solver answers right in one of its attempts; asks what is missing.

    A problem that its context cannot hold is not asked and counts as unsolved. RunError when the folder
    holds answers of another solver, or to other problems under the same names.
    """
    opened = assemble.assemble(
        solver.model, engine, temperature=solver.thoughts.temperature, marks=solver.thoughts.marks
    )
    with opened as system:
        assemble.check_serves(system)
        expander = assemble.expander(system, solver.thoughts)
        writer = fitted(expander, solver.search)
        writer.limits(solver.search.budget_tokens)
        entries = [
            (index, Entry(key, one.problem))
            for index, one in enumerate(pool)
            if writer.holds(one.problem.question)
            for key in _keys(one, name, solver)
        ]
        _say_what_does_not_fit(name, len(pool) - len({index for index, _ in entries}))
        settings = {"solver": asdict(solver), "weights": fingerprint(system.loaded)}
        with Ledger(folder, settings, frozenset()) as ledger, logging_redirect_tqdm():
            missing = [entry for _, entry in entries if not _is_answered(ledger, entry, folder)]
            log.info(
                "%s: %d of %d answers are there already", name, len(entries) - len(missing), len(entries)
            )
            _ask(system, expander, solver, name, missing, ledger)
            return {index for index, entry in entries if ledger.trials[entry.key].correct}


def _ask(
    system: assemble.System,
    expander: Any,
    solver: SolverSettings,
    name: str,
    missing: Sequence[Entry],
    ledger: Ledger,
) -> None:
    progress = bar(len(missing), name, "problem")
    rates = Rates(system.engine)

    def on_trial(trial: Trial) -> None:
        ledger.add(trial)
        rates.nodes += trial.nodes
        progress.set_postfix(rates.shown, refresh=False)
        progress.update()

    for part in _parts(missing):
        contest(system.engine, part, expander, solver.search, on_trial)
    progress.close()
    if missing:
        log.info("%s: asked %d in %.1f s (%s)", name, len(missing), rates.seconds, rates.line)


def _keys(one: Candidate, name: str, solver: SolverSettings) -> Iterator[Key]:
    for attempt in range(solver.attempts):
        yield Key(one.problem.source, one.id, name, solver.search.budget_tokens, attempt)


def _parts(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    for start in range(0, len(entries), AT_ONCE):
        yield entries[start : start + AT_ONCE]


def _is_answered(ledger: Ledger, entry: Entry, folder: Path) -> bool:
    trial = ledger.trials.get(entry.key)
    if trial is not None and trial.question != checksum(entry.problem):
        raise RunError(
            f"problem {entry.key.problem} is another one now than when it was asked; "
            f"choose another `--out`, or remove {folder}"
        )
    return trial is not None


def _say_what_does_not_fit(name: str, count: int) -> None:
    if count:
        log.warning("%s: %d problems do not fit its context; they count as unsolved", name, count)
