"""The cold start: it learns, it is the same for the same seed, and it overwrites nothing."""

import hashlib
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from llama_o1.errors import RunError
from llama_o1.learn.coldstart import Tuner
from llama_o1.learn.model import load_model
from llama_o1.learn.rows import Line, endless_steps, epoch_steps
from llama_o1.learn.settings import ColdstartSettings
from llama_o1.sft import cold_start
from llama_o1.sft_config import SftConfig
from llama_o1.tasks.mixture import ProblemSet

SETTINGS = ColdstartSettings(steps=30, batch_tokens=64, learning_rate=1e-2, warmup_steps=2, bf16=False)


def fine_tune(loaded, lines, settings=SETTINGS):
    """The loss of every step."""
    tuner = Tuner(loaded.model, settings, pad_id=loaded.pad_id, steps=settings.steps)
    return [tuner.step(step)[0] for step in islice(endless_steps(iter(lines), settings, 0), settings.steps)]


def test_a_line_that_is_repeated_is_learned(tiny_model):
    loaded = load_model(tiny_model)
    losses = fine_tune(loaded, [Line([30, 31, 32, 33, 34], [0, 0, 1, 1, 1])] * 600)
    assert len(losses) == SETTINGS.steps
    assert losses[-1] < 0.1 * losses[0]


def test_only_tokens_that_are_to_be_learned_are_learned(tiny_model):
    """Of a line whose third token is masked, the fourth becomes likely and the third does not."""
    loaded = load_model(tiny_model)
    fine_tune(loaded, [Line([30, 31, 99, 33], [0, 0, 0, 1])] * 600)
    logprobs = loaded.model(input_ids=torch.tensor([[30, 31, 99]])).logits[0].log_softmax(-1)
    assert logprobs[2, 33] > -0.5
    assert logprobs[1, 99] < -3.0


def test_a_token_is_learned_as_its_label_where_the_line_reads_another(tiny_model):
    loaded = load_model(tiny_model)
    fine_tune(loaded, [Line([30, 31, 99, 33], [0, 0, 1, 1], [30, 31, 32, 34])] * 600)
    logprobs = loaded.model(input_ids=torch.tensor([[30, 31, 99]])).logits[0].log_softmax(-1)
    assert logprobs[1, 32] > -0.5  # after 30 31, though the line reads 99
    assert logprobs[2, 34] > -0.5  # after 30 31 99


@pytest.mark.parametrize("weights", [(9, 1, 1, 1), (0, 1, 0, 1), (0, 1, 0.5, 3)])
def test_a_token_counts_by_its_weight_and_leaves_the_others_as_they_are(tiny_model, weights):
    loaded = load_model(tiny_model)
    ids = [30, 31, 32, 33]
    with torch.no_grad():
        predicted = loaded.model(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    each = [-float(predicted[i, token]) for i, token in enumerate(ids[1:])]  # nothing predicts the first one
    counted = [weight * loss for weight, loss in zip(weights[1:], each, strict=True) if weight]
    losses = fine_tune(loaded, [Line(ids, weights)])
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


def test_the_rate_warms_up_and_comes_down_by_a_cosine():
    s1 = ColdstartSettings(learning_rate=1e-5, warmup_share=0.05, last_rate=0.0)
    rates = [s1.rate(step, 100) for step in range(100)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])  # 5 % of 100 steps
    assert rates[5] == 1.0
    assert s1.rate(52, 99) == pytest.approx(0.5)  # half way from 5 to 99
    assert s1.rate(100, 100) == pytest.approx(0.0)
    assert ColdstartSettings(warmup_steps=2).rate(2000, 2000) == pytest.approx(0.1)


def lines_of_many_lengths():
    return [Line([30 + (7 * i + k) % 60 for k in range(3 + i)], [0.0, *[1.0] * (2 + i)]) for i in range(9)]


def test_a_line_does_not_see_the_lines_beside_it_nor_the_padding(tiny_model):
    """The loss of lines that share a padded pass is that of each alone, by its number of tokens."""
    loaded = load_model(tiny_model)
    lines = lines_of_many_lengths()
    whole = Tuner(loaded.model, replace(SETTINGS, batch_tokens=4096), pad_id=loaded.pad_id, steps=1)
    alone = [(len(line.ids) - 1, whole.loss([line])) for line in lines]
    mean = sum(count * loss for count, loss in alone) / sum(count for count, _ in alone)
    together, tokens = whole.step(lines)
    assert tokens == 9 * 32
    assert together == pytest.approx(mean, rel=1e-5)


def test_a_step_in_several_passes_moves_the_weights_as_one_pass_does(tiny_model):
    moved = []
    for batch_tokens in (4096, 24):
        loaded = load_model(tiny_model)
        settings = replace(SETTINGS, batch_lines=9, batch_tokens=batch_tokens)
        tuner = Tuner(loaded.model, settings, pad_id=loaded.pad_id, steps=1)
        losses = [tuner.step(lines_of_many_lengths())[0] for _ in range(2)]
        moved.append((losses, loaded.model.get_input_embeddings().weight.detach().clone()))
    assert moved[0][0] == pytest.approx(moved[1][0], rel=1e-5)
    torch.testing.assert_close(moved[0][1], moved[1][1], rtol=1e-4, atol=1e-5)


def test_every_epoch_holds_each_line_once_in_steps_of_so_many_lines(tiny_model):
    lines = lines_of_many_lengths()
    settings = replace(SETTINGS, epochs=3, batch_lines=4)
    steps = list(epoch_steps(lines, settings, 0))
    assert [len(step) for step in steps] == [4, 4, 1] * 3
    epochs = [[line.ids for step in steps[first : first + 3] for line in step] for first in (0, 3, 6)]
    for epoch in epochs:
        assert sorted(epoch, key=len) == [line.ids for line in lines]
    assert epochs[0] != epochs[1]
    assert steps == list(epoch_steps(lines, settings, 0))
