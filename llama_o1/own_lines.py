"""The second stage of a fine-tuning: lines that the model wrote itself, rated by what came of them.

A rating learned from worked solutions knows the mistakes that the solutions were given, not those the model
makes. Here the model answers problems, and each rating of a line is learned as the grade of its answer, a
Monte-Carlo target as AlphaMath's (arXiv:2405.03553, section 3.2) without the tree. What stands in the line
stays as it was written, ratings included, and nothing of it is imitated.

A finished block of problems is one line of a file, so that a kill costs one block.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from llama_o1 import assemble
from llama_o1.errors import ProblemError
from llama_o1.format.tokens import SpecialIds
from llama_o1.learn.model import Loaded
from llama_o1.learn.rows import Line, endless_steps
from llama_o1.lines import Material
from llama_o1.measure.evaluate import graded
from llama_o1.play.expand import Expander, trail_of
from llama_o1.play.methods import MethodSettings
from llama_o1.play.selfplay import search_all
from llama_o1.progress import bar
from llama_o1.run import append_metrics, whole_lines, write_whole
from llama_o1.sft_config import SftConfig
from llama_o1.sft_look import LONGEST_TREE, expander_of
from llama_o1.tasks.mixture import draw
from llama_o1.tasks.problem import Problem
from tree.actions import Transitions
from tree.node import Tree

BLOCK = 128  # problems that are written together


class OwnLines(NamedTuple):
    """Lines of a model, and what it took to write them."""

    lines: list[Line]
    num_right: int
    seconds: float


def own_lines(config: SftConfig, loaded: Loaded, file: Path) -> OwnLines:
    """The lines in the file, and those that it still lacks; ProblemError when no problem fits the model."""
    wanted = config.own_lines
    made = _whole_blocks(file)
    with assemble.around(loaded, threads=config.threads) as system:
        expander = expander_of(system, config, wanted, temperature=wanted.temperature)
        problems = (one for one in _problems(config) if expander.holds(one.question))
        progress = bar(wanted.count, "own lines", "problem")
        for first in range(0, wanted.count, BLOCK):
            block = list(islice(problems, min(BLOCK, wanted.count - first)))
            if first // BLOCK >= len(made):
                made.append(_block(config, system, expander, block, name=f"{first // BLOCK}"))
                append_metrics(file, **made[-1])
            progress.update(len(block))
        progress.close()
    written = [line for block in made for line in block["lines"]]
    return OwnLines(
        [_rated(ids, loaded.special, right=right) for ids, right, count in written for _ in range(count)],
        sum(count for _, right, count in written if right),
        sum(block["seconds"] for block in made),
    )


def with_own_lines(worked: Material, own: OwnLines, config: SftConfig) -> Material:
    """Steps on both: of every step's lines `own_lines.share` are the model's own, each in its turn."""
    wanted = config.own_lines
    rng = random.Random(f"own/{config.seed}")
    worked_lines = chain.from_iterable(worked.steps)

    def lines() -> Iterator[Line]:
        while True:
            for line in rng.sample(own.lines, len(own.lines)):
                while rng.random() >= wanted.share:
                    yield next(worked_lines)
                yield line

    words = (
        f"{worked.words}; then the ratings of {len(own.lines)} lines of its own, "
        f"{own.num_right / len(own.lines):.1%} right, on {', '.join(one.label for one in wanted.problems)}"
    )
    return Material(endless_steps(lines(), wanted.sft, config.seed), wanted.sft.steps, worked.held_out, words)


def check_problems(config: SftConfig) -> None:
    """ProblemError when a problem set of the second stage cannot be had, before the first begins."""
    next(_problems(config))


def _problems(config: SftConfig) -> Iterator[Problem]:
    return draw(config.own_lines.problems, "train", config.seed)


def _block(
    config: SftConfig, system: assemble.System, expander: Expander, problems: Sequence[Problem], *, name: str
) -> dict[str, Any]:
    """What was written on these problems: ids, whether they end right, and how often each line was drawn."""
    began = time.perf_counter()
    trees = search_all(
        system.engine,
        [(str(place), problem.question, graded(problem)) for place, problem in enumerate(problems)],
        expander,
        MethodSettings(
            method="majority",
            num_lines=config.own_lines.samples,
            budget_tokens=LONGEST_TREE * config.own_lines.samples,
            stop_decided=False,
        ),
        Transitions(),
        seed=f"own/{config.seed}/{name}",
        on_tree=lambda *_: None,
    )
    lines = list(chain.from_iterable(map(_ends, trees)))
    if not lines:
        raise ProblemError(f"none of {len(problems)} lines came to an end; raise own_lines.path_budget")
    return {"lines": lines, "seconds": round(time.perf_counter() - began, 3)}


def _ends(tree: Tree) -> Iterator[tuple[list[int], bool, int]]:
    for node in tree.nodes:
        if node.outcome is not None:
            yield list(trail_of(tree, node.index).context), node.outcome == 1.0, node.count


def _rated(ids: Sequence[int], special: SpecialIds, *, right: bool) -> Line:
    """A line of which only the ratings count, each as it should have been."""
    grade = special.positive if right else special.negative
    is_rating = [False, *(before == special.start_of_rating for before in ids[:-1])]
    return Line(
        ids,
        [float(rating) for rating in is_rating],
        [grade if rating else token for token, rating in zip(ids, is_rating, strict=True)],
    )


def _whole_blocks(file: Path) -> list[dict[str, Any]]:
    """The blocks that were finished; the rest of one that a kill has cut is dropped."""
    if not file.exists():
        return []
    whole = whole_lines(file)
    write_whole(file, "".join(line + "\n" for line in whole))
    return [json.loads(line) for line in whole]
