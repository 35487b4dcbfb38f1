"""`llama-o1 inspect`: the buffer with what its run folder adds, lineage and trees as pages.

Loads no torch and no transformers; what only some questions need is imported where they are answered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from llama_o1.errors import RecordError, RunError
from llama_o1.texts import RunTexts, decoder_of, run_of, texts_of

MOST_TREE_PAGES = 500  # beside one page of nodes


def inspect_run(asked: Any) -> Iterator[str]:
    """Do what `llama-o1 inspect` was asked for; what it prints, piece by piece."""
    from replay.inspect.summary import render_node, render_summary

    folder = Path(asked.folder)
    texts = texts_of(folder, asked.tokenizer)
    decode = texts.decode if texts else None
    if asked.export is not None:
        yield _export(folder, asked, texts)
        return
    if asked.html is not None:
        yield from _html(folder, asked, texts)
        return
    if asked.serve:
        yield from _serve(folder, asked, texts)
        return
    if asked.json is not None:
        text = json.dumps(_as_json(folder, asked, texts), allow_nan=False)
        if asked.json == "-":
            yield text
        else:
            from llama_o1.run import write_whole

            write_whole(Path(asked.json), text + "\n")
            yield f"wrote {asked.json}"
        return
    if asked.node is not None:
        yield render_node(folder, asked.node, decode, lineage_of(folder))
        return
    yield render_summary(
        folder,
        decode,
        limit=10 if asked.limit is None else asked.limit,
        where=asked.where,
        sort=asked.sort,
        sample=asked.sample,
        plain=asked.plain,
    )


def _as_json(folder: Path, asked: Any, texts: RunTexts | None) -> dict[str, Any]:
    """One node with its lineage, or the overview with the first nodes."""
    from replay.inspect.page import node_json, overview_json, written
    from replay.inspect.query import ReplayReader

    with ReplayReader(folder) as reader:
        if asked.node is not None:
            detail = reader.node(asked.node)
            return node_json(detail, texts) | {"lineage": lineage_of(folder)(detail.experience.tree)}
        limit = 10 if asked.limit is None else asked.limit
        held = reader.held([item.id for item in reader.top(limit, asked.sort, asked.where)])
        nodes = []
        for item, experience in held:
            text = texts.decode(written(experience)) if texts else None
            nodes.append({**asdict(item), "text": text})
        return overview_json(reader, asked.where, asked.sample) | {"nodes": nodes}


def _export(folder: Path, asked: Any, texts: RunTexts | None) -> str:
    from llama_o1.run import write_lines
    from replay.inspect.export import export
    from replay.inspect.query import ReplayReader

    kind, file = asked.export
    with ReplayReader(folder) as reader:
        made = export(
            reader,
            kind,
            texts,
            where=asked.where,
            sort=asked.sort,
            limit=asked.limit,
            margin=asked.margin,
        )
        num_lines = write_lines(Path(file), made.lines)
    return f"wrote {num_lines:,} lines to {file}{made.said()}"


def _html(folder: Path, asked: Any, texts: RunTexts | None) -> Iterator[str]:
    """Write the page of the nodes, and the trees of the first of them beside it."""
    from llama_o1.run import write_whole
    from replay.inspect.page import MOST_ROWS, offline_page
    from replay.inspect.query import ReplayReader

    file = Path(asked.html)
    limit = MOST_ROWS if asked.limit is None else asked.limit
    with ReplayReader(folder) as reader:
        ids = [item.id for item in reader.top(min(limit, MOST_ROWS), asked.sort, asked.where)]
        trees = _tree_pages(folder, reader.trees_of(ids), file)
        page = offline_page(
            reader, texts, ids, where=asked.where, sort=asked.sort, sample=asked.sample, trees=trees
        )
        left_out = len(reader.ids(asked.where)) - len(ids)
    write_whole(file, page)
    yield f"wrote {file}: {len(ids):,} nodes, {left_out:,} left out"
    if trees:
        yield f"wrote {_beside(file)}: {len(trees):,} trees, linked from the nodes; keep it beside the page"


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.stem}.trees")


def _tree_pages(folder: Path, names: Sequence[str], file: Path) -> dict[str, str]:
    """Write the pages of these trees, the first MOST_TREE_PAGES of them; the address of each by its name."""
    from llama_o1.shown import page_of

    addresses: dict[str, str] = {}
    for name in names:
        if len(addresses) == MOST_TREE_PAGES:
            break
        row = _saved(folder, name)
        if row is None:
            continue
        beside = _beside(file)
        beside.mkdir(exist_ok=True)
        page = f"{name.replace('/', '-')}.html"  # of digits and one slash, as a saved tree's name is
        page_of([row], beside / page)
        addresses[name] = f"{quote(beside.name)}/{page}#1"
    return addresses


def _tree_page(folder: Path) -> Callable[[str], str]:
    """Makes the page of a tree by its name."""
    from replay.errors import ReplayError
    from tree.page import html_page

    def made(name: str) -> str:
        row = _saved(folder, name)
        if row is None:
            raise ReplayError(f"no tree {name[:40]!r} in {folder}")
        return html_page([row], f"Tree {name}")

    return made


def _saved(folder: Path, name: str) -> dict[str, Any] | None:
    """The tree of this name with its tokens; None: the run has not kept it."""
    if not re.fullmatch(r"\d{1,9}/\d{1,9}", name, re.ASCII):
        return None
    from llama_o1.saved import saved_tree

    try:
        return saved_tree(run_of(folder), name, decoder_of)
    except (RunError, RecordError):
        return None


def _serve(folder: Path, asked: Any, texts: RunTexts | None) -> Iterator[str]:
    """Serve the page until Ctrl-C."""
    from replay.inspect.serve import InspectServer

    has_trees = (run_of(folder) / "trees").is_dir()
    tree_page = _tree_page(folder) if has_trees else None
    with InspectServer(folder, texts, tree_page, port=asked.port, sample=asked.sample) as server:
        yield f"serving {folder} at {server.address} (this machine only, read-only); Ctrl-C stops it"
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def lineage_of(folder: Path) -> Callable[[str], dict[str, str]]:
    """Says of a tree by its name which run it is of, by which seed of the run and of the tree."""
    import yaml

    from llama_o1.saved import saved_tree

    run = run_of(folder)
    settings: dict[str, Any] = {}
    if (run / "config.yaml").is_file():
        settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")) or {}

    def lineage(tree: str) -> dict[str, str]:
        facts = {"run": str(run.resolve())}
        if "seed" in settings:
            facts["run's seed"] = str(settings["seed"])
        try:
            row = saved_tree(run, tree, lambda _: None)
        except RunError:  # the buffer may come without the run's trees
            return facts
        facts["question"] = str(row["problem"])
        return facts if row.get("seed") is None else facts | {"tree's seed": str(row["seed"])}

    return lineage
