"""A new model is as large as its settings say; configs/base_100m.yaml is of the size it is named after."""

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from llama_o1.arguments import build, parse, parser_of
from llama_o1.cli import main
from llama_o1.learn.nano import nano_model
from llama_o1.sft_config import SftConfig

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "base_100m.yaml"


def test_the_model_of_the_config_has_88_million_parameters(tiny_tokenizer):
    config = build(SftConfig, parse(parser_of("sft", "", SftConfig), ["--config", str(CONFIG)]))
    with torch.device("meta"):
        model = nano_model(tiny_tokenizer, 0, config.new_model)
    # 12 layers of 4 * 768^2 + 3 * 768 * 2048 and two norms, the embeddings once, a last norm
    assert model.num_parameters() == 12 * (4 * 768**2 + 3 * 768 * 2048 + 2 * 768) + 4096 * 768 + 768


def test_the_config_makes_a_model_of_another_size_when_told(tmp_path):
    small = {"hidden_size": 32, "intermediate_size": 48, "layers": 2, "heads": 1, "vocab_size": 600}
    sizes = [word for name, size in small.items() for word in (f"--new_model.{name}", str(size))]
    few = ["--sft.steps", "2", "--sft.batch_tokens", "256", "--sft.bf16", "false", "--threads", "1"]
    given = ["--config", str(CONFIG), "--problems", "word", "--out", str(tmp_path / "model")]
    assert main(["sft", *given, *few, *sizes]) == 0
    made = AutoConfig.from_pretrained(tmp_path / "model")
    assert (made.hidden_size, made.intermediate_size, made.num_hidden_layers) == (32, 48, 2)
    assert (made.num_attention_heads, made.vocab_size, made.max_position_embeddings) == (1, 600, 2048)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("layers", 0, "at least 1, got 0"), ("vocab_size", 300, "at least 512, got 300")],
)
def test_sizes_that_make_no_model_are_refused(name, value, words, capsys):
    assert main(["sft", "--config", str(CONFIG), f"--new_model.{name}", str(value)]) == 2
    said = capsys.readouterr().err
    assert f"new_model.{name} must be {words}" in said
    assert len(said.splitlines()) == 1
