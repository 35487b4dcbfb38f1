"""`bench search`: what a tree search makes of its engine, and what a plain batch-1 loop makes.

`vs_engine_rate` compares a search with its own requests. They are recorded while the search runs, then
submitted all at once to the same engine, its cache empty as before: same contexts, programs, seeds and
allowances, hence the same tokens (float32), and the same slots. The replay never waits for a reply, knows
its queue to the end and builds no tree, writes no prompt, reads no text: the rate of tokens it makes per
CPU second is what the engine can do with this work. A search finds nearly every context in the prefix
cache; submitted all at once a child may come before its parent was written, so the contexts are put into
the replay's cache before the clock starts. They go on with the headers of the thoughts above, which the
search had to compute, so the replay may not take those from its cache. The few that the search finds there,
of siblings, do not count as made. What the search loses is its own CPU time, contexts that it computes, and
slots that stood empty while the last trees ended. One search goes before, uncounted, so that memory was
written once.

`nodes_vs_batch1` compares nodes per CPU second with loop.py, which grows the first of the same problems
under the same settings. `overhead_us` is a simulation's own time in tree/, without a model.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import asdict
from statistics import median
from typing import Any

from llama_o1.bench.loop import PlainLoop
from llama_o1.bench.measure import Measured, Ratio, Row, Spent, measure, timed
from llama_o1.bench.model import Speaker, described, speaker
from llama_o1.bench.overhead import overhead_us
from llama_o1.bench.report import Report
from llama_o1.bench.settings import SearchBench
from llama_o1.engine.local import LocalEngine
from llama_o1.engine.protocol import Engine, EngineFigures, Reply, Request
from llama_o1.measure.evaluate import ungraded
from llama_o1.play.expand import Expander
from llama_o1.play.methods import action_draw, start
from llama_o1.play.selfplay import derived, search_all
from llama_o1.progress import bar
from llama_o1.tasks.generator import generate
from llama_o1.tasks.problem import Problem
from tree.actions import Transitions
from tree.node import Tree

SEARCH, REPLAY, LOOP = "search", "replay", "batch-1 loop"


def run(settings: SearchBench) -> Report:
    """Measure search, replay and loop in turn, then the tree alone."""
    runs = Runs(settings)
    systems = {SEARCH: runs.search, REPLAY: runs.replay, LOOP: runs.loop}
    tokens = Row("tokens", "tokens", systems, (Ratio("vs_engine_rate", SEARCH, REPLAY, "goal >= 0.9"),))
    with bar(settings.repeats * len(systems), "bench search", "run") as progress:
        runs.warm_up()
        measured = measure(tokens, settings.repeats, progress.update)
    overhead = median(overhead_us(settings.search.tree, settings.seed + i) for i in range(settings.repeats))
    return Report(
        "search",
        described(runs.speaker.model, settings.dtype),
        asdict(settings),
        [measured, _nodes(measured, runs)],
        figures=_figures(measured, runs, overhead),
        ratios={"overhead_us": overhead},
    )


class Recorder:
    """An engine that keeps what was asked of it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.requests: list[Request] = []

    @property
    def max_context(self) -> int:
        """As the engine."""
        return self._engine.max_context

    @property
    def slots(self) -> int:
        """As the engine."""
        return self._engine.slots

    def submit(self, key: Hashable, request: Request) -> None:
        """Keep it and hand it on."""
        self.requests.append(request)
        self._engine.submit(key, request)

    def poll(self) -> list[tuple[Hashable, Reply]]:
        """As the engine."""
        return self._engine.poll()

    def cancel(self, key: Hashable) -> None:
        """As the engine."""
        self._engine.cancel(key)

    def load(self, weights: object, version: int) -> None:
        """As the engine."""
        self._engine.load(weights, version)

    def figures(self) -> EngineFigures:
        """As the engine."""
        return self._engine.figures()

    def close(self) -> None:
        """As the engine."""
        self._engine.close()


