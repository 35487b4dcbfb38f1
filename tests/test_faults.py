"""A run killed at any named point and resumed ends as one that was never killed, byte for byte."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llama_o1.faults import POINTS, on_reach, reach

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are killed in forked processes")
SCRIPT = Path(__file__).with_name("killed_runs.py")


def killed_runs(model, folder, *arguments):
    """What the script prints: one process imports, forked ones run and die."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(model), str(folder), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def outcomes(tiny_model, tmp_path_factory):
    """What differs after a kill at each point."""
    return dict(killed_runs(tiny_model, tmp_path_factory.mktemp("killed"), *POINTS))


@pytest.mark.parametrize("point", POINTS)
def test_a_run_killed_at_this_point_resumes_to_the_same_bytes(outcomes, point):
    assert outcomes[point] == []


@pytest.mark.slow
def test_runs_killed_at_random_instants_end_as_one_that_was_never_killed(tiny_model, tmp_path):
    ended = killed_runs(tiny_model, tmp_path, "--kills", "100", "--seed", "1")
    assert sum(times for times, _ in ended) == 100
    assert [differs for _, differs in ended if differs] == []


def test_a_hook_is_told_each_point_until_it_is_taken_away():
    heard = []
    on_reach(heard.append)
    reach("run: begun")
    on_reach(None)
    reach("run: begun")
    assert heard == ["run: begun"]
