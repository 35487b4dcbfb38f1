"""Data sets of a buffer and of saved trees: what becomes a line, and what is said of what does not."""

import json

import pytest
from small_run import QUESTION, write_run

from llama_o1.cli import main
from replay.inspect.datasets import KINDS, Counts, Thought


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


def exported(capsys, place, kind, file, *more):
    """Status, what was said after the number of lines, and the lines."""
    status = main(["inspect", str(place), "--export", kind, str(file), *map(str, more)])
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if not status else []
    assert status or printed.out.startswith(f"wrote {len(lines)} lines to {file}")
    return status, (printed.out if status == 0 else printed.err).rpartition(": ")[2].strip(), lines


def lines_of(kind, thoughts, margin=0.25):
    counts = Counts()
    lines = list(KINDS[kind].lines(thoughts, counts, margin))
    return lines, counts.taken, counts.candidates


def thought(node, parent, action, text, above, outcome=None, target=None):
    return Thought(node, parent, action, text, ("Q", *above), outcome, target)


def test_siblings_are_a_pair_when_their_value_targets_lie_the_margin_apart(run, capsys, tmp_path):
    # Below thought 1 of the first tree \boxed{5} and \boxed{6} are 1 apart, in the second \boxed{7} and the
    # ungraded one 0.5. The critic has no sibling of its kind and is no group.
    for margin, taken in ((0, 2), (0.5, 2), (0.51, 1), (1, 1)):
        _, said, lines = exported(capsys, run, "dpo", tmp_path / "x", "--margin", margin)
        assert (len(lines), said) == (
            taken,
            f"{taken} of 2 groups of siblings have value targets {margin:g} apart",
        )


def test_equal_value_targets_are_no_pair_even_without_a_margin():
    some = [thought(1, 0, "expand", "a", (), target=0.5), thought(2, 0, "expand", "b", (), target=0.5)]
    assert lines_of("dpo", some, margin=0.0) == ([], 0, 1)


def test_a_margin_that_value_targets_cannot_have_is_refused(run, capsys, tmp_path):
    status, said, _ = exported(capsys, run, "dpo", tmp_path / "x", "--margin", 1.5)
    assert (status, "in [0, 1], where value targets lie, got 1.5" in said) == (2, True)


def test_a_data_set_without_a_line_says_why(run, capsys, tmp_path):
    for kind, words in (
        ("sft", "0 of 2 graded conclusions are right"),
        ("pairs", "0 of 2 trees with graded conclusions have right and wrong ones"),
    ):
        assert exported(capsys, run, kind, tmp_path / "x", "--where", "outcome = 0") == (0, words, [])


def test_saved_trees_give_the_lines_that_the_buffer_gives(run, capsys, tmp_path):
    for kind in ("sft", "prm", "dpo", "pairs"):
        of_buffer = exported(capsys, run, kind, tmp_path / "buffer")
        of_trees = exported(capsys, run / "trees", kind, tmp_path / "trees")
        of_file = exported(capsys, run / "trees" / "000001.jsonl", kind, tmp_path / "file")
        assert of_trees == of_file
        if kind != "dpo":  # value targets of the buffer were written by hand
            assert of_trees == of_buffer


def test_what_picks_nodes_of_a_buffer_is_refused_for_trees(run, capsys, tmp_path):
    status, said, _ = exported(capsys, run / "trees", "sft", tmp_path / "x", "--limit", 3)
    assert (status, "got 3 for trees; leave it out, or name the run" in said) == (2, True)
    status, said, _ = exported(capsys, run / "trees", "jsonl", tmp_path / "x")
    assert (
        status,
        "holds trees, which are JSON lines already; jsonl is of a buffer, so name the run" in said,
    ) == (2, True)
    assert not (tmp_path / "x").exists()


def test_pairs_set_every_right_solution_against_a_wrong_one(run, capsys, tmp_path):
    _, said, lines = exported(capsys, run, "pairs", tmp_path / "x")
    assert lines == [
        {"prompt": QUESTION, "chosen": "add them\n\\boxed{5}", "rejected": "add them\n\\boxed{6}"}
    ]
    assert said == "1 of 2 trees with graded conclusions have right and wrong ones"


def test_each_solution_is_in_a_pair_and_equal_ones_are_one():
    ends = [("r", 1.0), ("w1", 0.0), ("w2", 0.0), ("w1", 0.0)]
    some = [thought(i, 0, "conclude", text, (), outcome) for i, (text, outcome) in enumerate(ends, start=1)]
    lines, taken, candidates = lines_of("pairs", some)
    assert [(line["chosen"], line["rejected"]) for line in lines] == [("r", "w1"), ("r", "w2")]
    assert (taken, candidates) == (1, 1)


def test_a_solution_written_anew_begins_after_the_criticism_of_the_one_before():
    some = [
        thought(1, 0, "expand", "a", ()),
        thought(2, 1, "critic", "is it?", ("a",)),  # of a step: the solution goes on
        thought(3, 2, "conclude", "old", ("a", "is it?"), 0.0),
        thought(4, 3, "critic", "no", ("a", "is it?", "old")),
        thought(5, 4, "refine", "b", ("a", "is it?", "old", "no")),
        thought(6, 5, "conclude", "new", ("a", "is it?", "old", "no", "b"), 1.0),
    ]
    assert lines_of("pairs", some)[0] == [{"prompt": "Q", "chosen": "b\nnew", "rejected": "a\nis it?\nold"}]
