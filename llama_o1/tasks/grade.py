"""The checker on a user's own data: pairs of gold and prediction, or a problem set's gold answers."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from llama_o1.errors import ConfigError, ProblemError
from llama_o1.tasks.declared import find_declared
from llama_o1.tasks.mixture import Columns, ProblemSet, select
from llama_o1.tasks.problem import Problem
from llama_o1.tasks.problems import answer_kind, jsonl_rows, numbers_and_target
from llama_o1.tasks.verify import problem_of, verify
from llama_o1.tasks.workers import WorkerPool

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GradeSettings:
    """What to grade, and what a verdict may cost."""

    pairs: str | None = None
    """JSONL file of lines with `gold`, `prediction` and perhaps `question`, `kind`, `numbers`, `target`."""
    problems: tuple[ProblemSet, ...] = ()
    """Problem sets or files whose gold answers are checked against themselves."""
    split: Literal["train", "dev", "test"] = "train"
    """Of problem sets that have splits."""
    columns: Columns = field(default_factory=Columns)
    skip_bad_lines: bool = False
    """Count broken lines instead of stopping."""
    answer_is: bool = False
    """Also take "the answer is x" for a declaration."""
    bare: bool | None = None
    """Take what declares nothing for the answer itself; null: only if no prediction declares anything."""
    workers: int = 2
    """Processes for symbolic comparisons, started when one is needed."""
    timeout_s: float = 5.0
    """Of the symbolic comparisons of one verdict."""
    memory_mb: int = 1024
    """Of one worker."""

    def __post_init__(self) -> None:
        """Refuse settings that grade nothing."""
        if (self.pairs is None) == (not self.problems):
            raise ConfigError("grade needs either --pairs FILE or --problems FILE, and not both")
        if self.workers < 1 or self.timeout_s <= 0:
            raise ConfigError(
                f"workers must be at least 1 and timeout_s above 0, got {self.workers} and {self.timeout_s}"
            )
        if self.memory_mb < LEAST_MEMORY_MB:
            raise ConfigError(f"memory_mb must be at least {LEAST_MEMORY_MB}, got {self.memory_mb}")


LEAST_MEMORY_MB = 256  # what sympy and math-verify need before the first comparison


class Case(NamedTuple):
    """One text to grade."""

    names: dict[str, Any]  # what tells the case apart in the results: line, id, gold
    text: str
    problem: Problem
    expected: str | None = None  # the verdict a row says it should have


def grade(settings: GradeSettings) -> Iterator[dict[str, Any]]:
    """One flat row a case in order, with `verdict`, `answer`, `rule` and `seconds`; counts go to the log.

    Everything is read before the first row, so a broken line (ProblemError with its number) costs no work.
    """
    if settings.pairs is not None:
        cases = list(read_pairs(Path(settings.pairs), skip_bad_lines=settings.skip_bad_lines))
    else:
        cases = list(_golds(settings))
    bare = settings.pairs is not None and _are_bare(cases, settings)
    verdicts: Counter[str] = Counter()
    agree = labelled = 0
    with (
        WorkerPool(settings.workers, settings.timeout_s, settings.memory_mb) as pool,
        ThreadPoolExecutor(settings.workers) as threads,
    ):

        def one(case: Case) -> dict[str, Any]:
            start = time.perf_counter()
            verdict = verify(case.text, case.problem, answer_is=settings.answer_is, bare=bare, pool=pool)
            seconds = round(time.perf_counter() - start, 6)
            return {**case.names, **verdict._asdict(), "seconds": seconds}

        for case, row in zip(cases, threads.map(one, cases), strict=True):
            verdicts[row["verdict"]] += 1
            if case.expected is not None:
                labelled += 1
                agree += row["verdict"] == case.expected
            yield row
    counts = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
    log.info("graded %d: %s", len(cases), counts or "nothing")
    if labelled:
        log.info("agrees with %d of %d labels (%.2f %%)", agree, labelled, 100 * agree / labelled)


def read_pairs(path: Path, *, skip_bad_lines: bool = False) -> Iterator[Case]:
    """The cases of a file of pairs; ProblemError with the line's number for a broken one."""
    skipped = 0
    for row in jsonl_rows(path):
        try:
            if row.fields is None:
                raise ProblemError(row.fault)
            yield _pair(row.fields, int(row.where.rpartition(" ")[2]))
        except ProblemError as error:
            if not skip_bad_lines:
                raise ProblemError(f"{row.where}: {error}") from error
            skipped += 1
    if skipped:
        log.warning("%s: skipped %d broken lines", path, skipped)


def _golds(settings: GradeSettings) -> Iterator[Case]:
    """Each gold answer of the problem sets, declared."""
    skip = settings.skip_bad_lines
    for wanted in settings.problems:
        for problem in select(wanted, settings.split, settings.columns, skip, check=False):
            names = {"id": problem.id, "gold": problem.answer}
            yield Case(names, f"\\boxed{{{problem.answer}}}", problem)


def _are_bare(cases: Sequence[Case], settings: GradeSettings) -> bool:
    """Whether predictions are answers themselves: as told, or because not one of them declares anything."""
    if settings.bare is not None:
        return settings.bare
    found = (find_declared(case.text, answer_is=settings.answer_is) for case in cases)
    if not cases or any(declared.rule != "none declared" for declared in found):
        return False
    log.warning("no prediction declares an answer: each is taken for the answer itself; see --bare")
    return True


def _pair(fields: Mapping[str, Any], line: int) -> Case:
    """One line; ProblemError when it lacks a field or holds another type."""
    gold, prediction = _text(fields, "gold"), _text(fields, "prediction")
    if not gold.strip():
        raise ProblemError("'gold' is empty")
    problem = problem_of(gold)
    if "kind" in fields or "answer_type" in fields or "numbers" in fields or "options" in fields:
        kind = answer_kind(fields, problem.answer)
        numbers, target = numbers_and_target(fields) if kind == "expression" else ((), None)
        problem = replace(problem, kind=kind, numbers=numbers, target=target)
    if isinstance(fields.get("question"), str):
        problem = replace(problem, question=fields["question"])
    names = {"line": line, **({"id": fields["id"]} if "id" in fields else {}), "gold": gold}
    return Case(names, prediction, problem, _expected(fields))


def _expected(fields: Mapping[str, Any]) -> str | None:
    expected = fields.get("expected")
    return expected if expected in ("correct", "wrong", "unparsed", "timeout") else None


def _text(fields: Mapping[str, Any], name: str) -> str:
    if name not in fields:
        raise ProblemError(f"there is no {name!r} among {', '.join(map(str, fields)) or 'no fields'}")
    value = fields[name]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ProblemError(f"{name!r} must be text or a number, found {_JSON_NAMES.get(type(value), 'null')}")
    return str(value)


_JSON_NAMES: dict[type, str] = {bool: "true or false", list: "a list", dict: "an object"}
