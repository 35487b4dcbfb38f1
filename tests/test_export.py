"""What a run learned, as plain weights: the same log-probs, read by transformers alone."""

import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from llama_o1.cli import main
from llama_o1.learn.checkpoint import save_checkpoint
from llama_o1.learn.model import load_model
from llama_o1.learn.settings import LearnerSettings, LoraSettings
from llama_o1.learn.trainer import Learner
from replay.experience import Experience

IDS = torch.tensor([[30, 4, 31, 12, 40, 33]])


@pytest.fixture(scope="module")
def bases(tiny_model, tiny_tokenizer, tmp_path_factory):
    """A tied and an untied model."""
    untied = tmp_path_factory.mktemp("untied")
    config = LlamaConfig.from_pretrained(tiny_model)
    config.tie_word_embeddings = False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        LlamaForCausalLM(config).save_pretrained(untied)
    tiny_tokenizer.save_pretrained(untied)
    return {"tied": tiny_model, "untied": untied}


def trained(base, folder, *, adapter, steps=2, **options):
    """A run's learner after a few steps that moved the special tokens' rows, too, and its checkpoints."""
    loaded = load_model(base, adapter=LoraSettings(rank=2) if adapter else None, **options)
    unit = Learner(
        loaded.model,
        loaded.special,
        LearnerSettings(learning_rate=0.05, warmup_steps=0, threads=1),
        pad_id=loaded.pad_id,
    )
    special = loaded.special
    own = np.array(
        [special.start_of_thought, 40, 41, special.end_of_thought, special.start_of_rating], np.int32
    )
    one = Experience(
        context=np.array([30, special.start_of_thought, 31], np.int32),
        ids=own,
        sampled=np.array([False, True, True, True, False]),
        logprobs=np.array([0, -3, -3, -3, 0], np.float32),
        temperature=1.0, advantage=1.0, value=0.5, value_target=1.0, outcome=None, version=0,
        action="expand", problem="p", tree="t", node=1, parent=0,
    )  # fmt: skip
    for step in range(1, steps + 1):
        unit.step([one], np.ones(1))
        save_checkpoint(
            folder / "checkpoints",
            step,
            learner=unit,
            tokenizer=loaded.tokenizer,
            state={},
            score=1 / step,
        )
    return unit.model


def logprobs(model):
    with torch.no_grad():
        return model(IDS).logits.log_softmax(-1)


@pytest.mark.parametrize("tied", ["tied", "untied"])
@pytest.mark.parametrize("kind", ["full", "lora", "lora frozen", "full frozen"])
def test_an_exported_run_has_the_log_probs_of_its_learner(bases, tmp_path, capsys, tied, kind):
    model = trained(bases[tied], tmp_path / "run", adapter="lora" in kind, freeze_embeddings="frozen" in kind)
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "out")]) == 0
    assert "checkpoints/000002" in capsys.readouterr().out
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(logprobs(plain), logprobs(model), rtol=1e-5, atol=1e-5)
    assert type(plain) is LlamaForCausalLM
    assert AutoTokenizer.from_pretrained(tmp_path / "out").encode("<critic>")
    before = AutoModelForCausalLM.from_pretrained(bases[tied])
    assert (logprobs(plain) - logprobs(before)).abs().max() > 1e-2
    rows = [m.get_input_embeddings().weight for m in (plain, before)]
    assert torch.equal(*rows) is ("frozen" in kind)
    shared = plain.get_input_embeddings().weight is plain.get_output_embeddings().weight
    assert shared is (tied == "tied")


def test_the_checkpoint_to_export_can_be_chosen(bases, tmp_path, capsys):
    trained(bases["tied"], tmp_path / "run", adapter=False, steps=3)
    for which, step in (("best", 1), ("2", 2)):
        assert main(["export", str(tmp_path / "run"), str(tmp_path / which), "--checkpoint", which]) == 0
        assert f"checkpoints/{step:06d}" in capsys.readouterr().out
    checkpoint = tmp_path / "run" / "checkpoints" / "000002"
    assert main(["export", str(checkpoint), str(tmp_path / "direct")]) == 0
    first, second = (tmp_path / name / "model.safetensors" for name in ("2", "direct"))
    assert first.read_bytes() == second.read_bytes()


def test_what_cannot_be_exported_is_one_line(bases, tmp_path, capsys):
    trained(bases["tied"], tmp_path / "run", adapter=False, steps=1)
    shutil.copytree(tmp_path / "run", tmp_path / "full")
    for arguments, message in (
        (["run", "out", "--checkpoint", "7"], "has no whole checkpoint 7; there are: 000001"),
        (["run", "out", "--checkpoint", "newest"], "must be last, best or an iteration, got newest"),
        (["run", "full"], "is in the way; name a folder that is new or empty"),
        (["missing", "out"], "is no run folder"),
    ):
        source, out, *rest = arguments
        assert main(["export", str(tmp_path / source), str(tmp_path / out), *rest]) == 2
        assert message in capsys.readouterr().err
