"""How trees are shown to whoever asked for them: as text for a stream, and as one offline page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from llama_o1.errors import RecordError
from llama_o1.run import write_whole
from tree.node import Node
from tree.page import html_page, winning_leaf
from tree.record import from_row
from tree.terminal import one_line, terminal_tree, wants_colour, writes_signs

if TYPE_CHECKING:
    from llama_o1.answer import Answered

_WIDTH = 110  # where the stream is no terminal


def answer_text(one: Answered, stream: TextIO, *, plain: bool) -> str:
    """A searched problem: the tree, its winning line, the answer, and what it cost."""
    tree, vote = one.tree, one.vote
    spent = f"{tree.tokens_used} tokens, {len(tree.nodes) - 1} thoughts, {one.seconds:.1f} s"
    spent += f"; stopped: {tree.stopped}" if tree.stopped else ""
    return _text(tree.nodes, vote.leaf, vote.answer, vote.confidence, spent, stream, plain)


def row_text(row: dict[str, Any], stream: TextIO, *, plain: bool) -> str:
    """A saved tree, as `answer_text`, under its name."""
    nodes, _ = from_row(row)
    seconds = "" if row["seconds"] is None else f", {row['seconds']:.1f} s"
    spent = f"{row['tokens_used']} tokens, {len(nodes) - 1} thoughts{seconds}"
    leaf = winning_leaf(nodes, row)
    text = _text(nodes, leaf, row["answer"], row["confidence"], spent, stream, plain)
    return f"tree {row['name']}\n{text}"


def page_of(rows: Sequence[dict[str, Any]], file: Path, *, compare: tuple[int, int] | None = None) -> None:
    """Write one offline page with these trees; RecordError when it cannot show them."""
    try:
        page = html_page(rows, "LLaMA-O1 search", compare=compare)
    except ValueError as error:
        raise RecordError(str(error)) from None
    write_whole(file, page)


def _text(
    nodes: Sequence[Node],
    leaf: int | None,
    answer: str | None,
    confidence: float | None,
    spent: str,
    stream: TextIO,
    plain: bool,
) -> str:
    ascii_only = plain or not writes_signs(stream)
    line = _line_to(nodes, leaf)
    thoughts = [f"  {nodes[i].action:<9} {one_line(nodes[i].text, plain=ascii_only)}" for i in line[1:]]
    drawn = terminal_tree(
        nodes,
        colour=not plain and wants_colour(stream, os.environ),
        width=shutil.get_terminal_size((_WIDTH, 40)).columns,
        best=set(line),
        plain=ascii_only,
    )
    declared = "no answer was declared" if answer is None else one_line(answer, plain=ascii_only)
    return "\n".join(
        [
            drawn,
            "",
            *(["line of thought:", *thoughts, ""] if thoughts else []),
            f"answer: {declared}",
            f"confidence: {'unknown' if confidence is None else f'{confidence:.2f}'}",
            f"spent: {spent}",
        ]
    )


def _line_to(nodes: Sequence[Node], leaf: int | None) -> list[int]:
    """Indices from the root to the leaf; none where there is no leaf."""
    line: list[int] = []
    index = -1 if leaf is None else leaf
    while index >= 0:
        line.append(index)
        index = nodes[index].parent
    return line[::-1]