class Runs:
    """The three systems, and what the last repeats left behind."""

    def __init__(self, settings: SearchBench) -> None:
        self._settings = settings
        texts = [problem.question for problem in self._problems(0)]
        self.speaker: Speaker = speaker(settings.model, settings.dtype, texts)
        self._engine = LocalEngine(
            self.speaker.model,
            slots=settings.slots,
            cache_bytes=settings.cache_mb << 20,
            threads=settings.threads,
        )
        self._requests: list[Request] = []  # of the last search
        self.trees: list[list[Tree]] = []  # of each search
        self.loop_trees: list[list[Tree]] = []
        self.figures: list[EngineFigures] = []  # of each search
        self.replayed: list[EngineFigures] = []

    def warm_up(self) -> None:
        """What is made once is made now, and memory is written for the first time."""
        self.search(-1)
        self.trees.clear()
        self.figures.clear()

    def search(self, repeat: int) -> Spent:
        """A search of all problems, the cache empty; `units` are tokens that it made, sampled and forced."""
        engine = Recorder(self._engine)
        engine.load(None, 0)
        before = engine.figures()
        expander, problems = self._expander(engine.max_context), self._problems(repeat)
        found: list[Tree] = []

        def work() -> int:
            found[:] = search_all(
                engine,
                [(str(i), problem.question, ungraded(problem)) for i, problem in enumerate(problems)],
                expander,
                self._settings.search,
                Transitions(),
                seed=self._seed(repeat),
                on_tree=lambda index, tree: None,
            )
            return _made(engine.figures().since(before))

        spent = timed(work)
        self._requests = engine.requests
        self.trees.append(found)
        self.figures.append(engine.figures().since(before))
        return spent

    def replay(self, repeat: int) -> Spent:
        """The requests of the last search, all at once."""
        engine, requests = self._engine, self._requests
        engine.load(None, 0)
        self._submit_all(engine, _longest_contexts(requests))
        before = engine.figures()
        engine.reuse_forced(False)
        spent = timed(lambda: _made(self._submit_all(engine, requests).since(before)))
        engine.reuse_forced(True)
        self.replayed.append(engine.figures().since(before))
        return spent

    def loop(self, repeat: int) -> Spent:
        """The first of the problems by the batch-1 loop."""
        settings = self._settings
        expander = self._expander(self._engine.max_context)
        loop = PlainLoop(self.speaker.model, expander, threads=settings.threads)
        found: list[Tree] = []

        def work() -> int:
            limits = expander.limits(settings.search.budget_tokens)
            for i, problem in enumerate(self._problems(repeat)[: settings.loop_trees]):
                tree = expander.tree(problem.question, derived(f"{self._seed(repeat)}/{i}"))
                draw = action_draw(settings.search, Transitions())
                loop.grow(tree, start(tree, settings.search, limits, draw), ungraded(problem))
                found.append(tree)
            return sum(tree.tokens_used for tree in found)

        spent = timed(work)
        self.loop_trees.append(found)
        return spent

    def _expander(self, max_context: int) -> Expander:
        return Expander(self.speaker.codec, self._settings.thoughts, max_context)

    def _problems(self, repeat: int) -> list[Problem]:
        return generate("word", "train", self._settings.trees, self._settings.seed + repeat, 1, 3)

    def _seed(self, repeat: int) -> str:
        return f"bench/{self._settings.seed}/{repeat}"

    def _submit_all(self, engine: Engine, requests: list[Request]) -> EngineFigures:
        for key, request in enumerate(requests):
            engine.submit(key, request)
        left = len(requests)
        while left:
            left -= len(engine.poll())
        return engine.figures()


def _made(figures: EngineFigures) -> int:
    """Tokens of samples that were computed."""
    return figures.tokens - figures.found_tokens


def _longest_contexts(requests: list[Request]) -> list[Request]:
    """Requests that only compute a context: all that no other one begins with."""
    contexts = sorted({request.context for request in requests})
    ends = [
        context
        for context, following in zip(contexts, [*contexts[1:], ()], strict=True)
        if following[: len(context)] != context
    ]
    return [Request(context, 0, seed=0, rating=(0, 1)) for context in ends]


def _nodes(measured: Measured, runs: Runs) -> Measured:
    """The same goes, counted in nodes."""
    trees = {SEARCH: runs.trees, LOOP: runs.loop_trees}
    spent = {
        system: [one._replace(units=_count(grown)) for one, grown in zip(goes, trees[system], strict=True)]
        for system, goes in measured.spent.items()
        if system in trees
    }
    systems = {system: measured.row.systems[system] for system in spent}
    return Measured(
        Row("nodes", "nodes", systems, (Ratio("nodes_vs_batch1", SEARCH, LOOP, "goal >= 20"),)), spent
    )


def _count(trees: list[Tree]) -> int:
    """Thoughts that were made, merged ones once."""
    return sum(len(tree.nodes) - 1 for tree in trees)


def _figures(measured: Measured, runs: Runs, overhead: float) -> dict[str, float]:
    figures, replayed = runs.figures[-1], runs.replayed[-1]
    simulations = [sum(tree.simulations for tree in trees) for trees in runs.trees]
    costs = [one.cpu_s / n * 1e6 for one, n in zip(measured.spent[SEARCH], simulations, strict=True)]
    found: dict[str, Any] = {
        "occupancy": figures.occupancy,
        "replay_occupancy": replayed.occupancy,
        "cached_share": figures.cache_hit,
        "replay_cached_share": replayed.cache_hit,
        "found_share": figures.found_tokens / figures.tokens,
        "same_tokens": float(figures.tokens == replayed.tokens),
        "forced_share": figures.forced_tokens / figures.tokens,
        "tokens_per_node": figures.tokens / _count(runs.trees[-1]),
        "us_per_simulation": median(costs),
        "overhead_share": overhead / median(costs),
    }
    return found
