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


@pytest.fixture(scope="module")
def outcomes(tiny_model, tmp_path_factory):
    """What differs after a kill at each point; one process imports, forked ones run and die."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tiny_model), str(tmp_path_factory.mktemp("killed")), *POINTS],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize("point", POINTS)
def test_a_run_killed_at_this_point_resumes_to_the_same_bytes(outcomes, point):
    assert outcomes[point] == []


def test_a_hook_is_told_each_point_until_it_is_taken_away():
    heard = []
    on_reach(heard.append)
    reach("run: begun")
    on_reach(None)
    reach("run: begun")
    assert heard == ["run: begun"]
