"""`llama-o1 eval`: compares methods, goes on where it was killed, and names mistakes in one line."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from llama_o1.cli import main
from llama_o1.play.methods import MethodSettings
from tree.search import SearchSettings

SMALL = [
    "--thoughts.path_budget=48",
    "--thoughts.max_text=12",
    "--thoughts.max_answer=8",
    "--search.num_lines=64",
    "--search.stop_decided=false",
    "--search.tree.simulations=1000",
    "--engine.threads=1",
    "--engine.slots=8",
    "--methods=greedy,majority,mcts",
    "--budgets=200",
    "--problems=word,chain",
    "--problems.limit=3",
]


def arguments(out, tiny_model, *more):
    return [str(a) for a in ("eval", "--out", out, "--model.path", tiny_model, *SMALL, *more)]


def refused(capsys, given):
    """The one line that a refused command writes."""
    assert main(given) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith("llama-o1: ")
    assert written.err.count("\n") == 1
    return written.err


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_model):
    """A finished evaluation of two sets, three methods and two budgets."""
    out = tmp_path_factory.mktemp("finished") / "eval"
    given = arguments(
        out, tiny_model, "--budgets=120,200", "--seeds=0,3", "--json", out.parent / "result.json"
    )
    assert main(given) == 0
    return out


def rows_of(out):
    return [json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()]


def test_the_result_has_the_keys_that_programs_read(finished):
    result = json.loads((finished.parent / "result.json").read_text())
    assert result == json.loads((finished / "result.json").read_text())
    assert {name: one["problems"] for name, one in result["sets"].items()} == {"word": 3, "chain": 3}
    for one in result["sets"].values():
        assert set(one["methods"]) == {"greedy", "majority", "mcts"}
        for method in one["methods"].values():
            assert set(method["budget"]) == {"120", "200"}
            for budget, found in method["budget"].items():
                assert 0 <= found["low"] <= found["accuracy"] <= found["high"] <= 1
                assert 0 < found["tokens_used"] <= int(budget)
    assert {(row["set"], row["method"]) for row in result["paired"]} >= {("all", "mcts"), ("word", "mcts")}
    assert {row["test"] for row in result["paired"]} == {"exact sign test"}


def test_every_problem_has_its_line(finished):
    rows = rows_of(finished)
    assert len(rows) == 3 * 2 * 6 * 2  # methods, budgets, problems, seeds
    wanted = {"problem", "method", "budget", "seed", "answer", "verdict", "tokens", "seconds", "nodes"}
    for row in rows:
        assert wanted <= row.keys()
        assert row["tokens"] <= row["budget"]
        assert row["verdict"] in ("correct", "wrong", "unparsed", "timeout")


def test_the_folder_holds_tables_and_pictures(finished):
    table = (finished / "table.md").read_text()
    assert "## word, 3 problems" in table
    assert "| mcts | 200 |" in table
    for name in ("all", "word", "chain"):
        data = (finished / f"accuracy_{name}.png").read_bytes()
        assert data.startswith(b"\x89PNG")
        assert data.rstrip().endswith(b"IEND\xaeB`\x82")
    assert not list(finished.glob(".*"))


def test_what_is_finished_is_not_done_again(capsys, finished, tiny_model):
    before = (finished / "trials.jsonl").read_bytes()
    assert main(arguments(finished, tiny_model, "--budgets=120,200", "--seeds=0")) == 0
    assert "mcts" in capsys.readouterr().out
    assert (finished / "trials.jsonl").read_bytes() == before
    assert (
        main(arguments(finished, tiny_model, "--budgets=160", "--methods=best_of_n", "--problems.limit=1"))
        == 0
    )
    after = (finished / "trials.jsonl").read_bytes()
    assert after.startswith(before)
    assert after.count(b"\n") == before.count(b"\n") + 2


def test_a_killed_evaluation_goes_on_without_doing_anything_twice(capsys, tmp_path, tiny_model):
    out = tmp_path / "eval"
    given = arguments(out, tiny_model, "--engine.slots=1", "--problems.limit=6", "--methods=majority,mcts")
    process = subprocess.Popen(
        [sys.executable, "-m", "llama_o1.cli", *given], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    trials, deadline = out / "trials.jsonl", time.monotonic() + 120
    while not trials.exists() or trials.stat().st_size < 2000:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    killed = trials.read_bytes()
    whole = killed[: killed.rfind(b"\n") + 1]
    assert 0 < whole.count(b"\n") < 24
    assert not (out / "result.json").exists()
    with trials.open("ab") as file:
        file.write(b'{"set":"word","prob')  # what a kill may leave of a line
    assert main(given) == 0
    assert trials.read_bytes().startswith(whole)
    rows = rows_of(out)
    assert len(rows) == len({(r["set"], r["problem"], r["method"]) for r in rows}) == 24
    assert "24 of 24" not in capsys.readouterr().err


def test_a_resumed_evaluation_ends_like_one_that_was_never_stopped(tmp_path, finished, tiny_model):
    out = tmp_path / "eval"
    out.mkdir()
    (out / "config.yaml").write_bytes((finished / "config.yaml").read_bytes())
    lines = (finished / "trials.jsonl").read_bytes().splitlines(keepends=True)
    (out / "trials.jsonl").write_bytes(b"".join(lines[:30]) + lines[30][:50])
    assert main(arguments(out, tiny_model, "--budgets=120,200", "--seeds=0,3")) == 0

    def answers(folder):
        return {
            (r["set"], r["problem"], r["method"], r["budget"], r["seed"]): (
                r["answer"],
                r["tokens"],
                r["nodes"],
            )
            for r in rows_of(folder)
        }

    assert answers(finished).items() >= answers(out).items()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--methods", "greedy,mtcs"), "no method 'mtcs', did you mean 'mcts'?"),
        (("--methods", "greedy,greedy"), "methods must differ from each other, got greedy, greedy"),
        (("--methods", "[]"), "methods must name at least one, got none"),
        (("--baselines", "lime"), "no method 'lime'"),
        (("--budgets", "0"), "budgets must be at least 1, got 0"),
        (("--budgets", "-5,100"), "budgets must be at least 1, got -5"),
        (("--budgets", "many"), "many"),
        (("--budgets", "9"), "budget_tokens must be at least"),
        (("--seeds", "-1"), "seeds must be at least 0, got -1"),
        (("--seeds", "1,1"), "seeds must differ"),
        (("--problems.limit", "0"), "limit must be at least 1, got 0"),
        (("--problems", "word,word"), "problems must differ from each other, got word, word"),
        (("--problems", "gsm9k"), "gsm8k"),
        (("--search.budget_tokens", "64"), "give --budgets 64"),
        (("--search.budget_token", "64"), "search.budget_tokens"),
        (("--variants", '{"greedy": {}}'), "variants.greedy has the name of a method and is mcts"),
        (("--search.run_budget_tokens", "900"), "search.run_budget_tokens is shared by all problems"),
        (("--variants", '{"mine": {"method": "mtcs"}}'), "mtcs"),
        (("--split", "train"), "split must be one of dev, test, got train"),
        (("--json", "/nowhere/at/all.json"), "there is no folder"),
    ],
)
def test_a_mistake_is_named_before_anything_is_written(capsys, tmp_path, tiny_model, flags, words):
    assert words in refused(capsys, arguments(tmp_path / "eval", tiny_model, *flags))
    assert not (tmp_path / "eval").exists()


def test_other_settings_or_problems_in_a_folder_are_refused(capsys, finished, tiny_model, tmp_path):
    before = (finished / "trials.jsonl").read_bytes()
    line = refused(capsys, arguments(finished, tiny_model, "--thoughts.temperature=0.5"))
    assert "thoughts.temperature was 1.0, is 0.5" in line
    assert (finished / "trials.jsonl").read_bytes() == before


def test_a_problem_that_changed_since_it_was_searched_is_refused(capsys, tmp_path, tiny_model):
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps({"id": "a", "question": "What is 1 + 1?", "answer": "2"}) + "\n")
    given = arguments(tmp_path / "eval", tiny_model, "--problems", file, "--methods=greedy")
    assert main(given) == 0
    file.write_text(json.dumps({"id": "a", "question": "What is 1 + 2?", "answer": "3"}) + "\n")
    capsys.readouterr()
    assert main(given) == 2
    assert "mine.jsonl is another one now" in capsys.readouterr().err


def test_problems_with_one_id_are_refused(capsys, tmp_path, tiny_model):
    file = tmp_path / "mine.jsonl"
    file.write_text((json.dumps({"id": "a", "question": "What is 1 + 1?", "answer": "2"}) + "\n") * 2)
    assert "two problems with the id a" in refused(
        capsys, arguments(tmp_path / "eval", tiny_model, "--problems", file)
    )


def test_problems_longer_than_the_context_are_left_out_and_told(capsys, tmp_path, tiny_model):
    file = tmp_path / "mine.jsonl"
    long = {"id": "long", "question": "pens and " * 600, "answer": "1"}
    short = {"id": "short", "question": "What is 1 + 1?", "answer": "2"}
    given = arguments(tmp_path / "eval", tiny_model, "--problems", file, "--methods=greedy")
    file.write_text(json.dumps(long) + "\n")
    assert "no problem of" in refused(capsys, given)
    file.write_text(json.dumps(long) + "\n" + json.dumps(short) + "\n")
    assert main(given) == 0
    assert "1 problems of" in capsys.readouterr().out
    assert json.loads((tmp_path / "eval" / "result.json").read_text())["left_out"] == {str(file): 1}


def without_times(row):
    return {key: value for key, value in row.items() if key not in ("seconds", "work", "crc")}


def by_method(out):
    rows = sorted(rows_of(out), key=lambda row: (row["method"], row["set"], row["problem"]))
    return [without_times(row) for row in rows]


def test_methods_that_only_count_otherwise_share_trees_and_end_as_if_alone(caplog, tmp_path, tiny_model):
    caplog.set_level("INFO")
    counting = ("majority", "best_of_n", "value_vote")
    together = arguments(tmp_path / "all", tiny_model, f"--methods={','.join(counting)}")
    assert main(together) == 0
    assert caplog.text.count("the trees of majority") == 2
    caplog.clear()
    alone = []
    for method in counting:
        assert main(arguments(tmp_path / method, tiny_model, f"--methods={method}")) == 0
        alone += by_method(tmp_path / method)
    assert "the trees of" not in caplog.text
    assert by_method(tmp_path / "all") == sorted(alone, key=lambda row: row["method"])


def test_a_method_that_was_finished_is_not_written_again_by_one_that_shares_its_trees(tmp_path, tiny_model):
    out = tmp_path / "eval"
    assert main(arguments(out, tiny_model, "--methods=value_vote")) == 0
    before = rows_of(out)
    assert main(arguments(out, tiny_model, "--methods=best_of_n,value_vote", "--limit=2")) == 0
    assert rows_of(out)[: len(before)] == before
    assert [row["method"] for row in rows_of(out)[len(before) :]] == ["best_of_n"] * 4


@pytest.mark.parametrize(
    ("shared", "flags"),
    [
        (True, {"answer": "likelihood"}),
        (False, {"answer": "likelihood", "stop_decided": True}),  # where the vote may end the search
        (False, {"answer": "pairwise"}),  # where the search compares once it is over
        (False, {"tree": SearchSettings(max_children=2)}),
    ],
)
def test_only_what_merely_votes_leaves_the_trees_alone(shared, flags):
    plain = MethodSettings(stop_decided=False)
    assert (replace(plain, **flags).growth == plain.growth) is shared


def test_a_variant_is_a_method_with_settings_of_its_own(tmp_path, tiny_model):
    out = tmp_path / "eval"
    variants = '{"wide": {"method": "mcts", "tree": {"max_children": 8, "simulations": 2}}}'
    given = arguments(out, tiny_model, "--variants", variants, "--methods=greedy,wide", "--problems.limit=1")
    assert main(given) == 0
    assert {row["nodes"] for row in rows_of(out) if row["method"] == "wide"} <= {
        1,
        2,
        3,
        4,
    }  # two simulations and a conclusion or two
