"""Token ids of a run as text, by the run's own tokenizer. Loads no torch and no transformers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llama_o1.errors import RunError
from llama_o1.format import tokens as t
from llama_o1.format.compare import plain
from replay.experience import Experience

_THOUGHT = re.compile(rf"{t.START_OF_THOUGHT}(.*?){t.END_OF_THOUGHT}", re.DOTALL)


class RunTexts:
    """Token ids of a run as text."""

    def __init__(self, tokenizer_file: Path) -> None:
        """Read a `tokenizer.json`; RunError when it is none."""
        from tokenizers import Tokenizer

        try:
            self._tokenizer: Any = Tokenizer.from_file(str(tokenizer_file))
        except Exception as error:  # the library raises no narrower one
            raise RunError(f"{tokenizer_file} is not a tokenizer: {error}") from None

    def decode(self, ids: list[int]) -> str:
        """The text of ids, special tokens included."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))

    def decode_all(self, rows: list[list[int]]) -> list[str]:
        """The text of many rows of ids."""
        return [str(text) for text in self._tokenizer.decode_batch(rows, skip_special_tokens=False)]

    def pieces(self, experience: Experience) -> Sequence[tuple[str, float | None]]:
        """A node's own tokens as text, each with its log-prob; None where it was forced."""
        from llama_o1.play.pieces import pieces

        e = experience
        pairs = zip(e.logprobs.tolist(), e.sampled.tolist(), strict=True)
        drawn = [logprob if sampled else None for logprob, sampled in pairs]
        return list(pieces(self.decode, e.context.tolist(), e.ids.tolist(), drawn))

    def thoughts(self, ids: list[int]) -> list[str]:
        """The texts of the thoughts in these ids, plain: no tags, marks or ratings. The root's is first."""
        text = self.decode(ids)
        found = _THOUGHT.findall(text) or [text]
        return [plain(thought) for thought in found]


def texts_of(folder: Path, tokenizer: str | None) -> RunTexts | None:
    """The run's own tokenizer, or the one named (a file, or a folder that holds it); None: there is none."""
    if tokenizer is not None:
        path = Path(tokenizer)
        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.is_file():
            raise RunError(f"no tokenizer at {file}; give a tokenizer.json or a folder that holds one")
        return RunTexts(file)
    files = sorted((run_of(folder) / "checkpoints").glob("[0-9]*/tokenizer.json"))
    return RunTexts(files[-1]) if files else None


def decoder_of(folder: Path) -> Callable[[list[int]], str] | None:
    """How the run's own tokenizer reads ids; None: it has none."""
    texts = texts_of(folder, None)
    return texts.decode if texts else None


def run_of(folder: Path) -> Path:
    """The run folder, also when its replay folder is given."""
    path = folder.resolve()
    return path.parent if path.name == "replay" and not (path / "checkpoints").exists() else path
