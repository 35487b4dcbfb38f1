"""Rounds of self-training on a tiny model: what they write, how they go on, and who can use their head."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from llama_o1.cli import main
from llama_o1.config import EngineSettings, EvaluationSettings, ModelSettings, RunConfig
from llama_o1.format.path_line import IGNORE
from llama_o1.learn.settings import LearnerSettings, PathSettings
from llama_o1.loop import Run
from llama_o1.play.expand import ThoughtSettings
from llama_o1.play.methods import MethodSettings
from llama_o1.tasks.mixture import ProblemSet
from tree.search import SearchSettings

ROUNDS = 2
LAST = f"{ROUNDS:06d}"

# Is killed in the second round, after its first step.
KILLED = """
import os, signal
from pathlib import Path
from llama_o1 import faults
from llama_o1.config import *
from llama_o1.format.line import *
from llama_o1.format.marks import *
from llama_o1.learn.settings import *
from llama_o1.loop import Run
from llama_o1.play.curriculum import *
from llama_o1.play.expand import *
from llama_o1.play.methods import *
from llama_o1.play.reward import *
from llama_o1.tasks.mixture import *
from tree.search import SearchSettings

config = {config!r}

def kill(point):
    if point == "learner: stepped" and Path(config.run_dir, "paths", "{last}.jsonl").exists():
        os.kill(os.getpid(), signal.SIGKILL)

faults.on_reach(kill)
Run(config).train()
"""


@pytest.fixture(scope="module")
def config(tiny_model):
    return RunConfig(
        iterations=ROUNDS,
        problems_per_iteration=2,
        steps_per_iteration=2,
        model=ModelSettings(path=str(tiny_model), value="head"),
        problems=(ProblemSet("word", max_steps=2),),
        evaluation=EvaluationSettings(problems=(ProblemSet("word", limit=2),), every=2, search=0),
        thoughts=ThoughtSettings(path_budget=48, max_text=12, max_answer=8, calculator=True),
        search=MethodSettings(budget_tokens=300, tree=SearchSettings(simulations=6)),
        engine=EngineSettings(slots=8, threads=1),
        learner=LearnerSettings(
            objective="paths", learning_rate=1e-2, warmup_steps=0, value_weight=0.1, threads=1
        ),
        paths=PathSettings(trees=2, right=2, wrong=2, batch=3),
    )


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """Rounds that were never disturbed, and their closing words."""
    folder = tmp_path_factory.mktemp("rounds") / "whole"
    return folder, Run(replace(config, run_dir=str(folder))).train()


def bytes_of(folder):
    """What rounds leave behind and holds no clock."""
    parts = ("trees/*.jsonl", "paths/*.jsonl", f"checkpoints/{LAST}/*.safetensors")
    files = [f for part in parts for f in folder.glob(part)]
    return {str(f.relative_to(folder)): f.read_bytes() for f in files}


def test_a_round_leaves_trees_paths_metrics_and_a_checkpoint_with_the_head(finished):
    folder, summary = finished
    assert set(bytes_of(folder)) >= {
        *(f"{part}/{i:06d}.jsonl" for part in ("trees", "paths") for i in range(1, ROUNDS + 1)),
        f"checkpoints/{LAST}/model.safetensors",
        f"checkpoints/{LAST}/value_head.safetensors",
    }
    phases = [json.loads(line)["phase"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert phases.count("paths") == phases.count("learn") == ROUNDS
    assert phases.count("step") == ROUNDS * 2
    table = summary[summary.index("round  trees solved") :].splitlines()
    assert [row.split()[0] for row in table] == ["round", *map(str, range(1, ROUNDS + 1))]


def test_the_paths_of_a_problem_come_from_all_its_trees_and_keep_to_their_number(finished):
    folder, _ = finished
    for i in range(1, ROUNDS + 1):
        trees = [json.loads(line) for line in (folder / f"trees/{i:06d}.jsonl").read_text().splitlines()]
        assert [tree["problem"] for tree in trees[::2]] == [tree["problem"] for tree in trees[1::2]]
        assert trees[0]["nodes"] != trees[1]["nodes"], "each search of a problem has a seed of its own"
        lines = [json.loads(line) for line in (folder / f"paths/{i:06d}.jsonl").read_text().splitlines()]
        assert lines
        for problem in {line["problem"] for line in lines}:
            sides = [line["right"] for line in lines if line["problem"] == problem]
            assert sides.count(True) <= 2
            assert sides.count(False) <= 2
        for line in lines:
            assert line["step_values"][-1] == (1.0 if line["right"] else -1.0)
            assert line["right"] or set(line["labels"]) == {IGNORE}


def test_rounds_that_were_killed_go_on_to_the_same_bytes(finished, config, tmp_path):
    killed = replace(config, run_dir=str(tmp_path / "killed"))
    code = KILLED.format(config=killed, last=LAST)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert f"checkpoints/{LAST}/model.safetensors" not in bytes_of(tmp_path / "killed")
    Run(replace(killed, resume=True)).train()
    assert bytes_of(tmp_path / "killed") == bytes_of(finished[0])


@pytest.mark.parametrize("method", ["mcts", "beam"])
def test_a_search_with_the_run_reads_its_head(finished, tmp_path, capsys, method):
    file = tmp_path / "trees.jsonl"
    asked = ["--problem", "Tom has 3 pens. He buys 2 pens. How many pens does Tom have?", "--json", str(file)]
    assert main(["search", "--run", str(finished[0]), *asked, "--search.method", method]) == 0
    capsys.readouterr()
    values = [node["value"] for node in json.loads(file.read_text())["nodes"][1:]]
    assert len(set(values)) > 1
    refused = ["--engine.name", "vllm"]
    assert main(["search", "--run", str(finished[0]), *asked, *refused]) == 2
    assert "model.value head needs engine.name local, got vllm" in capsys.readouterr().err


def test_an_evaluation_reads_the_head_of_a_checkpoint(finished, tmp_path, capsys):
    checkpoint = finished[0] / "checkpoints" / LAST
    given = ["--model.path", str(checkpoint), "--model.value", "head", "--out", str(tmp_path / "eval")]
    small = ["--methods", "greedy,beam,mcts", "--budgets", "200", "--limit", "1", "--engine.threads", "1"]
    lengths = ["--thoughts.path_budget", "48", "--thoughts.max_text", "12", "--thoughts.max_answer", "8"]
    assert main(["eval", *given, *small, *lengths]) == 0
    assert "mcts" in capsys.readouterr().out


def test_rounds_by_another_objective_are_refused_in_one_line(capsys):
    assert main(["rounds", "--learner.objective", "ppo"]) == 2
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    assert "rounds learn by learner.objective paths, got ppo; use `llama-o1 train`" in written
