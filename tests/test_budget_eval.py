"""`llama-o1 eval` with methods that are told thinking budgets, and every budget that cannot be."""

import json

import pytest

from llama_o1.cli import main

SMALL = (
    "--thoughts.max_text=12",
    "--thoughts.max_answer=8",
    "--engine.threads=1",
    "--engine.slots=8",
    "--search.stop_decided=false",
    "--problems=word",
    "--limit=1",
    "--budgets=33,48",
)
METHODS = ("none", "prompt", "ratio", "every", "forcing", "forcing_wait", "thoughts_ratio", "tree")


def arguments(out, model, *more):
    return [str(a) for a in ("eval", "--out", out, "--model.path", model, *SMALL, *more)]


@pytest.fixture(scope="module")
def two_families(tmp_path_factory, tiny_model):
    """The tiny model with control tokens after every 11 tokens, too."""
    folder = tmp_path_factory.mktemp("two_families") / "model"
    flags = ("--marks.mode=every", "--marks.size=11", "--marks.longest=66")
    assert main(["init", str(tiny_model), str(folder), *flags]) == 0
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, two_families):
    out = tmp_path_factory.mktemp("finished") / "eval"
    every = {"words": True, "marks": {"mode": "every", "size": 11, "longest": 66}}
    tree = {"method": "mcts", "marks": {}, "overrun": 0.0, "tokens": 200}
    more = (
        f"--methods={','.join(METHODS)}",
        f"--thinking={json.dumps({'every': every, 'tree': tree})}",
        "--baselines=none",
        "--seeds=0,1",
    )
    assert main(arguments(out, two_families, *more)) == 0
    return out


def test_every_way_is_measured_at_every_budget(finished):
    result = json.loads((finished / "result.json").read_text())
    for methods in result["thinking"].values():
        assert tuple(methods) == METHODS
        for found in methods.values():
            assert 0 <= found["control"]["low"] <= found["control"]["mean"] <= found["control"]["high"] <= 1
            assert set(found["budget"]) == {"33", "48"}
            for one in found["budget"].values():
                assert one["trials"] == 2
                assert one["following"]["mean"] <= one["control"]["mean"]
    assert result["curves"]["all"] == {}


def test_no_path_thinks_beyond_its_limit_and_forced_ones_keep_their_budget(finished):
    rows = [json.loads(line) for line in (finished / "trials.jsonl").read_text().splitlines()]
    assert len(rows) == len(METHODS) * 2 * 2
    for row in rows:
        held = row["method"] in ("forcing", "forcing_wait", "tree")
        assert 0 < row["thinking"] <= row["budget"] + (0 if held else 2)
        if row["method"] == "tree":
            assert row["tokens"] <= 200


def test_the_folder_holds_the_tables_and_the_picture(finished):
    table = (finished / "table.md").read_text()
    assert "| method | Control % [95 %] | Scaling [95 %] | Performance % [95 %] |" in table
    assert "| forcing_wait | 48 |" in table
    data = (finished / "thinking_all.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert not (finished / "accuracy_all.png").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--methods=ratio", "--budgets=7"), "path_budget must be at least 16, got 7; raise it"),
        (
            ("--methods=mine", '--thinking={"mine": {"marks": {"size": 5}}}'),
            "has no single token for <remaining>4/5</remaining>; add the special tokens with `llama-o1 init",
        ),
        (("--methods=every_50", "--budgets=128"), "has no single token for <remaining>50</remaining>"),
        (
            ("--methods=mine", '--thinking={"mine": {"least": 1.2}}'),
            "least must be in [0, 1], got 1.2; the minimum is a share of the budget, which is the maximum",
        ),
        (
            ("--methods=none,tree", "--budgets=64,4096"),
            "a budget of 4096 thinking tokens and an answer of 8 take 4",
        ),
        (("--methods=tree", "--budgets=64", "--model.path=nowhere"), "nowhere"),
    ],
)
def test_a_budget_that_cannot_be_is_one_line(capsys, tmp_path, tiny_model, flags, words):
    assert main(arguments(tmp_path / "eval", tiny_model, *flags)) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.count("\n") == 1
    assert words in written.err
    assert not (tmp_path / "eval").exists()


def test_a_budget_beyond_the_control_tokens_of_the_vocabulary_is_one_line(capsys, tmp_path, two_families):
    marks = {"mode": "every", "size": 11, "longest": 66}
    flags = ("--methods=mine", f"--thinking={json.dumps({'mine': {'marks': marks}})}", "--budgets=33,90")
    assert main(arguments(tmp_path / "eval", two_families, *flags)) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "path_budget 90 needs the control token <remaining>77</remaining>" in line
    assert "the vocabulary has them up to <remaining>55</remaining>" in line


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--thoughts.path_budget=15",), "path_budget must be at least 16, got 15"),
        (("--thoughts.marks.size=5",), "has no single token for <remaining>4/5</remaining>"),
        (("--thoughts.marks.mode=every",), "has no single token for <remaining>8</remaining>"),
        (
            ("--thoughts.path_budget=40", "--thoughts.line.min_thinking=41"),
            "min_thinking must be at most path_budget, 40, got 41",
        ),
        (("--thoughts.path_budget=4096",), "a budget of 4096 thinking tokens and an answer of 32 take 4128"),
        (
            ("--thoughts.path_budget=600", "--search.method=line"),
            "a budget of 600 thinking tokens and an answer of 32 take 632 tokens, the model's context holds",
        ),
    ],
)
def test_a_search_with_such_a_budget_is_refused_in_one_line(capsys, tiny_model, flags, words):
    assert main(["search", "--model.path", str(tiny_model), "--problem", "What is 1 + 1?", *flags]) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.count("\n") == 1
    assert words in written.err
