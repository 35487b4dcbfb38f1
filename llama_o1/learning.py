"""What one iteration of a run learns: batches from the replay buffer, steps, priorities back to it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from llama_o1.crew import Crew
from llama_o1.errors import RunError
from llama_o1.faults import reach
from llama_o1.format.marks import MarkSettings
from llama_o1.learn.batch_file import encode, read_batch, write_batch
from llama_o1.learn.checkpoint import save_checkpoint
from llama_o1.learn.diagnose import diagnose
from llama_o1.learn.figures import StepResult
from llama_o1.learn.guards import NotFiniteError
from llama_o1.learn.model import load_model
from llama_o1.learn.settings import LearnerSettings, ValueSource
from llama_o1.learn.trainer import Learner
from llama_o1.measure.calibrate import calibration, effective_sample_size
from llama_o1.progress import bar
from llama_o1.value_head import HEAD_FILE
from replay.batch import Batch, Float64, Int64, priority_of
from replay.buffer import PrioritizedReplayBuffer
from replay.experience import Experience

log = logging.getLogger(__name__)


def learn(
    learner: Learner,
    replay: PrioritizedReplayBuffer,
    batches: Iterable[Batch],
    *,
    steps: int,
    iteration: int,
    thought_id: int,
    crew: Crew,
    on_step: Callable[[dict[str, float]], None],
) -> dict[str, float]:
    """A step on each batch; returns the means of the learner's metrics, `on_step` gets each step's numbers.

    `steps`: how many batches there are, for the bar. `thought_id`: the token that opens a thought, by which
    depths are counted. Lets NotFiniteError through.
    """
    shown = bar(steps, f"learn {iteration}", "step", position=1)
    metrics: list[dict[str, float]] = []
    for batch in batches:
        reach("learner: before step")
        if not crew.is_alone:
            crew.tell("step", encode(batch.experiences, batch.weights))
        result = learner.step(batch.experiences, batch.weights)
        reach("learner: stepped")
        targets = [e.value_target for e in batch.experiences]
        # Where values are not learned they tell nothing of what would surprise.
        values = result.values if learner.settings.value_weight else targets
        priorities = priority_of([e.advantage for e in batch.experiences], targets, values)
        reach("replay: before priorities")
        replay.update_priority(batch.ids, priorities)
        reach("replay: priorities updated")
        metrics.append(result.metrics)
        on_step(
            result.metrics | step_figures(batch.experiences, batch.weights, result, iteration, thought_id)
        )
        shown.set_postfix(
            {k: f"{result.metrics[k]:.3f}" for k in ("policy_loss", "value_loss")}, refresh=False
        )
        shown.update()
    shown.close()
    return {key: float(np.mean([m[key] for m in metrics])) for key in metrics[0]}


class Played(NamedTuple):
    """What one tree of this iteration teaches."""

    ids: Int64  # [N] in the replay buffer
    experiences: Sequence[Experience]  # N of them
    counts: Float64  # [N] how often each was drawn: equal thoughts of one parent are one node


def tree_by_tree(
    played: Sequence[Played], epochs: int, least: int, rng: np.random.Generator
) -> Iterator[Batch]:
    """Batches of whole trees in random order, `least` experiences or more in each but a pass's last.

    Each counts as often as it was drawn, so that a likely thought, whose repeats were merged, is not outvoted
    by its unlikely siblings: that is the policy gradient at its parent. Thoughts of one tree share most of
    their tokens, so a trie learns from them at a fraction of what as many drawn ones cost.
    """
    for _ in range(epochs):
        some: list[Played] = []
        order = [tree for i in rng.permutation(len(played)) if len((tree := played[i]).ids)]
        for i, tree in enumerate(order):
            some.append(tree)
            if sum(len(one.ids) for one in some) >= least or i + 1 == len(order):
                ids = np.concatenate([one.ids for one in some])
                counts = np.concatenate([one.counts for one in some])
                yield Batch(ids, [e for one in some for e in one.experiences], counts, np.ones(len(ids)))
                some = []


def step_figures(
    experiences: Sequence[Experience],
    weights: npt.NDArray[np.floating],
    result: StepResult,
    iteration: int,
    thought_id: int,
) -> dict[str, float]:
    """How old a batch was, how much of it counted, and how far its values could be believed.

    Staleness is in versions: 0 for what the weights before this iteration's first step made. Effective
    sample sizes are shares of the batch: of importance weights, and of ratios to the behaviour policy.
    """
    staleness = np.array([iteration - 1 - e.version for e in experiences])
    return {
        "staleness_mean": float(staleness.mean()),
        "staleness_max": float(staleness.max()),
        "effective_sample_size_weights": effective_sample_size(weights),
        "effective_sample_size_ratios": effective_sample_size(result.ratios),
        **calibration(
            result.values,
            [e.value_target for e in experiences],
            [int(np.count_nonzero(e.context == thought_id)) for e in experiences],
            [e.action for e in experiences],
        ),
    }


def look_into_stopped(file: Path) -> tuple[list[dict[str, Any]], str]:
    """What is not finite where in a step that `keep_stopped` kept, and a closing line.

    The step is made again from the weights it met. An adapter is merged, so there is no reference for a KL,
    and that part of the loss is left out.
    """
    experiences, weights, words = read_batch(file)
    try:
        fields = json.loads(words["settings"]) | {"kl_weight": 0.0}
        settings = LearnerSettings(**fields | {"betas": tuple(fields["betas"])})
        folder = file.parent / words["model"]
        marks = MarkSettings(**json.loads(words["marks"])) if "marks" in words else None
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{file} does not say how to make its step again ({error}); was it changed?"
        ) from error
    value: ValueSource = "head" if (folder / HEAD_FILE).exists() else "rating"
    loaded = load_model(folder, marks=marks, value=value)
    learner = Learner(
        loaded.model, loaded.special, settings, pad_id=loaded.pad_id, value_head=loaded.value_head
    )
    found, stopped = diagnose(learner, experiences, weights)
    cases = [{"verdict": "not finite", **finding._asdict()} for finding in found]
    line = stopped or f"all numbers of the step of {len(experiences)} experiences are finite"
    return cases, line


def keep_stopped(
    folder: Path,
    error: NotFiniteError,
    learner: Learner,
    tokenizer: PreTrainedTokenizerBase,
    marks: MarkSettings | None,
) -> RunError:
    """Save the batch that stopped a step and the weights it met; the error that names the file."""
    model = save_checkpoint(folder, learner.num_steps, learner=learner, tokenizer=tokenizer, state={}, keep=1)
    file = folder / f"{learner.num_steps:06d}.safetensors"
    words = {"model": model.name, "settings": json.dumps(asdict(learner.settings))}
    if marks is not None:
        words["marks"] = json.dumps(asdict(marks))
    write_batch(file, error.experiences, error.weights, **words)
    return RunError(f"{error}; `llama-o1 verify --batch {file}` tells where")
