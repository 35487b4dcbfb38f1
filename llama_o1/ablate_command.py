"""`llama-o1 eval --ablate`: what it reads from its arguments, what it calls, and what it says."""

from __future__ import annotations

import json
from pathlib import Path

from llama_o1.arguments import build, check_writable, parse, parser_of


def ablate_command(arguments: list[str]) -> str:
    """Leave parts out of one search and compare; what is printed."""
    from llama_o1.measure.ablate_settings import AblateConfig

    words = "Leave out one part of a search, or of the self-play before it, at a time: what does it bring?"
    parser = parser_of("eval --ablate", words, AblateConfig)
    parser.add_argument("--json", type=str | None, help="write the result to this file too")
    given = parse(parser, [a.replace("--problems.limit", "--limit", 1) for a in arguments])
    file = given.pop("json")
    config = build(AblateConfig, given)
    check_writable(file)
    from llama_o1.ablation import ablate
    from llama_o1.measure.forest import terminal
    from llama_o1.run import write_whole

    result = ablate(config)
    said = [terminal(result), f"wrote {config.out}: result.json, table.md, effects.png, trials.jsonl"]
    if file is not None:
        write_whole(Path(file), json.dumps(result, indent=1) + "\n")
        said.append(f"wrote {file}")
    return "\n".join(said)
