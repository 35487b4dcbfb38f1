"""Reports on disk: `report/` of a run folder with pictures and pages, and one page of several runs elsewhere.

matplotlib is imported here and nowhere else in a run, when a picture is drawn.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from llama_o1.errors import RecordError, RunError
from llama_o1.measure.picture import write_png
from llama_o1.report.curves import charts
from llama_o1.report.groups import Group, groups
from llama_o1.report.page import Link, Picture, report_page
from llama_o1.report.record import RunRecord, read_run
from llama_o1.run import RunFolder, write_whole

log = logging.getLogger(__name__)

PAGE = "index.html"
MOST_PAGES = 12  # iterations whose trees get a page: those that were evaluated, the newest
MOST_TREES = 100  # on one page
MOST_BYTES = 16 << 20  # of a file of trees that gets a page
MOST_NODES = 2_000  # of the replay page: those of the highest priority


def report_if_it_can(run: Path, *, pages: bool) -> None:
    """`write_report`, of which a failure is one line in the log: a run goes on without its pictures."""
    try:
        write_report(run, pages=pages)
    except Exception as error:  # whatever is wrong with a picture, the run is worth more
        log.warning(
            "the report could not be written (%s: %s); `llama-o1 report %s` tries again",
            type(error).__name__,
            " ".join(str(error).split()),
            run,
        )


def write_report(run: Path, *, pages: bool) -> Path:
    """Write `report/`: a PNG for each curve and one page, which is returned; RunError when this is no run.

    With `pages` also the trees of evaluated iterations and the replay buffer, each a page that is linked.
    """
    record = read_run(run)
    folder = RunFolder(run).report
    folder.mkdir(exist_ok=True)
    if pages:
        tree_addresses = _write_trees(record, folder)
        _write_replay(record, folder, tree_addresses)
    found = groups([record])
    pictures = _drawn(found)
    for picture in pictures:
        write_png(folder / f"{picture.chart.name}.png", picture.png)
    page = report_page(found, pictures, _links(record, folder), _commands(record))
    write_whole(folder / PAGE, page)
    return folder / PAGE


def write_page(records: Sequence[RunRecord], file: Path) -> None:
    """Write one page of these runs, with links from where it lies to the reports of their own."""
    found = groups(records)
    links = [
        Link(f"report of {record.name}", _address(RunFolder(record.path).report / PAGE, file.parent))
        for record in records
        if (RunFolder(record.path).report / PAGE).is_file()
    ]
    write_whole(file, report_page(found, _drawn(found), links))


def _drawn(found: Sequence[Group]) -> list[Picture]:
    from llama_o1.report.draw import draw

    return [Picture(chart, draw(chart)) for chart in charts(found)]


def _write_trees(record: RunRecord, folder: Path) -> dict[str, str]:
    """Write the pages of trees; where each tree is to be seen, by its name, from `folder`."""
    from llama_o1.saved import trees_of_iteration
    from llama_o1.shown import page_of

    looked = {look.iteration for look in record.history.looks} | {record.iteration}
    addresses: dict[str, str] = {}
    for iteration in sorted(looked)[-MOST_PAGES:]:
        file = RunFolder(record.path).trees_of(iteration)
        if not file.is_file() or file.stat().st_size > MOST_BYTES:
            continue
        try:
            rows = trees_of_iteration(record.path, iteration)[:MOST_TREES]
        except (RecordError, RunError) as error:
            log.warning("no page of iteration %d: %s", iteration, error)
            continue
        page = folder / "trees" / f"{iteration:06d}.html"
        page.parent.mkdir(exist_ok=True)
        page_of(rows, page)
        for place, row in enumerate(rows, start=1):
            addresses[row["name"]] = f"trees/{page.name}#{place}"
    return addresses


def _write_replay(record: RunRecord, folder: Path, trees: dict[str, str]) -> None:
    """Write the page of the thoughts that the buffer holds with the highest priorities."""
    from llama_o1.texts import texts_of
    from replay.errors import ReplayError
    from replay.inspect.page import offline_page
    from replay.inspect.query import ReplayReader

    try:
        with ReplayReader(record.path) as reader:
            ids = [item.id for item in reader.top(MOST_NODES, "priority", None)]
            page = offline_page(reader, texts_of(record.path, None), ids, trees=trees)
    except ReplayError as error:
        log.warning("no page of the replay buffer: %s", error)
        return
    write_whole(folder / "replay.html", page)


def _links(record: RunRecord, folder: Path) -> list[Link]:
    links = [
        Link(f"trees of iteration {int(page.stem)}", f"trees/{page.name}")
        for page in sorted((folder / "trees").glob("[0-9]*.html"))
    ]
    if (folder / "replay.html").is_file():
        links.append(Link("the replay buffer: thoughts of the highest priority", "replay.html"))
    beside = {
        "summary.md": "closing words",
        "../metrics.jsonl": "metrics, one line each",
        "../config.yaml": "settings",
    }
    return links + [Link(words, name) for name, words in beside.items() if (folder / name).is_file()]


def _commands(record: RunRecord) -> dict[str, str]:
    path, last = record.path, max(1, record.iteration)
    return {
        "these pages anew, also while the run goes on": f"llama-o1 report {path}",
        "any tree, with its tokens": f"llama-o1 inspect {path} --tree {last}/0 --html tree.html",
        "the replay buffer, live": f"llama-o1 inspect {path} --serve",
    }


def _address(file: Path, folder: Path) -> str:
    return quote(Path(os.path.relpath(file, folder)).as_posix())
