"""Checkpoints: a run that stops and goes on ends with the same bytes, and damage is never loaded."""

import json
import logging

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from llama_o1.errors import RunError
from llama_o1.faults import on_reach
from llama_o1.format.tokens import SPECIAL_TOKENS, SpecialIds
from llama_o1.learn.checkpoint import load_checkpoint, save_checkpoint
from llama_o1.learn.model import add_lora, load_model
from llama_o1.learn.settings import LearnerSettings, LoraSettings
from llama_o1.learn.shelf import best_checkpoint, latest_checkpoint, recover_checkpoints
from llama_o1.learn.trainer import Learner
from replay.experience import Experience

WORDS = ["<unk>", "a", "b", "c", *SPECIAL_TOKENS]
IDS = list(range(4, len(WORDS)))
SPECIAL = SpecialIds(*IDS[:11], tags={}, remaining=())
LORA = LoraSettings(rank=2)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tokenizer():
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    found = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    found.add_special_tokens({"additional_special_tokens": list(SPECIAL_TOKENS)})
    return found


def base(tied=True, hidden_size=8):
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=hidden_size,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        tie_word_embeddings=tied,
    )
    return LlamaForCausalLM(config)


def learner(kind="tied", **over):
    model = base(tied="untied" not in kind)
    if "lora" in kind:
        model = add_lora(model, IDS, LORA, seed=0)
    return Learner(model, SPECIAL, LearnerSettings(learning_rate=1e-2, warmup_steps=3, **over), pad_id=0)


def train(unit, steps):
    for number in steps:
        rng = np.random.default_rng(number)
        data = [
            Experience(
                context=rng.integers(1, len(WORDS), 5).astype(np.int32),
                ids=rng.integers(1, len(WORDS), 4).astype(np.int32),
                sampled=np.array([False, True, True, False]),
                logprobs=np.array([0, -3, -3, 0], dtype=np.float32),
                temperature=1.0,
                advantage=float(rng.normal()),
                value=0.5,
                value_target=float(rng.random()),
                outcome=None,
                version=0,
                action="expand",
                problem="p",
                tree="t",
                node=node,
                parent=0,
            )
            for node in range(4)
        ]
        unit.step(data, np.ones(4))


def weights(unit):
    return {name: tensor.clone() for name, tensor in unit.model.state_dict().items()}


def save(folder, step, unit, state=None, **over):
    return save_checkpoint(folder, step, learner=unit, tokenizer=tokenizer(), state=state or {}, **over)


@pytest.mark.parametrize("kind", ["tied", "untied", "tied lora", "untied lora"])
def test_a_run_that_stops_and_goes_on_ends_with_the_same_bytes(tmp_path, kind):
    straight = learner(kind)
    train(straight, range(4))

    first = learner(kind)
    train(first, range(2))
    path = save(tmp_path, 2, first)

    second = learner(kind)
    model = second.model
    load_checkpoint(path, second)
    train(second, range(2, 4))

    assert second.model is model
    expected = weights(straight)
    found = weights(second)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    for name, tensor in straight.optimizer_state().items():
        assert torch.equal(second.optimizer_state()[name], tensor)
    assert second.num_steps == 4


def test_loading_keeps_tied_weights_tied(tmp_path):
    unit = learner()
    path = save(tmp_path, 0, unit)
    load_checkpoint(path, unit)
    assert unit.model.get_input_embeddings().weight is unit.model.get_output_embeddings().weight


def test_the_state_comes_back_and_torch_draws_go_on(tmp_path):
    state = {"rng": np.random.default_rng(3).bit_generator.state, "mark": 17, "nested": {"a": [1.5, None]}}
    unit = learner()
    path = save(tmp_path, 5, unit, state)
    expected = torch.rand(3)
    torch.manual_seed(99)
    assert load_checkpoint(path, unit) == state
    assert torch.equal(torch.rand(3), expected)


def test_a_checkpoint_before_the_first_step_starts_the_optimizer_anew(tmp_path):
    unit = learner()
    path = save(tmp_path, 0, unit)
    train(unit, range(2))
    load_checkpoint(path, unit)
    assert unit.num_steps == 0
    assert unit.optimizer_state() == {}
    train(unit, range(2))
    straight = learner()
    train(straight, range(2))
    assert all(torch.equal(weights(unit)[name], tensor) for name, tensor in weights(straight).items())


