"""Loading models, adding our tokens to any of them, LoRA with trainable rows, and plain weights again."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import CHARACTERS, build, characters, logits_of, save, tables

from llama_o1.engine.local import LocalEngine
from llama_o1.engine.protocol import Request
from llama_o1.errors import ConfigError, ModelError
from llama_o1.format.marks import MarkSettings
from llama_o1.format.tokens import SPECIAL_TOKENS, STRUCTURE
from llama_o1.learn.init import init_model
from llama_o1.learn.model import load_model, merged
from llama_o1.learn.settings import LoraSettings

KINDS = ["llama tied", "llama untied", "qwen2", "neox", "phi with a head bias"]


@pytest.fixture
def ready(tmp_path):
    """A folder with a tiny tied Llama that has our tokens."""
    save(tmp_path / "source")
    init_model(tmp_path / "source", tmp_path / "ready")
    return tmp_path / "ready"


@pytest.mark.parametrize("kind", KINDS)
def test_any_model_gets_the_tokens_and_its_old_rows_stay(tmp_path, kind):
    before = save(tmp_path / "source", kind)
    assert init_model(tmp_path / "source", tmp_path / "out").added == list(SPECIAL_TOKENS)
    model, _, special, *_ = load_model(tmp_path / "out")
    old, new = len(CHARACTERS), special.remaining[-1] + 1
    assert special.start_of_father_id == new - len(SPECIAL_TOKENS) >= old
    for kept, table in zip(tables(before), tables(model), strict=True):
        assert table.shape[0] == new
        torch.testing.assert_close(table[:old], kept)
    torch.testing.assert_close(logits_of(model)[..., :old], logits_of(before))
    assert (tables(model)[0] is tables(model)[1]) == (tables(before)[0] is tables(before)[1])


def test_a_model_gets_the_control_tokens_that_were_asked_for_and_no_others(tmp_path):
    marks = MarkSettings("every", 50, longest=200)
    save(tmp_path / "source")
    assert init_model(tmp_path / "source", tmp_path / "out", marks=marks).added == [
        *STRUCTURE, "<remaining>150</remaining>", "<remaining>100</remaining>", "<remaining>50</remaining>"
    ]  # fmt: skip
    loaded = load_model(tmp_path / "out", marks=marks)
    assert len(loaded.special.remaining) == 3
    with pytest.raises(ModelError, match="no single token for <remaining>7/8</remaining>"):
        load_model(tmp_path / "out")
    other = MarkSettings("ratio", 4)
    with pytest.raises(ModelError, match=r"<remaining>3/4</remaining>.*--marks.mode ratio --marks.size 4"):
        load_model(tmp_path / "out", marks=other)


def test_a_model_caps_its_scores_as_its_config_says_and_an_engine_gives_the_same(tmp_path, caplog):
    save(tmp_path / "source", "gemma2")
    init_model(tmp_path / "source", tmp_path / "out")
    capped = load_model(tmp_path / "out").model
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    config["attn_logit_softcapping"] = None
    (tmp_path / "out" / "config.json").write_text(json.dumps(config))
    assert (logits_of(capped) - logits_of(load_model(tmp_path / "out").model)).abs().max() > 0.02

    context, rating = (4, 9, 30, 12, 5, 6), (7, 8)
    engine = LocalEngine(capped)
    engine.submit(0, Request(context, max_tokens=12, seed=0, rating=rating))
    [(_, reply)] = engine.poll()
    tokens = (*context, *reply.samples[0].ids.tolist())
    logprobs = torch.log_softmax(logits_of(capped, tokens)[0], -1)
    expected = [float(logprobs[i - 1, tokens[i]]) for i in range(len(context), len(tokens))]
    assert reply.samples[0].logprobs.tolist() == pytest.approx(expected, abs=1e-4)
    value = logprobs[-1, list(rating)].softmax(0)[0].item()
    assert reply.samples[0].value == pytest.approx(value, abs=1e-5)
    assert "cannot use our attention" not in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_new_rows_lie_near_the_mean_of_structural_tokens_and_differ(tmp_path, kind):
    before = save(tmp_path / "source", kind)
    init_model(tmp_path / "source", tmp_path / "out", noise=0.02)
    model = load_model(tmp_path / "out").model
    start = [1, 2] if kind == "qwen2" else [1, 2, 3]  # begin, end; Qwen2's class reads no newline as itself
    for kept, table in zip(tables(before), tables(model), strict=True):
        rows = table[len(CHARACTERS) :]
        away = (rows - kept[start].mean(dim=0)) / kept.std()
        assert 0.005 < away.std() < 0.03
        assert torch.unique(rows, dim=0).shape == rows.shape


def test_the_bias_of_an_output_head_starts_at_the_same_mean(tmp_path):
    model = build("phi with a head bias", len(CHARACTERS))
    with torch.no_grad():
        model.lm_head.bias.copy_(torch.arange(len(CHARACTERS)))
    model.save_pretrained(tmp_path / "source")
    characters().save_pretrained(tmp_path / "source")
    init_model(tmp_path / "source", tmp_path / "out")
    bias = load_model(tmp_path / "out").model.lm_head.bias
    assert bias[len(CHARACTERS) :].tolist() == [2.0] * len(SPECIAL_TOKENS)  # (1 + 2 + 3) / 3


def test_spare_rows_of_a_padded_model_are_used_and_started(tmp_path):
    before = save(tmp_path / "source", "llama untied", vocab_size=128)
    init_model(tmp_path / "source", tmp_path / "out")
    model = load_model(tmp_path / "out").model
    first, end = len(CHARACTERS), len(CHARACTERS) + len(SPECIAL_TOKENS)
    for kept, table in zip(tables(before), tables(model), strict=True):
        assert table.shape[0] == 128
        torch.testing.assert_close(table[end:], kept[end:])
        away = table[first:end] - kept[[1, 2, 3]].mean(dim=0)
        assert away.abs().max() < 0.2 * kept.std()


def test_a_token_the_model_has_keeps_its_row_and_becomes_special(tmp_path):
    before = save(
        tmp_path / "source", vocab_size=len(CHARACTERS) + 1, tokenizer=characters(extra=["<critic>"])
    )
    added = init_model(tmp_path / "source", tmp_path / "out").added
    model, tokenizer, *_ = load_model(tmp_path / "out")
    assert added == [token for token in SPECIAL_TOKENS if token != "<critic>"]
    old = len(CHARACTERS)
    assert tokenizer.convert_tokens_to_ids("<critic>") == old
    torch.testing.assert_close(tables(model)[0][old], tables(before)[0][old])
    plain = tokenizer.encode("<critic>", add_special_tokens=False, split_special_tokens=True)
    assert old not in plain


def test_the_name_of_a_token_in_a_question_stays_plain_text(ready):
    tokenizer = load_model(ready).tokenizer
    ids = tokenizer.encode("<problem>", add_special_tokens=False, split_special_tokens=True)
    assert max(ids) < len(CHARACTERS)


def test_the_reference_tokens_can_be_named(tmp_path):
    before = save(tmp_path / "source")
    init_model(tmp_path / "source", tmp_path / "out", reference=["7"], noise=0.0)
    rows = tables(load_model(tmp_path / "out").model)[0][len(CHARACTERS) :]
    torch.testing.assert_close(rows, tables(before)[0][CHARACTERS.index("7")].expand_as(rows))
    with pytest.raises(ModelError, match="reference token 'ab' must be one token of the model, got 2"):
        init_model(tmp_path / "source", tmp_path / "other", reference=["ab"])


def test_the_same_seed_gives_the_same_model_and_touches_no_global_generator(tmp_path):
    save(tmp_path / "source")
    state = torch.get_rng_state()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        init_model(tmp_path / "source", tmp_path / name, seed=seed)
    assert torch.equal(torch.get_rng_state(), state)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_a_model_that_has_all_tokens_is_copied_as_it_is(ready):
    out = ready.parent / "again"
    assert init_model(ready, out).added == []
    assert (out / "model.safetensors").read_bytes() == (ready / "model.safetensors").read_bytes()


def test_a_folder_in_the_way_is_left_alone(tmp_path):
    save(tmp_path / "source")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ModelError, match="is in the way"):
        init_model(tmp_path / "source", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_filled(tmp_path):
    save(tmp_path / "source")
    (tmp_path / "out").mkdir()
    init_model(tmp_path / "source", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]
    assert load_model(tmp_path / "out").special.positive >= len(CHARACTERS)


def test_a_model_without_the_tokens_is_told_the_command(tmp_path):
    save(tmp_path / "source")
    with pytest.raises(ModelError, match=r"llama-o1 init .*source OUT"):
        load_model(tmp_path / "source")


@pytest.mark.parametrize("name", ["./nowhere", "runs/a/model", "/nowhere", "~/nowhere"])
def test_a_folder_that_does_not_exist_is_never_looked_for_on_the_hub(name):
    with pytest.raises(ModelError, match=f"model folder {name} does not exist"):
        load_model(name)


def test_a_name_the_hub_does_not_give_is_one_clear_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="model nobody/nothing is no folder here") as caught:
        load_model("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_a_file_is_not_a_model(tmp_path):
    (tmp_path / "weights.gguf").write_text("x")
    with pytest.raises(ModelError, match="is a file; name the folder"):
        load_model(str(tmp_path / "weights.gguf"))


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drop_a_weight(path):
    weights = load_file(path)
    weights.pop("model.norm.weight")
    save_file(weights, path, metadata={"format": "pt"})


def widen(path):
    path.write_text(json.dumps({**json.loads(path.read_text()), "hidden_size": 32}))


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("model.safetensors", cut),
        ("model.safetensors", lambda path: path.unlink()),
        ("model.safetensors", drop_a_weight),
        ("config.json", cut),
        ("config.json", lambda path: path.unlink()),
        ("config.json", widen),
        ("tokenizer.json", cut),
        ("tokenizer.json", lambda path: path.unlink()),
    ],
)
def test_a_damaged_folder_is_named_in_one_line(ready, file, damage):
    damage(ready / file)
    with pytest.raises(ModelError, match=r"model folder .*ready (cannot be read|is damaged)") as caught:
        load_model(ready)
    assert "\n" not in str(caught.value)


def test_a_folder_that_holds_no_model_is_told_what_is_missing(tmp_path):
    with pytest.raises(ModelError, match=r"cannot be read: it holds no config\.json; name the folder"):
        load_model(tmp_path)


def test_a_tokenizer_larger_than_the_weights_is_refused(ready):
    load_model(ready).tokenizer.save_pretrained(ready.parent / "source")
    with pytest.raises(
        ModelError, match=f"{len(CHARACTERS)} embedding rows for {len(CHARACTERS) + 22} tokens"
    ):
        load_model(ready.parent / "source")


def test_an_unknown_dtype_is_named(ready):
    with pytest.raises(ConfigError, match=r"dtype must be one of .*, got int4"):
        load_model(ready, dtype="int4")


def test_the_dtype_is_that_of_the_weights(ready):
    assert load_model(ready, dtype="bfloat16").model.dtype == torch.bfloat16


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_trains_the_new_rows_and_merges_into_plain_weights(tmp_path, kind):
    save(tmp_path / "source", kind)
    init_model(tmp_path / "source", tmp_path / "out")
    model, tokenizer, special, *_ = load_model(tmp_path / "out", adapter=LoraSettings(rank=2))
    base = load_model(tmp_path / "out").model
    ids = (4, special.positive, 30, special.negative)
    torch.testing.assert_close(logits_of(model, ids), logits_of(base, ids))

    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    model(input_ids=torch.tensor([ids])).logits.square().mean().backward()
    optimizer.step()
    trained = logits_of(model, ids)
    assert (trained - logits_of(base, ids)).abs().max() > 1e-3

    whole = merged(model)
    torch.testing.assert_close(logits_of(whole, ids), trained, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits_of(model, ids), trained)  # merging makes a copy
    old = len(CHARACTERS)
    torch.testing.assert_close(tables(whole)[0][:old], tables(base)[0][:old])
    assert (tables(whole)[0][old:] - tables(base)[0][old:]).abs().max() > 1e-4
    assert (tables(whole)[0] is tables(whole)[1]) == (tables(base)[0] is tables(base)[1])

    whole.save_pretrained(tmp_path / "export")
    tokenizer.save_pretrained(tmp_path / "export")
    torch.testing.assert_close(logits_of(load_model(tmp_path / "export").model, ids), logits_of(whole, ids))


def test_an_adapter_folder_loads_as_its_merged_model(ready):
    model, tokenizer, special, *_ = load_model(ready, adapter=LoraSettings(rank=2), seed=4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
    model.save_pretrained(str(ready.parent / "adapter"), save_embedding_layers=False)
    tokenizer.save_pretrained(ready.parent / "adapter")
    again = load_model(ready.parent / "adapter").model
    ids = (4, special.positive, 30)
    torch.testing.assert_close(logits_of(again, ids), logits_of(model, ids), atol=1e-5, rtol=1e-5)
    assert type(again).__name__ == "LlamaForCausalLM"


def test_the_seed_draws_the_adapter_and_touches_no_global_generator(ready):
    state = torch.get_rng_state()
    one, same, other = (load_model(ready, adapter=LoraSettings(rank=2), seed=s).model for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    name = next(name for name, _ in one.named_parameters() if "lora_A" in name)
    assert torch.equal(one.get_parameter(name), same.get_parameter(name))
    assert not torch.equal(one.get_parameter(name), other.get_parameter(name))


def test_a_model_that_trains_whole_is_its_own_merged_form(ready):
    model = load_model(ready).model
    assert merged(model) is model
    assert all(parameter.requires_grad for parameter in model.parameters())
