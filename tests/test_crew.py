"""Several processes learn as one does: the same losses on the same batch, and runs that end alike."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from learning import SPECIAL, awkward_trees, make_model

from llama_o1.learn.model import add_lora
from llama_o1.learn.settings import LearnerSettings, LoraSettings
from llama_o1.learn.share import share_of
from llama_o1.learn.trainer import Learner

STEPS = 5


def trajectory(adapter):
    """Losses and gradient norms of a few steps on the same trees."""
    model = make_model("llama")
    if adapter:
        model = add_lora(model, [8, 9], LoraSettings(rank=2), seed=0)
    settings = LearnerSettings(learning_rate=1e-3, warmup_steps=0, max_tokens_per_forward=60, threads=1)
    unit = Learner(model, SPECIAL, settings, pad_id=0)
    data = awkward_trees()
    results = [unit.step(data, np.linspace(0.2, 1, len(data))) for _ in range(STEPS)]
    kept = ("loss", "policy_loss", "value_loss", "grad_norm", "ratio_mean")
    return [[*(one.metrics[name] for name in kept), *map(float, one.values)] for one in results]


def launch(count, arguments, **options):
    """As many processes as a launcher would start, over gloo on this machine; what each one printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ, "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true",
    }  # fmt: skip
    started = [
        subprocess.Popen(
            [sys.executable, *arguments],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        for rank in range(count)
    ]
    try:
        found = [one.communicate(timeout=240) for one in started]
    finally:
        for one in started:
            one.kill()
            one.wait()
    for one, (_, errors) in zip(started, found, strict=True):
        assert one.returncode == 0, errors
    return [out for out, _ in found]


def test_two_processes_have_the_loss_trajectory_of_one():
    found = [json.loads(out.splitlines()[-1]) for out in launch(2, [__file__])]
    for adapter in (False, True):
        expected = np.array(trajectory(adapter))
        for each in found:
            np.testing.assert_allclose(each[adapter], expected, rtol=1e-5, atol=1e-6)
        assert abs(expected[-1] - expected[0]).max() > 1e-3  # the steps changed something


@pytest.mark.slow
def test_a_run_of_two_processes_learns_what_a_run_of_one_learns(tiny_model, tmp_path):
    config = {
        "iterations": 2, "problems_per_iteration": 2, "steps_per_iteration": 2,
        "model": {"path": str(tiny_model)}, "problems": [{"name": "word", "max_steps": 2}],
        "thoughts": {"path_budget": 32, "max_text": 8, "max_answer": 8},
        "search": {"budget_tokens": 128, "tree": {"simulations": 3}}, "engine": {"slots": 8, "threads": 1},
        "learner": {"batch_size": 4, "warmup_steps": 0, "threads": 1},
        "evaluation": {"problems": [{"name": "word", "limit": 1}], "search": 0},
    }  # fmt: skip
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    losses = {}
    for count in (1, 2):
        command = "from llama_o1.cli import main; raise SystemExit(main())"
        given = ["train", "--config", str(tmp_path / "run.yaml"), "--run_dir", str(tmp_path / f"{count}")]
        launch(count, ["-c", command, *given])
        launch(count, ["-c", command, *given, "--iterations", "3", "--resume", "true"])
        lines = [
            json.loads(line) for line in (tmp_path / f"{count}" / "metrics.jsonl").read_text().splitlines()
        ]
        losses[count] = [line["loss"] for line in lines if line["phase"] == "step"]
    assert len(losses[1]) == 6
    assert losses[2] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_all_processes_together_have_every_experience_once(count):
    data = awkward_trees()
    shares = [share_of(data, process, count) for process in range(count)]
    assert sorted(i for share in shares for i in share) == list(range(len(data)))


def test_shares_are_even_in_tokens():
    data = awkward_trees()
    sizes = [sum(data[i].context.size + data[i].ids.size for i in share_of(data, p, 2)) for p in (0, 1)]
    longest = max(e.context.size + e.ids.size for e in data)
    assert abs(sizes[0] - sizes[1]) <= longest


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.stdout.write(json.dumps([trajectory(False), trajectory(True)]) + "\n")
