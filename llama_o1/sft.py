"""A fine-tuning on one page: lines -> steps -> checkpoints and looks on the way -> a model with its card.

With own lines it has two stages, of which the first is a fine-tuning in a folder of its own.

Resuming makes the lines of the steps that were taken once more, which is exact and quick beside learning.
"""

from __future__ import annotations

import json
import logging
import shlex
import time
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm.contrib.logging import logging_redirect_tqdm

from llama_o1 import __version__
from llama_o1.assemble import NANO_FOLDER
from llama_o1.card import write_card
from llama_o1.config import BUILTIN_MODEL
from llama_o1.errors import RunError
from llama_o1.format.tokens import special_ids
from llama_o1.learn.ahead import ahead
from llama_o1.learn.checkpoint import load_checkpoint, save_checkpoint
from llama_o1.learn.coldstart import Tuner
from llama_o1.learn.model import Loaded, load_model, merged, plain, quiet
from llama_o1.learn.nano import nano_model, nano_tokenizer
from llama_o1.learn.settings import ColdstartSettings
from llama_o1.learn.shelf import latest_checkpoint, prune_checkpoints, recover_checkpoints
from llama_o1.lines import Material, material_of, texts_of
from llama_o1.own_lines import check_problems, own_lines, with_own_lines
from llama_o1.progress import bar
from llama_o1.sft_config import OwnLineSettings, SftConfig
from llama_o1.sft_folder import SftFolder
from llama_o1.sft_look import Found, Look, accuracy_of
from llama_o1.tasks.mixture import draw
from llama_o1.threads import torch_threads
from llama_o1.value_head import tell_left_out

log = logging.getLogger(__name__)

TOKENIZER_PROBLEMS = 6000  # problems a new tokenizer is learned from
LOG_EVERY = 50  # steps between metrics


@dataclass(slots=True)
class Progress:
    """What a checkpoint holds beside model and optimizer."""

    tokens: int = 0
    seconds: float = 0.0
    recent: list[float] = field(default_factory=list)  # losses of the last steps, at most LOG_EVERY


class Stage(NamedTuple):
    """Steps by one optimizer, and what came before them."""

    loaded: Loaded
    material: Material
    settings: ColdstartSettings
    begun: Progress  # what the stage before took
    steps_before: int = 0


def cold_start(config: SftConfig, command: str | None = None) -> Loaded:
    """Train as the config says and write the model to `config.out`; RunError when that is taken.

    `command`: what the card says that made it.
    """
    folder = SftFolder(Path(config.out))
    folder.check(config)
    if folder.card.exists():
        raise RunError(
            f"{folder.path} holds a finished model; use it with --model.path, or choose another --out"
        )
    with torch_threads(config.threads), torch.random.fork_rng(), logging_redirect_tqdm():
        torch.manual_seed(config.seed)
        stage = _on_own_lines(config, folder) if config.own_lines.problems else _on_given_lines(config)
        loaded, material = stage.loaded, stage.material
        look = Look(config, loaded, material.held_out)
        folder.begin(config)
        tuner = Tuner(loaded.model, stage.settings, pad_id=loaded.pad_id, steps=material.num_steps)
        progress = _restored(folder, config, tuner) or stage.begun
        _train(config, folder, loaded, material, tuner, progress, look)
        found = look(tuner, last=True)
        look.close()
        merged(loaded.model).save_pretrained(folder.path)
        loaded.tokenizer.save_pretrained(folder.path)
        for one in found:
            folder.log(step=tuner.num_steps, **one)
        write_card(_card(config, stage, tuner, progress, found, command), folder.path)
    log.info("wrote %s after %d steps, %d tokens", folder.path, tuner.num_steps, progress.tokens)
    return loaded


def _on_given_lines(config: SftConfig) -> Stage:
    loaded = _start_from(config)
    return Stage(loaded, material_of(config, loaded), config.sft, Progress())


def _on_own_lines(config: SftConfig, folder: SftFolder) -> Stage:
    """The second stage, after the first in a folder of its own, which is a whole fine-tuning."""
    check_problems(config)
    folder.begin(config)
    first = replace(
        config, out=str(folder.first_stage), own_lines=OwnLineSettings(), resume=folder.first_stage.exists()
    )
    card = SftFolder(folder.first_stage).card
    if not card.exists():
        cold_start(first)
    made = json.loads(card.read_text(encoding="utf-8"))
    loaded = _on_device(load_model(folder.first_stage, seed=config.seed, marks=config.marks))
    own = own_lines(config, loaded, folder.own_lines)
    worked = material_of(replace(first, sft=config.own_lines.sft), loaded)
    begun = Progress(made["tokens"], made["seconds"] + own.seconds)
    return Stage(
        loaded, with_own_lines(worked, own, config), config.own_lines.sft, begun, steps_before=made["steps"]
    )


def _start_from(config: SftConfig) -> Loaded:
    if config.model is None:
        return _on_device(_new_nano(config))
    source = NANO_FOLDER if config.model == BUILTIN_MODEL else config.model
    tell_left_out(source)
    adapter = config.lora if config.adapter == "lora" else None
    return _on_device(load_model(source, adapter=adapter, seed=config.seed, marks=config.marks))


