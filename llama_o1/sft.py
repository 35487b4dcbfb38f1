"""The cold start on one page: worked problems -> lines of thought -> token ids -> a model."""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from tqdm import tqdm

from llama_o1.config import SftConfig
from llama_o1.errors import RunError
from llama_o1.format.budget import BudgetPlan
from llama_o1.format.encode import Codec
from llama_o1.format.tokens import special_ids
from llama_o1.learn.coldstart import fine_tune
from llama_o1.learn.model import Loaded, load_model, merged, quiet
from llama_o1.learn.nano import nano_model, nano_tokenizer
from llama_o1.play.program import Calculator
from llama_o1.play.script import Script, fitting, script
from llama_o1.tasks.mixture import draw
from llama_o1.tasks.problem import Problem
from llama_o1.tasks.problems import STORED
from llama_o1.tasks.traces import rated_at_random, trace
from llama_o1.tasks.vary import vary
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
        lines = _lines(config, loaded)
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
    tokenizer = nano_tokenizer(chain.from_iterable(map(_texts, problems)), config.marks)
    special = special_ids(tokenizer, "nano", config.marks)
    return Loaded(nano_model(tokenizer, config.seed), tokenizer, special, tokenizer.pad_token_id)


def _texts(problem: Problem) -> Iterator[str]:
    """The texts of all thoughts a problem's traces can hold."""
    rng = random.Random(problem.id)
    for kind in ("divided", "repaired"):
        yield from (traced.thought.text for traced in trace(problem, rng, kind))


def _lines(config: SftConfig, loaded: Loaded) -> Iterator[tuple[list[int], list[float]]]:
    """Ids of written lines of thought and how much each counts, without end; the same for the same seed."""
    marks, weight = frozenset(loaded.special.remaining), config.sft.special_token_weight
    for ids, learn, _ in _scripts(config, loaded):
        yield ids, [weight if i in marks else float(wanted) for i, wanted in zip(ids, learn, strict=True)]


def _scripts(config: SftConfig, loaded: Loaded) -> Iterator[Script]:
    codec = Codec(loaded.tokenizer, loaded.special)
    calculator = Calculator(codec) if config.calculator else None
    plans = [BudgetPlan(budget, loaded.special.remaining, config.marks) for budget in config.budgets]
    rng = random.Random(f"lines/{config.seed}")
    for problem in draw(config.problems, "train", config.seed, worked=True):
        if problem.source in STORED and rng.random() < config.vary:
            problem = vary(problem, rng) or problem
        line = trace(problem, rng)
        if rng.random() < config.unsure:
            line = rated_at_random(line, rng)
        if config.budget_step is None:
            yield script(line, codec, rng.choice(plans), calculator)
        else:
            yield fitting(line, codec, config.budget_step, config.marks, calculator)


def _train(config: SftConfig, loaded: Loaded, lines: Iterator[tuple[list[int], list[float]]]) -> int:
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
