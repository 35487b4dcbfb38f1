"""How far a fine-tuning is: greedy answers to held-out problems and the loss of held-out lines.

Changes nothing of what is learned: the engine shares the weights and draws by seeds of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from llama_o1 import assemble
from llama_o1.errors import ProblemError
from llama_o1.learn.coldstart import Tuner
from llama_o1.learn.model import Loaded
from llama_o1.learn.rows import Line
from llama_o1.measure.evaluate import evaluate
from llama_o1.play.expand import Expander, ThoughtSettings
from llama_o1.play.methods import MethodSettings
from llama_o1.progress import bar
from llama_o1.sft_config import Lengths, SftConfig
from llama_o1.tasks.mixture import select
from llama_o1.tasks.problem import Problem
from tree.actions import Transitions

log = logging.getLogger(__name__)

Found = list[dict[str, Any]]  # metrics objects: of each set, and of the held-out lines


class Look:
    """Looks at a model that is being fine-tuned."""

    def __init__(self, config: SftConfig, loaded: Loaded, held_out: Sequence[Line]) -> None:
        """ProblemError when a held-out set cannot be read."""
        self._config = config
        self._held_out = held_out
        self._system = assemble.around(loaded, threads=config.threads) if config.evaluation.problems else None
        self._sets = {split: self._fitting(split) for split in self._splits()}

    def __call__(self, tuner: Tuner, *, last: bool = False) -> Found:
        """What is found on dev, or after the last step on the split that is reported too; may be empty."""
        found: Found = []
        if self._held_out:
            found.append(
                {"phase": "held_out", "loss": tuner.loss(self._held_out), "lines": len(self._held_out)}
            )
        if self._system is not None:
            self._system.engine.load(None, tuner.num_steps)
            for split in self._splits() if last else ("dev",):
                found += self._answers(self._system, split)
        if found:
            log.info("step %d: %s", tuner.num_steps, "; ".join(map(_shown, found)))
        return found

    def _splits(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(("dev", self._config.evaluation.split)))

    def _answers(self, system: assemble.System, split: str) -> Found:
        config, sets = self._config, self._sets[split]
        is_line = config.form == "line"
        progress = bar(sum(map(len, sets.values())), f"evaluate {split}", "problem", position=1)
        on_tree: Callable[..., None] = lambda *_: progress.update()  # noqa: E731
        method = MethodSettings(method="line" if is_line else "greedy", budget_tokens=LONGEST_TREE)
        scores = evaluate(
            system.engine,
            sets,
            self._expander(system),
            method,
            Transitions(),
            weighting=method.weighting,
            seed=config.seed,
            on_tree=on_tree,
        )
        progress.close()
        return [
            {
                "phase": "evaluate", "split": split, "set": name, "accuracy": score.accuracy.mean,
                "low": score.accuracy.low, "high": score.accuracy.high, "problems": len(score.correct),
            }
            for name, score in scores.items()
        ]  # fmt: skip

    def _expander(self, system: assemble.System) -> Expander:
        return expander_of(system, self._config, self._config.evaluation, temperature=0.0)

    def _fitting(self, split: str) -> dict[str, list[Problem]]:
        """The problems of each set that the model's context holds."""
        if self._system is None:
            return {}
        expander, sets = self._expander(self._system), {}
        for wanted in self._config.evaluation.problems:
            problems = select(wanted, split)
            sets[wanted.label] = [one for one in problems if expander.holds(one.question)]
            if not sets[wanted.label]:
                raise ProblemError(f"no {split} problem of {wanted.label} fits the model's context")
            if len(sets[wanted.label]) < len(problems):
                log.warning("%s: %d of %d problems fit", wanted.label, len(sets[wanted.label]), len(problems))
        return sets

    def close(self) -> None:
        """Free the engine."""
        if self._system is not None:
            self._system.__exit__()


LONGEST_TREE = 4096  # tokens of one greedy line, headers and all; its thinking is held to path_budget


def expander_of(
    system: assemble.System, config: SftConfig, lengths: Lengths, *, temperature: float
) -> Expander:
    """Who writes as the model is taught to."""
    thoughts = ThoughtSettings(
        path_budget=lengths.path_budget,
        max_text=lengths.max_text,
        max_answer=lengths.max_answer,
        temperature=temperature,
        calculator=config.calculates,
        show_budget=config.show_budget,
        show_ratings=config.show_ratings,
        marks=config.marks,
        line=config.line,
    )
    return assemble.expander(system, thoughts)


def accuracy_of(found: Found) -> float | None:
    """Share of all dev problems that were answered right; None when none were asked."""
    asked = [one for one in found if one["phase"] == "evaluate" and one["split"] == "dev"]
    count = sum(one["problems"] for one in asked)
    return sum(one["accuracy"] * one["problems"] for one in asked) / count if count else None


def _shown(one: dict[str, Any]) -> str:
    if one["phase"] == "held_out":
        return f"held-out loss {one['loss']:.3f}"
    return f"{one['split']} {one['set']} {100 * one['accuracy']:.1f} % right"
