"""The second stage of a fine-tuning: a model learns to rate lines of its own by what came of them."""

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from test_sft import WORD, config_of, killed_at, metrics_of, weights_of

from llama_o1.errors import ConfigError, ProblemError
from llama_o1.learn.model import load_model
from llama_o1.learn.rows import Line
from llama_o1.learn.settings import ColdstartSettings
from llama_o1.lines import Material
from llama_o1.own_lines import OwnLines, _rated, own_lines, with_own_lines
from llama_o1.sft import cold_start
from llama_o1.sft_config import OwnLineSettings, SftConfig
from llama_o1.tasks.mixture import ProblemSet

STEPS = ColdstartSettings(steps=5, batch_tokens=256, learning_rate=1e-3, warmup_steps=2, bf16=False)
OWN = OwnLineSettings(
    problems=WORD, count=5, samples=3, path_budget=16, max_text=6, max_answer=4, sft=replace(STEPS, steps=5)
)


def two_stages(tiny_model, out, **settings):
    own = OwnLineSettings(**(vars(OWN) | settings))
    return config_of(tiny_model, out, sft=replace(STEPS, steps=3), own_lines=own)


@pytest.mark.parametrize(("right", "wanted"), [(True, "positive"), (False, "negative")])
def test_only_ratings_are_learned_and_each_is_the_grade_of_its_line(codec, right, wanted):
    special = codec.special
    rate = special.start_of_rating
    ids = [40, rate, special.negative, 41, rate, special.positive, rate]
    line = _rated(ids, special, right=right)
    grade = getattr(special, wanted)
    assert line.ids == ids
    assert line.weights == [0, 0, 1, 0, 0, 1, 0]
    assert line.labels == [40, rate, grade, 41, rate, grade, rate]


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_own_lines_are_their_share_of_what_is_learned_each_as_often_as_the_others(share):
    own = OwnLines([Line([9, number], [0.0, 1.0]) for number in range(4)], 2, 1.0)
    worked = Material(iter([[Line([1, 2], [0.0, 1.0])] * 50] * 100), 1, [], "worked")
    config = SftConfig(own_lines=replace(OWN, share=share, sft=replace(STEPS, batch_lines=200)))
    steps = list(islice(with_own_lines(worked, own, config).steps, 10))
    counts = [sum(line.ids == [9, number] for step in steps for line in step) for number in range(4)]
    assert max(counts) - min(counts) <= 1
    drawn = sum(map(len, steps))
    assert sum(counts) / drawn == pytest.approx(share, abs=4 * (share * (1 - share) / drawn) ** 0.5)


@pytest.fixture(scope="module")
def whole(tiny_model, tmp_path_factory):
    out = tmp_path_factory.mktemp("own") / "whole"
    cold_start(two_stages(tiny_model, out))
    return out


@pytest.mark.parametrize(
    ("point", "times"),
    [
        ("file: renamed", 1),  # sft.yaml of the whole
        ("file: renamed", 2),  # of the first stage
        ("checkpoint: renamed", 1),  # in the first stage
        ("metrics: before append", 2),  # a block of own lines
        ("metrics: appended", 2),
        ("checkpoint: renamed", 4),  # in the second stage
    ],
)
def test_both_stages_go_on_after_a_kill_to_the_same_bytes(tiny_model, whole, tmp_path, point, times):
    config = two_stages(tiny_model, tmp_path / "killed")
    killed_at(config, point, times)
    cold_start(replace(config, resume=True))
    assert weights_of(config.out) == weights_of(whole)
    assert weights_of(Path(config.out, "worked")) == weights_of(whole / "worked")
    assert metrics_of(config.out) == metrics_of(whole)


def test_a_block_that_a_kill_has_cut_is_written_again(tiny_model, whole, tmp_path):
    loaded = load_model(whole / "worked")
    text = (whole / "own_lines.jsonl").read_text()
    cut = tmp_path / "cut.jsonl"
    cut.write_text(text[: len(text) // 2])
    config = two_stages(tiny_model, tmp_path / "unused")
    assert own_lines(config, loaded, cut).lines == own_lines(config, loaded, whole / "own_lines.jsonl").lines
    (again,) = map(json.loads, cut.read_text().splitlines())
    assert again["lines"] == json.loads(text)["lines"]
    assert sum(count for *_, count in again["lines"]) == 5 * 3


def test_the_card_counts_both_stages(whole):
    card, first = (json.loads((folder / "card.json").read_text()) for folder in (whole, whole / "worked"))
    assert card["steps"] == 3 + 5
    assert card["tokens"] > first["tokens"]
    assert card["seconds"] >= first["seconds"]
    assert card["data"] == ("word 1-2 (1); then the ratings of 15 lines of its own, 0.0% right, on word 1-2")


def test_a_second_stage_that_cannot_be_is_refused_before_the_first_begins(tiny_model, tmp_path):
    with pytest.raises(ProblemError, match="no problem set is called 'nowhere'"):
        cold_start(two_stages(tiny_model, tmp_path / "out", problems=(ProblemSet("nowhere"),)))
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="own_lines are for ratings, which plain text has not"):
        SftConfig(form="line", own_lines=OWN)
    for settings, said in [
        ({"share": 0.0}, r"own_lines.share must be above 0 and at most 1, got 0.0"),
        ({"count": 0}, r"own_lines.count must be at least 1, got 0"),
        ({"temperature": 0.0}, r"own_lines.temperature must be finite and above 0"),
        ({"sft": ColdstartSettings(epochs=1)}, r"own_lines.sft takes steps"),
    ]:
        with pytest.raises(ConfigError, match=said):
            replace(OWN, **settings)
