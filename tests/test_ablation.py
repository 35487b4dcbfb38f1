"""`llama-o1 eval --ablate`: what each ablation changes, and that nothing is done twice."""

import json
from dataclasses import replace

import pytest

from llama_o1.cli import main
from llama_o1.errors import ConfigError
from llama_o1.measure.ablate_settings import INFERENCE, TRAINED, TRAINING, WHOLE, AblateConfig
from llama_o1.play.methods import MethodSettings

SMALL = [
    "--thoughts.path_budget=48",
    "--thoughts.max_text=12",
    "--thoughts.max_answer=8",
    "--search.stop_decided=false",
    "--search.tree.simulations=1000",
    "--engine.threads=1",
    "--engine.slots=8",
    "--budget=160",
    "--problems=word,chain",
    "--problems.limit=2",
    "--transitions_from=2",
    "--train_iterations=1",
    "--train.problems_per_iteration=2",
    "--train.steps_per_iteration=1",
    "--train.thoughts.path_budget=48",
    "--train.search.budget_tokens=160",
    "--train.learner.batch_size=4",
    "--train.learner.threads=1",
]


def ablate(out, tiny_model, *more):
    given = ["eval", "--ablate", "--out", out, "--model.path", tiny_model, *SMALL, *more]
    return main([str(argument) for argument in given])


def rows_of(out):
    return [json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_model):
    out = tmp_path_factory.mktemp("finished") / "ablate"
    assert ablate(out, tiny_model) == 0
    return out


def test_every_part_of_a_search_is_left_out_once(finished):
    result = json.loads((finished / "result.json").read_text())
    pairs = [(row["with_it"], row["without"]) for row in result["effects"] if row["set"] == "all"]
    assert pairs == [*((WHOLE, name) for name in INFERENCE), ("transitions", "uniform")]
    assert {row["method"] for row in rows_of(finished)} == {WHOLE, *INFERENCE}
    assert all(row["tokens"] <= 160 for row in rows_of(finished))
    assert (finished / "effects.png").exists()
    assert "critic and refine" in (finished / "table.md").read_text()


def test_transitions_are_learned_once_and_kept(finished):
    learned = json.loads((finished / "transitions.json").read_text())
    assert learned["counts"]["problem>expand"] + learned["counts"]["problem>divide"] >= 4


def test_ablations_join_what_is_there_and_training_ones_make_runs(finished, tiny_model, capsys):
    before = (finished / "trials.jsonl").read_text()
    assert ablate(finished, tiny_model, "--ablations=no_marks,no_priorities,unpacked") == 0
    assert (finished / "trials.jsonl").read_text().startswith(before)
    added = rows_of(finished)[before.count("\n") :]
    assert {row["method"] for row in added} == {TRAINED, "no_priorities", "unpacked"}
    assert "no_priorities" in capsys.readouterr().out
    runs = sorted(folder.name for folder in (finished / "runs").iterdir())
    assert runs == ["no_priorities-0", "trained-0", "unpacked-0"]
    made = {path: path.stat().st_mtime_ns for path in (finished / "runs").rglob("*")}
    assert ablate(finished, tiny_model, "--ablations=unpacked") == 0
    assert {path: path.stat().st_mtime_ns for path in (finished / "runs").rglob("*")} == made


def test_each_ablation_changes_one_part():
    config = AblateConfig(ablations=(*INFERENCE, *TRAINING))
    whole = config.searched(WHOLE)
    assert whole.search.budget_tokens == config.budget
    changed = {name: config.searched(name) for name in INFERENCE}
    assert changed["no_critic"].search == replace(whole.search, without=("critic", "refine"))
    assert changed["no_divide"].search == replace(whole.search, without=("divide",))
    assert changed["uniform"].search == replace(whole.search, actions="uniform")
    assert changed["transitions"].search == replace(whole.search, actions="transitions")
    assert changed["no_marks"].thoughts == replace(whole.thoughts, show_budget=False)
    assert changed["no_value"].thoughts == replace(whole.thoughts, read_value=False)
    run = config.run_of(TRAINED, 3)
    assert (run.seed, run.iterations) == (3, config.train_iterations)
    assert config.run_of("no_priorities", 3).replay == replace(run.replay, alpha=0.0)
    assert config.run_of("no_value_loss", 3).learner == replace(run.learner, value_weight=0.0)
    assert config.run_of("unpacked", 3).learner == replace(run.learner, packing="padded")


def test_a_mistyped_ablation_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'no_critic'"):
        AblateConfig(ablations=("no_critics",))


def test_a_refining_search_without_critics_is_refused():
    with pytest.raises(ConfigError, match="made of critics"):
        MethodSettings(method="refine", without=("critic",))
