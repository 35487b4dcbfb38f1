"""A writer is killed again and again; replay_kills.py says what must be left each time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "replay_kills.py"


def killed(folder, kills, seed):
    command = [sys.executable, str(SCRIPT), str(folder), "--kills", str(kills), "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_200_kills_lose_nothing_acknowledged_and_leave_nothing_by_halves(tmp_path):
    found = killed(tmp_path, 200, 0)
    assert found["kills"] == 200
    assert found["acknowledged"] > 200
    assert {"add", "update"} <= found["under_way"].keys()


@pytest.mark.slow
def test_1000_kills_lose_nothing_acknowledged_and_leave_nothing_by_halves(tmp_path):
    found = killed(tmp_path, 1000, 1)
    assert {"open", "add", "update", "drop", "mark", "rewind", "reopen"} <= found["under_way"].keys()
