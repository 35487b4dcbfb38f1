"""`llama-o1 init`: our tokens for any causal LM, and a table of what was added."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_o1.arguments import build, parse, parser_of
from llama_o1.measure.cells import aligned
from llama_o1.printed import printed

if TYPE_CHECKING:
    from llama_o1.learn.init import Initialised


def init(arguments: list[str]) -> int:
    """Add the special tokens to a model."""
    from llama_o1.learn.init_settings import InitSettings

    parser = parser_of("init", "Add the special tokens to any Hugging Face causal LM.")
    parser.add_argument("model", type=str, help="a model folder or a Hugging Face name")
    parser.add_argument("out", type=str, help="the folder to write")
    parser.add_argument("--json", type=str | None, help="write what was added to this file too")
    parser.add_class_arguments(InitSettings, as_group=False)
    given = parse(parser, arguments)
    model, out, json_file = (given.pop(name) for name in ("model", "out", "json"))
    settings = build(InitSettings, given)
    from llama_o1.learn.init import init_model
    from llama_o1.run import write_whole

    done = init_model(
        model,
        out,
        seed=settings.seed,
        noise=settings.noise,
        start=settings.start,
        reference=None if settings.reference is None else [settings.reference],
        pad_to=settings.pad_to,
        marks=settings.marks,
    )
    printed(table(done))
    if json_file is not None:
        write_whole(Path(json_file), json.dumps(as_json(done), indent=1, ensure_ascii=False) + "\n")
        printed(f"wrote {json_file}")
    printed(f"added {len(done.added)} tokens to {model}; each is one id, and the weights read back as saved")
    printed(f"wrote {out}")
    return 0


def table(done: Initialised) -> str:
    """A line a token: its id, how many ids its text took before, its probability before and after."""
    head = ("token", "id", "ids before", "p before", "p after", "")
    rows = [
        (
            one.token,
            str(one.id),
            str(one.pieces),
            _chance(one.probability_before),
            _chance(one.probability),
            "" if one.added else "was there",
        )
        for one in done.tokens
    ]
    start = " ".join(map(repr, done.started_from)) or "all tokens"
    tied = "tied" if done.tied else "not tied"
    return "\n".join(
        [
            aligned([head, *rows], left=(0, 5)),
            "",
            f"rows: {done.rows_before} before, {done.rows} now, {tied}; started from {start}",
        ]
    )


def as_json(done: Initialised) -> dict[str, Any]:
    """The same as JSON."""
    return {**asdict(done), "tokens": [one._asdict() for one in done.tokens]}


def _chance(probability: float | None) -> str:
    return "" if probability is None else f"{probability:.2e}"
