"""`llama-o1 report`: what it reads from its arguments, what it calls, and what it prints."""

from __future__ import annotations

import json
from pathlib import Path

from llama_o1.arguments import check_writable, parse, parser_of
from llama_o1.errors import ConfigError
from llama_o1.printed import printed


def report(arguments: list[str]) -> int:
    """`llama-o1 report RUN [RUN ...]`: curves and a page of a run, or several runs compared."""
    parser = parser_of("report", "Curves and a page of a run, finished or running; several runs compared.")
    parser.add_argument("runs", type=str, nargs="+", help="run folders; runs of other seeds become a mean")
    parser.add_argument("--html", type=str | None, help="write one offline page to this file")
    parser.add_argument(
        "--json", type=str | None, nargs="?", const="-", help="write JSON to this file; alone: print it"
    )
    given = parse(parser, arguments)
    check_writable(given.html, None if given.json == "-" else given.json)
    from llama_o1.report.groups import groups
    from llama_o1.report.record import read_run
    from llama_o1.report.table import as_json, terminal_text
    from llama_o1.report.write import write_page, write_report
    from llama_o1.run import write_whole

    paths = [Path(name) for name in given.runs]
    if len({path.resolve() for path in paths}) < len(paths):
        raise ConfigError("a run is named twice; name each once")
    records = [read_run(path) for path in paths]
    found = groups(records)
    wrote = [str(write_report(paths[0], pages=True))] if len(paths) == 1 else []
    if given.html is not None:
        write_page(records, Path(given.html))
        wrote.append(given.html)
    if given.json is not None:
        text = json.dumps(as_json(found), indent=1, allow_nan=False, default=str)
        if given.json == "-":
            printed(text)
            return 0
        write_whole(Path(given.json), text + "\n")
        wrote.append(given.json)
    printed(terminal_text(found))
    for name in wrote:
        printed(f"wrote {name}")
    return 0
