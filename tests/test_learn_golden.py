"""Twenty learner steps, as they were: `python tests/golden/learner/remake.py` makes them again."""

import json
import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "golden" / "learner"
trace = runpy.run_path(str(FOLDER / "remake.py"))["trace"]


@pytest.mark.parametrize("packing", ["trie", "padded"])
def test_the_losses_of_twenty_steps_are_those_of_the_golden_file(packing):
    golden = json.loads((FOLDER / "steps.json").read_text("utf-8"))
    assert len(golden["steps"]) == golden["settings"]["steps"] == 20
    for found, expected in zip(trace(golden["settings"], packing), golden["steps"], strict=True):
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)  # other processors round otherwise
