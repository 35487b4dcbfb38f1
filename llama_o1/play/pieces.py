"""The tokens of a thought as text, one piece a token, for people who look at a tree.

Made from the ids on record when a tree is shown or written, never while it grows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llama_o1.format.encode import Codec
from llama_o1.play.expand import trail_of
from tree.node import Tree
from tree.pieces import Piece

Decode = Callable[[list[int]], str]

_BEFORE = 4  # ids read together with the first, as some tokenizers drop the space that begins a text
_DIGITS = 4  # of a log-prob; a page shows three
_PART = "\ufffd"  # what a decoder ends with where the bytes of a character are not all there


def tree_pieces(tree: Tree, codec: Codec) -> list[list[Piece]]:
    """The pieces of every thought of a tree that a search has grown, the root's all forced."""
    made = []
    for node in tree.nodes:
        trail = trail_of(tree, node.index)
        before, own = list(trail.context[: trail.before]), list(trail.context[trail.before :])
        drawn: list[float | None] = [None] * len(own)
        if trail.sample is not None:
            for i in trail.sample.sampled[: len(own)].nonzero()[0]:  # a line's end is in its answer
                drawn[i] = float(trail.sample.logprobs[i])
        made.append(pieces(codec.decode, before, own, drawn))
    return made


def pieces(
    decode: Decode, before: Sequence[int], ids: Sequence[int], logprobs: Sequence[float | None]
) -> list[Piece]:
    """One piece an id. `before` are the ids the thought follows; `logprobs` hold None where forced."""
    return [
        Piece(text, None if logprob is None else round(min(logprob, 0.0), _DIGITS))
        for text, logprob in zip(_texts(decode, list(before[-_BEFORE:]), list(ids)), logprobs, strict=True)
    ]


def with_pieces(row: dict[str, Any], made: Sequence[Sequence[Piece] | None]) -> dict[str, Any]:
    """The row with its nodes' pieces, in the order of the nodes; None: the tokens are not on record."""
    records = [
        record if of is None else record | {"pieces": [list(piece) for piece in of]}
        for record, of in zip(row["nodes"], made, strict=True)
    ]
    return row | {"nodes": records}


def _texts(decode: Decode, before: list[int], ids: list[int]) -> list[str]:
    """What each id adds to the text before it; an id that leaves a character unfinished adds nothing yet."""
    known, texts = [*before, *ids], []
    start, read = 0, len(before)  # known[start:read] is context whose text is out already
    for end in range(len(before) + 1, len(known) + 1):
        shown, now = decode(known[start:read]), decode(known[start:end])
        if now.endswith(_PART) and end < len(known):
            texts.append("")
            continue
        texts.append(now[len(shown) :])
        start, read = read, end
    return texts
