"""Learning from tries is learning from each experience alone, on every architecture, to rounding."""

import logging
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from learning import ARCHITECTURES, NO_TRIES, SPECIAL, awkward_trees, experience, make_model
from torch.nn.attention.flex_attention import flex_attention

from llama_o1.learn.batches import Batcher, why_no_tries
from llama_o1.learn.compare import compare_packing
from llama_o1.learn.forward import read
from llama_o1.learn.model import add_lora
from llama_o1.learn.pack import pack_tries
from llama_o1.learn.settings import LearnerSettings, LoraSettings
from llama_o1.learn.trainer import Learner

CPU = torch.device("cpu")
SETTINGS = LearnerSettings(learning_rate=1e-3, warmup_steps=0, batch_size=64, entropy_weight=0.01)


def differences(model, steps, **over):
    settings = replace(SETTINGS, **over)
    return list(compare_packing(model, SPECIAL, settings, awkward_trees(), pad_id=0, steps=steps))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tries_give_the_logits_the_loss_and_the_gradient_of_padded_rows(architecture):
    model = make_model(architecture)
    assert why_no_tries(model) is None
    (found,) = differences(model, 1)
    assert found.largest <= 1e-5, found


@pytest.mark.parametrize("architecture", ["llama", "gemma2 with windows and capped scores"])
def test_so_do_tries_that_are_cut_and_spread_over_many_passes(architecture):
    # The first tree's context and its longest thought are 63 tokens; everything longer goes alone.
    (found,) = differences(make_model(architecture), 1, max_tokens_per_forward=60)
    assert found.largest <= 1e-5, found


@pytest.mark.parametrize("architecture", ["llama tied", "qwen3", "gemma3 with windows"])
def test_twenty_steps_later_they_still_do(architecture):
    first, last = differences(make_model(architecture), 20, learning_rate=1e-4)
    assert (first.step, last.step) == (1, 20)
    assert last.largest <= 1e-5, last


def test_the_comparison_sees_a_wrong_depth(monkeypatch):
    monkeypatch.setattr(Batcher, "takes_tries", property(lambda self: self._packing == "trie"))
    right = pack_tries

    def wrong(*arguments, **options):
        return [
            (group, batch._replace(position_ids=batch.position_ids + (batch.position_ids > 21)))
            for group, batch in right(*arguments, **options)
        ]

    monkeypatch.setattr("llama_o1.learn.batches.pack_tries", wrong)
    (found,) = differences(make_model("llama"), 1)
    assert found.logits > 1e-3
    assert found.gradient > 1e-3


