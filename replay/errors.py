"""The one error of replay/: a user's mistake, or a file that cannot be trusted."""

from __future__ import annotations

from pathlib import Path


class ReplayError(Exception):
    """A replay buffer cannot do what was asked; the message says what was found and what to change."""


def damaged(path: Path, found: str) -> ReplayError:
    """The error of a file that cannot be trusted, with the command that saves what is whole of it."""
    return ReplayError(
        f"{path} is damaged: {found}; `llama-o1 inspect {path.parent} --repair FOLDER` saves what is whole"
    )
