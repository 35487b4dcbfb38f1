"""A model, an engine with its weights, and the expander that writes its thoughts.

With loop.py and answer.py the only place that sees both engine/ and learn/.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from peft import PeftModel

from llama_o1.config import BUILTIN_MODEL, EngineSettings, ModelSettings
from llama_o1.engine.local import LocalEngine
from llama_o1.engine.protocol import Engine, Reply, Request
from llama_o1.engine.segmented import SegmentedEngine
from llama_o1.engine.server import ServerBackend, server_engine
from llama_o1.engine.vllm import VllmBackend, open_vllm
from llama_o1.errors import ConfigError, EngineError, ModelError
from llama_o1.format.encode import Codec
from llama_o1.format.marks import MarkSettings
from llama_o1.format.tokens import SpecialIds
from llama_o1.learn.model import DTYPES, Loaded, load_model, plain
from llama_o1.play.expand import Expander, ThoughtSettings
from llama_o1.published import PublishedWeights

NANO_FOLDER = Path(__file__).resolve().parent / "nano"  # the shipped weights
LOCAL_CACHE_MB = 1024
_GPU_SHARE = 8  # one of so many bytes that a GPU has free is for the cache: a learner needs room, too
_GPU_SLOTS = 256  # a pass over so many rows takes a GPU about as long as one over few
SAME_LOGPROB = 0.3  # how far the same weights may differ in other kernels and bf16


@dataclass(frozen=True, slots=True)
class System:
    """What searches need; a context manager that closes the engine."""

    loaded: Loaded
    engine: Engine
    codec: Codec
    weights: PublishedWeights  # where an engine that does not share the model reads them
    sleeps: bool = False  # the engine frees its GPU when it rests

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.engine.close()
        finally:
            self.weights.close()


def assemble(
    model: ModelSettings,
    engine: EngineSettings,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    marks: MarkSettings | None = None,
    new_value_head: bool = False,
) -> System:
    """Load the model and open the engine on it; ModelError or EngineError when one cannot be had.

    `temperature` is what will be sampled at: a server may not be able to tell log-probs of it. Servers go on
    with the weights they were started with until `publish`. With `new_value_head` a model whose values are to
    come from a head, and has none, is given one that knows nothing yet.
    """
    if model.value == "head" and engine.name != "local":
        raise ConfigError(
            f"model.value head needs engine.name local, got {engine.name}, which shows no hidden states; set "
            "model.value rating or engine.name local"
        )
    source = _source(model)
    loaded = load(model, seed=seed, marks=marks, new_value_head=new_value_head)
    weights = PublishedWeights()
    try:
        made = _open(engine, loaded, source, weights, temperature)
    except BaseException:
        weights.close()
        raise
    return System(loaded, made, Codec(loaded.tokenizer, loaded.special), weights, engine.sleep)


def around(loaded: Loaded, *, threads: int) -> System:
    """A local engine on a model that something else trains, whose weights it shares."""
    engine = LocalEngine(
        loaded.model,
        slots=_GPU_SLOTS if torch.cuda.is_available() else EngineSettings.slots,
        cache_bytes=cache_bytes(None),
        threads=threads,
        value_head=loaded.value_head,
    )
    return System(loaded, engine, Codec(loaded.tokenizer, loaded.special), PublishedWeights())


def load(
    model: ModelSettings, *, seed: int, marks: MarkSettings | None, new_value_head: bool = True
) -> Loaded:
    """The model that the settings name, ready to learn."""
    return load_model(
        _source(model),
        adapter=model.lora if model.adapter == "lora" else None,
        freeze_embeddings=model.freeze_embeddings,
        seed=seed,
        marks=marks,
        value=model.value,
        new_value_head=new_value_head,
    )


def publish(system: System, version: int) -> None:
    """Give the engine the model's weights as they are now.

    The local engine shares them; for another they are written down, and older ones removed once it has them.
    """
    if isinstance(system.engine, LocalEngine):
        system.engine.load(system.loaded.model, version)
        return
    system.engine.load(system.weights.write(system.loaded.model, version), version)
    system.weights.keep_only(version)


@contextmanager
def resting(system: System) -> Iterator[None]:
    """Let an engine that can sleep free its GPU for the learner, until the end of the block."""
    backend = system.engine.backend if isinstance(system.engine, SegmentedEngine) else None
    if not (system.sleeps and isinstance(backend, VllmBackend)):
        yield
        return
    backend.sleep()
    try:
        yield
    finally:
        backend.wake()


def check_serves(system: System) -> None:
    """Raise EngineError when servers plainly have other weights than the model; others have the model's own.

    A few log-probs are compared, as closely as bf16 allows.
    """
    if not (isinstance(system.engine, SegmentedEngine) and isinstance(system.engine.backend, ServerBackend)):
        return
    engine, root = system.engine, system.codec.root
    contexts = {text: root(text) for text in ("2", "3*8", "How many pens are left?")}
    for text, context in contexts.items():
        engine.submit(text, Request(context, 1, seed=0, num_samples=4))
    replies: dict[Hashable, Reply] = {}
    while len(replies) < len(contexts):
        replies |= dict(engine.poll())
    off = max(_difference(system.loaded, context, replies[text]) for text, context in contexts.items())
    if off > SAME_LOGPROB:
        raise EngineError(
            f"the servers have other weights than {system.loaded.model.name_or_path}: a log-prob is off by "
            f"{off:.2f}; start them on that model, or search by --run with what a run learned"
        )


def expander(system: System, thoughts: ThoughtSettings, special: SpecialIds | None = None) -> Expander:
    """The expander of these thoughts for the system's model; ConfigError where its context is too short.

    `special` None: with the control tokens that the model was loaded with.
    """
    least, holds = thoughts.thinking_limit + thoughts.max_answer, system.engine.max_context
    if least > holds:
        raise ConfigError(
            f"a budget of {thoughts.path_budget} thinking tokens and an answer of {thoughts.max_answer} take "
            f"{least} tokens, the model's context holds {holds}; lower the budget, or use a model with a "
            "longer context"
        )
    codec = Codec(system.loaded.tokenizer, special or system.loaded.special, hints=thoughts.hints)
    return Expander(codec, thoughts, holds)


def _difference(loaded: Loaded, context: Sequence[int], reply: Reply) -> float:
    """How far the log-probs of drawn first tokens are from the model's own."""
    with torch.no_grad():
        logits = loaded.model(torch.tensor([list(context)], device=loaded.model.device)).logits[0, -1]
    expected = logits.float().log_softmax(-1)
    return max(abs(float(sample.logprobs[0] - expected[sample.ids[0]])) for sample in reply.samples)


