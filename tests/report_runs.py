"""Run folders as a run of two iterations leaves them, written by hand: what tests of reports look into."""

import json

import yaml
from small_run import write_run

SETS = {"word 4": ("0001", "0011", "0111"), "svamp": ("10", "10", "11")}  # greedy at iterations 0, 1 and 2


def write_reported(folder, *, seed=0, learning_rate=1e-4, sets=SETS, iterations=2, trees=True):
    """Write the folder; with `trees` iteration 1 has the two trees of small_run, which the buffer holds."""
    folder.mkdir(parents=True)
    if trees:
        write_run(folder)
    config = {
        "run_dir": str(folder),
        "seed": seed,
        "iterations": iterations,
        "model": {"path": "nano"},
        "learner": {"learning_rate": learning_rate, "betas": [0.9, 0.999]},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    lines = [line for step in range(iterations + 1) for line in metrics(step)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    looks = [look(name, step, held[step]) for name, held in sets.items() for step in range(iterations + 1)]
    state = {"history": {"looks": looks, "trees": 4, "nodes": 40, "tokens": 1200}}
    checkpoint = folder / "checkpoints" / f"{iterations:06d}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.json").write_text(json.dumps(state), encoding="utf-8")
    return folder


def look(name, step, correct):
    when = ("before", "during", "after")[step]
    return {
        "when": when,
        "iteration": step,
        "method": "greedy",
        "set": name,
        "correct": correct,
        "tokens": 50,
    }


def metrics(step):
    """The lines of one iteration; of 0 what was measured before."""
    values = {
        "count": 30, "count_inner": 20, "count_conclude": 10, "count_expand": 20, "count_depth_2": 30,
        "auc": (14 + step) / 20, "auc_low": 0.6, "auc_high": 0.9, "ece": 0.2 - step / 20, "ece_low": 0.02,
        "ece_high": 0.3, "brier": 0.1, "auc_inner": 0.66, "ece_inner": 0.05, "brier_inner": 0.2,
        "brier_conclude": 0.125, "bin_0_count": 20, "bin_0_value": 0.05, "bin_0_label": 0.1,
        "bin_9_count": 10, "bin_9_value": 0.95, "bin_9_label": 0.8,
    }  # fmt: skip
    for name, value in (("word 4", 0.5), ("svamp", 0.625)):
        of_set = {"set": name, "thoughts": 15, "value": value, "label": 0.5 + step / 20, "ece": 0.1}
        yield {"step": step, "phase": "evaluate", "method": "greedy", **of_set}
    yield {"step": step, "phase": "evaluate_values", "method": "greedy", **values}
    if step:
        yield {"step": step, "phase": "play", "right": 0.25, "solved": 0.5, "tokens_per_s": 900.0}
        for reuse in (0, 1):
            staleness = {"staleness_mean": reuse, "staleness_max": 2 * reuse}
            yield {"step": step, "phase": "step", "auc": 0.6, "ece": 0.1, "brier": 0.2, **staleness}
        learned = {
            "approx_kl": 0.01,
            "reference_kl": 0.0,
            "clip_fraction": 0.1,
            "entropy": 0.3,
            "policy_loss": 0,
        }
        buffer = {"replay_age_mean": 0.5, "replay_age_max": step - 1, "replay_size": 40.0}
        yield {"step": step, "phase": "learn", **learned, "value_loss": 0.4, "grad_norm": 0.2, **buffer}
        yield {"step": step, "phase": "clock", "cpu_s": 40.0, "wall_s": 60.0}
