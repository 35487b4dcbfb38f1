"""`llama-o1 inspect` on a run: the run's tokenizer, where a tree comes from, what it refuses."""

import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import datasets
import pytest
from ctrl_c import heed_ctrl_c
from small_run import QUESTION, write_run

from llama_o1.cli import main
from replay import PrioritizedReplayBuffer


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


def inspect(capsys, *arguments):
    status = main(["inspect", *map(str, arguments)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_a_run_is_summed_up_with_its_own_tokenizer(run, capsys):
    status, out, _ = inspect(capsys, run, "--limit", 2, "--sort", "id asc")
    assert status == 0
    assert "7 live of 7 added" in out
    assert "drawn 2 times, 5 nodes never" in out
    first, second = out.splitlines()[-3:-1]
    assert "add them<end_of_thought>" in first
    assert r"\boxed{5}<end_of_thought>" in second


def test_a_node_is_shown_with_its_lineage_and_path(run, capsys):
    for folder in (run, run / "replay"):
        status, out, _ = inspect(capsys, folder, "--node", 1)
        assert status == 0
        facts = {line[:18].strip(): line[18:] for line in out.split("\n\n")[0].splitlines()}
        assert facts["run"] == str(run)
        assert (facts["run's seed"], facts["tree's seed"]) == ("7", "1000")
        assert (facts["question"], facts["tree"], facts["weights version"]) == (QUESTION, "000001/0000", "0")
        assert [line.split()[2] for line in out.split("\n\n")[1].splitlines()[2:]] == ["expand", "conclude"]
        assert "<start_of_father_id>-1<end_of_father_id>" in out


def test_without_a_tokenizer_ids_are_shown_and_one_can_be_named(run, capsys, tmp_path):
    shutil.copytree(run / "replay", tmp_path / "replay")
    _, out, _ = inspect(capsys, tmp_path, "--node", 1)
    assert "boxed" not in out
    assert "run's seed" not in out
    tokenizer = next(run.glob("checkpoints/*/tokenizer.json"))
    for named in (tokenizer, tokenizer.parent):
        assert r"\boxed{5}" in inspect(capsys, tmp_path, "--node", 1, "--tokenizer", named)[1]
    status, _, err = inspect(capsys, tmp_path, "--tokenizer", tmp_path)
    assert (status, "no tokenizer at" in err) == (2, True)
    (tmp_path / "tokenizer.json").write_text("{}")
    status, _, err = inspect(capsys, tmp_path, "--tokenizer", tmp_path)
    assert (status, "is not a tokenizer" in err) == (2, True)


def test_a_plain_summary_is_ascii(run, capsys):
    assert inspect(capsys, run, "--plain", "true")[1].isascii()
    assert not inspect(capsys, run)[1].isascii()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--where", "1=1; DROP TABLE nodes"], "cannot read the condition at character 4"),
        (["--sort", "prioritty"], "nearest is 'priority'"),
        (["--node", "99"], "no node 99"),
        (["--limit", "-1"], "limit must not be negative"),
        (["--sample", "-1"], "sample must be at least 0"),
    ],
)
def test_a_mistake_is_one_line(run, capsys, arguments, message):
    status, out, err = inspect(capsys, run, *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_the_inspector_starts_without_torch(run):
    code = (
        "import sys; from llama_o1.cli import main; "
        f"main(['inspect', {str(run)!r}]); main(['inspect', {str(run)!r}, '--node', '1']); "
        "sys.exit(bool({'torch', 'transformers', 'jaxtyping', 'numba'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def exported(capsys, run, tmp_path, kind, *arguments):
    file = tmp_path / f"{kind}.jsonl"
    status, out, _ = inspect(capsys, run, "--export", kind, file, *arguments)
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert (status, out.split(":")[0].strip()) == (0, f"wrote {len(lines)} lines to {file}")
    assert list(tmp_path.iterdir()) == [file]
    return lines


def test_sft_is_one_conversation_a_right_conclusion(run, capsys, tmp_path):
    assert exported(capsys, run, tmp_path, "sft") == [
        {
            "messages": [
                {"role": "user", "content": QUESTION},
                {"role": "assistant", "content": "add them\n\\boxed{5}"},
            ]
        }
    ]


def test_prm_labels_each_step_of_a_graded_line(run, capsys, tmp_path):
    # thought 1 of the first tree leads to a right answer, that of the second to none
    assert exported(capsys, run, tmp_path, "prm") == [
        {"prompt": QUESTION, "completions": ["add them", r"\boxed{5}"], "labels": [True, True]},
        {"prompt": QUESTION, "completions": ["add them", r"\boxed{6}"], "labels": [True, False]},
        {"prompt": QUESTION, "completions": ["add them", r"\boxed{7}"], "labels": [False, False]},
    ]


def test_a_line_whose_step_has_left_the_buffer_has_no_labels(run, capsys, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    with PrioritizedReplayBuffer(tmp_path / "run" / "replay", capacity=6):  # node 0, the first step, goes
        pass
    (tmp_path / "out").mkdir()
    lines = exported(capsys, tmp_path / "run", tmp_path / "out", "prm")
    assert [line["labels"] for line in lines] == [[False, False]]


def test_dpo_pairs_siblings_of_one_meta_action(run, capsys, tmp_path):
    # In the second tree the worst is \boxed{7} at 0, the best the ungraded one at 0.5.
    assert exported(capsys, run, tmp_path, "dpo") == [
        {"prompt": f"{QUESTION}\nadd them\n", "chosen": r"\boxed{5}", "rejected": r"\boxed{6}"},
        {"prompt": f"{QUESTION}\nadd them\n", "chosen": "it is </script><b>", "rejected": r"\boxed{7}"},
    ]


def test_jsonl_holds_every_column_and_every_token(run, capsys, tmp_path):
    lines = exported(capsys, run, tmp_path, "jsonl", "--where", "action = 'conclude'", "--limit", "2")
    assert [line["id"] for line in lines] == [5, 6]  # the two highest priorities, in the order of ids
    assert lines[0]["value_target"] == 0
    assert r"\boxed{7}<end_of_thought>" in lines[0]["text"]
    assert lines[0]["prompt"].startswith("<start_of_father_id>-1")
    assert len(lines[0]["ids"]) == len(lines[0]["logprobs"]) == lines[0]["num_tokens"]
    assert (lines[0]["logprobs"][0], lines[0]["logprobs"][-2]) == (None, -0.25)


@pytest.mark.parametrize("kind", ["sft", "prm", "dpo", "pairs", "jsonl"])
def test_an_export_is_read_by_datasets(run, capsys, tmp_path, kind):
    lines = exported(capsys, run, tmp_path, kind)
    assert datasets.Dataset.from_list(lines).to_list() == lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--export", "csv", "x"],
            "export must be one of sft, prm, dpo, pairs, jsonl, openlongcot, got 'csv'",
        ),
        (["--export", "openlongcot", "x", "--where", "depth > 1"], "--where picks thoughts"),
        (["--export", "sft", "nowhere/x"], "there is no folder"),
        (["--export", "sft"], "expected 2 arguments"),
    ],
)
def test_an_export_that_cannot_be_is_refused(run, capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, _, err = inspect(capsys, run, *arguments)
    assert (status, message in err) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_an_export_of_text_needs_a_tokenizer(run, capsys, tmp_path):
    shutil.copytree(run / "replay", tmp_path / "replay")
    status, _, err = inspect(capsys, tmp_path, "--export", "dpo", tmp_path / "x")
    assert (status, "there is no tokenizer" in err) == (2, True)


def test_json_has_the_overview_and_the_first_nodes(run, capsys, tmp_path):
    status, out, _ = inspect(capsys, run, "--where", "outcome IS NOT NULL", "--limit", 2, "--json")
    printed = json.loads(out)
    assert status == 0
    assert (printed["num_live"], printed["num_matching"], printed["where"]) == (7, 3, "outcome IS NOT NULL")
    assert {group["name"]: group["num_nodes"] for group in printed["by_outcome"]} == {"right": 1, "wrong": 2}
    assert [(node["id"], node["text"]) for node in printed["nodes"]] == [
        (5, r"\boxed{7}<end_of_thought>"),
        (2, r"\boxed{6}<end_of_thought>"),
    ]
    file = tmp_path / "x.json"
    assert inspect(capsys, run, "--where", "outcome IS NOT NULL", "--limit", 2, "--json", file)[0] == 0
    assert json.loads(file.read_text()) == printed


def test_json_of_a_node_has_its_lineage_and_tokens(run, capsys):
    node = json.loads(inspect(capsys, run, "--node", 1, "--json")[1])
    assert (node["id"], node["state"], node["value_target"], node["priority"]) == (1, "live", 1.0, 2.5)
    assert (node["lineage"]["run's seed"], node["lineage"]["tree's seed"]) == ("7", "1000")
    assert [one["text"] for one in node["above"]] == ["add them<end_of_thought>"]
    assert node["tokens"][-1] == ["<start_of_rating>", None]


def test_a_page_of_nodes_says_what_it_left_out_and_brings_their_trees(run, capsys, tmp_path):
    status, out, _ = inspect(capsys, run, "--html", tmp_path / "p.html", "--limit", 2)
    assert status == 0
    assert out.splitlines()[0] == f"wrote {tmp_path / 'p.html'}: 2 nodes, 5 left out"
    assert [file.name for file in (tmp_path / "p.trees").iterdir()] == ["000001-0001.html"]
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "p.trees/000001-0001.html#1" in page
    assert "<script>window" not in page


def test_a_served_run_says_where_and_stops_at_once_when_it_is_told(run):
    command = [sys.executable, "-m", "llama_o1.cli", "inspect", str(run), "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c) as served:
        line = served.stdout.readline()
        try:
            address = re.search(r"http://127\.0\.0\.1:\d+/", line)[0]
            with urllib.request.urlopen(f"{address}tree/000001/0000") as answer:
                assert b"boxed{5}" in answer.read()
            with pytest.raises(urllib.error.HTTPError, match="400"):
                urllib.request.urlopen(f"{address}tree/../../etc/passwd")
        finally:
            served.send_signal(signal.SIGINT)
        assert served.wait(timeout=30) == 0
