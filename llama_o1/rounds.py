"""Self-training in rounds: what a run keeps of its searches as paths, and what it learns from them.

AlphaMath (Chen et al. 2024): search, keep at most so many right and wrong paths of each problem, fine-tune
policy and value on them, search again. Unlike there a round goes on from the weights and the optimizer of the
one before, makes a given number of steps instead of epochs, and draws problems that no round before it had.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import numpy as np

from llama_o1.crew import Crew
from llama_o1.faults import reach
from llama_o1.format.path_line import PathLine
from llama_o1.learn.batch_file import encode
from llama_o1.learn.paths import path_batches, steps_of
from llama_o1.learn.settings import PathSettings
from llama_o1.learn.trainer import Learner
from llama_o1.measure.cells import Table, aligned
from llama_o1.play.path_lines import chosen_lines
from llama_o1.progress import bar
from llama_o1.run import write_lines
from llama_o1.tasks.problem import Problem
from tree.node import Tree


def keep_paths(
    file: Path, problems: Sequence[Problem], trees: Sequence[Tree], settings: PathSettings, seed: str
) -> list[PathLine]:
    """The lines of a round, written to `file`; `settings.trees` trees of one problem stand together."""
    lines = []
    for start in range(0, len(trees), settings.trees):
        alike = slice(start, start + settings.trees)
        lines += chosen_lines(
            problems[start].id, trees[alike], settings.right, settings.wrong, Random(f"{seed}/{start}")
        )
    file.parent.mkdir(exist_ok=True)
    write_lines(file, (json.dumps(line.row()) + "\n" for line in lines))
    return lines


def learn_paths(
    learner: Learner,
    lines: Sequence[PathLine],
    *,
    steps: int,
    size: int,
    rng: np.random.Generator,
    iteration: int,
    crew: Crew,
    on_step: Callable[[dict[str, float]], None],
) -> dict[str, float]:
    """Make the steps, each on `size` of the lines, and return the means of the learner's metrics.

    `on_step` gets each step's. Lets NotFiniteError through.
    """
    thoughts = [steps_of(line, f"{iteration:06d}/{i:04d}") for i, line in enumerate(lines)]
    shown = bar(steps, f"fine-tune {iteration}", "step", position=1)
    metrics: list[dict[str, float]] = []
    for _, drawn in zip(range(steps), path_batches(len(lines), size, rng), strict=False):
        batch = [thought for i in drawn for thought in thoughts[i]]
        weights = np.ones(len(batch))
        reach("learner: before step")
        if not crew.is_alone:
            crew.tell("step", encode(batch, weights))
        result = learner.step(batch, weights)
        reach("learner: stepped")
        metrics.append(result.metrics)
        on_step(result.metrics)
        shown.set_postfix(
            {key: f"{result.metrics[key]:.3f}" for key in ("policy_loss", "value_loss")}, refresh=False
        )
        shown.update()
    shown.close()
    return {key: float(np.mean([m[key] for m in metrics])) for key in metrics[0]}


def path_figures(lines: Sequence[PathLine]) -> dict[str, float]:
    """How many paths were kept and of how many problems, as flat numbers."""
    right = [line.problem for line in lines if line.right]
    return {
        "right_paths": len(right),
        "wrong_paths": len(lines) - len(right),
        "problems_with_right_paths": len(set(right)),
        "problems_with_paths": len({line.problem for line in lines}),
    }


def rounds_table(metrics: Path) -> str:
    """Each round of a run in a line: problems that its searches solved, paths kept, losses they left."""
    rows: Table = [("round", "trees solved", "right paths", "wrong paths", "policy loss", "value loss")]
    found: dict[int, dict[str, float]] = {}
    for line in metrics.read_text(encoding="utf-8").splitlines():
        numbers = json.loads(line)
        if numbers["phase"] in ("play", "paths", "learn"):
            found.setdefault(numbers["step"], {}).update(numbers)
    for step, numbers in sorted(found.items()):
        losses = [
            f"{numbers[name]:.3f}" if name in numbers else "-" for name in ("policy_loss", "value_loss")
        ]
        counts = [f"{numbers.get(name, 0):.0f}" for name in ("right_paths", "wrong_paths")]
        rows.append((str(step), f"{100 * numbers['solved']:.1f} %", *counts, *losses))
    return aligned(rows, left=range(len(rows[0])))
