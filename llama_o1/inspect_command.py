"""`llama-o1 inspect`: what it reads from its arguments, what it calls, and what it prints."""

from __future__ import annotations

import sys
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from llama_o1.arguments import check_writable, parse, parser_of
from llama_o1.errors import ConfigError, RunError
from llama_o1.printed import printed
from replay.inspect.datasets import MARGIN


def inspect(arguments: list[str]) -> int:
    """What a replay buffer holds, or saved trees; as text, JSON, pages or data sets."""
    given = parse(_parser(), arguments)
    folder = Path(given.folder)
    if not folder.exists():
        raise RunError(f"there is no {folder}; give a run folder, a replay folder or a file of trees")
    file = given.export[1] if given.export else None
    check_writable(given.html, file, None if given.json == "-" else given.json)
    line = _exported(folder, given)
    if line is not None:
        printed(line)
        return 0
    if folder.is_file() or given.tree is not None or given.compare is not None:
        _show_trees(folder, given.tree, given.compare, given.html, plain=given.plain)
        return 0
    if given.repair is not None:
        from replay.salvage import salvage

        printed(salvage(folder, given.repair).line(folder, Path(given.repair)))
        return 0
    from llama_o1.inspection import inspect_run

    for line in inspect_run(given):
        printed(line)
        sys.stdout.flush()  # what is served goes on
    return 0


def _exported(folder: Path, given: Namespace) -> str | None:
    """What became of an export of trees; None: none is wanted, or one of a buffer."""
    if given.export is None:
        return None
    from llama_o1.tree_export import check_export, export_trees, is_of_trees

    check_export(given)
    kind, file = given.export
    if kind == "openlongcot":
        from llama_o1.record_export import export_records

        return export_records(folder, Path(file))
    return export_trees(folder, given) if is_of_trees(folder) else None


def _parser() -> ArgumentParser:
    parser = parser_of("inspect", "Look into a run's replay buffer, also while the run goes on, or at trees.")
    parser.add_argument(
        "folder", type=str, help="a run or replay folder, or trees: a .jsonl or a run's trees/"
    )
    parser.add_argument(
        "--tree", type=str | None, help="show a tree: ITERATION/NUMBER of a run, line of a file"
    )
    parser.add_argument(
        "--compare", type=str | None, help="show another tree beside it; PATH:NAME is elsewhere"
    )
    parser.add_argument("--html", type=str | None, help="write an offline page: nodes, or trees")
    parser.add_argument(
        "--plain", type=bool, nargs="?", const=True, default=False, help="ASCII without colours, for logs"
    )
    parser.add_argument("--node", type=int | None, help="show one node with its path, tokens and targets")
    parser.add_argument(
        "--where", type=str | None, help="only these nodes: \"action = 'critic' and value > 0.9\""
    )
    parser.add_argument("--sort", type=str, default="priority", help="column that orders the nodes")
    parser.add_argument("--limit", type=int | None, help="how many nodes: 10 are listed unless told")
    parser.add_argument("--sample", type=int, default=20_000, help="nodes looked at for groups; 0: all")
    parser.add_argument(
        "--export",
        nargs=2,
        type=str,
        metavar=("KIND", "FILE"),
        help="sft, prm, dpo, pairs, openlongcot; jsonl: of a buffer",
    )
    parser.add_argument(
        "--margin", type=float, default=MARGIN, help="of value targets, between thoughts of dpo"
    )
    parser.add_argument(
        "--json", type=str | None, nargs="?", const="-", help="write JSON to this file; alone: print it"
    )
    parser.add_argument("--serve", action="store_true", help="the page, live, for this machine's browser")
    parser.add_argument("--port", type=int, default=0, help="of --serve; 0: any that is free")
    parser.add_argument("--tokenizer", type=str | None, help="a tokenizer.json; the run's own unless told")
    parser.add_argument(
        "--repair", type=str | None, help="save what is whole of a damaged file in this folder"
    )
    return parser


def _show_trees(place: Path, tree: str | None, compare: str | None, html: str | None, *, plain: bool) -> None:
    """Print saved trees, or write them to a page; two of them side by side."""
    from llama_o1.saved import saved_tree, saved_trees
    from llama_o1.shown import page_of, row_text
    from llama_o1.texts import decoder_of

    if tree is None and compare is not None:
        raise ConfigError("--compare needs a tree to compare with; give --tree too")
    names = [name for name in (tree, compare) if name is not None]
    rows = [saved_tree(place, name, decoder_of) for name in names] if names else saved_trees(place)
    if compare is not None and rows[0]["problem"] != rows[1]["problem"]:
        raise ConfigError(
            f"{tree} and {compare} are trees of different problems; compare two of the same one"
        )
    if html is None:
        printed("\n\n".join(row_text(row, sys.stdout, plain=plain) for row in rows))
    else:
        page_of(rows, Path(html), compare=None if compare is None else (0, 1))
        printed(f"wrote {html}")
