"""What a run's model gets right on held-out problems, before, during and after."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from llama_o1 import assemble
from llama_o1.config import RunConfig
from llama_o1.measure.evaluate import Score, evaluate
from llama_o1.measure.summary import Looked
from llama_o1.measure.values import set_figures, value_figures
from llama_o1.play.methods import MethodSettings
from llama_o1.progress import Rates, bar
from llama_o1.state import Progress
from llama_o1.tasks.mixture import select
from llama_o1.tasks.problem import Problem
from tree.node import Tree

log = logging.getLogger(__name__)

HeldOut = Mapping[str, Sequence[Problem]]  # by set


def held_out(config: RunConfig) -> dict[str, list[Problem]]:
    """The held-out problems of each set, at most its limit."""
    look = config.evaluation
    return {
        wanted.label: select(wanted, look.split, config.columns, config.skip_bad_lines)
        for wanted in look.problems
    }


def examine(
    system: assemble.System,
    config: RunConfig,
    sets: HeldOut,
    progress: Progress,
    when: str,
    write: Callable[..., None],
    *,
    with_search: bool,
) -> None:
    """Score greedy lines on all problems and, `with_search`, the run's search on some of them.

    Scores go into the progress's history, figures to `write`, which takes them by name.
    """
    if config.search.method == "line":
        greedy = replace(config.search, num_lines=1)
    else:
        greedy = replace(config.search, method="greedy", actions="model")
    looks = [("greedy", sets, greedy, 0.0)]
    limit = config.evaluation.search
    if with_search and limit:
        fewer = {name: held[:limit] for name, held in sets.items()}
        looks.append(("search", fewer, config.search, config.thoughts.temperature))
    for name, held, settings, temperature in looks:
        rates = Rates(system.engine)
        scores = _scores(system, config, held, progress, settings, temperature, rates, name)
        numbers, line = rates.numbers, rates.line
        for set_name, score in scores.items():
            looked = Looked(when, progress.iteration, name, set_name, score.correct, score.tokens)
            progress.history.looks.append(looked)
            accuracy = score.accuracy
            write(
                version=progress.iteration, phase="evaluate", method=name, set=set_name,
                accuracy=accuracy.mean, low=accuracy.low, high=accuracy.high,
                problems=len(score.correct), tokens=score.tokens, nodes=score.nodes,
                **set_figures(score.rated),
            )  # fmt: skip
        believed = value_figures([score.rated for score in scores.values()], config.seed)
        write(version=progress.iteration, phase="evaluate_values", method=name, **believed)
        write(version=progress.iteration, phase="evaluate_engine", method=name, **numbers)
        shown = ", ".join(f"{set_name} {100 * s.accuracy.mean:.1f} %" for set_name, s in scores.items())
        log.info("held-out accuracy %s training, %s: %s (%s)", when, name, shown, line)


def _scores(
    system: assemble.System,
    config: RunConfig,
    sets: HeldOut,
    progress: Progress,
    settings: MethodSettings,
    temperature: float,
    rates: Rates,
    name: str,
) -> dict[str, Score]:
    trees = bar(sum(map(len, sets.values())), f"evaluate {name}", "problem", position=1)

    def on_tree(_: int, tree: Tree) -> None:
        rates.add(tree)
        trees.set_postfix(rates.shown, refresh=False)
        trees.update()

    scores = evaluate(
        system.engine,
        sets,
        assemble.expander(system, replace(config.thoughts, temperature=temperature)),
        settings,
        progress.transitions,
        weighting=settings.weighting,
        seed=config.seed,
        on_tree=on_tree,
    )
    trees.close()
    return scores
