"""The file of an evaluation: nothing acknowledged is lost, nothing damaged is believed."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trials import by_key, trial

from llama_o1.errors import RunError
from llama_o1.measure.ledger import Ledger
from llama_o1.measure.trial import Found, Point, Trial

SETTINGS = {"seed": 0, "methods": ["a", "b"], "search": {"width": 3, "draw": {"by": "model"}}}
FREE = frozenset({"methods"})
TRIALS = [
    trial("p1"),
    trial(
        "p2",
        verdict="unparsed",
        answer=None,
        found=(Found(None, 2, "unparsed"), Found("é\ud800", 1, "wrong")),
    ),
    trial("p3", verdict="timeout", seed=4, curve=(Point(9, "1/3", "wrong"), Point(50, "1e9", "timeout"))),
]


def opened(folder, settings=SETTINGS):
    return Ledger(folder, settings, FREE)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ledger") / "eval"
    with opened(folder) as ledger:
        for one in TRIALS:
            ledger.add(one)
    return folder


def copied(written, folder, data):
    folder.mkdir()
    (folder / "config.yaml").write_bytes((written / "config.yaml").read_bytes())
    (folder / "trials.jsonl").write_bytes(data)
    return folder


def test_trials_come_back_as_they_were_added(written):
    with opened(written) as ledger:
        assert ledger.trials == by_key(TRIALS)


def test_a_trial_is_on_disk_when_add_returns(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    with opened(tmp_path / "eval") as ledger:
        synced.clear()
        ledger.add(TRIALS[0])
        assert synced == [(tmp_path / "eval" / "trials.jsonl").stat().st_size]


def test_every_prefix_of_the_file_holds_its_whole_lines(written, tmp_path_factory):
    data = (written / "trials.jsonl").read_bytes()
    folder = copied(written, tmp_path_factory.mktemp("cut") / "eval", b"")
    for end in [*range(0, len(data), 37), len(data) - 1, len(data)]:
        (folder / "trials.jsonl").write_bytes(data[:end])
        whole = data[:end].count(b"\n")
        with opened(folder) as ledger:
            assert ledger.trials == by_key(TRIALS[:whole])
            ledger.add(TRIALS[-1])  # what follows a cut line is whole again
        with opened(folder) as ledger:
            assert ledger.trials == by_key([*TRIALS[:whole], TRIALS[-1]])


@settings(deadline=None)
@given(st.data())
def test_no_damaged_byte_is_believed(written, tmp_path_factory, data):
    content = bytearray((written / "trials.jsonl").read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[place]))
    folder = copied(written, tmp_path_factory.mktemp("damaged") / "eval", bytes(content))
    if place == len(content) - 1:  # the last line has no end: it was cut off
        with opened(folder) as ledger:
            assert ledger.trials == by_key(TRIALS[:-1])
    else:
        with pytest.raises(RunError, match=r"trials.jsonl, line [123] is damaged"):
            opened(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "seed was 0, is 1"),
        ({"search": {"width": 3, "draw": {"by": "chance"}}}, 'search.draw.by was "model", is "chance"'),
        ({"search": {"width": 3}}, 'search.draw was {"by": "model"}, is null'),
        ({"split": "dev"}, 'split was null, is "dev"'),
    ],
)
def test_other_settings_are_refused_and_named(written, change, words):
    with pytest.raises(RunError, match="other settings") as refused:
        opened(written, {**SETTINGS, **change})
    assert words in str(refused.value)


def test_free_settings_may_differ(written):
    with opened(written, {**SETTINGS, "methods": ["c"]}) as ledger:
        assert len(ledger.trials) == 3


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="holds files but no evaluation"):
        opened(tmp_path)
    with pytest.raises(RunError, match="holds files but no evaluation"):
        opened(tmp_path / "notes.txt")
    assert list(tmp_path.iterdir()) == [tmp_path / "notes.txt"]


@pytest.mark.parametrize("text", ["", "- 1\n", "[", "\x00"])
def test_a_damaged_settings_file_is_refused(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(RunError, match="holds no settings"):
        opened(tmp_path)


def test_a_second_writer_is_refused(tmp_path):
    with opened(tmp_path / "eval"), pytest.raises(RunError, match="another evaluation writes"):
        opened(tmp_path / "eval")
    with opened(tmp_path / "eval"):
        pass


def test_a_verdict_that_is_none_is_no_trial():
    with pytest.raises(ValueError, match="verdict must be one of correct, wrong, unparsed, timeout"):
        Trial.of({**TRIALS[0].row(), "verdict": "right", "work": TRIALS[0].work._asdict()})
