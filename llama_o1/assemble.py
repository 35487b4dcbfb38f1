"""A model, an engine that shares its weights, and the expander that writes its thoughts.

With loop.py the only place that sees both engine/ and learn/.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from llama_o1.config import BUILTIN_MODEL, EngineSettings, ModelSettings
from llama_o1.engine.local import LocalEngine
from llama_o1.errors import ModelError
from llama_o1.format.encode import Codec
from llama_o1.learn.model import Loaded, load_model
from llama_o1.play.expand import Expander, ThoughtSettings

NANO_FOLDER = Path(__file__).resolve().parent / "nano"  # the shipped weights


class System(NamedTuple):
    """What searches need."""

    loaded: Loaded
    engine: LocalEngine
    codec: Codec


def assemble(model: ModelSettings, engine: EngineSettings, *, seed: int = 0) -> System:
    """Load the model and set the engine on it; ModelError when the model cannot be used."""
    source: str | Path = model.path
    if model.path == BUILTIN_MODEL:
        if not (NANO_FOLDER / "model.safetensors").exists():
            raise ModelError(
                f"the shipped nano model is missing from {NANO_FOLDER}; make it with "
                "`llama-o1 sft --config configs/nano_coldstart.yaml`"
            )
        source = NANO_FOLDER
    loaded = load_model(source, adapter=model.lora if model.adapter == "lora" else None, seed=seed)
    if torch.cuda.is_available():
        torch.nn.Module.to(loaded.model, "cuda")
    local = LocalEngine(
        loaded.model, slots=engine.slots, cache_bytes=engine.cache_mb << 20, threads=engine.threads
    )
    return System(loaded, local, Codec(loaded.tokenizer, loaded.special))


def expander(system: System, thoughts: ThoughtSettings) -> Expander:
    """The expander of these thoughts for the system's model."""
    codec = Codec(system.loaded.tokenizer, system.loaded.special, hints=thoughts.hints)
    return Expander(codec, thoughts, system.engine.max_context)
