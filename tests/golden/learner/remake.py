"""Makes steps.json again after a wanted change: `python tests/golden/learner/remake.py`."""

import json
import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parents[1]))

from learning import SPECIAL, awkward_trees, make_model  # noqa: E402

from llama_o1.learn.settings import LearnerSettings  # noqa: E402
from llama_o1.learn.trainer import Learner  # noqa: E402


def trace(settings, packing):
    """Some metrics of each step on batches that move through the awkward trees."""
    chosen = LearnerSettings(**settings["learner"], packing=packing, threads=1)
    unit = Learner(make_model(settings["architecture"]), SPECIAL, chosen, pad_id=0)
    data, size = awkward_trees(), settings["learner"]["batch_size"]
    steps = []
    for step in range(settings["steps"]):
        batch = [data[(step * size + i) % len(data)] for i in range(size)]
        metrics = unit.step(batch, np.linspace(0.5, 1.5, size)).metrics
        steps.append({name: metrics[name] for name in settings["metrics"]})
    return steps


def remake():
    """Write the file again, with the settings it has."""
    path = FOLDER / "steps.json"
    settings = json.loads(path.read_text("utf-8"))["settings"]
    golden = {"settings": settings, "steps": trace(settings, "padded")}
    path.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    remake()
