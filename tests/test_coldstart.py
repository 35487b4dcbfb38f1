"""The cold start: it learns, it is the same for the same seed, and it overwrites nothing."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from llama_o1.errors import RunError
from llama_o1.learn.coldstart import fine_tune
from llama_o1.learn.model import load_model
from llama_o1.learn.settings import ColdstartSettings
from llama_o1.sft import cold_start
from llama_o1.sft_config import SftConfig
from llama_o1.tasks.mixture import ProblemSet

SETTINGS = ColdstartSettings(steps=30, batch_tokens=64, learning_rate=1e-2, warmup_steps=2, bf16=False)


def losses_of(model, pad_id):
    lines = iter([([30, 31, 32, 33, 34], [False, False, True, True, True])] * 600)
    losses = []
    fine_tune(model, lines, SETTINGS, pad_id=pad_id, seed=0, on_step=lambda _, loss, __: losses.append(loss))
    return losses


def test_a_line_that_is_repeated_is_learned(tiny_model):
    loaded = load_model(tiny_model)
    losses = losses_of(loaded.model, loaded.pad_id)
    assert len(losses) == SETTINGS.steps
    assert losses[-1] < 0.1 * losses[0]


def test_only_tokens_that_are_to_be_learned_are_learned(tiny_model):
    """Of a line whose third token is masked, the fourth becomes likely and the third does not."""
    loaded = load_model(tiny_model)
    lines = iter([([30, 31, 99, 33], [False, False, False, True])] * 600)
    fine_tune(loaded.model, lines, SETTINGS, pad_id=loaded.pad_id, seed=0, on_step=lambda *_: None)
    logprobs = loaded.model(input_ids=torch.tensor([[30, 31, 99]])).logits[0].log_softmax(-1)
    assert logprobs[2, 33] > -0.5
    assert logprobs[1, 99] < -3.0


@pytest.mark.parametrize("weights", [(9, 1, 1, 1), (0, 1, 0, 1), (0, 1, 0.5, 3)])
def test_a_token_counts_by_its_weight_and_leaves_the_others_as_they_are(tiny_model, weights):
    loaded = load_model(tiny_model)
    ids, losses = [30, 31, 32, 33], []
    with torch.no_grad():
        predicted = loaded.model(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    each = [-float(predicted[i, token]) for i, token in enumerate(ids[1:])]  # nothing predicts the first one
    counted = [weight * loss for weight, loss in zip(weights[1:], each, strict=True) if weight]
    fine_tune(
        loaded.model,
        iter([(ids, weights)]),
        SETTINGS,
        pad_id=loaded.pad_id,
        seed=0,
        on_step=lambda _, loss, __: losses.append(loss),
    )
    assert losses == [pytest.approx(sum(counted) / len(counted), rel=1e-5)]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return SftConfig(
        out=str(tmp_path_factory.mktemp("sft") / "model"),
        problems=(ProblemSet("word", max_steps=2),),
        threads=1,
        sft=ColdstartSettings(steps=2, batch_tokens=512, warmup_steps=1),
    )


@pytest.fixture(scope="module")
def made(config):
    cold_start(config)
    return config.out


def test_the_same_seed_makes_the_same_bytes(config, made, tmp_path):
    cold_start(replace(config, out=str(tmp_path / "again")))
    assert fingerprint(made) == fingerprint(tmp_path / "again")


def test_the_model_that_is_written_loads_with_all_our_tokens(made):
    loaded = load_model(made)
    assert len(loaded.special.remaining) == 7


def test_a_folder_that_holds_something_is_not_overwritten(config, made):
    with pytest.raises(RunError, match="already holds files"):
        cold_start(config)


def fingerprint(folder):
    return hashlib.sha256(Path(folder, "model.safetensors").read_bytes()).hexdigest()
