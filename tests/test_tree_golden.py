"""Whole trees, as they were: `python tests/golden/remake.py` makes them again after a wanted change."""

import json
import runpy
from pathlib import Path

import pytest

from tree.record import from_row

FOLDER = Path(__file__).parent / "golden"
FILES = sorted(FOLDER.glob("*.json"))
made = runpy.run_path(str(FOLDER / "remake.py"))
grow = made["grow"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_tree_grows_as_the_golden_file_has_it(path):
    golden = json.loads(path.read_text("utf-8"))
    assert json.loads(json.dumps(grow(golden["settings"]))) == close_to(golden["tree"])


def close_to(thing):
    """The same, with numbers compared within rounding, as `exp` may differ in the last bit elsewhere."""
    if isinstance(thing, dict):
        return {key: close_to(value) for key, value in thing.items()}
    if isinstance(thing, list):
        return [close_to(value) for value in thing]
    return pytest.approx(thing, rel=1e-9) if isinstance(thing, float) else thing


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_file_is_small_and_worth_keeping(path):
    assert path.stat().st_size < 50_000
    nodes, _ = from_row(json.loads(path.read_text("utf-8"))["tree"])
    assert any(node.answer is not None for node in nodes)
    assert max(node.depth for node in nodes) >= 4


def test_every_search_has_a_golden_file():
    assert {path.stem for path in FILES} == set(made["NEW"])
    mcts_by_rank = {"mcts", "ucb", "whole_solutions"}
    assert {path.stem for path in FILES} > mcts_by_rank | {"gumbel", "best_first", "beam", "dvts", "lines"}
