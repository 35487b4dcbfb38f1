"""Self-play by lines of plain text that vote, under a curriculum of budgets."""

import json
import sqlite3

import pytest

from llama_o1.config import (
    EngineSettings,
    EvaluationSettings,
    ModelSettings,
    RunConfig,
    TeachSettings,
)
from llama_o1.errors import RunError
from llama_o1.learn.settings import LearnerSettings
from llama_o1.play.curriculum import CurriculumSettings
from llama_o1.play.expand import ThoughtSettings
from llama_o1.play.methods import MethodSettings
from llama_o1.play.reward import RewardSettings
from llama_o1.tasks.mixture import ProblemSet


def config_of(model, folder, **over):
    fields = {
        "run_dir": str(folder),
        "report": False,
        "iterations": 2,
        "problems_per_iteration": 3,
        "steps_per_iteration": 1,
        "model": ModelSettings(path=str(model)),
        "problems": (ProblemSet("word", max_steps=1),),
        "evaluation": EvaluationSettings(problems=(ProblemSet("word", limit=1),), every=2, search=0),
        "thoughts": ThoughtSettings(path_budget=32, overrun=0.25, max_answer=8),
        "search": MethodSettings(method="line", budget_tokens=300, num_lines=3),
        "curriculum": CurriculumSettings("mixed", (24, 32)),
        "teach": TeachSettings(advantage="group", by_deviation=True, reward=RewardSettings(0.7, 0.15, 0.15)),
        "engine": EngineSettings(slots=8, threads=1),
        "learner": LearnerSettings(batch_size=4, value_weight=0.0, threads=1),
    }
    return RunConfig(**fields | over)


def test_a_run_plays_lines_and_learns_from_them(tiny_model, tmp_path):
    from llama_o1.loop import Run

    config = config_of(tiny_model, tmp_path / "run")
    Run(config).train()
    rows = [
        json.loads(line)
        for file in sorted((tmp_path / "run" / "trees").iterdir())
        for line in file.read_text().splitlines()
    ]
    budgets = [config.curriculum.of_iteration(i, 3, config.seed, 32) for i in (1, 2)]
    assert [row["path_budget"] for row in rows] == [budget for each in budgets for budget in each]
    with sqlite3.connect(f"file:{tmp_path / 'run' / 'replay' / 'replay.sqlite'}?mode=ro", uri=True) as reader:
        stored = reader.execute("select count(*) from nodes").fetchone()[0]
    reader.close()
    assert stored == sum(len(row["nodes"]) - 1 for row in rows) > 0
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    played = [line for line in metrics if line["phase"] == "play"]
    assert [line["path_budget"] for line in played] == pytest.approx([sum(b) / 3 for b in budgets])
    assert all(0 <= line["following"] <= 1 for line in played)
    assert all(0 <= reward <= 1 for row in rows for reward in row["rewards"].values())


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"learner": LearnerSettings()}, "learner.value_weight must be 0, got 1.0"),
        ({"teach": TeachSettings(advantage="gae")}, "teach.advantage must be .*, got gae"),
        ({"search": MethodSettings(method="line")}, "search.num_lines must be at least 2, got 1"),
    ],
)
def test_lines_do_not_learn_from_what_they_have_not(tmp_path, over, message):
    from llama_o1.loop import Run

    with pytest.raises(RunError, match=f"search.method line .*{message}"):
        Run(config_of("nano", tmp_path / "run", **over))
