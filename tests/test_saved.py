"""Saved trees: found by name, with what they teach and the tokens that the replay buffer still has."""

import json

import pytest

from llama_o1.cli import main
from llama_o1.config import TeachSettings
from llama_o1.errors import RecordError, RunError
from llama_o1.play.collect import collect
from llama_o1.play.expand import ThoughtSettings
from llama_o1.play.methods import MethodSettings
from llama_o1.play.pieces import tree_pieces
from llama_o1.play.selfplay import tree_row
from llama_o1.saved import saved_tree, saved_trees, taught
from replay import PrioritizedReplayBuffer
from tree.record import read_rows, write_rows
from tree.search import SearchSettings

QUESTIONS = ["What is 2 + 3?", "What is 4 + 1?"]


@pytest.fixture(scope="module")
def trees(grow):
    method = MethodSettings(budget_tokens=1500, tree=SearchSettings(simulations=10))
    return grow(QUESTIONS, ThoughtSettings(path_budget=48, max_text=12), method)


@pytest.fixture
def run(tmp_path, trees):
    """A run folder after one iteration with both trees; its buffer has lost the second."""
    run = tmp_path / "run"
    (run / "trees").mkdir(parents=True)
    (run / "config.yaml").write_text("teach: {advantage: relative, mix: 1.0}\n")
    write_rows(run / "trees" / "000001.jsonl", map(tree_row, trees))
    found = collect(
        trees[0], problem="p", name="000001/0000", mode="relative", mix=1.0, discount=1.0, trace=0.95
    )
    with PrioritizedReplayBuffer(run / "replay", capacity=64) as buffer:
        ids = buffer.extend(found)
        buffer.update_priority(ids[:1], [7.5])
    return run


@pytest.fixture
def decoder_of(codec):
    return lambda _: codec.decode


def test_a_tree_of_a_run_has_the_tokens_that_were_drawn(run, decoder_of, codec, trees):
    row = saved_tree(run, "1/0", decoder_of)
    assert row["name"] == "000001/0000"
    expected = [[list(piece) for piece in of] for of in tree_pieces(trees[0], codec)]
    assert [record["pieces"] for record in row["nodes"]] == expected


def test_a_tree_of_a_run_has_the_priorities_of_the_moment(run, decoder_of, trees):
    first, second = saved_tree(run, "1/0", decoder_of)["nodes"][1:3]
    assert first["priority"] == 7.5
    assert second["priority"] > 0
    # `relative` with a mix of 1: what a thought is worth is its Q
    assert first["value_target"] == pytest.approx(trees[0].nodes[1].q)
    assert first["advantage"] == pytest.approx(trees[0].nodes[1].q - trees[0].root.q)


def test_a_tree_that_the_buffer_lost_is_shown_without_tokens(run, decoder_of):
    row = saved_tree(run, "000001/0001", decoder_of)
    assert not any("pieces" in record for record in row["nodes"])
    assert all("priority" in record for record in row["nodes"][1:])


def test_a_run_without_a_buffer_or_a_tokenizer_shows_its_trees(run, decoder_of):
    assert "pieces" not in saved_tree(run, "1/0", lambda _: None)["nodes"][1]
    (run / "replay" / "replay.sqlite").unlink()
    assert saved_tree(run, "1/0", decoder_of)["problem"] == QUESTIONS[0]


def test_a_priority_is_what_replay_will_give(trees):
    teach = TeachSettings(advantage="relative", mix=1.0)
    for record in taught(tree_row(trees[0]), teach)["nodes"][1:]:
        error = abs(record["value_target"] - record["value"])
        assert record["priority"] == pytest.approx(abs(record["advantage"]) + error, abs=2e-3)  # eps is 1e-3


def test_a_tree_whose_thoughts_have_no_value_teaches_nothing(trees):
    row = tree_row(trees[0])
    row["nodes"][1]["value"] = None
    assert taught(row, TeachSettings()) == row


def test_a_file_gives_a_line_or_all_of_it(run, decoder_of):
    file = run / "trees" / "000001.jsonl"
    assert [row["name"] for row in saved_trees(file)] == ["000001.jsonl:1", "000001.jsonl:2"]
    assert saved_tree(file, "2", decoder_of)["problem"] == QUESTIONS[1]
    assert saved_tree(run, f"{file}:2", decoder_of)["problem"] == QUESTIONS[1]
    assert saved_tree(file, f"{run}:1/1", decoder_of)["problem"] == QUESTIONS[1]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("1/2", "iteration 1 has trees 0 to 1"),
        ("2/0", "expected ITERATION/NUMBER, 1/0 to 1/1"),
        ("first", "expected ITERATION/NUMBER, 1/0 to 1/1"),
        ("nowhere:1/0", "no trees in nowhere"),
        ("{run}/trees/000001.jsonl:3", "it has trees 1 to 2, one a line"),
        ("{run}/trees/000001.jsonl:0", "it has trees 1 to 2, one a line"),
    ],
)
def test_a_tree_that_is_not_there_is_told_with_those_that_are(run, decoder_of, name, words):
    with pytest.raises(RunError, match=words):
        saved_tree(run, name.format(run=run), decoder_of)


def test_a_damaged_or_empty_file_is_named(tmp_path):
    file = tmp_path / "trees.jsonl"
    file.write_text("")
    with pytest.raises(RunError, match="holds no trees"):
        saved_trees(file)
    file.write_text("{\n")
    with pytest.raises(RecordError, match=r"trees.jsonl, line 1"):
        saved_trees(file)


def test_inspect_prints_a_tree_or_writes_two_to_a_page(run, tmp_path, capsys):
    file = run / "trees" / "000001.jsonl"
    row = next(read_rows(file))
    write_rows(tmp_path / "again.jsonl", [row])
    page = tmp_path / "page.html"
    assert main(["inspect", str(file), "--tree", "1"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("tree 000001.jsonl:1\n")
    assert "\x1b" not in printed
    for plain in (["--plain"], ["--plain", "true"]):
        assert main(["inspect", str(file), *plain]) == 0
        assert capsys.readouterr().out.isascii()
    beside = ("--compare", f"{tmp_path / 'again.jsonl'}:1", "--html", str(page))
    assert main(["inspect", str(run), "--tree", "1/0", *beside]) == 0
    text = page.read_text(encoding="utf-8")
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    assert [row["name"] for row in data["rows"]] == ["000001/0000", "again.jsonl:1"]
    assert data["compare"] == [0, 1]


def test_inspect_names_a_file_that_is_not_there(tmp_path, capsys):
    assert main(["inspect", str(tmp_path / "nowhere.jsonl")]) == 2
    assert "there is no" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--tree", "1/0", "--compare", "1/1"), "different problems"),
        (("--compare", "1/1"), "give --tree too"),
        (("--tree", "1/0", "--html", "nowhere/page.html"), "there is no folder"),
    ],
)
def test_inspect_refuses_what_makes_no_sense_in_one_line(run, capsys, given, words):
    assert main(["inspect", str(run), *given]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
