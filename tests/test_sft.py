"""A fine-tuning goes on after a kill to the same bytes, looks without touching, and says what it made."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from llama_o1.cli import main
from llama_o1.errors import RunError
from llama_o1.faults import on_reach
from llama_o1.learn.settings import ColdstartSettings, LoraSettings
from llama_o1.measure.intervals import wilson
from llama_o1.sft import cold_start
from llama_o1.sft_config import SftConfig, SftEvaluation
from llama_o1.tasks.mixture import ProblemSet

WORD = (ProblemSet("word", max_steps=2),)


class Killed(BaseException):
    """Nothing after this point is done, as in a killed process."""


def config_of(tiny_model, out, **settings):
    fast = ColdstartSettings(steps=7, batch_tokens=256, learning_rate=1e-3, warmup_steps=2, bf16=False)
    given = {"checkpoint_every": 2, "threads": 1, "problems": WORD, "sft": fast}
    return SftConfig(out=str(out), model=str(tiny_model), **(given | settings))


def weights_of(folder):
    files = [Path(folder, name) for name in ("model.safetensors", "tokenizer.json")]
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def metrics_of(folder):
    """The metrics without the clock."""
    lines = Path(folder, "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def killed_at(config, point, times):
    """Run until a point was reached so often."""
    left = [times]

    def hook(reached):
        left[0] -= reached == point
        if not left[0]:
            raise Killed

    on_reach(hook)
    try:
        with pytest.raises(Killed):
            cold_start(config)
    finally:
        on_reach(None)


@pytest.fixture(scope="module")
def whole(tiny_model, tmp_path_factory):
    out = tmp_path_factory.mktemp("sft") / "whole"
    cold_start(config_of(tiny_model, out))
    return out


@pytest.mark.parametrize(
    ("point", "times"),
    [
        ("file: renamed", 1),  # sft.yaml
        ("checkpoint: begun", 1),
        ("checkpoint: manifest written", 2),
        ("checkpoint: renamed", 3),
        ("checkpoint: before pruning", 1),
        ("metrics: before append", 1),
    ],
)
def test_a_fine_tuning_that_was_killed_goes_on_to_the_same_bytes(tiny_model, whole, tmp_path, point, times):
    config = config_of(tiny_model, tmp_path / "killed")
    killed_at(config, point, times)
    cold_start(replace(config, resume=True))
    assert weights_of(config.out) == weights_of(whole)
    assert metrics_of(config.out) == metrics_of(whole)


def test_an_adapter_with_dropout_goes_on_to_the_same_bytes(tiny_model, tmp_path):
    lora = {"adapter": "lora", "lora": LoraSettings(rank=2, dropout=0.3)}
    config = config_of(tiny_model, tmp_path / "killed", **lora)
    killed_at(config, "checkpoint: renamed", 2)
    cold_start(replace(config, resume=True))
    cold_start(replace(config, out=str(tmp_path / "whole")))
    assert weights_of(config.out) == weights_of(tmp_path / "whole")


def test_a_folder_with_files_is_refused_unless_it_is_the_same_fine_tuning_to_resume(
    tiny_model, whole, tmp_path
):
    config = config_of(tiny_model, whole)
    with pytest.raises(RunError, match=r"already holds files; go on with it by `--resume true`"):
        cold_start(config)
    with pytest.raises(RunError, match=r"was run with other settings of seed; resume with the settings in"):
        cold_start(replace(config, resume=True, seed=5))
    with pytest.raises(RunError, match=r"holds a finished model"):
        cold_start(replace(config, resume=True))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match=r"holds files but no fine-tuning to resume"):
        cold_start(config_of(tiny_model, tmp_path, resume=True))
    with pytest.raises(RunError, match=r"nowhere holds no fine-tuning to resume; leave out"):
        cold_start(config_of(tiny_model, tmp_path / "nowhere", resume=True))
    assert not (tmp_path / "nowhere").exists()


@pytest.fixture(scope="module")
def looked(tiny_model, tmp_path_factory):
    out = tmp_path_factory.mktemp("sft") / "looked"
    held = (ProblemSet("word", max_steps=1, limit=3),)
    look = SftEvaluation(problems=held, every=3, lines=4, path_budget=16, max_text=6, max_answer=4)
    cold_start(config_of(tiny_model, out, evaluation=look), "llama-o1 sft --here")
    return out


def test_looking_at_held_out_problems_changes_no_weight(whole, looked):
    assert weights_of(looked) == weights_of(whole)


def test_dev_is_looked_at_on_the_way_and_test_at_the_end_only(looked):
    found = [line for line in metrics_of(looked) if line["phase"] != "train"]
    assert [(line["step"], line.get("split", "loss")) for line in found] == [
        (0, "loss"), (0, "dev"), (3, "loss"), (3, "dev"), (6, "loss"), (6, "dev"),
        (7, "loss"), (7, "dev"), (7, "test"),
    ]  # fmt: skip
    losses = [line["loss"] for line in found if line["phase"] == "held_out"]
    assert losses[-1] < losses[0]


def test_the_card_says_how_the_model_was_made_and_what_it_can_do(looked):
    card = json.loads((looked / "card.json").read_text(encoding="utf-8"))
    assert (card["command"], card["seed"], card["steps"]) == ("llama-o1 sft --here", 0, 7)
    assert card["tokens"] == max(line.get("tokens", 0) for line in metrics_of(looked)) > 0
    assert [(one["split"], one["problems"]) for one in card["accuracies"]] == [("dev", 3), ("test", 3)]
    for one in card["accuracies"]:
        low = wilson(round(one["accuracy"] * 3), 3)
        assert (one["low"], one["high"]) == (low.low, low.high)
    text = (looked / "README.md").read_text(encoding="utf-8")
    assert "`llama-o1 sft --here`" in text
    assert "Seed 0, 7 steps" in text


def test_the_resolved_settings_make_the_model_again(whole, tmp_path, capsys):
    settings = yaml.safe_load((whole / "sft.yaml").read_text(encoding="utf-8"))
    assert settings["sft"]["steps"] == 7
    assert main(["sft", "--config", str(whole / "sft.yaml"), "--out", str(tmp_path / "again")]) == 0
    assert weights_of(tmp_path / "again") == weights_of(whole)


def test_a_stop_by_ctrl_c_says_how_to_go_on(tiny_model, tmp_path, capsys, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("llama_o1.sft.cold_start", stopped)
    assert main(["sft", "--model", str(tiny_model), "--out", str(tmp_path / "out")]) == 2
    assert (
        "go on from the last checkpoint by the same command with `--resume true`" in capsys.readouterr().err
    )


CONFIGS = Path(__file__).resolve().parent.parent / "configs"


@pytest.mark.parametrize(("more", "length"), [([], 1024), (["--sft.max_length", "64"], 64)])
def test_the_recipe_of_s1_runs_and_its_ablation_is_one_override(tiny_model, tmp_path, capsys, more, length):
    held = '[{"name": "word", "max_steps": 1, "limit": 2}]'
    arguments = [
        "--config",
        str(CONFIGS / "s1.yaml"),
        "--model",
        str(tiny_model),
        "--out",
        str(tmp_path / "s1"),
    ]
    few = ["--problems", "svamp", "--examples", "7", "--sft.epochs", "2", "--sft.batch_lines", "3"]
    look = ["--evaluation.problems", held, "--evaluation.path_budget", "16", "--evaluation.lines", "2"]
    assert main(["sft", *arguments, *few, *look, "--threads", "1", *more]) == 0
    card = json.loads((tmp_path / "s1" / "card.json").read_text(encoding="utf-8"))
    settings = yaml.safe_load((tmp_path / "s1" / "sft.yaml").read_text(encoding="utf-8"))["sft"]
    assert card["steps"] == 2 * 3  # 3, 3 and 1 of 7 lines, twice
    assert settings["max_length"] == length
    assert (settings["last_rate"], settings["warmup_share"], settings["weight_decay"]) == (0.0, 0.05, 1e-4)
    assert settings["betas"] == [0.9, 0.95]