def test_nothing_is_pickled_and_the_manifest_names_every_other_file(tmp_path):
    unit = learner()
    train(unit, range(1))
    path = save(tmp_path, 1, unit)
    names = {file.name for file in path.iterdir()}
    assert {name.rsplit(".", 1)[-1] for name in names} <= {"json", "safetensors"}
    manifest = json.loads((path / "manifest.json").read_text())
    assert set(manifest["files"]) == names - {"manifest.json"}
    assert {"model.safetensors", "tokenizer.json", "optimizer.safetensors", "state.json"} <= names
    assert [file.name for file in tmp_path.iterdir()] == ["000001"]


@pytest.mark.parametrize("kind", ["tied", "tied lora"])
def test_a_checkpoint_is_a_model_folder(tmp_path, kind):
    base().save_pretrained(tmp_path / "base")
    tokenizer().save_pretrained(tmp_path / "base")
    unit = learner(kind)
    if "lora" in kind:
        model = load_model(tmp_path / "base", adapter=LORA).model
        unit = Learner(model, SPECIAL, LearnerSettings(learning_rate=1e-2), pad_id=0)
    train(unit, range(2))
    path = save(tmp_path / "checkpoints", 2, unit)
    again = load_model(path).model
    ids = torch.tensor([[1, 5, 12, 2]])
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, unit.model(ids).logits, atol=1e-6, rtol=1e-5)


def test_the_last_ones_are_kept(tmp_path):
    unit = learner()
    for step in (1, 2, 3, 10):
        save(tmp_path, step, unit, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000003", "000010"]
    assert latest_checkpoint(tmp_path) == tmp_path / "000010"


def test_there_is_no_latest_in_an_empty_or_missing_folder(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "missing") is None


def change_a_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("model.safetensors", change_a_byte),
        ("optimizer.safetensors", lambda path: path.unlink()),
        ("state.json", lambda path: path.write_text("{}  ")),
        ("manifest.json", lambda path: path.unlink()),
        ("manifest.json", lambda path: path.write_text("[]")),
        ("manifest.json", lambda path: path.write_text('{"format": 9, "files": {}}')),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, caplog, file, damage):
    unit = learner()
    for step in (1, 2):
        save(tmp_path, step, unit)
    damage(tmp_path / "000002" / file)
    with caplog.at_level(logging.WARNING):
        assert latest_checkpoint(tmp_path) == tmp_path / "000001"
    assert "000002 is damaged" in caplog.text
    with pytest.raises(RunError, match=r"000002 is damaged: .*; use an earlier one"):
        load_checkpoint(tmp_path / "000002", unit)


def test_what_a_killed_save_left_is_not_a_checkpoint_and_goes_with_the_next_save(tmp_path):
    (tmp_path / ".000007.partial").mkdir()
    (tmp_path / ".000007.partial" / "model.safetensors").write_text("half")
    assert latest_checkpoint(tmp_path) is None
    save(tmp_path, 8, learner())
    assert [path.name for path in tmp_path.iterdir()] == ["000008"]


def test_a_save_that_fails_leaves_the_one_before(tmp_path):
    unit = learner()
    save(tmp_path, 1, unit)
    with pytest.raises(TypeError):
        save(tmp_path, 1, unit, {"not json": object()})
    assert latest_checkpoint(tmp_path) == tmp_path / "000001"


def test_a_damaged_checkpoint_is_replaced_by_the_next_save_of_its_step(tmp_path):
    unit = learner()
    change_a_byte(save(tmp_path, 4, unit) / "model.safetensors")
    save(tmp_path, 4, unit, {"second": True})
    assert load_checkpoint(tmp_path / "000004", unit) == {"second": True}
    assert [path.name for path in tmp_path.iterdir()] == ["000004"]


def test_a_save_never_removes_itself_for_a_later_damaged_one(tmp_path):
    unit = learner()
    change_a_byte(save(tmp_path, 20, unit) / "model.safetensors")
    save(tmp_path, 15, unit, keep=1)
    assert latest_checkpoint(tmp_path) == tmp_path / "000015"


