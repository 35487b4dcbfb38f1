"""PublishedWeights: a learner's weights as a folder that another engine reads. Knows no engine.

Merged Hugging Face safetensors with their config and nothing else, whole or not there.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from llama_o1.errors import RunError
from llama_o1.learn.model import CausalLM, merged


class PublishedWeights:
    """One folder a version, `NNNNNN`, in a temporary place until `keep_in` names one; gone when closed."""

    def __init__(self) -> None:
        self._temporary: TemporaryDirectory[str] | None = None
        self._kept: Path | None = None

    @property
    def place(self) -> Path:
        """Where the folders are; a temporary place is made when it is first asked for."""
        if self._kept is not None:
            return self._kept
        if self._temporary is None:
            self._temporary = TemporaryDirectory(prefix="llama-o1-weights-")
        return Path(self._temporary.name)

    def keep_in(self, place: Path) -> None:
        """Write into this place from now on; what a killed run left there goes."""
        self.close()
        self._kept = place.resolve()
        shutil.rmtree(self._kept, ignore_errors=True)

    def write(self, model: CausalLM, version: int) -> Path:
        """Write a model's weights, merged, and return their folder."""
        partial, target = self.place / f".{version:06d}.partial", self.place / f"{version:06d}"
        try:
            partial.mkdir(parents=True)
            merged(model).save_pretrained(partial)
            if target.exists():  # the version that was restored, or was there first
                shutil.rmtree(target)
            partial.rename(target)
        except OSError as error:
            raise RunError(
                f"cannot write the engine's weights to {target}: {error}; free some room"
            ) from error
        return target

    def keep_only(self, version: int) -> None:
        """Remove the folders of other versions."""
        for folder in self.place.glob("[0-9]*"):
            if int(folder.name) != version:
                shutil.rmtree(folder)

    def close(self) -> None:
        """Remove all that was written: it is a copy of what the learner has."""
        if self._kept is not None:
            shutil.rmtree(self._kept, ignore_errors=True)
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None
