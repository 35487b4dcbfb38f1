"""Trackers by name: what they are given, and a clear line for one that is not there."""

import pytest

from llama_o1.arguments import build, parse, parser_of
from llama_o1.config import RunConfig
from llama_o1.errors import ConfigError
from llama_o1.trackers import Trackers, check_installed


def test_without_a_tracker_nothing_is_written(tmp_path):
    trackers = Trackers((), tmp_path, {"seed": 0})
    trackers.log({"phase": "learn", "step": 1, "loss": 0.5}, 3)
    trackers.close()
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_gets_each_number_under_its_phase(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trackers = Trackers(("tensorboard",), tmp_path, {"seed": 0, "learner": {"betas": (0.9, 0.99)}})
    trackers.log({"phase": "step", "step": 1, "learner_step": 7, "loss": 0.5}, 7)
    trackers.log({"phase": "evaluate", "step": 1, "method": "greedy", "set": "word", "accuracy": 0.25}, 8)
    trackers.close()
    events = EventAccumulator(str(tmp_path / "llama-o1"))
    events.Reload()
    assert {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]} == {
        "step/loss": [(7, 0.5)],
        "evaluate/greedy/word/accuracy": [(8, 0.25)],
    }


def test_a_tracker_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.setattr("llama_o1.trackers._AVAILABLE", {"wandb": lambda: False})
    with pytest.raises(ConfigError, match="tracker wandb is not installed: `pip install wandb`"):
        check_installed(("wandb",))


def test_trackers_are_a_list_of_names():
    parser = parser_of("train", "", RunConfig)
    config = build(RunConfig, parse(parser, ["--trackers", "tensorboard,wandb"]))
    assert config.trackers == ("tensorboard", "wandb")
    with pytest.raises(ConfigError, match="trackers"):
        parse(parser, ["--trackers", "other"])
