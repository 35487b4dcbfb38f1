"""Lines to learn from: worked problems, told as thoughts or as plain text, as token ids."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial

from llama_o1.errors import ConfigError
from llama_o1.format.budget import BudgetPlan
from llama_o1.format.encode import Codec
from llama_o1.format.line import template_texts
from llama_o1.learn.model import Loaded
from llama_o1.play.line_script import LineScripts
from llama_o1.play.program import Calculator
from llama_o1.play.script import Script, fitting, script
from llama_o1.sft_config import SftConfig
from llama_o1.tasks.mixture import draw
from llama_o1.tasks.problem import Problem
from llama_o1.tasks.problems import STORED
from llama_o1.tasks.tellings import telling
from llama_o1.tasks.traces import KIND_WEIGHTS, Traced, TraceKind, rated_at_random, trace
from llama_o1.tasks.vary import vary

Line = tuple[list[int], list[float]]  # token ids, and how much each counts in the loss

MOST_LEFT_OUT = 1000  # lines in a row that their budgets do not hold
# Plain text has no rating, and a line that ends in a wrong answer teaches nothing else.
TOLD_AS_TEXT: dict[TraceKind, int] = {kind: weight for kind, weight in KIND_WEIGHTS.items() if kind != "lost"}

Write = Callable[[list[Traced], BudgetPlan], Script]


def written_lines(config: SftConfig, loaded: Loaded) -> Iterator[Line]:
    """Ids of written lines of thought and how much each counts, without end; the same for the same seed."""
    marks, weight = frozenset(loaded.special.remaining), config.sft.special_token_weight
    for ids, learn, _, given in _scripts(config, loaded):
        weights = [weight if i in marks else float(wanted) for i, wanted in zip(ids, learn, strict=True)]
        yield ids, [0.0] * given + weights[given:]  # a prompt in words names the control tokens


def texts_of(problem: Problem, config: SftConfig) -> Iterator[str]:
    """The texts of all thoughts a problem's traces can hold, and of plain text what stands around them."""
    rng = random.Random(problem.id)
    if config.telling == "paces":
        yield from (traced.thought.text for _ in range(2) for traced in telling(problem, rng))
    for kind in ("divided", "repaired"):
        yield from (traced.thought.text for traced in trace(problem, rng, kind))
    if config.form == "line":
        yield from template_texts(config.line, config.marks)


def _scripts(config: SftConfig, loaded: Loaded) -> Iterator[Script]:
    codec = Codec(loaded.tokenizer, loaded.special)
    remaining = loaded.special.remaining if config.show_budget else ()
    plans = [BudgetPlan(budget, remaining, config.marks) for budget in config.budgets]
    write = _writer(config, codec)
    rng = random.Random(f"lines/{config.seed}")
    left_out = 0
    for problem in draw(config.problems, "train", config.seed, worked=True):
        line = _told(problem, config, rng)
        if config.budget_step is not None:
            yield fitting(partial(write, line), config.budget_step, remaining, config.marks)
            continue
        plan = rng.choice(plans)
        written = write(line, plan)
        if config.form == "thoughts" or written.thinking <= plan.total:
            left_out = 0
            yield written
            continue
        left_out += 1
        if left_out == MOST_LEFT_OUT:
            raise ConfigError(
                f"budgets are {', '.join(map(str, config.budgets))}, the last {left_out} lines take more; "
                "raise them or give each line its own by budget_step"
            )


def _told(problem: Problem, config: SftConfig, rng: random.Random) -> list[Traced]:
    """A trace of the problem or of a variation, as the configuration wants it."""
    if problem.source in STORED and rng.random() < config.vary:
        problem = vary(problem, rng) or problem
    if config.telling == "paces":
        return telling(problem, rng)
    if config.form == "line":
        return trace(problem, rng, rng.choices(list(TOLD_AS_TEXT), list(TOLD_AS_TEXT.values()))[0])
    line = trace(problem, rng)
    return rated_at_random(line, rng) if rng.random() < config.unsure else line


def _writer(config: SftConfig, codec: Codec) -> Write:
    wanted = config.form == "thoughts" if config.calculator is None else config.calculator
    calculator = Calculator(codec) if wanted else None
    if config.form == "line":
        return LineScripts(codec, config.line, calculator)
    return lambda line, plan: script(line, codec, plan, calculator)
