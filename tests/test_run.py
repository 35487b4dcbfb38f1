"""The whole loop on a tiny model: what a run writes, and that a killed one ends with the same bytes."""

import hashlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from llama_o1.config import EngineSettings, EvaluationSettings, ModelSettings, ReplaySettings, RunConfig
from llama_o1.errors import RunError
from llama_o1.learn.settings import LearnerSettings
from llama_o1.loop import Run
from llama_o1.play.expand import ThoughtSettings
from llama_o1.play.methods import MethodSettings
from llama_o1.run import check_folder
from llama_o1.tasks.mixture import ProblemSet
from tree.search import SearchSettings

ITERATIONS = 3


@pytest.fixture(scope="module")
def config(tiny_model):
    return RunConfig(
        iterations=ITERATIONS,
        problems_per_iteration=3,
        steps_per_iteration=1,
        fresh_epochs=1,
        model=ModelSettings(path=str(tiny_model)),
        problems=(ProblemSet("word", max_steps=2),),
        evaluation=EvaluationSettings(problems=(ProblemSet("word", limit=3),), every=2),
        thoughts=ThoughtSettings(path_budget=48, max_text=12, max_answer=8, calculator=True),
        search=MethodSettings(budget_tokens=300, tree=SearchSettings(simulations=6)),
        engine=EngineSettings(slots=8, threads=1),
        learner=LearnerSettings(batch_size=4, learning_rate=1e-2, warmup_steps=0, threads=1),
    )


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """A run that was never disturbed, and its closing words."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, train(replace(config, run_dir=str(folder)))


def test_a_run_writes_every_part_of_the_run_folder(finished):
    folder, _ = finished
    assert yaml.safe_load((folder / "config.yaml").read_text())["iterations"] == ITERATIONS
    assert [p.name for p in sorted((folder / "trees").iterdir())] == [
        f"{i:06d}.jsonl" for i in range(1, ITERATIONS + 1)
    ]
    assert (folder / "report" / "summary.md").read_text().strip()
    checkpoint = folder / "checkpoints" / f"{ITERATIONS:06d}"
    assert (checkpoint / "manifest.json").exists()
    phases = [json.loads(line)["phase"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert phases.count("play") == phases.count("learn") == ITERATIONS
    assert phases.count("evaluate") == 2 + 1 + 2  # greedy and search before and after, greedy once between
    assert phases.count("evaluate_values") == 5
    assert phases.count("clock") == 1 + ITERATIONS


def test_a_run_leaves_curves_and_a_page_with_its_trees_and_its_buffer(finished):
    report = finished[0] / "report"
    links = [
        link.partition("#")[0] for link in re.findall(r'href="([^"]+)"', (report / "index.html").read_text())
    ]
    here = [link for link in links if not link.startswith("data:")]
    assert {"trees/000002.html", "trees/000003.html", "replay.html", "../metrics.jsonl"} <= set(here)
    assert all((report / link).is_file() for link in here)
    assert {"accuracy.png", "values.png", "reliability.png", "buffer_age.png", "clock.png"} <= {
        file.name for file in report.iterdir()
    }


def test_values_on_held_out_problems_are_measured_at_every_evaluation(finished):
    folder, _ = finished
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in (line for line in lines if line["phase"] == "evaluate_values" and line["method"] == "search"):
        assert line["count"] == line.get("count_inner", 0) + line.get("count_conclude", 0) > 0
        assert 0 <= line["ece_low"] <= line["ece_high"] <= 1
        assert sum(line[f"bin_{i}_count"] for i in range(10)) == line["count"]


def test_every_thought_of_a_run_is_in_the_replay_buffer(finished):
    folder, _ = finished
    thoughts = sum(
        len(json.loads(line)["nodes"]) - 1
        for file in (folder / "trees").iterdir()
        for line in file.read_text().splitlines()
    )
    with sqlite3.connect(f"file:{folder / 'replay' / 'replay.sqlite'}?mode=ro", uri=True) as reader:
        stored = reader.execute("select count(*) from nodes").fetchone()[0]
    reader.close()
    assert stored == thoughts > 0


def test_training_changes_the_weights(finished, tiny_model):
    folder, _ = finished
    trained = weights(folder / "checkpoints" / f"{ITERATIONS:06d}")
    first = weights(folder / "checkpoints" / f"{ITERATIONS - 1:06d}")
    assert trained != first


def test_no_tree_of_a_run_spends_more_than_its_budget(finished):
    folder, _ = finished
    for file in (folder / "trees").iterdir():
        for line in file.read_text().splitlines():
            row = json.loads(line)
            assert row["tokens_used"] == sum(node["tokens"] for node in row["nodes"]) <= 300


def test_the_summary_says_what_changed_in_plain_words(finished):
    folder, summary = finished
    for words in (
        "Held-out accuracy",
        "95 % interval",
        "tokens",
        "nodes",
        "held-out thoughts of search",
        f"llama-o1 inspect {folder}",
    ):
        assert words in summary


def test_a_second_run_in_the_same_folder_is_refused_with_a_way_on(finished, config):
    from llama_o1.loop import Run

    with pytest.raises(RunError, match=r"--resume true.*--run_dir"):
        Run(replace(config, run_dir=str(finished[0])))


def test_a_search_whose_thoughts_are_no_draws_is_not_trained_on(config, tmp_path):
    from llama_o1.loop import Run

    shape = replace(config.search.tree, likeliest_first=True)
    search = replace(config.search, tree=shape)
    with pytest.raises(RunError, match="likeliest_first"):
        Run(replace(config, run_dir=str(tmp_path / "new"), search=search))


def test_resuming_with_other_settings_names_them(finished, config):
    from llama_o1.loop import Run

    with pytest.raises(RunError, match="seed"):
        Run(replace(config, run_dir=str(finished[0]), resume=True, seed=7))


def test_a_run_of_before_a_setting_was_there_is_gone_on_with_by_its_default(finished, config, tmp_path):
    older = replace(config, run_dir=str(tmp_path / "older"), resume=True)
    saved = yaml.safe_load((finished[0] / "config.yaml").read_text())
    del saved["teach"]["grades"], saved["trackers"]
    (tmp_path / "older").mkdir()
    (tmp_path / "older" / "config.yaml").write_text(yaml.safe_dump(saved))
    check_folder(older)
    with pytest.raises(RunError, match="other settings of teach;"):
        check_folder(replace(older, teach=replace(config.teach, grades="after")))


@pytest.mark.parametrize("moment", ["during the first iteration", "during the second iteration"])
def test_a_killed_run_resumes_to_the_same_bytes(finished, config, tmp_path, moment):
    folder = tmp_path / "killed"
    killed_config = replace(config, run_dir=str(folder), report=False)
    kill_in(killed_config, "000001" if "first" in moment else "000002")
    assert not (folder / "checkpoints" / f"{ITERATIONS:06d}").exists()
    train(replace(killed_config, resume=True))
    for i in range(1, ITERATIONS + 1):
        assert trees(folder, i) == trees(finished[0], i)
        assert learned(folder, i) == learned(finished[0], i)
    last = f"{ITERATIONS:06d}"
    assert weights(folder / "checkpoints" / last) == weights(finished[0] / "checkpoints" / last)


def test_a_search_that_is_graded_afterwards_does_not_go_by_grades(finished, config, tmp_path):
    # at the end of a line the mean of what was backed up is the value, and the grade is there all the same
    for folder, when in ((finished[0], "during"), (tmp_path / "run", "after")):
        if when == "after":
            teach = replace(config.teach, grades="after")
            train(replace(config, iterations=1, teach=teach, run_dir=str(folder)))
        rows = [json.loads(row) for row in trees(folder, 1).splitlines()]
        ends = [node for row in rows for node in row["nodes"] if node["outcome"] is not None]
        assert len(ends) > 3
        backed_up = "value" if when == "after" else "outcome"
        assert [node["q"] for node in ends] == pytest.approx([node[backed_up] for node in ends])
        assert any(node["value"] != node["outcome"] for node in ends)


def test_the_settings_of_the_replay_buffer_reach_it(config, tmp_path):
    told = ReplaySettings(
        capacity=7, alpha=0.5, max_lag=3, eviction="lowest_priority", draws="independent", normalise="buffer"
    )
    run = Run(replace(config, run_dir=str(tmp_path / "run"), replay=told, iterations=0))
    run.train()
    for name in ("capacity", "alpha", "max_lag", "eviction", "draws", "normalise"):
        assert getattr(run.replay, name) == getattr(told, name)
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["replay"] == asdict(told)


def train(config: RunConfig) -> str:
    """Run to the end in a process of its own, as a user does; what it says."""
    done = subprocess.run(
        [sys.executable, "-c", WHOLE.format(config=config)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def kill_in(config: RunConfig, iteration: str) -> None:
    """Start the run in a process of its own and SIGKILL it once this iteration's trees were written."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED.format(config=config, iteration=iteration)],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 600
    marker = Path(config.run_dir) / "stuck"
    while not marker.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    marker.unlink()