def _new_nano(config: SftConfig) -> Loaded:
    quiet()
    problems = islice(draw(config.problems, "train", config.seed, worked=True), TOKENIZER_PROBLEMS)
    texts = chain.from_iterable(texts_of(problem, config) for problem in problems)
    tokenizer = nano_tokenizer(texts, config.marks, config.new_model)
    special = special_ids(tokenizer, "nano", config.marks)
    model = nano_model(tokenizer, config.seed, config.new_model)
    return Loaded(model, tokenizer, special, tokenizer.pad_token_id)


def _on_device(loaded: Loaded) -> Loaded:
    if torch.cuda.is_available():
        torch.nn.Module.to(loaded.model, "cuda")
    return loaded


def _restored(folder: SftFolder, config: SftConfig, tuner: Tuner) -> Progress | None:
    """Where the last whole checkpoint stands, model and optimizer put back; None without one."""
    recover_checkpoints(folder.checkpoints)
    checkpoint = latest_checkpoint(folder.checkpoints)
    if checkpoint is None:
        folder.forget_after(-1)
        return None
    progress = Progress(**load_checkpoint(checkpoint, tuner))
    prune_checkpoints(folder.checkpoints, tuner.num_steps, config.keep_checkpoints)
    folder.forget_after(tuner.num_steps)
    log.info("resumed after step %d", tuner.num_steps)
    return progress


def _train(
    config: SftConfig,
    folder: SftFolder,
    loaded: Loaded,
    material: Material,
    tuner: Tuner,
    progress: Progress,
    look: Look,
) -> None:
    """Take the steps that are left."""
    steps, before = bar(material.num_steps, "sft", "step"), progress.seconds
    steps.update(tuner.num_steps)
    began = time.perf_counter()
    shown = None if tuner.num_steps else _looked(folder, look, tuner)
    left = islice(material.steps, tuner.num_steps, material.num_steps)
    for lines in ahead(left) if torch.cuda.is_available() else left:
        rate = tuner.learning_rate
        loss, tokens = tuner.step(lines)
        step, last = tuner.num_steps, tuner.num_steps == material.num_steps
        progress.tokens += tokens
        progress.recent = [*progress.recent, loss][-LOG_EVERY:]
        progress.seconds = before + time.perf_counter() - began
        if step % LOG_EVERY == 0 or last:
            _log_step(folder, progress, step, rate)
            if steps.disable:
                log.info(
                    "step %d of %d: loss %.3f, %d tokens", step, material.num_steps, loss, progress.tokens
                )
        accuracy = _looked(folder, look, tuner) if step % config.evaluation.every == 0 and not last else None
        shown = shown if accuracy is None else accuracy
        dev = {} if shown is None else {"dev": f"{shown:.1%}"}
        steps.set_postfix({"loss": f"{loss:.3f}", "tokens": progress.tokens, **dev}, refresh=False)
        steps.update()
        if step % config.checkpoint_every == 0 or last:
            _save(config, folder, loaded, tuner, progress, accuracy)
    steps.close()


def _looked(folder: SftFolder, look: Look, tuner: Tuner) -> float | None:
    """Log a look at held-out problems and lines; the accuracy on dev, None when no problem was asked."""
    found = look(tuner)
    for one in found:
        folder.log(step=tuner.num_steps, **one)
    return accuracy_of(found)


def _save(
    config: SftConfig,
    folder: SftFolder,
    loaded: Loaded,
    tuner: Tuner,
    progress: Progress,
    accuracy: float | None,
) -> None:
    save_checkpoint(
        folder.checkpoints,
        tuner.num_steps,
        learner=tuner,
        tokenizer=loaded.tokenizer,
        state=asdict(progress),
        keep=config.keep_checkpoints,
        score=accuracy,
    )


def _log_step(folder: SftFolder, progress: Progress, step: int, rate: float) -> None:
    folder.log(
        step=step,
        phase="train",
        loss=sum(progress.recent) / len(progress.recent),
        learning_rate=rate,
        tokens=progress.tokens,
        seconds=round(progress.seconds, 1),
    )


def _card(
    config: SftConfig,
    stage: Stage,
    tuner: Tuner,
    progress: Progress,
    found: Found,
    command: str | None,
) -> dict[str, Any]:
    losses = [one["loss"] for one in found if one["phase"] == "held_out"]
    again = f"llama-o1 sft --config {shlex.quote(str(SftFolder(Path(config.out)).config))} --out OUT"
    model: Any = plain(stage.loaded.model)
    return {
        "name": Path(config.out).name,
        "model": "nothing (a new model)" if config.model is None else config.model,
        "adapter": config.adapter,
        "form": config.form,
        "parameters": sum(p.numel() for p in model.parameters()),
        "data": stage.material.words,
        "seed": config.seed,
        "steps": stage.steps_before + tuner.num_steps,
        "tokens": progress.tokens,
        "seconds": round(progress.seconds, 1),
        "device": f"{model.device.type}, {torch.get_num_threads()} threads",
        "loss": sum(progress.recent) / max(1, len(progress.recent)),
        "held_out_loss": losses[0] if losses else None,
        "accuracies": [
            {key: one[key] for key in ("set", "split", "problems", "accuracy", "low", "high")}
            for one in found
            if one["phase"] == "evaluate"
        ],
        "command": command or again,
        "version": __version__,
    }
