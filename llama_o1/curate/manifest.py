"""Manifest: what was selected, from what, by which settings; the same file comes out of it, byte for byte.

It needs the sources, and neither a model nor scikit-learn: problems are named, with a checksum of each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from llama_o1.curate.candidate import Candidate, Reading, candidates, checksum, line_of
from llama_o1.curate.settings import CurateConfig, TraceColumns
from llama_o1.errors import RunError
from llama_o1.run import plain, write_lines
from llama_o1.tasks.mixture import ProblemSet

FORMAT = 1


class Selected(NamedTuple):
    """One problem of the data set."""

    id: str
    domain: str
    crc: str  # of its line


def manifest_of(
    config: CurateConfig,
    chosen: Sequence[tuple[Candidate, str]],
    lines: Sequence[str],
    funnel: dict[str, Any],
) -> dict[str, Any]:
    """What to write beside the data set; `chosen` with domains, in the order of `lines`."""
    return {
        "format": FORMAT,
        "settings": plain(asdict(config)),
        "sha256": _sha256(lines),
        "funnel": funnel,
        "selected": [
            Selected(one.id, domain, checksum(line))
            for (one, domain), line in zip(chosen, lines, strict=True)
        ],
    }


def remake(manifest: Path, out: Path) -> int:
    """Write the data set that a manifest names to the file `out`; how many problems it holds.

    RunError when the manifest is none, or a source no longer holds a problem as it was.
    """
    saved = _read(manifest)
    selected = [Selected(*one) for one in saved["selected"]]
    found = _find(_sources(saved["settings"]), {one.id for one in selected})
    lines = []
    for one in selected:
        candidate = found.get(one.id)
        line = None if candidate is None else line_of(candidate, one.domain)
        if line is None or checksum(line) != one.crc:
            raise RunError(
                f"problem {one.id} is {'gone' if line is None else 'another one'} since "
                f"{manifest} was written; the selection needs the sources as they were"
            )
        lines.append(line)
    if _sha256(lines) != saved["sha256"]:
        raise RunError(f"{manifest} is damaged: its problems are not those of its checksum")
    return write_lines(out, lines)


def _find(config: CurateConfig, wanted: set[str]) -> dict[str, Candidate]:
    """The candidates that are wanted, by id."""
    reading = Reading()
    return {
        one.id: one
        for problem_set in config.problems
        for one in candidates(problem_set, config, reading)
        if one.id in wanted
    }


def _sources(settings: dict[str, Any]) -> CurateConfig:
    """What of the settings says where problems come from."""
    return CurateConfig(
        problems=tuple(ProblemSet(**one) for one in settings["problems"]),
        columns=TraceColumns(**settings["columns"]),
        skip_bad_lines=settings["skip_bad_lines"],
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
        if saved["format"] != FORMAT:
            raise RunError(f"{file} has format {saved['format']}, this version reads {FORMAT}")
        found: dict[str, Any] = {key: saved[key] for key in ("settings", "sha256", "selected")}
    except OSError as error:
        raise RunError(f"manifest {file} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise RunError(f"{file} is no manifest of a curation; give its manifest.json") from None
    return found


def _sha256(lines: Sequence[str]) -> str:
    return hashlib.sha256("".join(lines).encode()).hexdigest()
