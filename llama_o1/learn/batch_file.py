"""The batch of one step as bytes: to keep one that failed, and to hand one to other processes.

Safetensors: ragged arrays end to end with the lengths of their parts, scalars as columns, names as JSON.
Knows no model and no loss.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from llama_o1.errors import RunError
from replay.experience import Experience

Float64 = npt.NDArray[np.float64]

_RAGGED = {"context": np.int32, "ids": np.int32, "sampled": np.bool_, "logprobs": np.float32}
_NUMBERS = {
    "temperature": np.float64,
    "advantage": np.float64,
    "value": np.float64,
    "value_target": np.float64,
    "version": np.int64,
    "node": np.int64,
    "parent": np.int64,
}
_WORDS = ("action", "problem", "tree")


def encode(experiences: Sequence[Experience], weights: npt.NDArray[np.floating], **words: str) -> bytes:
    """The batch as bytes; `words` stand in the header of the file."""
    tensors: dict[str, npt.NDArray[np.generic]] = {"weights": np.asarray(weights, np.float64)}
    for name, kind in _RAGGED.items():
        parts: list[npt.NDArray[Any]] = [np.asarray(getattr(e, name), kind) for e in experiences]
        tensors[name] = np.concatenate(parts)
        tensors[f"{name}.lengths"] = np.array([part.size for part in parts], np.int64)
    for name, number in _NUMBERS.items():
        tensors[name] = np.array([getattr(e, name) for e in experiences], number)
    tensors["outcome"] = np.array([np.nan if e.outcome is None else e.outcome for e in experiences])
    tensors["graded"] = np.array([e.outcome is not None for e in experiences])
    lists = {name: [getattr(e, name) for e in experiences] for name in _WORDS}
    tensors["names"] = np.frombuffer(json.dumps(lists).encode(), np.uint8)
    return save(tensors, words)


def decode(content: bytes) -> tuple[list[Experience], Float64]:
    """The experiences and importance weights of `encode`."""
    tensors = load(content)
    lists = json.loads(tensors["names"].tobytes())
    ragged = {
        name: np.split(tensors[name], np.cumsum(tensors[f"{name}.lengths"])[:-1].astype(np.int64))
        for name in _RAGGED
    }
    found = []
    for i in range(len(tensors["weights"])):
        fields: dict[str, Any] = {name: parts[i] for name, parts in ragged.items()}
        fields |= {name: tensors[name][i].item() for name in _NUMBERS}
        fields |= {name: lists[name][i] for name in _WORDS}
        fields["outcome"] = tensors["outcome"][i].item() if tensors["graded"][i] else None
        found.append(Experience(**fields))
    return found, tensors["weights"].astype(np.float64)


def write_batch(
    path: Path, experiences: Sequence[Experience], weights: npt.NDArray[np.floating], **words: str
) -> None:
    """Write a batch, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(encode(experiences, weights, **words))
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def read_batch(path: Path) -> tuple[list[Experience], Float64, dict[str, str]]:
    """The experiences, weights and words of a file; RunError when it is no batch."""
    try:
        with safe_open(path, "numpy") as file:
            words = dict(file.metadata() or {})
        return *decode(path.read_bytes()), words
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise RunError(
            f"{path} is not a batch that a stopped run saved ({type(error).__name__}: {error}); "
            "name the file that the run's last line names"
        ) from error
