"""The curation on one page: read -> once -> not evaluated on -> fit -> hard -> varied -> data set."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

from llama_o1.curate import domains, sieve
from llama_o1.curate.candidate import Candidate, Reading, candidates, line_of
from llama_o1.curate.diversity import select
from llama_o1.curate.funnel import Domain, Funnel, quantiles
from llama_o1.curate.manifest import manifest_of
from llama_o1.curate.settings import CurateConfig
from llama_o1.errors import ProblemError, RunError
from llama_o1.progress import bar
from llama_o1.run import write_lines, write_whole
from llama_o1.tasks.overlap import questions

log = logging.getLogger(__name__)

DATA, MANIFEST, FUNNEL, PICTURE, DIFFICULTY = (
    "curated.jsonl", "manifest.json", "funnel.json", "funnel.png", "difficulty"
)  # fmt: skip
OURS = {DATA, MANIFEST, FUNNEL, PICTURE, DIFFICULTY}


def curate(config: CurateConfig) -> Funnel:
    """Write the data set, its manifest and the funnel into `config.out`; a stopped curation goes on.

    Every stage but the difficulty is made again, which takes seconds; of that, answers are kept as they come.
    """
    if config.domains.by == "clusters":
        domains.check_installed()
    out = _folder(config)
    funnel = Funnel()
    pool = _collected(config, funnel)
    pool = _once(pool, config, funnel)
    pool = _not_evaluated_on(pool, config, funnel)
    pool = _fit(pool, config, funnel)
    pool = _hard(pool, config, out, funnel)
    names = _domains_of(pool, config)
    chosen = [(pool[i], names[i]) for i in _varied(pool, names, config, funnel)]
    lines = [line_of(one, domain) for one, domain in chosen]
    manifest = manifest_of(config, chosen, lines, funnel.as_json())
    write_lines(out / DATA, lines)
    write_whole(out / FUNNEL, json.dumps(funnel.as_json(), indent=1, ensure_ascii=False) + "\n")
    funnel.draw(out / PICTURE)
    write_whole(out / MANIFEST, json.dumps(manifest, ensure_ascii=False) + "\n")
    return funnel


def _folder(config: CurateConfig) -> Path:
    out = Path(config.out)
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file; choose another `--out`")
    strange = [path.name for path in out.iterdir() if path.name not in OURS] if out.exists() else []
    strange = [name for name in strange if not name.endswith((".tmp", ".partial"))]
    if strange:
        raise RunError(f"{out} holds {strange[0]}, which is no curation's; choose another `--out`")
    out.mkdir(parents=True, exist_ok=True)
    return out


def _collected(config: CurateConfig, funnel: Funnel) -> list[Candidate]:
    pool, reading = [], Reading()
    with bar(0, "read", "problem") as progress:
        for wanted in config.problems:
            for one in candidates(wanted, config, reading):
                pool.append(one)
                progress.update()
    funnel.add("collected", len(pool), {"broken line": reading.broken} if reading.broken else {})
    return _some(pool, funnel)


def _once(pool: list[Candidate], config: CurateConfig, funnel: Funnel) -> list[Candidate]:
    with bar(len(pool), "duplicates", "problem") as progress:
        reasons = sieve.duplicated(pool, config.duplicates, progress.update)
    return _left("deduplicated", pool, reasons, funnel)


def _not_evaluated_on(pool: list[Candidate], config: CurateConfig, funnel: Funnel) -> list[Candidate]:
    reasons: sieve.Reasons = [None] * len(pool)
    with bar(len(pool) * len(config.against), "decontamination", "problem") as progress:
        for name in config.against:
            held_out = questions(name, "test", config.against_column)
            found = sieve.contaminated(pool, name, held_out, config.words, progress.update)
            reasons = [before or now for before, now in zip(reasons, found, strict=True)]
    return _left("decontaminated", pool, reasons, funnel)


def _fit(pool: list[Candidate], config: CurateConfig, funnel: Funnel) -> list[Candidate]:
    with bar(len(pool), "quality", "problem") as progress:
        broken = sieve.unfit(pool, config, progress.update)
    every = Counter(rule for rules in broken for rule in rules)
    return _left("quality", pool, [rules[0] if rules else None for rules in broken], funnel, every)


def _hard(pool: list[Candidate], config: CurateConfig, out: Path, funnel: Funnel) -> list[Candidate]:
    if not config.solvers and not config.least_trace:
        return pool
    least = config.least_trace
    reasons: sieve.Reasons = [f"trace below {least}" if one.length < least else None for one in pool]
    for name, solver in config.solvers.items():
        from llama_o1.curate.difficulty import solved

        asked = [i for i, reason in enumerate(reasons) if reason is None]
        if asked:
            folder = out / DIFFICULTY / name
            for i in solved([pool[i] for i in asked], name, solver, config.engine, folder):
                reasons[asked[i]] = f"solved by {name}"
    return _left("difficulty", pool, reasons, funnel)


def _domains_of(pool: Sequence[Candidate], config: CurateConfig) -> list[str]:
    wanted, texts = config.domains, [one.problem.question for one in pool]
    if wanted.by == "set":
        return [one.set for one in pool]
    if wanted.by == "column":
        return [str(one.domain) for one in pool]
    if wanted.model is None:
        return domains.by_words(texts, wanted.clusters, config.seed)
    from llama_o1.curate.vectors import vectors

    with bar(len(pool), "embedding", "problem") as progress:
        found = vectors(texts, wanted.model, config.engine.threads, progress.update)
    return domains.by_vectors(texts, found, wanted.clusters, config.seed)


def _varied(
    pool: Sequence[Candidate], names: Sequence[str], config: CurateConfig, funnel: Funnel
) -> list[int]:
    """Indices in the order in which they were drawn."""
    lengths = [one.length for one in pool]
    drawn = select(names, lengths, config.count, Random(f"curate/{config.seed}"))
    if len(drawn) < config.count:
        log.warning("only %d problems are left of the %d that were asked for", len(drawn), config.count)
    funnel.add(
        "diversity", len(drawn), {"not drawn": len(pool) - len(drawn)} if len(pool) > len(drawn) else {}
    )
    before, after = Counter(names), Counter(names[i] for i in drawn)
    funnel.domains = [Domain(name, before[name], after[name]) for name in sorted(before)]
    funnel.lengths = {"pool": quantiles(lengths), "selected": quantiles([lengths[i] for i in drawn])}
    return drawn


def _left(
    name: str,
    pool: Sequence[Candidate],
    reasons: sieve.Reasons,
    funnel: Funnel,
    broken: Counter[str] | None = None,
) -> list[Candidate]:
    """What no reason drops; counted in the funnel. ProblemError when nothing is left."""
    kept = [one for one, reason in zip(pool, reasons, strict=True) if reason is None]
    funnel.add(name, len(kept), Counter(reason for reason in reasons if reason is not None), broken)
    log.info("%s: %d of %d problems are left", name, len(kept), len(pool))
    return _some(kept, funnel)


def _some(pool: list[Candidate], funnel: Funnel) -> list[Candidate]:
    if not pool:
        stage = funnel.stages[-1]
        why = ", ".join(f"{count} {reason}" for reason, count in stage.dropped.items()) or "there are none"
        raise ProblemError(f"no problem is left after the stage {stage.name} ({why}); loosen its settings")
    return pool
