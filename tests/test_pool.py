"""Trials of several evaluations as one comparison."""

import json

import pytest
from trials import trial

from llama_o1.cli import main
from llama_o1.errors import RunError
from llama_o1.measure.ledger import Ledger
from llama_o1.measure.settings import EvalConfig
from llama_o1.pooled import pooled
from llama_o1.tasks.mixture import ProblemSet

SETS = (ProblemSet("s"),)


def evaluated(folder, method, seed, lengths, problems=SETS, model="nano"):
    """A folder as `llama-o1 eval` leaves it, with one trial of each problem at a budget of 10."""
    config = EvalConfig(methods=(method,), baselines=(), budgets=(20,), seeds=(seed,), problems=problems)
    with Ledger(folder, {**config.resolved(), "weights": model}, frozenset()) as ledger:
        for i, (thinking, ended) in enumerate(lengths):
            ledger.add(trial(f"p{i}", method, budget=20, seed=seed, thinking=thinking, ended=ended))
    return folder


def test_models_are_compared_over_their_seeds_on_the_same_problems(tmp_path):
    folders = [
        evaluated(tmp_path / "with_0", "ratio", 0, [(18, True), (16, True)]),
        evaluated(tmp_path / "with_1", "ratio", 1, [(20, True), (22, False)]),
        evaluated(tmp_path / "without_0", "prompt", 0, [(18, True), (22, False)]),
        evaluated(tmp_path / "without_1", "prompt", 1, [(22, False), (22, False)]),
    ]
    out = tmp_path / "pool"
    found = pooled(folders, out, ["prompt"])["thinking"]["s"]
    with_, without = (found[method]["budget"]["20"] for method in ("ratio", "prompt"))
    assert with_["trials"] == 4
    # p0 follows with both seeds, p1 with one of two; without marks p0 with one of two, p1 with none
    assert with_["following"]["mean"] == pytest.approx(3 / 4)
    assert without["following"]["mean"] == pytest.approx(1 / 4)
    assert with_["follows_more"]["mean"] == pytest.approx(1 / 2)
    assert with_["follows_more"]["against"] == "prompt"
    assert json.loads((out / "result.json").read_text())["seeds"] == [0, 1]
    assert (out / "table.md").exists()


def test_what_cannot_be_compared_is_refused(tmp_path):
    first = evaluated(tmp_path / "a", "ratio", 0, [(5, True)])
    same = evaluated(tmp_path / "b", "ratio", 0, [(5, True)])
    fewer = evaluated(tmp_path / "c", "prompt", 1, [(5, True)])
    other = evaluated(tmp_path / "d", "prompt", 0, [(5, True)], (ProblemSet("t"),))
    with pytest.raises(RunError, match="b holds trials of method ratio with seed 0, which another"):
        pooled([first, same], tmp_path / "out", [])
    with pytest.raises(RunError, match=r"no folder holds method (ratio at .* seed 1|prompt at .* seed 0)"):
        pooled([first, fewer], tmp_path / "out", [])
    with pytest.raises(RunError, match=r"d was evaluated on other problems than .*a: problems was"):
        pooled([first, other], tmp_path / "out", [])
    with pytest.raises(RunError, match="no folder holds the method none of baselines; there are ratio"):
        pooled([first, evaluated(tmp_path / "e", "ratio", 1, [(5, True)])], tmp_path / "out", ["none"])
    with pytest.raises(RunError, match="holds no evaluation; give a folder that `llama-o1 eval` wrote"):
        pooled([first, tmp_path], tmp_path / "out", [])
    with pytest.raises(RunError, match="already holds files"):
        pooled([first, same], first, [])


def test_one_folder_is_no_comparison(capsys):
    assert main(["pool", "--folders", "runs/a"]) == 2
    assert "folders must name at least two evaluations, got 1" in capsys.readouterr().err
