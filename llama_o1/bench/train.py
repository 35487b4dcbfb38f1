"""`bench train`: a learner step from tries against separate padded policy and value passes.

The nodes come from self-play searches of the model itself, once. Three learners that start from the same
weights take a step on the same batches in turn: ours from tries; ours from padded rows, where one forward
pass still serves policy and value; and one with a padded pass for the policy and another for the value, as a
learner with two models makes them. All read logits only where they are wanted and sort rows by length.

Two kinds of batch: neighbours, the nodes of whole trees; and nodes drawn at random from all trees, as replay
draws them, which share less. `outside_model_share` is what a packed step on neighbours spends outside the
model's forward and backward passes and the optimizer's update: on merging, tensors, losses, figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial
from random import Random
from statistics import median
from typing import Any

import numpy as np
import torch

from llama_o1.bench.measure import Measured, Ratio, Row, Spent, measure, timed
from llama_o1.bench.model import Speaker, described, speaker
from llama_o1.bench.nodes import problems, searched
from llama_o1.bench.report import Report
from llama_o1.bench.settings import TrainBench
from llama_o1.bench.shares import Shares
from llama_o1.learn.forward import logits_at
from llama_o1.learn.loss import ppo_clip, value_cross_entropy
from llama_o1.learn.trainer import Learner
from llama_o1.progress import bar
from llama_o1.threads import torch_threads
from replay.experience import Experience

PACKED, PADDED, SEPARATE = "tries", "padded rows", "two padded passes"
TREES, DRAWN = "trees", "replay"


def run(settings: TrainBench) -> Report:
    """Search once, then measure the three learners in turn on each kind of batch."""
    texts = [problem.question for problem in problems(settings)]
    spoken = speaker(settings.model, settings.dtype, texts)
    trees = searched(settings, spoken)
    everything = [experience for tree in trees for experience in tree]
    steps = Steps(settings, spoken)
    batches = {
        TREES: partial(_neighbours, everything, settings.learner.batch_size),
        DRAWN: partial(_drawn, everything, settings.learner.batch_size, settings.seed),
    }
    rows = [
        Row(TREES, "nodes", steps.on(batches[TREES]), _ratios("", "goal >= 4")),
        Row(DRAWN, "nodes", steps.on(batches[DRAWN]), _ratios("_replay", "")),
    ]
    measured = []
    with bar(settings.repeats * 6, "bench train", "step") as progress, torch_threads(settings.threads):
        for row in rows:
            for take in row.systems.values():  # what is made once is made now
                take(-1)
            measured.append(measure(row, settings.repeats, progress.update))
        shares = [steps.shares(batches[TREES](repeat)) for repeat in range(settings.repeats)]
        figures = _figures(steps, batches, measured, settings.repeats)
    return Report(
        "train",
        described(spoken.model, settings.dtype),
        asdict(settings),
        measured,
        figures=figures | {"optimizer_share": median(share.optimizer for share in shares)},
        ratios={"outside_model_share": median(share.outside for share in shares)},
        notes=[f"{len(everything)} nodes of {len(trees)} trees"],
    )


class Steps:
    """The three learners."""

    def __init__(self, settings: TrainBench, spoken: Speaker) -> None:
        special, pad = spoken.codec.special, spoken.codec.special.end_of_thought

        def learner(packing: Any) -> Learner:
            chosen = replace(settings.learner, packing=packing, threads=settings.threads)
            return Learner(deepcopy(spoken.model), special, chosen, pad_id=pad)

        self.packed, self.padded, self.separate = learner("trie"), learner("padded"), learner("padded")
        self._optimizer = torch.optim.AdamW(
            self.separate.model.parameters(), lr=settings.learner.learning_rate
        )
        self._rating = [special.positive, special.negative]

    def on(self, batch: Callable[[int], list[Experience]]) -> dict[str, Callable[[int], Spent]]:
        """A step of each learner on the batch of a repeat; `units` are nodes."""

        def take(step: Callable[[list[Experience]], object], repeat: int) -> Spent:
            experiences = batch(repeat)

            def work() -> int:
                step(experiences)
                return len(experiences)

            return timed(work)

        systems = {PACKED: self.packed.step, PADDED: self.padded.step}
        ones = {name: partial(_step, step) for name, step in systems.items()}
        return {name: partial(take, step) for name, step in (ones | {SEPARATE: self._two_passes}).items()}

    def shares(self, experiences: list[Experience]) -> Shares:
        """Where a packed step spends its time."""
        return Shares.of(self.packed, lambda: _step(self.packed.step, experiences))

    def _two_passes(self, experiences: list[Experience]) -> None:
        """A policy pass and a value pass, then the learner's own update of the sum of gradients."""
        learner, s = self.separate, self.separate.settings
        self._optimizer.zero_grad(set_to_none=True)
        for _, batch in learner.batches(experiences):
            logits = logits_at(learner.model, batch, batch.predicted_by[batch.sampled]).float()
            temperature = batch.temperature[:, None].expand_as(batch.sampled)[batch.sampled]
            logp = (logits / temperature[:, None]).log_softmax(1)
            chosen = logp.gather(1, batch.targets[batch.sampled][:, None])[:, 0]
            logprobs = torch.zeros(batch.sampled.shape).masked_scatter(batch.sampled, chosen)
            policy = ppo_clip(logprobs, batch.old_logprobs, batch.advantage, batch.sampled, s.clip).loss
            (s.policy_weight * policy.sum() / len(experiences)).backward()
            rating = logits_at(learner.model, batch, batch.rated_by)[:, self._rating].float()
            value = value_cross_entropy(rating, batch.value_target)
            (s.value_weight * value.sum() / len(experiences)).backward()
        torch.nn.utils.clip_grad_norm_(learner.model.parameters(), s.max_grad_norm)
        self._optimizer.step()


def _step(step: Callable[..., object], experiences: list[Experience]) -> object:
    return step(experiences, np.ones(len(experiences)))


def _ratios(suffix: str, goal: str) -> tuple[Ratio, ...]:
    return (
        Ratio(f"packed_vs_unpacked{suffix}", PACKED, SEPARATE, goal),
        Ratio(f"packed_vs_one_pass{suffix}", PACKED, PADDED),
    )


def _neighbours(everything: Sequence[Experience], size: int, repeat: int) -> list[Experience]:
    """The nodes of the next whole trees and what of one more makes the batch full."""
    start = (repeat % max(1, len(everything) // size)) * size
    return list(everything[start : start + size])


def _drawn(everything: Sequence[Experience], size: int, seed: int, repeat: int) -> list[Experience]:
    return Random(f"{seed}/{repeat}").sample(everything, min(size, len(everything)))


def _figures(
    steps: Steps,
    batches: Mapping[str, Callable[[int], list[Experience]]],
    measured: Sequence[Measured],
    repeats: int,
) -> dict[str, float]:
    """Tokens that a packed pass computes, padding included, over those of all sequences; tokens a second."""
    found: dict[str, float] = {}
    for (name, batch), m in zip(batches.items(), measured, strict=True):
        ratios, rates = [], []
        for repeat in range(repeats):
            experiences = batch(repeat)
            tokens = sum(e.context.size + e.ids.size for e in experiences)
            computed = sum(b.input_ids.numel() for _, b in steps.packed.batches(experiences))
            ratios.append(computed / tokens)
            rates.append(tokens / m.spent[PACKED][repeat].wall_s)
        found[f"tree_token_ratio_{name}"] = median(ratios)
        found[f"tokens_per_s_{name}"] = median(rates)
    return found
