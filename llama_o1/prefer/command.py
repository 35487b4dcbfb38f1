"""`llama-o1 prefer` as the command line calls it."""

from __future__ import annotations

from llama_o1.arguments import build, parse, parser_of
from llama_o1.prefer.settings import PreferConfig
from llama_o1.printed import printed


def prefer(arguments: list[str]) -> int:
    """Teach a model to compare solutions; prints what came of it."""
    words = "Teach a model which of two solutions is better, from trees of a run or from pairs."
    config = build(PreferConfig, parse(parser_of("prefer", words, PreferConfig), arguments))
    from llama_o1.prefer.lesson import prefer as taught

    printed(taught(config).line())
    printed(f"wrote {config.out}; use it with --model.path {config.out} --search.answer pairwise")
    return 0
