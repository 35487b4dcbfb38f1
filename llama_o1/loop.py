"""The run on one page: problems -> searches -> trees -> experiences -> replay -> loss -> weights -> again."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from itertools import chain, islice

import numpy as np
import torch
from tqdm.contrib.logging import logging_redirect_tqdm

from llama_o1 import assemble
from llama_o1.config import RunConfig
from llama_o1.crew import Crew
from llama_o1.errors import RunError
from llama_o1.examine import examine, held_out
from llama_o1.faults import reach
from llama_o1.format.path_line import PathLine
from llama_o1.learn.checkpoint import load_checkpoint, save_checkpoint
from llama_o1.learn.guards import NotFiniteError
from llama_o1.learn.shelf import latest_checkpoint, prune_checkpoints, recover_checkpoints
from llama_o1.learn.trainer import Learner
from llama_o1.learnable import check_learnable
from llama_o1.learning import Played, keep_stopped, learn, tree_by_tree
from llama_o1.measure.evaluate import graded, ungraded
from llama_o1.measure.summary import summarise
from llama_o1.play.collect import collect
from llama_o1.play.judge import grade
from llama_o1.play.methods import MethodSettings
from llama_o1.play.reward import budget_figures, budget_row, rewards
from llama_o1.play.selfplay import fitted, play_figures, record_transitions, search_all, tree_row
from llama_o1.progress import Clock, Rates, bar
from llama_o1.report.record import read_run
from llama_o1.report.table import values_in_words
from llama_o1.report.write import report_if_it_can
from llama_o1.rounds import keep_paths, learn_paths, path_figures, rounds_table
from llama_o1.run import begin, check_folder, write_whole
from llama_o1.state import Progress
from llama_o1.tasks.mixture import draw, select
from llama_o1.tasks.problem import Problem
from llama_o1.trackers import Trackers, check_installed
from replay.buffer import PrioritizedReplayBuffer
from replay.schedule import beta_at
from tree.node import Tree
from tree.record import write_rows

log = logging.getLogger(__name__)


class Run:
    """One self-play run and its parts, joined."""

    def __init__(self, config: RunConfig) -> None:
        """Check and load everything before the first token is spent."""
        self.config, self.clock = config, Clock()
        check_folder(config)
        check_installed(config.trackers)
        check_learnable(config)
        self.held_out = held_out(config)
        for wanted in config.problems:
            select(replace(wanted, limit=1), "train", config.columns, config.skip_bad_lines)
        with ExitStack() as opened:
            self.system = opened.enter_context(
                assemble.assemble(
                    config.model,
                    config.engine,
                    seed=config.seed,
                    temperature=config.thoughts.temperature,
                    marks=config.thoughts.marks,
                    new_value_head=True,
                )
            )
            self.expander = assemble.expander(self.system, config.thoughts)
            self.writers = [
                fitted(self.expander.with_(path_budget=budget), config.search)
                for budget in config.curriculum.all(config.thoughts.path_budget)
            ]
            for writer in self.writers:
                writer.limits(config.search.budget_tokens)
            loaded = self.system.loaded
            self.learner = Learner(
                loaded.model,
                loaded.special,
                config.learner,
                pad_id=loaded.pad_id,
                value_head=loaded.value_head,
            )
            self.folder = begin(config)
            self.trackers = Trackers(config.trackers, self.folder.path / "trackers", asdict(config))
            opened.callback(self.trackers.close)
            self.crew = Crew(self.learner)
            opened.callback(self.crew.leave)
            opened.callback(self.crew.tell, "end")
            self.system.weights.keep_in(self.folder.engine_weights)
            self.progress = Progress()
            self.played: list[Played] = []
            """Of each tree of this iteration."""
            self.lines: list[PathLine] = []  # what this iteration learns from, where it learns from paths
            self.replay = opened.enter_context(
                PrioritizedReplayBuffer(
                    self.folder.replay,
                    capacity=config.replay.capacity,
                    alpha=config.replay.alpha,
                    max_lag=config.replay.max_lag,
                    eviction=config.replay.eviction,
                    draws=config.replay.draws,
                    normalise=config.replay.normalise,
                    durability=config.replay.durability,
                )
            )
            self._opened = opened.pop_all()

    def train(self) -> str:
        """Run all iterations that are left and close everything; what changed, in plain words."""
        config = self.config
        with self._opened, torch.random.fork_rng(), logging_redirect_tqdm():
            torch.manual_seed(config.seed)  # nothing draws from it, but checkpoints hold its state
            restored = self._restore()
            self._publish()
            if not restored:
                self._evaluate("before", with_search=True)
                self._log(phase="clock", **self.clock.lap())
                self._checkpoint()
                self._report()
            problems = self._problems()
            iterations = bar(config.iterations, "run", "iteration")
            iterations.update(self.progress.iteration)
            while not self._is_over():
                self.progress.iteration += 1
                self._self_play(self._wanted(problems))
                with assemble.resting(self.system):
                    self._learn()
                self._after_iteration()
                iterations.update()
            iterations.close()
            summary = self._summary()
            self._report(pages=True)
            return summary

    def _is_over(self) -> bool:
        """Whether the last iteration was made, or self-play has no tokens left for a tree."""
        left = self._tokens_left()
        spent = left is not None and not self.expander.affords(left)
        return spent or self.progress.iteration >= self.config.iterations

    def _tokens_left(self) -> int | None:
        """What self-play may still generate; None: there is no limit."""
        most = self.config.max_tokens
        return None if most is None else most - self.progress.history.tokens

    def _restore(self) -> bool:
        """Go back to the last whole checkpoint; False when there is none."""
        recover_checkpoints(self.folder.checkpoints)
        checkpoint = latest_checkpoint(self.folder.checkpoints)
        if checkpoint is None:
            if len(self.replay):
                raise RunError(
                    f"{self.folder.path} holds experiences but no whole checkpoint to go on from; "
                    "choose another `--run_dir`"
                )
            self.folder.forget_after(-1)
            return False
        state = load_checkpoint(checkpoint, self.learner)
        self.crew.tell("load", str(checkpoint.resolve()).encode())
        prune_checkpoints(self.folder.checkpoints, state["iteration"], self.config.keep_checkpoints)
        self.progress = Progress.of(state)
        self.replay.rewind(state["replay"])
        reach("replay: rewound")
        self.folder.forget_after(self.progress.iteration)
        log.info("resumed after iteration %d of %d", self.progress.iteration, self.config.iterations)
        return True

    def _problems(self) -> Iterator[Problem]:
        """Training problems from where the last iteration stopped."""
        config = self.config
        drawn = draw(config.problems, "train", config.seed, config.columns, config.skip_bad_lines)
        fitting = (p for p in drawn if self.writers[0].holds(p.question))
        return islice(fitting, self.progress.iteration * config.problems_per_iteration, None)

    def _wanted(self, problems: Iterator[Problem]) -> list[Problem]:
        """The next problems, each as often as it is searched."""
        some = islice(problems, self.config.problems_per_iteration)
        return [problem for problem in some for _ in range(self.config.paths.trees)]

    def _self_play(self, problems: Sequence[Problem]) -> None:
        """Search every problem at once, then keep what the trees teach."""
        config, iteration = self.config, self.progress.iteration
        budgets = config.curriculum.of_iteration(
            iteration, len(problems), config.seed, config.thoughts.path_budget
        )
        # What an evaluation left in the cache changes last bits, and a resumed run has not made it.
        self.system.engine.load(None, iteration - 1)
        rates = Rates(self.system.engine)
        searches = bar(len(problems), f"self-play {iteration}", "tree", position=1)

        def on_tree(_: int, tree: Tree) -> None:
            rates.add(tree)
            searches.set_postfix(rates.shown, refresh=False)
            searches.update()

        late = config.teach.grades == "after"
        judge = ungraded if late else graded
        trees = search_all(
            self.system.engine,
            [(f"{i:04d}", problem.question, judge(problem)) for i, problem in enumerate(problems)],
            self.expander,
            self._play_settings(),
            self.progress.transitions,
            seed=f"play/{config.seed}/{iteration}",
            on_tree=on_tree,
            on_seconds=lambda _, seconds: rates.add_seconds(seconds),
            path_budgets=budgets,
        )
        searches.close()
        numbers, line = rates.numbers, rates.line
        for problem, tree in zip(problems, trees, strict=True):
            if late:
                grade(tree, graded(problem))
            record_transitions(tree, self.progress.transitions)
        self._remember(problems, trees, budgets)
        figures = play_figures(trees) | budget_figures(trees, budgets, config.thoughts)
        self._log(version=iteration - 1, phase="play", **figures, **numbers)
        log.info(
            "iteration %d: %d trees, %d nodes, %d tokens (%s), %.0f %% of conclusions right",
            iteration,
            len(trees),
            rates.nodes,
            figures["tokens"],
            line,
            100 * figures["right"],
        )

    def _play_settings(self) -> MethodSettings:
        """The search of self-play; a thought that changes no answer still teaches."""
        search, left = self.config.search, self._tokens_left()
        limits = [tokens for tokens in (search.run_budget_tokens, left) if tokens is not None]
        return replace(search, stop_decided=False, run_budget_tokens=min(limits, default=None))

    def _remember(self, problems: Sequence[Problem], trees: Sequence[Tree], budgets: Sequence[int]) -> None:
        """Write the trees down and give what they teach to the replay buffer."""
        iteration = self.progress.iteration
        teach, rows = self.config.teach, []
        self.played.clear()
        for i, (problem, tree, budget) in enumerate(zip(problems, trees, budgets, strict=True)):
            thoughts = replace(self.config.thoughts, path_budget=budget)
            worth = rewards(tree, teach.reward, thoughts)
            rows.append(tree_row(tree, self.config.search.weighting) | budget_row(tree, budget, worth))
            reach("replay: before extend")
            lessons = collect(
                tree,
                problem=problem.id,
                name=f"{iteration:06d}/{i:04d}",
                mode=teach.advantage,
                mix=teach.mix,
                discount=teach.discount,
                trace=teach.trace,
                by_deviation=teach.by_deviation,
                skip_zero=teach.skip_zero,
                rewards=worth,
            )
            drawn = {node.local_id: float(node.count) for node in tree.nodes}
            counts = np.array([drawn[lesson.node] for lesson in lessons])
            self.played.append(Played(self.replay.extend(lessons), lessons, counts))
            reach("replay: extended")
        reach("trees: before write")
        write_rows(self.folder.trees_of(iteration), rows)
        reach("trees: written")
        self.progress.history.played(trees)
        if self.config.learner.objective == "paths":
            seed, kept = f"paths/{self.config.seed}/{iteration}", self.folder.paths_of(iteration)
            self.lines = keep_paths(kept, problems, trees, self.config.paths, seed)
            self._log(version=iteration - 1, phase="paths", **path_figures(self.lines))

    def _learn(self) -> None:
        """Learner steps on prioritized batches; priorities go back to the buffer. Or steps on paths."""
        config, iteration = self.config, self.progress.iteration
        if config.learner.objective == "paths":
            return self._learn_paths()
        self.learner.mark_proximal()
        self.crew.tell("mark")
        beta = beta_at(iteration - 1, max(1, config.iterations - 1), config.replay.beta)
        dropped = self.replay.drop_older_than(iteration - 1 - config.replay.max_lag)
        rng = np.random.default_rng([config.seed, iteration])
        size, drawn = config.learner.batch_size, config.steps_per_iteration
        fresh = list(tree_by_tree(self.played, config.fresh_epochs, size, rng))
        if not len(self.replay) or not len(fresh) + drawn:
            log.info("iteration %d: no thought has an advantage, so nothing is learned", iteration)
            return
        try:
            means = learn(
                self.learner,
                self.replay,
                chain(fresh, (self.replay.sample(size, beta, rng) for _ in range(drawn))),
                steps=len(fresh) + drawn,
                iteration=iteration,
                thought_id=self.system.loaded.special.start_of_thought,
                crew=self.crew,
                on_step=lambda numbers: self._log(
                    phase="step", learner_step=self.learner.num_steps, version=iteration - 1, **numbers
                ),
            )
        except NotFiniteError as error:
            raise self._stopped(error) from error
        stored = {f"replay_{key}": float(value) for key, value in self.replay.stats().items()}
        self._log(phase="learn", version=iteration, beta=beta, dropped=dropped, **means, **stored)
        log.info(
            "iteration %d: policy loss %.4f, value loss %.4f, clipped %.3f, %d experiences stored",
            iteration, means["policy_loss"], means["value_loss"], means["clip_fraction"], len(self.replay),
        )  # fmt: skip

    def _learn_paths(self) -> None:
        """Learner steps on the paths of this iteration's trees."""
        config, iteration = self.config, self.progress.iteration
        if not self.lines:
            log.info("iteration %d: no tree has a graded answer, so nothing is learned", iteration)
            return
        try:
            means = learn_paths(
                self.learner,
                self.lines,
                steps=config.steps_per_iteration,
                size=config.paths.batch,
                rng=np.random.default_rng([config.seed, iteration]),
                iteration=iteration,
                crew=self.crew,
                on_step=lambda numbers: self._log(
                    phase="step", learner_step=self.learner.num_steps, version=iteration - 1, **numbers
                ),
            )
        except NotFiniteError as error:
            raise self._stopped(error) from error
        self._log(phase="learn", version=iteration, **means)
        right = sum(line.right for line in self.lines)
        log.info(
            "iteration %d: %d right and %d wrong paths, cross-entropy %.4f, squared error of values %.4f",
            iteration, right, len(self.lines) - right, means["policy_loss"], means["value_loss"],
        )  # fmt: skip

    def _stopped(self, error: NotFiniteError) -> RunError:
        """What a stopped step is told as, its batch kept."""
        tokenizer, marks = self.system.loaded.tokenizer, self.config.thoughts.marks
        return keep_stopped(self.folder.path / "stopped", error, self.learner, tokenizer, marks)

    def _after_iteration(self) -> None:
        config, iteration = self.config, self.progress.iteration
        self._publish()
        last = self._is_over()
        evaluated = last or iteration % config.evaluation.every == 0
        if evaluated:
            self._evaluate("after" if last else "during", with_search=last)
        self._log(phase="clock", **self.clock.lap())
        if evaluated or iteration % config.checkpoint_every == 0:
            self._checkpoint()
        if evaluated and not last:
            self._report()

    def _publish(self) -> None:
        reach("engine: before weights")
        assemble.publish(self.system, self.progress.iteration)
        reach("engine: weights changed")

    def _evaluate(self, when: str, *, with_search: bool) -> None:
        examine(
            self.system, self.config, self.held_out, self.progress, when, self._log, with_search=with_search
        )

    def _checkpoint(self) -> None:
        reach("replay: before mark")
        state = self.progress.state(self.replay.mark())
        reach("replay: marked")
        save_checkpoint(
            self.folder.checkpoints,
            self.progress.iteration,
            learner=self.learner,
            tokenizer=self.system.loaded.tokenizer,
            state=state,
            keep=self.config.keep_checkpoints,
            score=self.progress.history.accuracy("greedy", self.progress.iteration),
        )

    def _report(self, *, pages: bool = False) -> None:
        """Draw what the metrics say so far, and with `pages` the trees and the buffer."""
        if self.config.report:
            report_if_it_can(self.folder.path, pages=pages)

    def _log(self, **numbers: float | int | str) -> None:
        self.folder.log(step=self.progress.iteration, **numbers)
        self.trackers.log(numbers, self.learner.num_steps)

    def _summary(self) -> str:
        values = values_in_words(read_run(self.folder.path))
        text = summarise(self.progress.history, self.folder.path, len(self.replay), values)
        if self.config.learner.objective == "paths":
            text += "\n\n" + rounds_table(self.folder.metrics)
        write_whole(self.folder.report / "summary.md", text + "\n")
        return text
