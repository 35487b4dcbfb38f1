"""Exported data sets in the trainers of TRL itself: each takes a step on the file as it was written."""

import json
import warnings

import pytest
from small_run import write_run

from llama_o1.cli import main

pytest.importorskip("trl", reason="trl is not installed: pip install 'llama-o1[trl]'")

# Reads messages for a tokenizer that has no template of its own, as the shipped model's.
TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"


@pytest.fixture(autouse=True)
def _warnings_of_others(monkeypatch):
    """TRL and what it calls warn of their own futures; their experimental part says that it is one."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def tokenizer(tiny_model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def exported(run, kind, folder):
    """The lines of an export, as a data set that was read from the file."""
    import datasets

    file = folder / f"{kind}.jsonl"
    assert main(["inspect", str(run / "trees"), "--export", kind, str(file)]) == 0
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert rows
    return datasets.Dataset.from_list(rows)


def arguments(folder):
    return {
        "output_dir": str(folder / "out"),
        "max_steps": 1,
        "per_device_train_batch_size": 2,
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "learning_rate": 0.1,
    }


def steps(trainer, watched):
    """Whether one step with a finite loss moved the weights."""
    before = watched.detach().clone()
    done = trainer.train()
    assert (done.global_step, done.training_loss == done.training_loss) == (1, True)
    return not before.equal(watched)


def test_sft_reads_the_messages_of_right_conclusions(run, tiny_model, tokenizer, tmp_path):
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(**arguments(tmp_path)),
        train_dataset=exported(run, "sft", tmp_path),
        processing_class=tokenizer,
    )
    assert steps(trainer, model.get_input_embeddings().weight)


@pytest.mark.parametrize("kind", ["dpo", "pairs"])
def test_dpo_reads_pairs_of_thoughts_and_of_solutions(run, tiny_model, tokenizer, tmp_path, kind):
    from transformers import AutoModelForCausalLM
    from trl import DPOConfig, DPOTrainer

    model, reference = (AutoModelForCausalLM.from_pretrained(tiny_model) for _ in range(2))
    trainer = DPOTrainer(
        model=model,
        ref_model=reference,
        args=DPOConfig(**arguments(tmp_path)),
        train_dataset=exported(run, kind, tmp_path),
        processing_class=tokenizer,
    )
    assert steps(trainer, model.get_input_embeddings().weight)


def test_prm_reads_steps_with_labels(run, tiny_model, tokenizer, tmp_path):
    from transformers import AutoModelForTokenClassification
    from trl.experimental.prm import PRMConfig, PRMTrainer

    model = AutoModelForTokenClassification.from_pretrained(tiny_model, num_labels=2)
    trainer = PRMTrainer(
        model=model,
        args=PRMConfig(**arguments(tmp_path)),
        train_dataset=exported(run, "prm", tmp_path),
        processing_class=tokenizer,
    )
    labels = [label for row in trainer.train_dataset for label in row["labels"] if label != -100]
    assert sorted(labels) == [0, 0, 0, 1, 1, 1]  # of two steps each: right right, right wrong, wrong wrong
    assert steps(trainer, model.score.weight)
