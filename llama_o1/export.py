"""What a run learned as plain Hugging Face weights with their tokenizer, which any loader reads."""

from __future__ import annotations

from pathlib import Path

from llama_o1.errors import RunError
from llama_o1.learn.model import export_model
from llama_o1.learn.shelf import MANIFEST, best_checkpoint, checkpoint_at, latest_checkpoint


def export_run(run: Path, out: Path, which: str = "last") -> Path:
    """Write a checkpoint's model into the new folder `out`, an adapter merged; the checkpoint it is from.

    `which`: last, best or an iteration. RunError when the run has no such checkpoint that is whole,
    ModelError when `out` is in the way.
    """
    source = _checkpoint(run, which)
    export_model(source, out)
    return source


def _checkpoint(run: Path, which: str) -> Path:
    folder = run / "checkpoints"
    if (run / MANIFEST).exists():
        folder, which = run.parent, run.name
    elif not folder.is_dir():
        raise RunError(f"{run} is no run folder: it has no checkpoints; name the --run_dir of a run")
    if which == "last":
        found = latest_checkpoint(folder)
    elif which == "best":
        found = best_checkpoint(folder)
    elif which.isdecimal():
        found = checkpoint_at(folder, int(which))
    else:
        raise RunError(f"--checkpoint must be last, best or an iteration, got {which}")
    if found is None:
        held = ", ".join(sorted(path.name for path in folder.glob("[0-9]*"))) or "none"
        raise RunError(f"{run} has no whole checkpoint {which}; there are: {held}")
    return found
