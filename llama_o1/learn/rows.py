"""Lines in padded rows: which lines share a step, and the passes of a step.

Rows are padded, not packed: lines of like length share a pass, so little of it is padding, and no line can
see another. Padding is on the right, where a causal model never looks from a real token.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import NamedTuple

import torch
from torch import Tensor

from llama_o1.learn.settings import ColdstartSettings


class Line(NamedTuple):
    """What is learned of one text."""

    ids: Sequence[int]  # what the model reads
    weights: Sequence[float]  # how much each token counts in the loss
    labels: Sequence[int] | None = None  # what should have stood in its place; None: the ids themselves


class Pass(NamedTuple):
    """Lines side by side, [batch, seq] each."""

    ids: Tensor
    weights: Tensor
    labels: Tensor


ROUND = 32  # lengths are padded to multiples, so that memory is used again from step to step
POOL = 512  # lines sorted by length together, so that padding stays small


def endless_steps(lines: Iterator[Line], settings: ColdstartSettings, seed: int) -> Iterator[list[Line]]:
    """The lines of each step, in a seeded order, as long as there are lines."""
    rng = random.Random(seed)
    while pool := list(islice(lines, POOL)):
        yield from _of_pool(pool, settings, rng)


def epoch_steps(lines: Sequence[Line], settings: ColdstartSettings, seed: int) -> Iterator[list[Line]]:
    """The lines of each step, each line once an epoch, in a new order every time; without epochs endless."""
    for epoch in count() if settings.epochs is None else range(settings.epochs):
        rng = random.Random(f"{seed}/{epoch}")
        order = rng.sample(lines, len(lines))
        for first in range(0, len(order), POOL):
            yield from _of_pool(order[first : first + POOL], settings, rng)


def passes(step: Sequence[Line], settings: ColdstartSettings, pad_id: int) -> list[Pass]:
    """The padded passes of one step's lines."""
    groups = [list(step)]
    if settings.batch_lines is not None:
        groups = _cut(sorted(step, key=_length), settings.batch_tokens)
    return [_padded(group, pad_id) for group in groups]


def _of_pool(pool: list[Line], settings: ColdstartSettings, rng: random.Random) -> list[list[Line]]:
    if settings.batch_lines is None:
        steps = _cut(sorted(pool, key=_length), settings.batch_tokens)
        rng.shuffle(steps)
        return steps
    return [pool[first : first + settings.batch_lines] for first in range(0, len(pool), settings.batch_lines)]


def _length(line: Line) -> int:
    return len(line.ids)


def _cut(lines: list[Line], batch_tokens: int) -> list[list[Line]]:
    """Lines sorted by length in groups, each no wider than batch_tokens; a longer line goes alone."""
    groups: list[list[Line]] = [[]]
    for line in lines:
        if groups[-1] and (len(groups[-1]) + 1) * _length(line) > batch_tokens:
            groups.append([])
        groups[-1].append(line)
    return groups


def _padded(group: Sequence[Line], pad_id: int) -> Pass:
    longest = -(-max(map(_length, group)) // ROUND) * ROUND
    ids = torch.full((len(group), longest), pad_id)
    weights = torch.zeros((len(group), longest))
    labels = ids.clone()
    for row, line in enumerate(group):
        there = slice(0, len(line.ids))
        ids[row, there] = torch.tensor(line.ids)
        weights[row, there] = torch.tensor(line.weights)
        labels[row, there] = ids[row, there] if line.labels is None else torch.tensor(line.labels)
    return Pass(ids, weights, labels)