def test_the_reference_of_an_adapter_comes_from_the_same_tries():
    model = add_lora(make_model("llama"), [8, 9], LoraSettings(rank=2), seed=0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    (found,) = differences(model, 1, kl_weight=0.1)
    assert found.largest <= 1e-5, found
    unit = Learner(model, SPECIAL, replace(SETTINGS, kl_weight=0.1), pad_id=0)
    assert unit.batcher.takes_tries
    assert unit.step(awkward_trees(), np.ones(20)).metrics["reference_kl"] > 1e-4


def test_what_is_shared_is_computed_once():
    data = awkward_trees()
    ((group, batch),) = pack_tries(data, 8192, 0, CPU)
    assert group == list(range(len(data)))
    beginnings = set()
    for e in data:
        ids = [*e.context.tolist(), *e.ids.tolist()]
        beginnings |= {tuple(ids[:n]) for n in range(1, len(ids) + 1)}
    assert int(batch.attention_mask.sum()) == len(beginnings)


def test_the_first_token_of_a_child_is_predicted_where_its_parent_ends():
    first = experience([5, 6], [7, 8])
    children = [experience([5, 6, 7, 8], [9, 10]), experience([5, 6, 7, 8], [11, 10])]
    ((_, batch),) = pack_tries([first, *children], 8192, 0, CPU)
    assert batch.predicted_by[1, 0] == batch.predicted_by[2, 0] == batch.rated_by[0] == 3


def test_a_node_that_comes_twice_counts_each_time_with_its_own_weight():
    twice = [experience([5, 6], [7, 8, 9]), experience([5, 6], [7, 8, 9], advantage=2.0)]
    model = make_model("llama")
    unit = Learner(model, SPECIAL, SETTINGS, pad_id=0)
    found = unit.step(twice, np.array([0.25, 1.5]))
    gradient = model.lm_head.weight.grad.clone()
    apart = Learner(make_model("llama"), SPECIAL, SETTINGS, pad_id=0)
    sums = torch.zeros_like(gradient)
    for e, weight in zip(twice, (0.25, 1.5), strict=True):
        apart = Learner(make_model("llama"), SPECIAL, replace(SETTINGS, max_grad_norm=1e9), pad_id=0)
        apart.step([e], np.array([weight]))
        sums += apart.model.lm_head.weight.grad / 2
    torch.testing.assert_close(gradient / gradient.norm(), sums / sums.norm(), rtol=1e-4, atol=1e-6)
    assert len(found.values) == 2


@pytest.mark.parametrize("architecture", NO_TRIES)
def test_a_model_that_cannot_take_tries_learns_from_rows_with_one_warning(architecture, caplog):
    unit = Learner(make_model(architecture), SPECIAL, SETTINGS, pad_id=0)
    data = [e for e in awkward_trees() if e.context.size]
    with caplog.at_level(logging.WARNING, logger="llama_o1"):
        unit.step(data, np.ones(len(data)))
        unit.values(data)
    (record,) = [r for r in caplog.records if r.name.startswith("llama_o1")]
    assert "cannot learn from tries" in record.message
    assert all(batch.subtree_end is None for _, batch in unit.batches(data))


def test_sinks_and_chunks_are_refused_by_name():
    from learning import GROUPED
    from transformers import AutoModelForCausalLM, GptOssConfig, Llama4TextConfig

    sinks = GptOssConfig(**GROUPED, head_dim=8, num_local_experts=2)
    chunks = Llama4TextConfig(
        **GROUPED, head_dim=8, attention_chunk_size=4, num_local_experts=2, intermediate_size_mlp=32
    )
    assert "s_aux" in why_no_tries(AutoModelForCausalLM.from_config(sinks).eval())
    assert "chunks" in why_no_tries(AutoModelForCausalLM.from_config(chunks).eval())


def test_padded_packing_asks_no_proof(caplog):
    unit = Learner(make_model("mamba"), SPECIAL, replace(SETTINGS, packing="padded"), pad_id=0)
    unit.values([experience([5, 6], [7, 8])])
    assert not [r for r in caplog.records if r.name.startswith("llama_o1")]


def test_the_models_own_attention_is_back_after_a_pass_and_after_an_error():
    model = make_model("llama")
    before = model.config._attn_implementation
    ((_, batch),) = pack_tries(awkward_trees(), 8192, 0, CPU)
    read(model, batch, (8, 9))
    assert model.config._attn_implementation == before
    with pytest.raises(IndexError):
        read(model, batch._replace(input_ids=batch.input_ids + 1000), (8, 9))
    assert model.config._attn_implementation == before
    assert not model.lm_head._forward_pre_hooks


@pytest.mark.parametrize("architecture", ["llama", "gemma2 with windows and capped scores"])
def test_the_block_mask_that_cuda_gets_gives_the_same_forward_pass(architecture, monkeypatch):
    # Not compiled, and without gradients, which FlexAttention has on CUDA only.
    def plain(query, key, value, training=False, **options):
        return flex_attention(query, key, value, **options)

    monkeypatch.setattr("transformers.integrations.flex_attention.compile_friendly_flex_attention", plain)
    model = make_model(architecture)
    ((_, batch),) = pack_tries(awkward_trees(), 8192, 0, CPU)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, that this is slow
        dense = read(model, batch, (8, 9))
        monkeypatch.setattr("llama_o1.learn.forward.kind_for", lambda device: "flex")
        for expected, found in zip(dense, read(model, batch, (8, 9)), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
