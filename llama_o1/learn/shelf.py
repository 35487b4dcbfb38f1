"""Folders of checkpoints: which are there, which are whole, and how one takes its place.

A folder `NNNNNN/` is whole or not there. Its manifest, written last, has size and SHA-256 of every other
file, and the held-out accuracy by which the best one is kept.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

from llama_o1.faults import reach

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
FORMAT = 1


def seal(partial: Path, step: int, score: float | None) -> Path:
    """Give `.NNNNNN.partial`, once its parts are written, a manifest and its name; safe on disk then."""
    for name in _file_names(partial):
        _sync(partial / name)
    reach("checkpoint: parts on disk")
    files = {name: _fingerprint(partial / name) for name in _file_names(partial)}
    manifest = {"format": FORMAT, "step": step, "score": score, "files": files}
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    reach("checkpoint: manifest written")
    _sync(partial / MANIFEST)
    _sync(partial)
    return _put_in_place(partial)


def recover_checkpoints(folder: Path) -> None:
    """Finish what a killed save had whole on disk, put back what it had moved aside, remove the rest.

    Only for the one process that writes: a reader takes `latest_checkpoint` as it finds it.
    """
    for partial in sorted(folder.glob(".*.partial")):
        target = folder / partial.name[1:].removesuffix(".partial")
        if not target.exists() and fault_of(partial) is None:
            partial.rename(target)
    for aside in sorted(folder.glob(".*.aside")):
        target = folder / aside.name[1:].removesuffix(".aside")
        if not target.exists():
            aside.rename(target)
    for left_over in (path for kind in ("partial", "aside", "removed") for path in folder.glob(f".*.{kind}")):
        shutil.rmtree(left_over)


def prune_checkpoints(folder: Path, step: int, keep: int) -> None:
    """Of those before `step` remove all but the newest keep - 1 and the best."""
    paths = _checkpoints(folder)
    scored = [(score, int(path.name), path) for path in paths if (score := _score(path)) is not None]
    best = max(scored)[2] if scored else None
    older = [path for path in paths if int(path.name) < step]
    for path in older[: max(0, len(older) - (keep - 1))]:
        if path != best:
            reach("checkpoint: before pruning")
            # Under another name first, so that a kill leaves no half that looks like a damaged one.
            shutil.rmtree(path.rename(folder / f".{path.name}.removed"))
            reach("checkpoint: pruned")


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of a folder, None without one; a damaged one is skipped and logged."""
    for path in reversed(_checkpoints(folder)):
        fault = fault_of(path)
        if fault is None:
            return path
        log.warning("checkpoint %s is damaged (%s); looking for the one before", path, fault)
    return None


def best_checkpoint(folder: Path) -> Path | None:
    """The whole checkpoint of the highest held-out accuracy, the newest of equals; None when none has one."""
    scored = [(score, path) for path in _checkpoints(folder) if (score := _score(path)) is not None]
    for _, path in sorted(scored, key=lambda one: (one[0], int(one[1].name)), reverse=True):
        fault = fault_of(path)
        if fault is None:
            return path
        log.warning("checkpoint %s is damaged (%s); looking for the next best", path, fault)
    return None


def checkpoint_at(folder: Path, step: int) -> Path | None:
    """The checkpoint of a step, None when there is none or it is damaged."""
    path = folder / f"{step:06d}"
    return path if fault_of(path) is None else None


def _put_in_place(partial: Path) -> Path:
    """Give a whole partial checkpoint its name. At every moment it or the one it replaces can be found."""
    target = partial.with_name(partial.name[1:].removesuffix(".partial"))
    reach("checkpoint: before rename")
    aside = partial.with_name(f".{target.name}.aside")
    if target.exists():  # a damaged one, or one of a run that went back
        target.rename(aside)
        reach("checkpoint: old one aside")
    partial.rename(target)
    _sync(target.parent)
    reach("checkpoint: renamed")
    if aside.exists():
        shutil.rmtree(aside)
        reach("checkpoint: old one removed")
    return target


def _score(path: Path) -> float | None:
    try:
        score = json.loads((path / MANIFEST).read_text(encoding="utf-8")).get("score")
    except (OSError, ValueError, AttributeError):
        return None
    return float(score) if isinstance(score, int | float) else None


def _checkpoints(folder: Path) -> list[Path]:
    """Folders named as checkpoints, oldest first."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(
        (path for path in found if re.fullmatch(r"\d{6,}", path.name)), key=lambda path: int(path.name)
    )


def fault_of(path: Path) -> str | None:
    """What is wrong with a checkpoint, in words; None when every file is as it was written."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"]
        if manifest["format"] != FORMAT:
            return f"format {manifest['format']}, expected {FORMAT}"
        for name, expected in files.items():
            if _fingerprint(path / name) != expected:
                return f"{name} is not as it was written"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _file_names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
