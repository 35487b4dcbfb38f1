"""`llama-o1 inspect` on a run: the run's tokenizer, where a tree comes from, what it refuses."""

import shutil
import subprocess
import sys

import pytest
from small_run import QUESTION, write_run

from llama_o1.cli import main


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
