"""Graded paths as what a learner's step takes: one experience a thought. Knows no trees."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from llama_o1.format.path_line import IGNORE, PathLine
from replay.experience import Experience


def steps_of(line: PathLine, name: str) -> list[Experience]:
    """The thoughts of a line: what has a label counts as sampled, the value at its end is its target.

    They tell a learner whose objective is `paths` all that the line says; as parts of one sequence they are
    computed in one pass, and so is what lines of one problem share. `name` stands for a tree's in messages.
    """
    ends = np.flatnonzero(line.step_values != IGNORE) + 1
    starts = [1, *ends[:-1]]  # the question belongs to the first thought, where it has no label
    return [
        Experience(
            context=line.ids[:start],
            ids=line.ids[start:end],
            sampled=line.labels[start:end] != IGNORE,
            logprobs=np.zeros(end - start, np.float32),
            temperature=1.0,
            advantage=0.0,
            value=0.5,
            value_target=(float(line.step_values[end - 1]) + 1) / 2,
            outcome=float(line.right) if end == ends[-1] else None,
            version=0,
            action="",
            problem=line.problem,
            tree=name,
            node=number,
            parent=number - 1,
        )
        for number, (start, end) in enumerate(zip(starts, ends, strict=True), start=1)
    ]


def path_batches(lines: int, size: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """Numbers of `size` lines at a time, all lines again and again, each time in another order; without end.

    Fewer where there are not so many.
    """
    left: list[int] = []
    size = min(size, lines)
    while True:
        while len(left) < size:
            left += rng.permutation(lines).tolist()
        yield left[:size]
        left = left[size:]
