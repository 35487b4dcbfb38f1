"""The cold start on one page: worked problems -> lines of thought -> token ids -> a model."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from tqdm import tqdm

from llama_o1.errors import RunError
from llama_o1.format.tokens import special_ids
from llama_o1.learn.coldstart import fine_tune
from llama_o1.learn.model import Loaded, load_model, merged, quiet
from llama_o1.learn.nano import nano_model, nano_tokenizer
from llama_o1.lines import Line, texts_of, written_lines
from llama_o1.sft_config import SftConfig
from llama_o1.tasks.mixture import draw
from llama_o1.threads import torch_threads

log = logging.getLogger(__name__)

TOKENIZER_PROBLEMS = 6000  # problems a new tokenizer is learned from


def cold_start(config: SftConfig) -> Loaded:
    """Train as the config says and write the model to `config.out`; RunError when that is taken."""
    out = Path(config.out)
    if out.exists() and any(out.iterdir()):
        raise RunError(f"{out} already holds files; choose another --out or remove it")
    with torch_threads(config.threads):
        loaded = _start_from(config)
        lines = written_lines(config, loaded)
        tokens = _train(config, loaded, lines)
    out.mkdir(parents=True, exist_ok=True)
    merged(loaded.model).save_pretrained(out)
    loaded.tokenizer.save_pretrained(out)
    log.info("wrote %s after %d steps, %d tokens", out, config.sft.steps, tokens)
    return loaded


def _start_from(config: SftConfig) -> Loaded:
    if config.model is not None:
        adapter = config.lora if config.adapter == "lora" else None
        return load_model(config.model, adapter=adapter, marks=config.marks)
    quiet()
    problems = islice(draw(config.problems, "train", config.seed, worked=True), TOKENIZER_PROBLEMS)
    tokenizer = nano_tokenizer(
        chain.from_iterable(texts_of(problem, config) for problem in problems), config.marks, config.new_model
    )
    special = special_ids(tokenizer, "nano", config.marks)
    model = nano_model(tokenizer, config.seed, config.new_model)
    return Loaded(model, tokenizer, special, tokenizer.pad_token_id)


def _train(config: SftConfig, loaded: Loaded, lines: Iterator[Line]) -> int:
    seen = 0
    bar = tqdm(total=config.sft.steps, desc="sft", unit="step", disable=not sys.stderr.isatty())

    def on_step(step: int, loss: float, tokens: int) -> None:
        nonlocal seen
        seen += tokens
        bar.update()
        bar.set_postfix(loss=f"{loss:.3f}", tokens=seen)
        if bar.disable and step % 50 == 0:
            log.info("step %d of %d: loss %.3f, %d tokens", step, config.sft.steps, loss, seen)

    pad_id = loaded.pad_id
    fine_tune(loaded.model, lines, config.sft, pad_id=pad_id, seed=config.seed, on_step=on_step)
    bar.close()
    return seen
