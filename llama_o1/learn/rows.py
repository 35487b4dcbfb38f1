"""Lines in rows: which lines share a step, and the passes of a step.

Without `sft.row_tokens` a row holds one line, and lines of like length share a pass, so little of it is
padding. With it a row holds several lines, one after the other, whose positions begin anew: transformers
makes of that a mask in which no line sees another. Padding is on the right, where a causal model never looks
from a real token.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import chain, count, islice
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
    positions: Tensor | None  # of each token in its line; None: rows hold one line each


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
    """The passes of one step's lines."""
    if settings.row_tokens is not None:
        rows = _packed(step, settings.row_tokens)
        return [_side_by_side(group, pad_id) for group in _cut(rows, settings.batch_tokens)]
    groups = _cut([[line] for line in step], settings.batch_tokens)
    return [_side_by_side(group, pad_id)._replace(positions=None) for group in groups]


def _of_pool(pool: list[Line], settings: ColdstartSettings, rng: random.Random) -> list[list[Line]]:
    if settings.batch_lines is not None:
        return [
            pool[first : first + settings.batch_lines] for first in range(0, len(pool), settings.batch_lines)
        ]
    if settings.row_tokens is not None:
        return _filled(rng.sample(pool, len(pool)), settings.batch_tokens)
    steps = [list(chain(*rows)) for rows in _cut([[line] for line in pool], settings.batch_tokens)]
    rng.shuffle(steps)
    return steps


def _length(line: Line) -> int:
    return len(line.ids)


def _tokens(row: Sequence[Line]) -> int:
    return sum(map(_length, row))


def _cut(rows: list[list[Line]], batch_tokens: int) -> list[list[list[Line]]]:
    """Rows from the shortest on in groups, side by side within batch_tokens; a wider one goes alone."""
    groups: list[list[list[Line]]] = [[]]
    for row in sorted(rows, key=_tokens):
        if groups[-1] and (len(groups[-1]) + 1) * _tokens(row) > batch_tokens:
            groups.append([])
        groups[-1].append(row)
    return groups


def _filled(lines: Sequence[Line], most: int) -> list[list[Line]]:
    """The lines in their order, in groups of at most so many tokens; a longer line goes alone."""
    groups: list[list[Line]] = [[]]
    for line in lines:
        if groups[-1] and _tokens([*groups[-1], line]) > most:
            groups.append([])
        groups[-1].append(line)
    return groups


def _packed(lines: Sequence[Line], row_tokens: int) -> list[list[Line]]:
    """Rows of at most so many tokens, by first fit from the longest line on; a longer line has its own."""
    rows: list[list[Line]] = []
    for line in sorted(lines, key=_length, reverse=True):
        fitting = (row for row in rows if _tokens(row) + _length(line) <= row_tokens)
        row = next(fitting, None)
        if row is None:
            rows.append(row := [])
        row.append(line)
    return rows


def _side_by_side(rows: Sequence[Sequence[Line]], pad_id: int) -> Pass:
    """Each row's lines one after the other; no loss on their first tokens, which nothing predicts."""
    widest = -(-max(map(_tokens, rows)) // ROUND) * ROUND
    ids = torch.full((len(rows), widest), pad_id)
    weights = torch.zeros((len(rows), widest))
    labels = ids.clone()
    positions = torch.arange(widest).repeat(len(rows), 1)
    for r, row in enumerate(rows):
        begin = 0
        for line in row:
            here = slice(begin, begin + _length(line))
            ids[r, here] = torch.tensor(line.ids)
            weights[r, here] = torch.tensor(line.weights)
            weights[r, begin] = 0
            labels[r, here] = ids[r, here] if line.labels is None else torch.tensor(line.labels)
            begin = here.stop
            positions[r, begin:] = torch.arange(widest - begin)
    return Pass(ids, weights, labels, positions)
