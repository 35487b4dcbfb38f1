"""Checkpoints: everything the learner is, in a folder that is whole or not there.

`NNNNNN/` holds the model as Hugging Face or PEFT safetensors with its tokenizer, so any loader can read it,
and beside it what only a resumed run needs: optimizer, counters, torch's generators, the caller's state.
shelf.py seals the folder and finds it again. Nothing is pickled.
"""

from __future__ import annotations

import json
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
from llama_o1.learn.shelf import fault_of, prune_checkpoints, recover_checkpoints, seal
from llama_o1.value_head import HEAD_FILE, ValueHead, read_head, save_head

STATE, COUNTERS = "state.json", "learner.json"
OPTIMIZER, GENERATORS, ADAPTER = (
    "optimizer.safetensors",
    "generators.safetensors",
    "adapter_model.safetensors",
)


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
    target = seal(partial, step, score)
    prune_checkpoints(folder, step, keep)
    return target


def load_checkpoint(path: Path, learner: Trained) -> dict[str, Any]:
    """Put weights, optimizer, counters and torch's generators back in place; the caller's state is returned.

    The learner's model stays the same object. RunError for a checkpoint that is damaged or of another model.
    """
    fault = fault_of(path)
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


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
