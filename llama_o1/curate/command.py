"""`llama-o1 curate`: a selection, its repetition from a manifest, and what two sets share."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from llama_o1.arguments import build, parse, parser_of, value_of
from llama_o1.errors import ConfigError
from llama_o1.printed import printed

log = logging.getLogger(__name__)


def curate(arguments: list[str]) -> int:
    """Select problems, or one of the two other things."""
    if arguments[:1] == ["overlap"]:
        return _overlap(arguments[1:])
    from llama_o1.curate.settings import CurateConfig

    words = (
        "Select good, hard and varied problems out of many, as s1 does; `curate overlap TRAIN EVAL` lists "
        "what two sets share."
    )
    parser = parser_of("curate", words, CurateConfig)
    parser.add_argument(
        "--manifest", type=str | None, help="instead: write the selection of this manifest.json once more"
    )
    parser.add_argument("--json", type=str | None, help="write the funnel to this file too")
    if arguments and not arguments[0].startswith("-"):
        raise ConfigError(f"no curation {arguments[0]!r}; there is overlap, or settings as --config FILE")
    given = parse(parser, arguments)
    manifest, json_file = given.pop("manifest"), given.pop("json")
    if manifest is not None:
        return _remake(Path(manifest), value_of(arguments, "--out"))
    config = build(CurateConfig, given)
    from llama_o1.curate.pipeline import DATA
    from llama_o1.curate.pipeline import curate as curated
    from llama_o1.run import write_whole

    funnel = curated(config)
    printed(funnel.table())
    if json_file is not None:
        write_whole(Path(json_file), json.dumps(funnel.as_json(), indent=1, ensure_ascii=False) + "\n")
        printed(f"wrote {json_file}")
    printed(f"wrote {config.out}: {DATA}, manifest.json, funnel.json, funnel.png")
    return 0


def _remake(manifest: Path, out: str | None) -> int:
    if out is None:
        raise ConfigError("--manifest needs --out FILE.jsonl, where the selection is to be written")
    from llama_o1.curate.manifest import remake

    count = remake(manifest, Path(out))
    printed(f"wrote {out}: {count} problems, the same bytes as {manifest} was written with")
    return 0


def _overlap(arguments: list[str]) -> int:
    """Word n-grams that two problem sets share."""
    parser = parser_of("curate overlap", "List pairs of problems that share words in a row.")
    parser.add_argument("train", type=str, help="a problem set or a JSONL file")
    parser.add_argument("eval", type=str, help="a problem set or a JSONL file")
    parser.add_argument("--words", type=int, default=8, help="how many in a row")
    parser.add_argument("--column", type=str, default="question", help="where a file keeps its questions")
    given = parse(parser, arguments)
    if given.words < 1:
        raise ConfigError(f"words must be at least 1, got {given.words}")
    from llama_o1.tasks.overlap import overlaps, questions

    train, held = questions(given.train, "train", given.column), questions(given.eval, "test", given.column)
    pairs = 0
    for found in overlaps(train, held, given.words):
        pairs += 1
        printed(json.dumps(found._asdict(), ensure_ascii=False))
    words = f"{given.words} words in a row"
    log.info("%d pairs of problems of %s and %s share %s", pairs, given.train, given.eval, words)
    return 0
