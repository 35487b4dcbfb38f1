"""`llama-o1 init` on the families of models: what was added is checked, measured, saved and told."""

import json

import pytest
import torch
from test_model import CHARACTERS, logits_of, save, tables
from transformers import AutoTokenizer

from llama_o1.cli import main
from llama_o1.errors import ModelError
from llama_o1.format.tokens import SPECIAL_TOKENS
from llama_o1.learn import init as init_module
from llama_o1.learn.init import PROBES, init_model
from llama_o1.learn.model import load_model, read_plain

FAMILIES = [
    "llama tied",
    "llama untied",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3",
    "phi with a head bias",
    "phi3",
    "neox",
]
OLD, NEW = len(CHARACTERS), len(SPECIAL_TOKENS)


def chances_of(folder, ids):
    """Mean probability of ids after each token of the probes, worked out apart from the package."""
    model, tokenizer = read_plain(folder)
    probes = [tokenizer.encode(text, add_special_tokens=False)[:64] for text in PROBES]
    return (
        torch.cat([logits_of(model.eval(), probe)[0].softmax(-1) for probe in probes]).mean(0)[ids].tolist()
    )


@pytest.mark.parametrize("padded", [None, 96])
@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_is_given_the_tokens_and_their_probabilities_are_told(tmp_path, kind, padded):
    source, out = tmp_path / "source", tmp_path / "out"
    before = save(source, kind, vocab_size=padded)
    done = init_model(source, out)
    assert done.added == list(SPECIAL_TOKENS)
    ids = [one.id for one in done.tokens]
    first = OLD + (kind == "qwen2")  # whose class adds an end of text
    assert ids == list(range(first, first + NEW))
    assert done.tied == (tables(before)[0] is tables(before)[1])
    assert (done.rows_before, done.rows) == (padded or OLD, padded or first + NEW)

    model, tokenizer, *_ = load_model(out)
    source_tokenizer = AutoTokenizer.from_pretrained(source)
    for one in done.tokens:
        assert one.pieces == len(source_tokenizer.encode(one.token, add_special_tokens=False)) > 1
        assert tokenizer.encode(f"a{one.token}b", add_special_tokens=False).count(one.id) == 1
        assert tokenizer.decode([one.id]) == one.token
    told = [one.probability for one in done.tokens]
    assert told == pytest.approx(chances_of(out, ids), rel=1e-4)
    if padded:  # the spare rows have a probability before that is the model's own
        assert [one.probability_before for one in done.tokens] == pytest.approx(
            chances_of(source, ids), rel=1e-4
        )
    assert all(0 < one.probability_before < 1 for one in done.tokens)
    for kept, table in zip(tables(before), tables(model), strict=True):
        torch.testing.assert_close(table[:OLD], kept[:OLD])


@pytest.mark.parametrize("kind", ["llama tied", "qwen3", "phi with a head bias"])
def test_rows_are_padded_to_a_multiple_and_no_spare_one_is_likelier_than_a_token(tmp_path, kind):
    save(tmp_path / "source", kind)
    done = init_model(tmp_path / "source", tmp_path / "out", pad_to=32)
    assert done.rows == -(-(OLD + NEW) // 32) * 32
    assert load_model(tmp_path / "out").model.config.vocab_size == done.rows
    chances = chances_of(tmp_path / "out", list(range(done.rows)))
    assert max(chances[OLD + NEW :]) <= min(chances[: OLD + NEW]) * (1 + 1e-4)


def test_rows_start_from_one_token_or_the_mean_of_all(tmp_path):
    before = save(tmp_path / "source")
    one = init_model(tmp_path / "source", tmp_path / "one", reference=["7"], noise=0.0)
    table = load_model(tmp_path / "one").model.get_input_embeddings().weight
    torch.testing.assert_close(table[OLD:], tables(before)[0][CHARACTERS.index("7")].expand(NEW, -1))
    assert one.started_from == ["7"]
    # Equal rows have equal logits: all tokens are as likely as the reference, whose rows they have.
    seven = chances_of(tmp_path / "one", [CHARACTERS.index("7")])[0]
    assert [token.probability for token in one.tokens] == pytest.approx([seven] * NEW, rel=1e-4)
    every = init_model(tmp_path / "source", tmp_path / "mean", start="mean", noise=0.0)
    table = load_model(tmp_path / "mean").model.get_input_embeddings().weight
    torch.testing.assert_close(table[OLD:], tables(before)[0].mean(0).expand(NEW, -1))
    assert every.started_from == []


def test_the_table_and_the_json_tell_the_same(tmp_path, capsys):
    save(tmp_path / "source", "neox")
    file = tmp_path / "added.json"
    arguments = ["init", tmp_path / "source", tmp_path / "out", "--start", "mean", "--json", file, "--seed=4"]
    assert main([str(one) for one in arguments]) == 0
    printed = capsys.readouterr().out
    told = json.loads(file.read_text())
    assert [one["token"] for one in told["tokens"]] == list(SPECIAL_TOKENS)
    for one in told["tokens"]:
        line = next(line for line in printed.splitlines() if line.startswith(f"{one['token']} "))
        assert line.split()[1:] == [
            str(one["id"]),
            str(one["pieces"]),
            f"{one['probability_before']:.2e}",
            f"{one['probability']:.2e}",
        ]
    assert f"rows: {OLD} before, {OLD + NEW} now, not tied; started from all tokens" in printed
    assert f"added {NEW} tokens" in printed


def test_a_model_that_reads_back_otherwise_is_not_kept(tmp_path, monkeypatch):
    save(tmp_path / "source")
    checksums = init_module._checksums
    sums = iter([{}, {"lm_head.weight": 1}])
    monkeypatch.setattr(init_module, "_checksums", lambda model: {**checksums(model), **next(sums)})
    with pytest.raises(ModelError, match=r"reads back with 1 other tensors than were saved, lm_head.weight"):
        init_model(tmp_path / "source", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--noise", "-1"), "noise must be finite and at least 0, got -1"),
        (("--pad_to", "0"), "pad_to must be at least 1, got 0"),
        (("--reference", "ab"), "reference token 'ab' must be one token of the model, got 2"),
        (("--start", "zero"), "start must be one of structure, mean, got zero"),
    ],
)
def test_an_init_that_cannot_be_is_refused(tmp_path, capsys, flags, words):
    save(tmp_path / "source")
    assert main(["init", str(tmp_path / "source"), str(tmp_path / "out"), *flags]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