@pytest.mark.parametrize(
    ("saved", "resumed", "message"),
    [
        ("tied", "tied lora", "holds all weights; resume with the adapter settings"),
        ("tied lora", "tied", "holds a LoRA adapter; resume with the adapter settings"),
    ],
)
def test_an_adapter_is_not_resumed_without_its_settings(tmp_path, saved, resumed, message):
    path = save(tmp_path, 1, learner(saved))
    with pytest.raises(RunError, match=message):
        load_checkpoint(path, learner(resumed))


def test_a_checkpoint_of_another_model_is_refused_before_anything_changes(tmp_path):
    path = save(tmp_path, 1, learner())
    other = Learner(base(hidden_size=16), SPECIAL, LearnerSettings(), pad_id=0)
    before = weights(other)
    with pytest.raises(RunError, match=r"is of another model: .* differs"):
        load_checkpoint(path, other)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(other).items())


def test_an_optimizer_state_of_another_model_is_refused():
    unit = learner()
    with pytest.raises(RunError, match="optimizer state of other does not fit"):
        unit.load_optimizer_state({"other/exp_avg": torch.zeros(3)}, 1)


def test_the_best_is_kept_beside_the_last_ones(tmp_path):
    unit = learner()
    for step, score in ((1, 0.5), (2, 0.75), (3, None), (4, 0.5), (5, 0.25)):
        save(tmp_path, step, unit, keep=2, score=score)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000002", "000004", "000005"]
    assert best_checkpoint(tmp_path) == tmp_path / "000002"
    change_a_byte(tmp_path / "000002" / "model.safetensors")
    assert best_checkpoint(tmp_path) == tmp_path / "000004"


def test_of_equals_the_newest_is_the_best_and_without_a_score_there_is_none(tmp_path):
    unit = learner()
    save(tmp_path, 1, unit)
    assert best_checkpoint(tmp_path) is None
    for step in (2, 3):
        save(tmp_path, step, unit, score=0.5)
    assert best_checkpoint(tmp_path) == tmp_path / "000003"


class Killed(BaseException):
    """Stands for a kill: nothing of a save runs after it."""


def save_killed_at(point, folder, step, unit, state):
    def hook(reached):
        if reached == point:
            raise Killed

    on_reach(hook)
    try:
        with pytest.raises(Killed):
            save(folder, step, unit, state)
    finally:
        on_reach(None)


@pytest.mark.parametrize(
    ("point", "found"),
    [("state written", "old"), ("before rename", "old"), ("old one aside", "new"), ("renamed", "new")],
)
def test_a_save_over_a_whole_checkpoint_that_is_killed_loses_nothing(tmp_path, point, found):
    unit = learner()
    save(tmp_path, 4, unit, {"which": "old"})
    save_killed_at(f"checkpoint: {point}", tmp_path, 4, unit, {"which": "new"})
    recover_checkpoints(tmp_path)
    assert load_checkpoint(tmp_path / "000004", unit) == {"which": found}
    assert [path.name for path in tmp_path.iterdir()] == ["000004"]


def test_a_save_killed_between_two_renames_with_its_new_half_damaged_puts_the_old_one_back(tmp_path):
    unit = learner()
    save(tmp_path, 4, unit, {"which": "old"})
    save_killed_at("checkpoint: old one aside", tmp_path, 4, unit, {"which": "new"})
    change_a_byte(tmp_path / ".000004.partial" / "state.json")
    recover_checkpoints(tmp_path)
    assert load_checkpoint(tmp_path / "000004", unit) == {"which": "old"}


def test_a_checkpoint_that_was_whole_when_its_save_was_killed_is_taken_up(tmp_path):
    unit = learner()
    save(tmp_path, 1, unit)
    save_killed_at("checkpoint: before rename", tmp_path, 2, unit, {})
    assert latest_checkpoint(tmp_path) == tmp_path / "000001"
    recover_checkpoints(tmp_path)
    assert latest_checkpoint(tmp_path) == tmp_path / "000002"
