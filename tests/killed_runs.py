"""Runs that are killed at a named point and resumed, each in a forked process that has only imported.

    python killed_runs.py MODEL FOLDER POINT [POINT ...]

prints one JSON line a point: [point, what differs from a run that was never killed]. Fails when a point is
not reached, or a resumed run does not come to its end.

    python killed_runs.py MODEL FOLDER --kills 60 --seed 1

kills runs at random instants, resumes them until they end, and prints one JSON line for each that ended:
[times it was killed, what differs].
"""

import hashlib
import json
import logging
import math
import os
import shutil
import signal
import sqlite3
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

from llama_o1 import faults
from llama_o1.config import EngineSettings, EvaluationSettings, ModelSettings, RunConfig
from llama_o1.engine.local import LocalEngine
from llama_o1.learn.model import load_model
from llama_o1.learn.settings import LearnerSettings
from llama_o1.loop import Run
from llama_o1.play.expand import ThoughtSettings
from llama_o1.play.methods import MethodSettings
from llama_o1.tasks.mixture import ProblemSet
from tree.search import SearchSettings

ITERATIONS = 2
LAST = f"{ITERATIONS:06d}"
CLOCKLESS = ("learn", "step", "evaluate", "evaluate_values")


def config_of(model: str) -> RunConfig:
    return RunConfig(
        iterations=ITERATIONS,
        problems_per_iteration=2,
        steps_per_iteration=2,
        keep_checkpoints=2,
        report=False,
        model=ModelSettings(path=model),
        problems=(ProblemSet("word", max_steps=2),),
        evaluation=EvaluationSettings(problems=(ProblemSet("word", limit=1),), every=2, search=1),
        thoughts=ThoughtSettings(path_budget=32, max_text=8, max_answer=8, calculator=True),
        search=MethodSettings(budget_tokens=128, tree=SearchSettings(simulations=3)),
        engine=EngineSettings(slots=8, threads=1, cache_mb=64),
        learner=LearnerSettings(batch_size=4, learning_rate=1e-2, warmup_steps=0, threads=1),
    )


def in_a_fork(act: Callable[[], object], seconds: float = math.inf) -> bool:
    """Whether a forked process came to the end of this; False when it was killed, by us after these seconds.

    Its errors are ours.
    """
    child = os.fork()
    if child == 0:
        try:
            act()
            os._exit(0)
        except BaseException:
            logging.getLogger().exception("in a forked run")
            os._exit(1)
    deadline = time.monotonic() + seconds
    while seconds < math.inf and not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            break
        time.sleep(0.001)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    assert status == 0, "a forked run failed, see above"
    return True


def run(config: RunConfig, kill_at: str | None = None, visits: int = 1, seconds: float = math.inf) -> bool:
    """Begin or resume; whether it came to the end."""

    def act() -> None:
        left = visits

        def hook(point: str) -> None:
            nonlocal left
            left -= point == kill_at
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        faults.on_reach(hook)
        Run(replace(config, resume=Path(config.run_dir).exists())).train()

    return in_a_fork(act, seconds)


def fresh(folder: Path, whole: Path) -> None:
    """Nothing has happened yet."""


def stopped_midway(folder: Path, whole: Path) -> None:
    """A run that was killed in its second iteration, its trees written."""
    assert not run(replace(CONFIG, run_dir=str(folder)), "learner: stepped", 3)


def damaged(folder: Path, whole: Path) -> None:
    """A finished run whose last checkpoint lost a byte."""
    shutil.copytree(whole, folder)
    file = folder / "checkpoints" / LAST / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def killed_and_resumed(point: str, folder: Path, whole: Path) -> list[str]:
    """What differs from the whole run after a kill at this point; AssertionError when it is never reached."""
    situation, visit = ELSEWHERE.get(point, (fresh, LATER.get(point, 1)))
    shutil.rmtree(folder, ignore_errors=True)
    situation(folder, whole)
    config = replace(CONFIG, run_dir=str(folder))
    assert not run(config, point, visit), f"{point} is reached less than {visit} times"
    assert run(config)
    return differences(folder, whole)


def differences(folder: Path, whole: Path) -> list[str]:
    mine, theirs = everything(folder), everything(whole)
    return [name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)]


def everything(folder: Path) -> dict[str, str]:
    """Digests of all that a run leaves behind and that holds no clock."""
    files = [*(folder / "trees").iterdir(), *(folder / "checkpoints").glob("*/*")]
    # A mark made before a kill and made again has the next number, which the manifest's digest holds.
    found = {str(f.relative_to(folder)): f.read_bytes() for f in files if f.name != "manifest.json"}
    for name in [name for name in found if name.endswith("state.json")]:
        state = json.loads(found[name])
        del state["replay"]["mark"]
        found[name] = json.dumps(state).encode()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for i, line in enumerate(lines):
        found[f"metrics {i}"] = repr(line if line["phase"] in CLOCKLESS else line["phase"]).encode()
    reader = sqlite3.connect(f"file:{folder / 'replay' / 'replay.sqlite'}?mode=ro", uri=True)
    found["replay"] = repr(reader.execute("select * from live order by id").fetchall()).encode()
    reader.close()
    summary = (folder / "report" / "summary.md").read_text().replace(str(folder), "")
    found["summary"] = summary.encode()
    return {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}


ELSEWHERE = {
    "trees: removed": (stopped_midway, 1),
    "replay: rewound": (stopped_midway, 1),
    "checkpoint: old one aside": (damaged, 1),
    "checkpoint: old one removed": (damaged, 1),
}
# Which time a point is reached, where the first is before anything was learned.
LATER = {
    "metrics: before append": 6,
    "metrics: appended": 6,
    "replay: before extend": 4,
    "replay: extended": 4,
    "replay: before priorities": 2,
    "replay: priorities updated": 3,
    "replay: before mark": 2,
    "replay: marked": 3,
    "learner: before step": 2,
    "learner: stepped": 3,
    "engine: before weights": 2,
    "engine: weights changed": 3,
    "trees: written": 2,
} | {point: 2 for point in faults.POINTS if point.startswith("checkpoint: ") and "prun" not in point}


def soak(kills: int, seed: int, span: float, folder: Path, whole: Path) -> Iterator[tuple[int, list[str]]]:
    """Of runs killed at random instants of about a run's length: how often, and what differs at their end."""
    rng, config, times, done = Random(seed), replace(CONFIG, run_dir=str(folder)), 0, 0
    while done < kills or times:
        if not run(config, seconds=rng.uniform(0, 1.2 * span) if done < kills else math.inf):
            times, done = times + 1, done + 1
            continue
        yield times, differences(folder, whole)
        shutil.rmtree(folder)
        times = 0


def main() -> None:
    parser = ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("points", nargs="*")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    whole, killed = given.folder / "whole", given.folder / "killed"
    LocalEngine(load_model(given.model).model).close()  # what every run loads first, loaded once
    began = time.monotonic()
    assert run(replace(CONFIG, run_dir=str(whole)))
    span = time.monotonic() - began
    for point in given.points:
        sys.stdout.write(json.dumps([point, killed_and_resumed(point, killed, whole)]) + "\n")
    for ended in soak(given.kills, given.seed, span, killed, whole) if given.kills else ():
        sys.stdout.write(json.dumps(ended) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    CONFIG = config_of(sys.argv[1])
    main()
