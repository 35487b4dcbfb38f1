"""What stops a step: numbers that are none, and too little memory; and how a stopped batch is looked into."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from learning import SPECIAL, awkward_trees, make_model

from llama_o1.errors import RunError
from llama_o1.learn.batch_file import decode, encode, read_batch, write_batch
from llama_o1.learn.diagnose import diagnose
from llama_o1.learn.guards import NotFiniteError, is_out_of_memory
from llama_o1.learn.settings import LearnerSettings
from llama_o1.learn.trainer import Learner


def learner(**over):
    settings = LearnerSettings(**{"learning_rate": 1e-2, "warmup_steps": 0, "packing": "padded", **over})
    return Learner(make_model("llama"), SPECIAL, settings, pad_id=0)


def weights_of(unit):
    return {name: p.detach().clone() for name, p in unit.model.named_parameters()}


def same(one, other):
    for field in ("context", "ids", "sampled", "logprobs"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
    for field in ("temperature", "advantage", "value", "value_target", "outcome", "version", "action"):
        assert getattr(one, field) == getattr(other, field)
    assert (one.problem, one.tree, one.node, one.parent) == (
        other.problem,
        other.tree,
        other.node,
        other.parent,
    )


def test_a_batch_comes_back_from_its_bytes_as_it_was():
    data = [replace(e, outcome=[None, 0.0, 1.0][i % 3]) for i, e in enumerate(awkward_trees())]
    weights = np.linspace(0.1, 1, len(data))
    found, found_weights = decode(encode(data, weights))
    np.testing.assert_array_equal(found_weights, weights)
    for one, other in zip(found, data, strict=True):
        same(one, other)


def test_a_batch_file_keeps_numbers_that_are_none_and_its_words(tmp_path):
    data = [replace(awkward_trees()[0], advantage=float("nan"))]
    write_batch(tmp_path / "new" / "batch.safetensors", data, np.ones(1), model="000003")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["batch.safetensors"]
    found, _, words = read_batch(tmp_path / "new" / "batch.safetensors")
    assert np.isnan(found[0].advantage)
    assert words == {"model": "000003"}


@pytest.mark.parametrize("content", [b"", b"no batch at all, of some length"])
def test_another_file_is_no_batch(tmp_path, content):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(RunError, match="is not a batch that a stopped run saved"):
        read_batch(tmp_path / "other")


def test_a_loss_that_is_not_finite_stops_with_the_batch_it_was_given():
    unit, data = learner(), awkward_trees()
    before = weights_of(unit)
    data[3] = replace(data[3], advantage=float("inf"))
    with pytest.raises(
        NotFiniteError, match="step 1: the loss of node 15 of tree t is not finite"
    ) as stopped:
        unit.step(data, np.ones(len(data)))
    assert list(stopped.value.experiences) == data
    assert all(torch.equal(p, before[name]) for name, p in unit.model.named_parameters())


def test_a_gradient_that_is_not_finite_stops_with_the_weights_as_they_were():
    unit, data = learner(), awkward_trees()
    before = weights_of(unit)
    handle = unit.model.lm_head.weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(NotFiniteError, match="step 1: the gradient is not finite"):
        unit.step(data, np.ones(len(data)))
    handle.remove()
    assert all(torch.equal(p, before[name]) for name, p in unit.model.named_parameters())
    unit.step(data, np.ones(len(data)))
    assert unit.num_steps == 1


def test_a_diagnosis_names_what_the_step_was_given():
    data = awkward_trees()
    data[0] = replace(data[0], advantage=float("nan"))
    found, stopped = diagnose(learner(), data, np.ones(len(data)))
    assert ("experience", "advantage of node 12 of tree t", 1, 1) in found
    assert {finding.where for finding in found} == {"experience", "gradient"}
    assert stopped is not None


def test_a_diagnosis_names_the_weight_and_the_first_layer_behind_it():
    unit, data = learner(), awkward_trees()
    with torch.no_grad():
        unit.model.model.layers[1].mlp.up_proj.weight[2, 5] = float("inf")
    found, stopped = diagnose(unit, data, np.ones(len(data)))
    assert found[0] == ("weight", "model.layers.1.mlp.up_proj.weight", 1, 64 * 32)
    assert next(f.name for f in found if f.where == "layer") == "model.layers.1.mlp.up_proj"
    assert stopped is not None


def test_a_diagnosis_of_a_sound_step_finds_nothing():
    data = awkward_trees()
    assert diagnose(learner(), data, np.ones(len(data))) == ([], None)


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 9 bytes"
            ),
            True,
        ),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_which_errors_mean_too_little_memory(error, is_one):
    assert is_out_of_memory(error) is is_one


def short_of_memory(unit, most):
    """Let passes over more than `most` places fail, as a device would; sizes of those that went through."""
    losses, sizes = unit._losses, []

    def fake(batch, importance):
        if batch.input_ids.numel() > most:
            raise torch.OutOfMemoryError("out of memory")
        sizes.append(batch.input_ids.numel())
        return losses(batch, importance)

    unit._losses = fake
    return sizes


def test_too_little_memory_halves_the_passes_once_and_says_so(caplog):
    data = awkward_trees()
    easy, hard = learner(max_tokens_per_forward=300), learner(max_tokens_per_forward=300)
    sizes = short_of_memory(hard, 150)
    with caplog.at_level(logging.WARNING):
        results = [
            (easy.step(data, np.ones(len(data))), hard.step(data, np.ones(len(data)))) for _ in range(2)
        ]
    assert hard.max_tokens == 150
    assert max(sizes) <= 150
    assert caplog.text.count("out of memory: from now on forward passes of 150 tokens instead of 300") == 1
    for one, other in results:
        assert one.metrics == pytest.approx(other.metrics, rel=1e-5, abs=1e-6)


def test_too_little_memory_for_half_is_one_line_with_a_way_on():
    unit, data = learner(max_tokens_per_forward=300), awkward_trees()
    short_of_memory(unit, 10)
    with pytest.raises(RunError, match=r"out of memory in passes of 150 tokens.*max_tokens_per_forward"):
        unit.step(data, np.ones(len(data)))


def test_another_error_of_torch_goes_through():
    unit, data = learner(), awkward_trees()

    def broken(batch, importance):
        raise RuntimeError("shapes cannot be multiplied")

    unit._losses = broken
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        unit.step(data, np.ones(len(data)))


def test_a_run_that_stops_keeps_the_batch_and_verify_tells_where(tmp_path, tiny_model, capsys):
    from llama_o1.cli import main
    from llama_o1.learn.model import load_model
    from llama_o1.learning import keep_stopped

    loaded = load_model(tiny_model)
    unit = Learner(loaded.model, loaded.special, LearnerSettings(), pad_id=loaded.pad_id)
    data = awkward_trees()[:4]
    with torch.no_grad():
        loaded.model.model.norm.weight[0] = float("nan")
    with pytest.raises(NotFiniteError) as stopped:
        unit.step(data, np.ones(4))
    error = keep_stopped(tmp_path / "stopped", stopped.value, unit, loaded.tokenizer, None)
    file = tmp_path / "stopped" / "000000.safetensors"
    assert str(error).endswith(f"`llama-o1 verify --batch {file}` tells where")

    assert main(["verify", "--batch", str(file)]) == 1
    *cases, line = capsys.readouterr().out.splitlines()
    first = json.loads(cases[0])
    assert (first["where"], first["name"], first["not_finite"]) == ("weight", "model.norm.weight", 1)
    assert first["verdict"] == "not finite"
    assert line.startswith("step 1: the loss of node 12 of tree t is not finite")
