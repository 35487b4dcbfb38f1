"""Policy gradient and expert iteration as settings of a run, on a tiny model."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from llama_o1 import loop
from llama_o1.arguments import build, parse, parser_of
from llama_o1.config import (
    EngineSettings,
    EvaluationSettings,
    ModelSettings,
    RunConfig,
    TeachSettings,
)
from llama_o1.errors import ConfigError
from llama_o1.faults import on_reach
from llama_o1.learn.settings import LearnerSettings
from llama_o1.play.expand import ThoughtSettings
from llama_o1.play.judge import Grade
from llama_o1.play.methods import MethodSettings
from llama_o1.sft_config import SftConfig
from llama_o1.tasks.mixture import ProblemSet

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
MAX_TOKENS = 1500
KINDS = {
    "policy gradient": {"teach": TeachSettings(advantage="group", skip_zero=True)},
    "expert iteration": {"teach": TeachSettings(advantage="right", skip_zero=True)},
}


@pytest.fixture
def config(tiny_model, tmp_path, monkeypatch):
    """Lines of an untrained model, which are right by the parity of their length: one that learns has to."""
    monkeypatch.setattr(loop, "graded", lambda problem: lambda text: Grade(text, float(len(text) % 2)))
    return RunConfig(
        run_dir=str(tmp_path / "run"),
        report=False,
        iterations=100,
        max_tokens=MAX_TOKENS,
        problems_per_iteration=2,
        fresh_epochs=1,
        steps_per_iteration=0,
        model=ModelSettings(path=str(tiny_model)),
        problems=(ProblemSet("word", max_steps=2),),
        evaluation=EvaluationSettings(problems=(ProblemSet("word", limit=2),), every=100, search=0),
        thoughts=ThoughtSettings(path_budget=32, max_text=8, max_answer=8, calculator=True),
        search=MethodSettings(method="majority", budget_tokens=300, num_lines=64),
        engine=EngineSettings(slots=8, threads=1),
        learner=LearnerSettings(
            value_weight=0.0, batch_size=4, learning_rate=1e-2, warmup_steps=0, threads=1
        ),
    )


def of_kind(config, kind):
    objective = "imitation" if kind == "expert iteration" else "ppo"
    return replace(config, learner=replace(config.learner, objective=objective), **KINDS[kind])


def metrics(config, phase):
    lines = (Path(config.run_dir) / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["phase"] == phase]


def weights(config):
    (last,) = sorted((Path(config.run_dir) / "checkpoints").glob("0*"))[-1:]
    return hashlib.sha256((last / "model.safetensors").read_bytes()).hexdigest()


def test_a_run_ends_when_its_tokens_are_spent_and_never_spends_more(config):
    loop.Run(of_kind(config, "policy gradient")).train()
    tokens = [row["tokens"] for row in metrics(config, "play")]
    a_conclusion = 64  # the least that a tree could be begun with, and more
    assert MAX_TOKENS - a_conclusion < sum(tokens) <= MAX_TOKENS
    assert len(tokens) < 100
    assert [row["step"] for row in metrics(config, "evaluate")] == [0, len(tokens)]


def test_a_policy_gradient_is_on_policy_and_unclipped_at_its_first_step(config):
    loop.Run(of_kind(config, "policy gradient")).train()
    steps = metrics(config, "step")
    assert {row["staleness_max"] for row in steps} == {0}
    first = {row["step"]: row for row in reversed(steps)}
    assert all(row["ratio_mean"] == pytest.approx(1, abs=1e-4) for row in first.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_goes_on_to_the_same_weights_and_tokens(config, tmp_path, kind):
    whole = of_kind(config, kind)
    loop.Run(whole).train()
    stopped = replace(whole, run_dir=str(tmp_path / "stopped"))
    steps = []

    def stop(point):
        steps.extend([point] if point == "learner: stepped" else [])
        if len(steps) == 3:
            raise KeyboardInterrupt

    on_reach(stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.Run(stopped).train()
    finally:
        on_reach(None)
    loop.Run(replace(stopped, resume=True)).train()
    assert weights(stopped) == weights(whole)
    for one in metrics(whole, "play"):
        assert one["tokens"] in [
            row["tokens"] for row in metrics(stopped, "play") if row["step"] == one["step"]
        ]


def test_expert_iteration_makes_right_lines_likelier(config):
    whole = of_kind(replace(config, iterations=1, max_tokens=None, fresh_epochs=5), "expert iteration")
    loop.Run(replace(whole, learner=replace(whole.learner, batch_size=1000))).train()
    losses = [row["policy_loss"] for row in metrics(config, "step")]
    assert len(losses) == 5  # all right lines in each step
    assert losses[0] > losses[-1] > 0


def test_where_no_thought_has_an_advantage_nothing_is_learned_and_the_run_goes_on(config, monkeypatch):
    monkeypatch.setattr(loop, "graded", lambda problem: lambda text: Grade(text, 0.0))
    loop.Run(of_kind(config, "policy gradient")).train()
    assert metrics(config, "learn") == []
    assert sum(row["tokens"] for row in metrics(config, "play")) > MAX_TOKENS - 64


def test_imitation_of_what_may_be_wrong_is_refused():
    with pytest.raises(ConfigError, match=r"got teach.advantage relative; set teach.advantage right"):
        RunConfig(teach=TeachSettings(advantage="relative"), learner=LearnerSettings(objective="imitation"))


@pytest.mark.parametrize("name", ["nano_policy_gradient", "nano_expert_iteration"])
def test_a_baseline_changes_of_the_nano_run_what_it_says_and_nothing_else(name):
    def read(*names):
        files = [part for n in names for part in ("--config", str(CONFIGS / f"{n}.yaml"))]
        return build(RunConfig, parse(parser_of("train", "", RunConfig), files))

    over = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    nano, found = read("nano"), read("nano", name)
    flat = {key: value for key, value in over.items() if not isinstance(value, dict)}
    parts = {key: replace(getattr(nano, key), **part) for key, part in over.items() if isinstance(part, dict)}
    assert found == replace(nano, **flat, **parts)
    assert found != nano
    assert found.evaluation == nano.evaluation


def test_the_control_is_the_cold_start_with_other_lines_from_the_shipped_model_on():
    def read(*names):
        files = [part for n in names for part in ("--config", str(CONFIGS / f"{n}.yaml"))]
        return build(SftConfig, parse(parser_of("sft", "", SftConfig), files))

    start, control = read("nano_coldstart"), read("nano_coldstart", "nano_control")
    assert control.problems == start.problems
    assert control.seed != start.seed
    assert (start.model, (CONFIGS.parent / control.model / "config.json").exists()) == (None, True)
    same = replace(start.sft, steps=control.sft.steps, warmup_steps=control.sft.warmup_steps)
    assert control.sft == same
