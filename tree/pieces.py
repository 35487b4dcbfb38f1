"""The tokens of a thought as a row carries them: what each reads as, and how it came to be there.

A node of a row may hold `pieces`, one `[text, logprob]` a token; joined, the texts are the thought exactly
as the model saw and wrote it, header and rating included. Nothing here knows a tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast


class Piece(NamedTuple):
    """One token of a thought."""

    text: str  # "" where a character is not whole yet; the token that completes it holds it
    logprob: float | None  # under the distribution it was sampled from; None: it was forced


def check_pieces(pieces: object, where: str) -> None:
    """ValueError with the place when this is not what a node's `pieces` may hold; None is: not recorded."""
    if pieces is None:
        return
    if not isinstance(pieces, list):
        raise ValueError(f"{where}: pieces must be a list or null, got {pieces!r:.60}")
    for i, piece in enumerate(cast(list[object], pieces)):
        pair = cast(Sequence[object], piece) if isinstance(piece, list | tuple) else ()
        if not (len(pair) == 2 and _holds(*pair)):
            raise ValueError(
                f"{where}: piece {i} must be [text, log-prob of at most 0 or null], got {piece!r:.60}"
            )


def _holds(text: object, logprob: object) -> bool:
    if not isinstance(text, str):
        return False
    return logprob is None or (type(logprob) in (int, float) and -1e9 <= logprob <= 0)  # type: ignore[operator]
