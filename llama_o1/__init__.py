"""LLaMA-O1: one language model as policy and value, tree search, replay and self-play training."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

__version__ = "0.1.0"


def _check_neighbours() -> None:
    """Refuse to start when another distribution has taken the import name `tree` or `replay`."""
    home = Path(__file__).resolve().parent.parent
    for name in ("tree", "replay"):
        spec = find_spec(name)
        origin = None if spec is None or spec.origin is None else Path(spec.origin).resolve()
        if origin is None or origin.parent.parent != home:
            raise ImportError(
                f"llama_o1 needs its own package `{name}` beside it in {home}, but `import {name}` finds "
                f"{origin}; another distribution (dm-tree uses the name `tree`) has taken it: "
                "install llama-o1 in a virtual environment of its own"
            )


_check_neighbours()
