"""The cold start: it learns, it is the same for the same seed, and it overwrites nothing."""

import hashlib
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from llama_o1.errors import ConfigError, RunError
from llama_o1.learn.coldstart import Tuner
from llama_o1.learn.model import load_model
from llama_o1.learn.rows import Line, endless_steps, epoch_steps, passes
from llama_o1.learn.settings import ColdstartSettings
from llama_o1.sft import cold_start
from llama_o1.sft_config import SftConfig
from llama_o1.tasks.mixture import ProblemSet
from tests.learning import ARCHITECTURES, NO_TRIES, make_model

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


APART = ARCHITECTURES.keys() - {"opt"} | {"gpt_neo"}


@pytest.mark.parametrize("architecture", sorted(APART))
def test_lines_that_share_a_row_are_learned_as_lines_of_their_own(architecture):
    moved = []
    for row_tokens in (None, 24):
        model = make_model(architecture)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):  # GPT-2's
                module.p = 0.0
        tuner = Tuner(model, replace(SETTINGS, batch_lines=9, row_tokens=row_tokens), pad_id=0, steps=1)
        lines = [line._replace(ids=[token % 48 for token in line.ids]) for line in lines_of_many_lengths()]
        loss, tokens = tuner.step(lines)
        moved.append((loss, tokens, model.get_input_embeddings().weight.detach()))
    (alone, wide, one), (packed, narrow, other) = moved
    assert packed == pytest.approx(alone, rel=1e-5)
    assert narrow < wide  # 63 tokens in rows of 24, padded to 32, in place of nine rows
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_a_row_takes_every_line_that_it_still_holds_the_longest_first():
    """Lines of 3 to 11 tokens in rows of 16: 11 + 5, 10 + 6, 9 + 7, 8 + 4 + 3."""
    settings = replace(SETTINGS, batch_tokens=4096, row_tokens=16)
    (made,) = passes(lines_of_many_lengths(), settings, pad_id=0)
    begins = [[i for i, position in enumerate(row) if not position] for row in made.positions.tolist()]
    assert begins == [[0, 8, 12, 15], [0, 11, 16], [0, 10, 16], [0, 9, 16]]  # the last is the padding
    assert (made.ids > 0).sum(1).tolist() == [15, 16, 16, 16]
    assert made.weights[0].tolist() == [0, *[1] * 7, 0, *[1] * 3, 0, *[1] * 2, *[0] * 17]


def test_steps_of_packed_lines_hold_as_many_tokens_as_they_may():
    settings = replace(SETTINGS, row_tokens=16, batch_tokens=20)
    lines = lines_of_many_lengths()
    steps = list(endless_steps(iter(lines), settings, 0))
    totals = [sum(len(line.ids) for line in step) for step in steps]
    assert sum(totals) == 63
    assert max(totals) <= 20
    assert all(total + len(after[0].ids) > 20 for total, after in zip(totals, steps[1:], strict=False))


@pytest.mark.parametrize("architecture", sorted((ARCHITECTURES | NO_TRIES).keys() - APART))
def test_a_model_that_does_not_tell_packed_lines_apart_is_refused(architecture):
    with pytest.raises(ConfigError, match="model lets lines of one row see each other; set no sft"):
        Tuner(make_model(architecture), replace(SETTINGS, row_tokens=24), pad_id=0, steps=1)


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
