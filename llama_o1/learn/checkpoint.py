"""Checkpoints: everything the learner is, in a folder that is whole or not there.

`NNNNNN/` holds the model as Hugging Face or PEFT safetensors with its tokenizer, so any loader can read it,
and beside it what only a resumed run needs: optimizer, counters, torch's generators, the caller's state.
The manifest, written last, has size and SHA-256 of every other file. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from llama_o1.errors import RunError
from llama_o1.learn.trainer import Learner

log = logging.getLogger(__name__)

MANIFEST, STATE, COUNTERS = "manifest.json", "state.json", "learner.json"
OPTIMIZER, GENERATORS, ADAPTER = (
    "optimizer.safetensors",
    "generators.safetensors",
    "adapter_model.safetensors",
)
FORMAT = 1


def save_checkpoint(
    folder: Path,
    step: int,
    *,
    learner: Learner,
    tokenizer: PreTrainedTokenizerBase,
    state: Mapping[str, Any],
    keep: int = 3,
) -> Path:
    """Write folder/NNNNNN and return it once it is safe on disk; of the older ones the newest keep - 1 stay.

    `state` is the caller's, anything JSON can hold.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left_over in folder.glob(".*.partial"):
        shutil.rmtree(left_over)
    partial, target = folder / f".{step:06d}.partial", folder / f"{step:06d}"
    partial.mkdir()
    _write_parts(partial, learner, tokenizer, state)
    files = {name: _fingerprint(partial / name) for name in _file_names(partial)}
    _write_json(partial / MANIFEST, {"format": FORMAT, "step": step, "files": files})
    for name in _file_names(partial):
        _sync(partial / name)
    _sync(partial)
    if target.exists():  # a damaged one, or one of a run that went back
        replaced = target.rename(folder / f".{step:06d}.replaced.partial")
        partial.rename(target)
        shutil.rmtree(replaced)
    else:
        partial.rename(target)
    _sync(folder)
    older = [path for path in _checkpoints(folder) if int(path.name) < step]
    for path in older[: max(0, len(older) - (keep - 1))]:
        shutil.rmtree(path)
    return target


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of a folder, None without one; a damaged one is skipped and logged."""
    for path in reversed(_checkpoints(folder)):
        fault = _fault(path)
        if fault is None:
            return path
        log.warning("checkpoint %s is damaged (%s); looking for the one before", path, fault)
    return None


def load_checkpoint(path: Path, learner: Learner) -> dict[str, Any]:
    """Put weights, optimizer, counters and torch's generators back in place; the caller's state is returned.

    The learner's model stays the same object. RunError for a checkpoint that is damaged or of another model.
    """
    fault = _fault(path)
    if fault is not None:
        raise RunError(f"checkpoint {path} is damaged: {fault}; use an earlier one")
    _load_weights(path, learner)
    counters = json.loads((path / COUNTERS).read_text(encoding="utf-8"))
    learner.load_optimizer_state(load_file(path / OPTIMIZER), counters["num_steps"])
    _set_generators(load_file(path / GENERATORS))
    state: dict[str, Any] = json.loads((path / STATE).read_text(encoding="utf-8"))
    return state


def _write_parts(
    folder: Path, learner: Learner, tokenizer: PreTrainedTokenizerBase, state: Mapping[str, Any]
) -> None:
    if isinstance(learner.model, PeftModel):
        # The trained rows are part of the adapter; "auto" would ask the hub about the base model.
        learner.model.save_pretrained(str(folder), save_embedding_layers=False)
    else:
        learner.model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_file({name: t.contiguous() for name, t in learner.optimizer_state().items()}, folder / OPTIMIZER)
    save_file(_generators(), folder / GENERATORS)
    _write_json(folder / COUNTERS, {"num_steps": learner.num_steps})
    _write_json(folder / STATE, state)


def _load_weights(path: Path, learner: Learner) -> None:
    model = learner.model
    if (path / ADAPTER).exists() != isinstance(model, PeftModel):
        held = "a LoRA adapter" if (path / ADAPTER).exists() else "all weights"
        raise RunError(f"checkpoint {path} holds {held}; resume with the adapter settings of the run")
    if isinstance(model, PeftModel):
        saved = load_file(path / ADAPTER)
        _check_fit(path, saved, get_peft_model_state_dict(model, save_embedding_layers=False))
        set_peft_model_state_dict(model, saved)
        return
    # Through the loader, because transformers stores some architectures under other names than it runs.
    saved = AutoModelForCausalLM.from_pretrained(path, dtype=model.dtype, use_safetensors=True).state_dict()
    current = model.state_dict()
    _check_fit(path, saved, current)
    with torch.no_grad():
        for name, tensor in current.items():
            tensor.copy_(saved[name])


def _check_fit(path: Path, saved: Mapping[str, Tensor], current: Mapping[str, Tensor]) -> None:
    shapes = [{name: tuple(tensor.shape) for name, tensor in tensors.items()} for tensors in (saved, current)]
    if shapes[0] != shapes[1]:
        first = sorted(shapes[0].items() ^ shapes[1].items())[0][0]
        raise RunError(
            f"checkpoint {path} is of another model: {first} differs; resume with the model of the run"
        )


def _generators() -> dict[str, Tensor]:
    """States of torch's global generators, the CPU's first."""
    states = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]
    return {str(i): state for i, state in enumerate(states)}


def _set_generators(states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["0"])
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for i in range(min(devices, len(states) - 1)):
        torch.cuda.set_rng_state(states[str(i + 1)], i)


def _checkpoints(folder: Path) -> list[Path]:
    """Folders named as checkpoints, oldest first."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(
        (path for path in found if re.fullmatch(r"\d{6,}", path.name)), key=lambda path: int(path.name)
    )


def _fault(path: Path) -> str | None:
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


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