WHOLE = """
from llama_o1.config import *
from llama_o1.format.line import *
from llama_o1.learn.settings import *
from llama_o1.play.expand import ThoughtSettings
from llama_o1.play.methods import MethodSettings
from llama_o1.tasks.mixture import *
from tree.search import SearchSettings
import llama_o1.loop as loop

config = {config!r}
print(loop.Run(config).train())
"""

# Stops for good after the first learner step of an iteration, in the middle of everything.
KILLED = (
    WHOLE.replace("print(loop.Run(config).train())", "")
    + """
import time
from pathlib import Path
step = loop.Learner.step

def stuck(self, *arguments):
    result = step(self, *arguments)
    if Path(config.run_dir, "trees", "{iteration}.jsonl").exists():
        Path(config.run_dir, "stuck").touch()
        time.sleep(1000)
    return result

loop.Learner.step = stuck
loop.Run(config).train()
"""
)


def weights(checkpoint: Path) -> str:
    return hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()


def learned(folder: Path, iteration: int) -> list[dict]:
    """The metrics of an iteration that hold no clock."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    clockless = ("learn", "evaluate", "evaluate_values")
    return [one for one in lines if one["phase"] in clockless and one["step"] == iteration]


def trees(folder: Path, iteration: int) -> str:
    return (folder / "trees" / f"{iteration:06d}.jsonl").read_text()