def _source(model: ModelSettings) -> str | Path:
    """What to load: the shipped folder, or the path as it was given."""
    if model.path != BUILTIN_MODEL:
        return model.path
    if not (NANO_FOLDER / "model.safetensors").exists():
        raise ModelError(
            f"the shipped nano model is missing from {NANO_FOLDER}; make it with "
            "`llama-o1 sft --config configs/nano_coldstart.yaml`"
        )
    return NANO_FOLDER


def _open(
    settings: EngineSettings,
    loaded: Loaded,
    source: str | Path,
    weights: PublishedWeights,
    temperature: float,
) -> Engine:
    """The engine that the settings name."""
    if settings.name == "vllm":
        cache_mb = settings.cache_mb
        return open_vllm(
            _plain_folder(source, loaded) or weights.write(loaded.model, 0),
            slots=settings.slots,
            max_context=settings.max_context,
            dtype=settings.dtype,
            cache_bytes=None if cache_mb is None else cache_mb << 20,
            gpu_memory_utilization=settings.gpu_memory,
            sleep_mode=settings.sleep,
        )
    if settings.name == "server":
        return server_engine(
            settings.urls,
            slots=settings.slots,
            vocab_size=_num_rows(loaded),
            max_context=settings.max_context,
            temperature=temperature,
            timeout_s=settings.timeout_s,
            api_key=_api_key(settings.api_key_env),
        )
    if torch.cuda.is_available():
        torch.nn.Module.to(loaded.model, "cuda")
        if loaded.value_head is not None:
            loaded.value_head.to("cuda")
    return LocalEngine(
        loaded.model,
        slots=settings.slots,
        max_context=settings.max_context,
        cache_bytes=cache_bytes(settings.cache_mb),
        threads=settings.threads,
        dtype=None if settings.dtype is None else DTYPES[settings.dtype],
        value_head=loaded.value_head,
    )


def cache_bytes(cache_mb: int | None) -> int:
    """Memory of the local engine's prefix cache; None: 1 GiB, or an eighth of what a GPU has free if more."""
    if cache_mb is not None:
        return cache_mb << 20
    free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0
    return max(LOCAL_CACHE_MB << 20, free // _GPU_SHARE)


def _plain_folder(source: str | Path, loaded: Loaded) -> Path | None:
    """The folder of a model that another engine can read as it is; None when it must be written first."""
    folder = Path(source).expanduser()
    if isinstance(loaded.model, PeftModel) or (folder / "adapter_config.json").exists():
        return None
    files = list(folder.glob("*.safetensors"))
    # A checkpoint's folder holds the optimizer's tensors, too.
    return folder if files and all(file.name.startswith("model") for file in files) else None


def _num_rows(loaded: Loaded) -> int:
    """Rows of the embeddings: the ids a model knows."""
    inputs: Any = plain(loaded.model).get_input_embeddings()
    return int(inputs.weight.shape[0])


def _api_key(variable: str | None) -> str | None:
    if variable is None:
        return None
    if variable not in os.environ:
        raise ConfigError(
            f"engine.api_key_env names {variable}, which is not set; export it, or name the variable that "
            "holds the servers' key"
        )
    return os.environ[variable]
