"""The models that benches run: Llamas with random weights, or the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

from llama_o1.bench.settings import BenchModel
from llama_o1.config import BUILTIN_MODEL
from llama_o1.errors import ConfigError, ModelError
from llama_o1.format.encode import Codec
from llama_o1.format.tokens import special_ids
from llama_o1.learn.model import load_model
from llama_o1.learn.nano import NANO_FOLDER, nano_tokenizer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def bench_model(settings: BenchModel, positions: int, dtype: str) -> Any:
    """The model in evaluation mode; ModelError when a given one cannot be read or is too short."""
    disable_progress_bar()
    model = _random(settings, positions) if settings.path is None else _read(settings.path)
    held = getattr(model.config.get_text_config(), "max_position_embeddings", positions)
    if held < positions:
        raise ConfigError(f"these lengths need {positions} positions, the model has {held}; shorten them")
    return model.to(DTYPES[dtype]).eval()


class Speaker(NamedTuple):
    """A model and the tokens that thoughts are written with."""

    model: Any
    codec: Codec


def speaker(settings: BenchModel, dtype: str, texts: Sequence[str]) -> Speaker:
    """A random model with a tokenizer learned from these texts, or the given model with its own."""
    if settings.path is not None:
        loaded = load_model(_source(settings.path), dtype=dtype)
        return Speaker(loaded.model.eval(), Codec(loaded.tokenizer, loaded.special))
    tokenizer = nano_tokenizer(texts)
    model = bench_model(replace(settings, vocab=len(tokenizer)), 1024, dtype)
    return Speaker(model, Codec(tokenizer, special_ids(tokenizer, "of the bench")))


def described(model: Any, dtype: str) -> dict[str, Any]:
    """What a report says of a model."""
    config = model.config.get_text_config()
    return {
        "type": config.model_type,
        "hidden": config.hidden_size,
        "layers": config.num_hidden_layers,
        "vocab": config.vocab_size,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": dtype,
        "torch": torch.__version__,
    }


def _random(settings: BenchModel, positions: int) -> Any:
    heads = settings.hidden // settings.head_dim
    config = LlamaConfig(
        vocab_size=settings.vocab,
        hidden_size=settings.hidden,
        intermediate_size=64 * -(-settings.hidden // 24),  # 8/3 of hidden, up to the next 64
        num_hidden_layers=settings.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=settings.head_dim,
        max_position_embeddings=max(1024, positions),
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return LlamaForCausalLM(config)


def _read(path: str) -> Any:
    try:
        return AutoModelForCausalLM.from_pretrained(_source(path))
    except (OSError, ValueError) as error:
        raise ModelError(f"model {path} cannot be read: {error}") from None


def _source(path: str) -> str | Path:
    return NANO_FOLDER if path == BUILTIN_MODEL else path
