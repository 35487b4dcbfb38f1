"""Ledger: the trials of an evaluation in a file that only grows, each checked, on disk before it counts.

A line is a JSON object and its CRC-32. A line that a kill cut off is dropped; any other damage is refused.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from llama_o1.errors import RunError
from llama_o1.measure.trial import Key, Trial
from llama_o1.run import plain, write_whole

TRIALS = "trials.jsonl"
SETTINGS = "config.yaml"


class Ledger:
    """The finished trials of one folder; a context manager, and the only writer while it is open."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], free: frozenset[str]) -> None:
        """Open or begin it; RunError when the folder is in use, damaged, or of other settings.

        Settings in `free` may differ from those it was begun with.
        """
        self.trials: dict[Key, Trial] = {}
        held = plain(settings)
        _begin(folder, held, free)
        self._path = folder / TRIALS
        self._file = self._path.open("a+b")
        try:
            _lock(self._file.fileno(), folder)
            self._file.truncate(self._read())
            write_whole(folder / SETTINGS, yaml.safe_dump(held, sort_keys=False))
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, trial: Trial) -> None:
        """Append a trial; it is on disk when this returns."""
        self._file.write(_line(trial.row()))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.trials[trial.key] = trial

    def _read(self) -> int:
        """Take in every whole line; where they end."""
        self._file.seek(0)
        data = self._file.read()
        whole = data.rfind(b"\n") + 1
        for number, line in enumerate(data[:whole].splitlines(), start=1):
            try:
                trial = Trial.of(_checked(line))
            except (ValueError, KeyError, TypeError) as error:
                raise RunError(
                    f"{self._path}, line {number} is damaged ({error}); remove the line, and its trial "
                    "is made again"
                ) from None
            self.trials[trial.key] = trial
        return whole


def read_trials(folder: Path) -> tuple[dict[str, Any], dict[Key, Trial]]:
    """Settings and trials of an evaluation; RunError when there is none, or another process writes it."""
    if not (folder / SETTINGS).exists() or not (folder / TRIALS).exists():
        raise RunError(f"{folder} holds no evaluation; give a folder that `llama-o1 eval` wrote")
    settings = _saved(folder / SETTINGS)
    with Ledger(folder, settings, frozenset()) as ledger:
        return settings, ledger.trials


def _begin(folder: Path, settings: dict[str, Any], free: frozenset[str]) -> None:
    """Write the settings into a new folder, or compare those of an old one."""
    file = folder / SETTINGS
    if file.exists():
        kept = {key: value for key, value in settings.items() if key not in free}
        differing = list(differences(_saved(file), kept))
        if differing:
            raise RunError(
                f"{folder} holds an evaluation with other settings: {'; '.join(differing)}; give those, or "
                "choose another `--out`"
            )
        return
    if folder.exists() and (
        not folder.is_dir() or any(f.name != f"{SETTINGS}.tmp" for f in folder.iterdir())
    ):
        raise RunError(f"{folder} holds files but no evaluation; choose another `--out`")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(file, yaml.safe_dump(settings, sort_keys=False))


def _saved(file: Path) -> dict[str, Any]:
    try:
        saved = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        saved = None
    if not isinstance(saved, dict):
        raise RunError(f"{file} holds no settings; choose another `--out`")
    return saved


def differences(saved: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """`name was A, is B` for every setting of `now` that is saved otherwise."""
    for key, value in now.items():
        old = saved.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            yield from differences(old, {**dict.fromkeys(old), **value}, f"{prefix}{key}.")
        elif old != value:
            yield f"{prefix}{key} was {json.dumps(old)}, is {json.dumps(value)}"


def _line(row: Mapping[str, Any]) -> bytes:
    body = json.dumps(row, allow_nan=False, separators=(",", ":"))
    return f'{body[:-1]},"crc":{zlib.crc32(body.encode())}}}\n'.encode()


def _checked(line: bytes) -> dict[str, Any]:
    """The trial's row; ValueError when the line is not as it was written."""
    try:
        row: dict[str, Any] = json.loads(line)
        del row["crc"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("it is no trial") from None
    if _line(row) != line + b"\n":
        raise ValueError("its checksum differs")
    return row


def _lock(handle: int, folder: Path) -> None:
    """Hold the file against a second writer, where the system can (POSIX)."""
    if os.name != "posix":
        return
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise RunError(
            f"another evaluation writes into {folder}; wait for it, or choose another `--out`"
        ) from None
