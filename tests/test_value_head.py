"""A value head in place of the rating tokens: one number for search and learner, saved beside the weights."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from learning import SPECIAL, VOCAB, experience, make_model
from transformers import OpenAIGPTConfig, OpenAIGPTLMHeadModel

from llama_o1 import assemble
from llama_o1.cli import main
from llama_o1.config import EngineSettings, ModelSettings
from llama_o1.engine.local import LocalEngine
from llama_o1.engine.protocol import Request
from llama_o1.errors import ConfigError, EngineError, ModelError, RunError
from llama_o1.learn.checkpoint import load_checkpoint, save_checkpoint
from llama_o1.learn.model import add_lora, export_model, load_model
from llama_o1.learn.settings import LearnerSettings, LoraSettings
from llama_o1.learn.trainer import Learner
from llama_o1.value_head import (
    HEAD_FILE,
    ValueHead,
    head_width,
    new_head,
    read_head,
    save_head,
    tell_left_out,
)

SETTINGS = LearnerSettings(learning_rate=1e-2, warmup_steps=0, threads=1)
CONTEXTS = ((1, 2, 3), (1, 2, 3, 9, 8, 7), (5,), (4, 4, 4, 4, 4, 4, 4, 4))


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def gpt1():
    """A model without a cache that an engine knows."""
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.3}
    return OpenAIGPTLMHeadModel(OpenAIGPTConfig(**sizes, vocab_size=VOCAB)).eval()


def strong_head(model, seed=0):
    """A head that tells contexts apart."""
    return ValueHead(head_width(model), spread=0.5, seed=seed)


def values_of(engine, contexts=CONTEXTS, tokens=3):
    """Values after contexts that were continued by a few greedy tokens, and the whole contexts."""
    for i, context in enumerate(contexts):
        engine.submit(i, Request(context, tokens, seed=i, temperature=0.0, rating=(5, 6)))
    replies = {}
    while got := engine.poll():
        replies |= dict(got)
    samples = [replies[i].samples[0] for i in range(len(contexts))]
    return [s.value for s in samples], [(*c, *s.ids.tolist()) for c, s in zip(contexts, samples, strict=True)]


def test_a_head_maps_tanh_to_a_success_probability():
    head = ValueHead(3)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([0.5, -1.0, 2.0]))
        head.bias.fill_(0.25)
    # x = 0.5 * 2 - 1 * 1 + 2 * 0.125 + 0.25 = 0.5
    logits = head(torch.tensor([[2.0, 1.0, 0.125]]))
    assert logits.tolist() == [[0.5, -0.5]]
    right, wrong = logits.softmax(-1)[0].tolist()
    assert right == pytest.approx((1 + math.tanh(0.5)) / 2)
    assert wrong == pytest.approx((1 - math.tanh(0.5)) / 2)


def test_a_new_head_says_about_one_half_and_follows_its_seed():
    model = make_model("llama")
    values, _ = values_of(LocalEngine(model, value_head=new_head(model, seed=1)))
    assert len(set(values)) == len(CONTEXTS)
    # its weights are spread by 0.2 here, ten times the usual: 32 states of size 1 give |x| of about 1.1
    assert 0.01 < min(values) < max(values) < 0.99
    assert torch.equal(new_head(model, seed=1).weight, new_head(model, seed=1).weight)
    assert not torch.equal(new_head(model, seed=1).weight, new_head(model, seed=2).weight)


@pytest.mark.parametrize(
    "name", ["llama", "gemma2 with windows and capped scores", "opt", "falcon", "mamba", "gpt1"]
)
def test_an_engine_reads_the_head_on_the_state_after_the_last_token(name):
    model = gpt1() if name == "gpt1" else make_model(name)
    head = strong_head(model)
    values, whole = values_of(LocalEngine(model, max_context=64, value_head=head))
    for value, ids in zip(values, whole, strict=True):
        given = []
        hook = model.get_output_embeddings().register_forward_pre_hook(
            lambda _, inputs, given=given: given.append(inputs[0])
        )
        with torch.no_grad():
            model(input_ids=torch.tensor([ids]))
        hook.remove()
        x = float((given[0][0, -1] @ head.weight + head.bias).detach())
        assert value == pytest.approx((1 + math.tanh(x)) / 2, abs=1e-5)


@pytest.mark.parametrize("kind", ["tries", "rows", "lora"])
def test_the_learner_says_what_the_engine_said(kind):
    model = make_model("falcon" if kind == "rows" else "llama")
    head = strong_head(model)
    if kind == "lora":
        model = add_lora(model, [3, 4], LoraSettings(rank=2), seed=0)
    values, whole = values_of(LocalEngine(model, max_context=64, value_head=head))
    seen = [
        experience(ids[:-3], ids[-3:], node) for node, (ids, _) in enumerate(zip(whole, values, strict=True))
    ]
    learner = Learner(model, SPECIAL, SETTINGS, pad_id=0, value_head=head)
    assert learner.values(seen) == pytest.approx(values, abs=1e-5)


def test_a_step_moves_the_head_towards_the_targets():
    model = make_model("llama")
    learner = Learner(
        model, SPECIAL, replace(SETTINGS, policy_weight=0.0), pad_id=0, value_head=strong_head(model)
    )
    seen = [experience(c, [7, 8, 4], i, value_target=float(i % 2)) for i, c in enumerate(CONTEXTS)]
    first = learner.step(seen, np.ones(4)).metrics["value_loss"]
    assert {"value_head.weight/exp_avg", "value_head.bias/exp_avg"} < set(learner.optimizer_state())
    for _ in range(10):
        last = learner.step(seen, np.ones(4)).metrics["value_loss"]
    assert last < 0.5 * first


def test_a_head_comes_back_from_a_checkpoint_with_its_optimizer(tmp_path, tiny_model):
    units = []
    for seed in (1, 2):
        loaded = load_model(tiny_model, value="head", seed=seed)
        units.append(
            Learner(
                loaded.model, loaded.special, SETTINGS, pad_id=loaded.pad_id, value_head=loaded.value_head
            )
        )
    seen = [experience(c, [7, 8, 4], i) for i, c in enumerate(CONTEXTS)]
    units[0].step(seen, np.ones(4))
    path = save_checkpoint(tmp_path, 1, learner=units[0], tokenizer=loaded.tokenizer, state={})
    load_checkpoint(path, units[1])
    for unit in units:
        unit.step(seen, np.ones(4))
    assert torch.equal(units[0].value_head.weight, units[1].value_head.weight)
    assert units[0].values(seen).tolist() == units[1].values(seen).tolist()


def test_a_checkpoint_with_a_head_is_not_taken_for_one_without_nor_the_other_way_round(tmp_path, tiny_model):
    for i, value in enumerate(("rating", "head")):
        loaded = load_model(tiny_model, value=value)
        own = Learner(
            loaded.model, loaded.special, SETTINGS, pad_id=loaded.pad_id, value_head=loaded.value_head
        )
        path = save_checkpoint(tmp_path, i, learner=own, tokenizer=loaded.tokenizer, state={})
        head = None if value == "head" else new_head(loaded.model)
        other = Learner(loaded.model, loaded.special, SETTINGS, pad_id=loaded.pad_id, value_head=head)
        with pytest.raises(RunError, match=f"model.value {value}"):
            load_checkpoint(path, other)


def test_exported_weights_have_the_head_beside_them(tmp_path, tiny_model):
    loaded = load_model(tiny_model, value="head", seed=5)
    unit = Learner(loaded.model, loaded.special, SETTINGS, pad_id=loaded.pad_id, value_head=loaded.value_head)
    source = save_checkpoint(tmp_path / "run", 0, learner=unit, tokenizer=loaded.tokenizer, state={})
    export_model(source, tmp_path / "out")
    again = load_model(tmp_path / "out", value="head", new_value_head=False)
    assert torch.equal(again.value_head.weight, loaded.value_head.weight)
    assert load_model(tmp_path / "out").value_head is None, "the rating unless the head is asked for"


def test_a_head_that_a_fine_tuned_model_will_not_have_is_told(tmp_path, caplog):
    tell_left_out(tmp_path)
    assert not caplog.records
    (tmp_path / HEAD_FILE).touch()
    tell_left_out(tmp_path)
    assert "has a value head" in caplog.text


def test_a_damaged_head_or_another_models_is_named(tmp_path):
    save_head(ValueHead(4), tmp_path)
    with pytest.raises(ModelError, match="another model"):
        read_head(tmp_path, ValueHead(5))
    (tmp_path / HEAD_FILE).write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="cannot be read"):
        read_head(tmp_path, ValueHead(4))
    with pytest.raises(EngineError, match="reads 4 numbers, the model has 32"):
        LocalEngine(make_model("llama"), value_head=ValueHead(4))


@pytest.mark.parametrize("name", ["vllm", "server"])
def test_an_engine_that_shows_no_hidden_states_is_refused(name):
    urls = ("http://localhost:1",) if name == "server" else ()
    engine = EngineSettings(name=name, urls=urls)
    with pytest.raises(ConfigError, match=f"model.value head needs engine.name local, got {name}"):
        assemble.assemble(ModelSettings(value="head"), engine)


def test_a_search_by_a_head_that_a_model_does_not_have_is_one_line(capsys, tiny_model):
    arguments = ["--model.path", str(tiny_model), "--model.value", "head", "--problem", "What is 1 + 1?"]
    assert main(["search", *arguments]) == 2
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    assert "has no value head (value_head.safetensors)" in written
