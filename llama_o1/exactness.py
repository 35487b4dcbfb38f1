"""`llama-o1 verify` on one page: nodes searched with the user's own model, what two ways make of each.

Tries against padded rows in the learner, and what the engine recorded against what the learner says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch

from llama_o1 import assemble
from llama_o1.config import RunConfig
from llama_o1.errors import ConfigError, ProblemError
from llama_o1.learn.batches import why_no_tries
from llama_o1.learn.compare import LIMITS, compare_packing
from llama_o1.learn.trainer import Learner
from llama_o1.measure.evaluate import graded
from llama_o1.play.collect import collect
from llama_o1.play.selfplay import search_all
from llama_o1.tasks.mixture import draw
from replay.experience import Experience
from tree.actions import Transitions

# Nats, and the same of values: another order of sums in float32; another engine or type may be off by bf16.
ENGINE_LIMIT, OTHER_ENGINE_LIMIT = 1e-4, assemble.SAME_LOGPROB
_AT_ONCE = 8  # problems searched together until there are nodes enough


def verify(config: RunConfig, *, nodes: int, steps: int) -> Iterator[dict[str, Any]]:
    """One case after the other as flat objects with `case`, `verdict` (pass or fail), differences and limits.

    At least `nodes` thoughts are searched, whole trees of them, and `steps` optimizer steps compared.
    """
    for name, count in (("nodes", nodes), ("steps", steps)):
        if count < 1:
            raise ConfigError(f"--{name} must be at least 1, got {count}")
    with assemble.assemble(
        config.model,
        config.engine,
        seed=config.seed,
        temperature=config.thoughts.temperature,
        new_value_head=True,
    ) as system:
        assemble.publish(system, 0)
        experiences = _searched(config, system, nodes)
        yield _engine_case(config, system, experiences)
        yield from _packing_cases(config, system, experiences, steps)


def maxima(cases: Sequence[dict[str, Any]]) -> str:
    """The closing line: the largest of every difference, and whether all cases passed."""
    largest: dict[str, float] = {}
    for case in cases:
        for name, value in case["differences"].items():
            name = f"engine {name}" if case["case"] == "engine" else name
            largest[name] = max(value, largest.get(name, 0.0))
    verdict = "pass" if all(case["verdict"] == "pass" for case in cases) else "fail"
    verdict += "" if all(case.get("tries", True) for case in cases) else " (without tries)"
    return f"maxima: {', '.join(f'{name} {value:.2e}' for name, value in largest.items())}: {verdict}"


def _searched(config: RunConfig, system: assemble.System, nodes: int) -> list[Experience]:
    """Experiences of self-play searches on training problems."""
    expander = assemble.expander(system, config.thoughts)
    problems = (
        problem
        for problem in draw(config.problems, "train", config.seed, config.columns, config.skip_bad_lines)
        if expander.holds(problem.question)
    )
    found: list[Experience] = []
    rounds = 0
    while len(found) < nodes:
        some = list(islice(problems, _AT_ONCE))
        if not some:
            break
        rounds += 1
        trees = search_all(
            system.engine,
            [(str(i), problem.question, graded(problem)) for i, problem in enumerate(some)],
            expander,
            config.search,
            Transitions(),
            seed=f"verify/{config.seed}/{rounds}",
            on_tree=lambda index, tree: None,
        )
        teach = config.teach
        for i, (problem, tree) in enumerate(zip(some, trees, strict=True)):
            found += collect(
                tree,
                problem=problem.id,
                name=f"{rounds}/{i}",
                mode=teach.advantage,
                mix=teach.mix,
                discount=teach.discount,
                trace=teach.trace,
                by_deviation=teach.by_deviation,
            )
    if not found:
        raise ProblemError("the problems gave no node to verify with; name others with --problems")
    return found


def _engine_case(
    config: RunConfig, system: assemble.System, experiences: Sequence[Experience]
) -> dict[str, Any]:
    """What the engine recorded against what the learner makes of the same tokens."""
    loaded = system.loaded
    learner = Learner(
        loaded.model, loaded.special, config.learner, pad_id=loaded.pad_id, value_head=loaded.value_head
    )
    pairs = zip(learner.logprobs(experiences), experiences, strict=True)
    logprobs = [np.abs(found - e.logprobs)[e.sampled] for found, e in pairs]
    values = np.abs(learner.values(experiences) - [e.value for e in experiences])
    exact = config.engine.name == "local" and config.engine.dtype != "bfloat16"
    exact = exact and config.learner.mixed_precision == "no" and loaded.model.dtype == torch.float32
    limit = ENGINE_LIMIT if exact else OTHER_ENGINE_LIMIT
    return _case(
        "engine",
        {"logprobs": float(np.concatenate(logprobs).max(initial=0.0)), "values": float(values.max())},
        limit,
        what=f"log-probs (nats) and values recorded by the {config.engine.name} engine vs the learner's",
        nodes=len(experiences),
        tokens=sum(map(len, logprobs)),
    )


def _packing_cases(
    config: RunConfig, system: assemble.System, experiences: Sequence[Experience], steps: int
) -> Iterator[dict[str, Any]]:
    """Tries against padded rows, at the first and at the last step; nothing where there are only rows."""
    loaded = system.loaded
    dtype = torch.bfloat16 if config.learner.mixed_precision == "bf16" else loaded.model.dtype
    same = {"dtype": str(dtype).removeprefix("torch."), "nodes": len(experiences)}
    reason = why_no_tries(loaded.model, loaded.pad_id)
    if reason is not None:
        what = f"this model cannot take tries ({reason}) and learns from padded rows: nothing to compare"
        yield _case("packing", {}, LIMITS[dtype], what=what, tries=False, **same)
        return
    for found in compare_packing(
        loaded.model,
        loaded.special,
        config.learner,
        experiences,
        pad_id=loaded.pad_id,
        steps=steps,
        value_head=loaded.value_head,
    ):
        differences = found._asdict()
        step = differences.pop("step")
        what = "tries vs padded rows, over the largest entry"
        yield _case("packing", differences, LIMITS[dtype], what=what, step=step, tries=True, **same)


def _case(case: str, differences: dict[str, float], limit: float, **more: Any) -> dict[str, Any]:
    """A difference that is no number fails like one that is too large."""
    passed = all(value <= limit for value in differences.values())
    verdict = "pass" if passed else "fail"
    return {"case": case, "verdict": verdict, "differences": differences, "limit": limit} | more
