"""`llama-o1 prefer` as the command line calls it."""

from __future__ import annotations

import sys

from llama_o1.arguments import build, parse, parser_of
from llama_o1.prefer.settings import PreferConfig


def prefer(arguments: list[str]) -> int:
    """Teach a model to compare solutions; prints what came of it."""
    words = "Teach a model which of two solutions is better, from trees of a run or from pairs."
    config = build(PreferConfig, parse(parser_of("prefer", words, PreferConfig), arguments))
    from llama_o1.prefer.lesson import prefer as taught

    line = taught(config).line()
    sys.stdout.write(f"{line}\nwrote {config.out}; use it with --model.path {config.out} ")
    sys.stdout.write("--search.answer pairwise\n")
    return 0
