"""Reports of runs: figures by hand, seeds as a mean, files that fit together, and runs that never mind."""

import json
import logging
import subprocess
import sys

import pytest
from report_runs import SETS, write_reported

from llama_o1.cli import main
from llama_o1.report.curves import charts
from llama_o1.report.groups import groups, mean_outcomes, outcomes
from llama_o1.report.record import read_run
from llama_o1.report.table import accuracy_table, cost_table, values_in_words
from llama_o1.report.write import report_if_it_can, write_report


@pytest.fixture
def run(tmp_path):
    return write_reported(tmp_path / "run")


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures stay empty, where a test is not about them."""
    monkeypatch.setattr("llama_o1.report.draw.draw", lambda chart: b"")


def test_accuracy_is_told_before_and_after_with_the_change_on_the_same_problems(run):
    found = outcomes(read_run(run))
    assert list(found) == [("greedy", "word 4"), ("greedy", "svamp"), ("greedy", "all")]
    word = found["greedy", "word 4"]
    assert (word.problems, word.before.mean, word.after.mean, word.iteration) == (4, 0.25, 0.75, 2)
    # changes 0, 1, 1, 0: mean 1/2, variance 1/3, half width 1.96 * sqrt(1/12)
    assert word.change == pytest.approx((0.5, 0.5 - 1.959964 / 12**0.5, 0.5 + 1.959964 / 12**0.5))
    assert found["greedy", "all"].after.mean == 5 / 6


def test_a_run_that_was_looked_at_once_has_no_change_yet(tmp_path):
    run = read_run(write_reported(tmp_path / "run", iterations=0, trees=False))
    assert (outcomes(run)["greedy", "svamp"].after, outcomes(run)["greedy", "svamp"].change) == (None, None)
    assert accuracy_table(groups([run]))[1][-3:-1] == ("-", "-")


def test_runs_that_differ_by_their_seed_become_a_mean(tmp_path):
    word = {0: ("0001", "0011", "0111"), 1: ("0001", "0001", "0001"), 2: ("0001", "0011", "0011")}
    folders = [
        write_reported(tmp_path / f"run{seed}", seed=seed, sets={"word 4": held}, trees=False)
        for seed, held in word.items()
    ]
    other = write_reported(tmp_path / "other", learning_rate=3e-4, trees=False)
    found = groups([read_run(folder) for folder in (*folders, other)])
    assert [group.name for group in found] == ["run0, run1, run2", "other"]
    assert [group.differs for group in found] == [
        {"learner.learning_rate": 1e-4},
        {"learner.learning_rate": 3e-4},
    ]
    mean = mean_outcomes(found[0])["greedy", "word 4"]
    # changes 1/2, 0 and 1/4: mean 1/4, deviation 1/4, half width 4.303 * 1/4 / sqrt(3)
    assert mean.runs == 3
    assert mean.change == pytest.approx((0.25, 0.25 - 4.303 / 4 / 3**0.5, 0.25 + 4.303 / 4 / 3**0.5))
    assert mean_outcomes(found[1]) == {}
    rows = [row for row in accuracy_table(found) if row[3] == "word 4"]
    assert [row[0] for row in rows] == ["run0", "run1", "run2", "mean of 3", "other"]


def test_runs_with_the_same_seed_are_no_further_samples(tmp_path):
    runs = [
        read_run(write_reported(tmp_path / name, seed=seed, trees=False))
        for name, seed in zip("abc", (0, 0, 1), strict=True)
    ]
    assert mean_outcomes(groups(runs[:2])[0]) == {}
    assert mean_outcomes(groups(runs)[0])["greedy", "word 4"].runs == 2


def test_tokens_and_cpu_time_of_a_run_are_summed(run):
    row = dict(zip(*cost_table(groups([read_run(run)])), strict=True))
    assert (row["tokens"], row["evaluation"], row["CPU"]) == (
        "1200",
        "300",
        "1 min 20 s",
    )  # 6 looks; 2 * 40 s
    assert (row["AUC"], row["ECE"]) == ("0.800 [0.600, 0.900]", "0.100 [0.020, 0.300]")


def test_closing_words_tell_how_good_values_are(run):
    assert values_in_words(read_run(run)) == [
        "Values of 30 held-out thoughts of greedy, after iteration 2: AUC 0.800 [0.600, 0.900], expected "
        "calibration error 0.100 [0.020, 0.300].",
        "  Mean value, and share that came out right: word 4 0.50 and 0.60, svamp 0.62 and 0.60.",
    ]


def test_curves_are_means_of_an_iteration_and_what_has_no_numbers_is_left_out(run):
    found = {chart.name: chart for chart in charts(groups([read_run(run)]))}
    mean, oldest = found["staleness"].panels[0].lines
    assert (mean.x, mean.y, oldest.y) == ([1, 2], [0.5, 0.5], [1, 1])
    assert [panel.title for panel in found["accuracy"].panels] == ["word 4", "svamp", "all"]
    word = found["accuracy"].panels[0].lines[0]
    assert (word.label, word.x, word.y) == ("greedy", [0, 1, 2], [0.25, 0.5, 0.75])
    assert [line.label for line in found["reliability"].panels[0].lines] == ["iteration 0", "iteration 2"]
    assert "sample_size" not in found


def test_several_runs_share_axes_and_seeds_a_band(tmp_path):
    low = {"word 4": ("0001", "0001", "0001")}
    folders = [
        write_reported(tmp_path / "a", trees=False, sets={"word 4": SETS["word 4"]}),
        write_reported(tmp_path / "b", trees=False, sets=low, seed=1),
        write_reported(tmp_path / "c", trees=False, sets=low, learning_rate=1e-3),
    ]
    accuracy = charts(groups([read_run(folder) for folder in folders]))[0]
    ab, c = accuracy.panels[0].lines
    assert (accuracy.panels[0].title, ab.label, c.label) == ("word 4, greedy", "a, b", "c")
    assert (ab.y, ab.low, ab.high) == ([0.25, 0.375, 0.5], [0.25] * 3, [0.25, 0.5, 0.75])
    assert c.low[0] < c.y[0] < c.high[0]


def test_report_writes_pages_that_are_linked_and_pictures_beside_them(run, capsys):
    assert main(["report", str(run), "--json", str(run / "figures.json")]) == 0
    assert f"wrote {run}/report/index.html" in capsys.readouterr().out
    written = {str(file.relative_to(run / "report")) for file in (run / "report").rglob("*.*")}
    assert {"index.html", "replay.html", "trees/000001.html", "accuracy.png", "kl.png"} <= written
    assert (run / "report" / "kl.png").read_bytes().startswith(b"\x89PNG")
    assert not [name for name in written if "partial" in name or name.endswith(".tmp")]
    found = json.loads((run / "figures.json").read_text())
    (one,) = found["runs"]
    assert one["accuracy"]["greedy"]["word 4"]["change"]["mean"] == 0.5
    assert (one["tokens"], one["cpu_s"], one["values"]["greedy"]["auc"]) == (1200, 80, 0.8)
    assert found["groups"][0]["seeds"] == [0]


def test_a_line_that_is_being_written_is_left_out(run):
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "phase": "le')
    assert read_run(run).iteration == 2


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda run: (run / "metrics.jsonl").write_text("{]\n"), "metrics.jsonl, line 1"),
        (lambda run: (run / "metrics.jsonl").write_text('{"phase": "play"}\n'), "metrics.jsonl, line 1"),
        (lambda run: (run / "metrics.jsonl").unlink(), "holds no metrics.jsonl"),
        (lambda run: (run / "config.yaml").write_text("a: ["), "config.yaml cannot be read"),
        (lambda run: (run / "config.yaml").write_text("7"), "holds no settings"),
    ],
)
def test_what_is_no_run_is_one_clear_line(run, spoil, words, capsys):
    spoil(run)
    assert main(["report", str(run)]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.splitlines()) == 1


def test_a_run_named_twice_and_a_page_nowhere_are_refused(run, capsys):
    assert main(["report", str(run), f"{run}/."]) == 2
    assert main(["report", str(run), "--html", str(run / "nowhere" / "page.html")]) == 2
    assert [line.split(";")[0] for line in capsys.readouterr().err.splitlines()] == [
        "llama-o1: a run is named twice",
        f"llama-o1: cannot write {run}/nowhere/page.html: there is no folder {run}/nowhere",
    ]


def test_a_run_goes_on_when_its_report_cannot_be_written(run, caplog):
    (run / "report").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        report_if_it_can(run, pages=True)
    assert f"`llama-o1 report {run}` tries again" in caplog.text


@pytest.mark.parametrize("what", ["replay/replay.sqlite", "trees/000001.jsonl"])
def test_a_damaged_part_costs_its_page_alone(run, undrawn, what):
    (run / what).write_bytes(b"no such thing\n" * 100)
    page = write_report(run, pages=True).read_text()
    pages = {"replay/replay.sqlite": "replay.html", "trees/000001.jsonl": "trees/000001.html"}
    for part, name in pages.items():
        assert (f'href="{name}"' in page) == (part != what)


def test_a_run_without_an_evaluation_says_so(tmp_path, undrawn):
    run = write_reported(tmp_path / "run", sets={}, iterations=0, trees=False)
    assert "Nothing was evaluated yet." in write_report(run, pages=True).read_text()


def test_reading_runs_loads_neither_torch_nor_matplotlib(run):
    code = (
        "import sys; from pathlib import Path; from llama_o1.report.write import read_run, groups, charts; "
        f"charts(groups([read_run(Path({str(run)!r}))])); "
        "assert not {'torch', 'matplotlib', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
