"""Checkpoints: everything the learner is, in a folder that is whole or not there.

`NNNNNN/` holds the model as Hugging Face or PEFT safetensors with its tokenizer, so any loader can read it,
and beside it what only a resumed run needs: optimizer, counters, torch's generators, the caller's state.
The manifest, written last, has size and SHA-256 of every other file, and the held-out accuracy by which the
best one is kept. Nothing is pickled.
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
from typing import Any, Protocol

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from llama_o1.errors import RunError
from llama_o1.faults import reach
from llama_o1.learn.model import CausalLM
from llama_o1.value_head import HEAD_FILE, ValueHead, read_head, save_head

log = logging.getLogger(__name__)

MANIFEST, STATE, COUNTERS = "manifest.json", "state.json", "learner.json"
OPTIMIZER, GENERATORS, ADAPTER = (
    "optimizer.safetensors",
    "generators.safetensors",
    "adapter_model.safetensors",
)
FORMAT = 1


class Trained(Protocol):
    """A model with its optimizer: what a checkpoint is of."""

    @property
    def model(self) -> CausalLM:
        """Trained in place."""
        ...

    @property
    def value_head(self) -> ValueHead | None:
        """Trained with it; None: its values are read from the rating."""
        ...

    @property
    def num_steps(self) -> int:
        """Optimizer steps so far."""
        ...

    @property
    def max_tokens(self) -> int:
        """Of one forward pass."""
        ...

    def optimizer_state(self) -> dict[str, Tensor]:
        """The optimizer's tensors by name."""
        ...

    def load_optimizer_state(
        self, tensors: Mapping[str, Tensor], num_steps: int, max_tokens: int | None = None
    ) -> None:
        """Take up what `optimizer_state` gave."""
        ...


def save_checkpoint(
    folder: Path,
    step: int,
    *,
    learner: Trained,
    tokenizer: PreTrainedTokenizerBase,
    state: Mapping[str, Any],
    keep: int = 3,
    score: float | None = None,
) -> Path:
    """Write folder/NNNNNN and return it once it is safe on disk; the newest `keep` stay, and the best.

    `state` is the caller's, anything JSON can hold. `score`: held-out accuracy, None when not measured.
    """
    reach("checkpoint: before begin")
    folder.mkdir(parents=True, exist_ok=True)
    recover_checkpoints(folder)
    partial = folder / f".{step:06d}.partial"
    partial.mkdir()
    reach("checkpoint: begun")
    _write_parts(partial, learner, tokenizer, state)
    for name in _file_names(partial):
        _sync(partial / name)
    reach("checkpoint: parts on disk")
    files = {name: _fingerprint(partial / name) for name in _file_names(partial)}
    _write_json(partial / MANIFEST, {"format": FORMAT, "step": step, "score": score, "files": files})
    reach("checkpoint: manifest written")
    _sync(partial / MANIFEST)
    _sync(partial)
    target = _put_in_place(partial)
    prune_checkpoints(folder, step, keep)
    return target


def recover_checkpoints(folder: Path) -> None:
    """Finish what a killed save had whole on disk, put back what it had moved aside, remove the rest.

    Only for the one process that writes: a reader takes `latest_checkpoint` as it finds it.
    """
    for partial in sorted(folder.glob(".*.partial")):
        target = folder / partial.name[1:].removesuffix(".partial")
        if not target.exists() and _fault(partial) is None:
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
        fault = _fault(path)
        if fault is None:
            return path
        log.warning("checkpoint %s is damaged (%s); looking for the one before", path, fault)
    return None


def best_checkpoint(folder: Path) -> Path | None:
    """The whole checkpoint of the highest held-out accuracy, the newest of equals; None when none has one."""
    scored = [(score, path) for path in _checkpoints(folder) if (score := _score(path)) is not None]
    for _, path in sorted(scored, key=lambda one: (one[0], int(one[1].name)), reverse=True):
        fault = _fault(path)
        if fault is None:
            return path
        log.warning("checkpoint %s is damaged (%s); looking for the next best", path, fault)
    return None


def checkpoint_at(folder: Path, step: int) -> Path | None:
    """The checkpoint of a step, None when there is none or it is damaged."""
    path = folder / f"{step:06d}"
    return path if _fault(path) is None else None


def load_checkpoint(path: Path, learner: Trained) -> dict[str, Any]:
    """Put weights, optimizer, counters and torch's generators back in place; the caller's state is returned.

    The learner's model stays the same object. RunError for a checkpoint that is damaged or of another model.
    """
    fault = _fault(path)
    if fault is not None:
        raise RunError(f"checkpoint {path} is damaged: {fault}; use an earlier one")
    _load_weights(path, learner)
    counters = json.loads((path / COUNTERS).read_text(encoding="utf-8"))
    learner.load_optimizer_state(
        load_file(path / OPTIMIZER), counters["num_steps"], counters.get("max_tokens")
    )
    _set_generators(load_file(path / GENERATORS))
    state: dict[str, Any] = json.loads((path / STATE).read_text(encoding="utf-8"))
    return state


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


def _write_parts(
    folder: Path, learner: Trained, tokenizer: PreTrainedTokenizerBase, state: Mapping[str, Any]
) -> None:
    if isinstance(learner.model, PeftModel):
        # The trained rows are part of the adapter; "auto" would ask the hub about the base model.
        learner.model.save_pretrained(str(folder), save_embedding_layers=False)
    else:
        learner.model.save_pretrained(folder)
    if learner.value_head is not None:
        save_head(learner.value_head, folder)
    reach("checkpoint: weights written")
    tokenizer.save_pretrained(folder)
    reach("checkpoint: tokenizer written")
    save_file({name: t.contiguous() for name, t in learner.optimizer_state().items()}, folder / OPTIMIZER)
    reach("checkpoint: optimizer written")
    save_file(_generators(), folder / GENERATORS)
    reach("checkpoint: generators written")
    _write_json(folder / COUNTERS, {"num_steps": learner.num_steps, "max_tokens": learner.max_tokens})
    reach("checkpoint: counters written")
    _write_json(folder / STATE, state)
    reach("checkpoint: state written")


def _load_weights(path: Path, learner: Trained) -> None:
    model = learner.model
    if (path / HEAD_FILE).exists() != (learner.value_head is not None):
        held = "head" if (path / HEAD_FILE).exists() else "rating"
        raise RunError(f"checkpoint {path} has its values from model.value {held}; resume with that setting")
    if learner.value_head is not None:
        read_head(path, learner.value_head)
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
