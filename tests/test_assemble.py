"""A model and the engine that the settings name: its weights follow the learner's, whatever engine it is."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from llama_o1 import assemble
from llama_o1.answer import answer
from llama_o1.config import EngineSettings, EvaluationSettings, ModelSettings, RunConfig
from llama_o1.engine.fake import FakeEngine
from llama_o1.engine.fake_backend import FakeBackend
from llama_o1.engine.local import LocalEngine
from llama_o1.engine.protocol import EngineFigures, Request
from llama_o1.engine.segmented import SegmentedEngine
from llama_o1.engine.server import ServerBackend
from llama_o1.engine.vllm import VllmBackend
from llama_o1.errors import ConfigError, EngineError, RunError
from llama_o1.learn.model import load_model
from llama_o1.learn.settings import LearnerSettings, LoraSettings
from llama_o1.learn.trainer import Learner
from llama_o1.loop import Run
from llama_o1.play.expand import ThoughtSettings
from llama_o1.play.methods import MethodSettings
from llama_o1.published import PublishedWeights
from llama_o1.tasks.mixture import ProblemSet
from llama_o1.tasks.problem import Problem
from tree.search import SearchSettings

needs_vllm = pytest.mark.skipif(
    find_spec("vllm") is None, reason="vLLM is not installed; .ci/vllm makes an environment with it"
)
IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
ITERATIONS = 2
QUESTION = Problem(id="asked", question="What is 1 + 1?", answer="", source="asked")


@pytest.fixture
def config(tiny_model, tmp_path):
    return RunConfig(
        run_dir=str(tmp_path / "run"),
        report=False,
        iterations=ITERATIONS,
        problems_per_iteration=3,
        steps_per_iteration=1,
        model=ModelSettings(path=str(tiny_model)),
        problems=(ProblemSet("word", max_steps=1),),
        evaluation=EvaluationSettings(problems=(ProblemSet("word", limit=2),), search=1),
        thoughts=ThoughtSettings(path_budget=48, max_text=12, max_answer=8, calculator=True),
        search=MethodSettings(budget_tokens=200, tree=SearchSettings(simulations=3)),
        engine=EngineSettings(name="vllm", slots=8, cache_mb=64),
        learner=LearnerSettings(batch_size=4, learning_rate=1e-2, warmup_steps=0),
    )


class Follower(FakeBackend):
    """A backend that writes down what it is told to load, and reads it as vLLM would."""

    def __init__(self, engine: FakeEngine) -> None:
        super().__init__(engine, streams=True)
        self.loads: list[tuple[Path, int]] = []
        self.closed = False

    def load(self, weights: object, version: int) -> None:
        if weights is not None:  # else the cache alone is dropped
            assert isinstance(weights, Path)
            AutoModelForCausalLM.from_pretrained(weights)
            self.loads.append((weights, version))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def backends(monkeypatch, tiny_tokenizer, writer):
    """Backends that were opened in vLLM's place, in order."""
    made: list[Follower] = []

    def open_fake(folder, *, slots, **_):
        made.append(Follower(FakeEngine(len(tiny_tokenizer), 512, policy=writer)))
        return SegmentedEngine(made[-1], vocab_size=len(tiny_tokenizer), max_context=512, slots=slots)

    monkeypatch.setattr(assemble, "open_vllm", open_fake)
    return made


def logits_of(model) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def changed(model) -> None:
    """Move every weight that trains."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)


@pytest.mark.parametrize("adapter", [None, LoraSettings()], ids=["all weights", "LoRA"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_published_weights_are_those_of_the_model(tiny_model, tmp_path, adapter, tied):
    source = tiny_model
    if not tied:
        source = tmp_path / "untied"
        untied = load_model(tiny_model)
        untied.model.config.tie_word_embeddings = False
        untied.model.lm_head.weight = torch.nn.Parameter(untied.model.lm_head.weight.detach().clone())
        untied.model.save_pretrained(source)
        untied.tokenizer.save_pretrained(source)
    model = load_model(source, adapter=adapter).model
    changed(model)
    weights = PublishedWeights()
    folder = weights.write(model, 7)
    read = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert torch.allclose(logits_of(read), logits_of(model), atol=1e-5)
    assert read.config.tie_word_embeddings is tied
    assert [file.name for file in folder.glob("*.safetensors")] == ["model.safetensors"]
    weights.close()
    assert not folder.exists()


def test_only_the_newest_published_weights_are_kept(tiny_model, tmp_path):
    model, weights = load_model(tiny_model).model, PublishedWeights()
    weights.write(model, 0)
    weights.keep_in(tmp_path / "kept")
    for version in (1, 2, 2):
        folder = weights.write(model, version)
        weights.keep_only(version)
        assert [path.name for path in (tmp_path / "kept").iterdir()] == [folder.name] == [f"{version:06d}"]


def test_an_engine_of_another_dtype_follows_a_change_of_the_weights_it_was_given(tiny_model):
    model = load_model(tiny_model).model
    engine = LocalEngine(model, slots=2, dtype=torch.bfloat16)
    request = Request((5, 6, 7, 8), 1, seed=0, temperature=1.0, num_samples=4, rating=(9, 10))

    def check(version):
        engine.submit(version, request)
        [(_, reply)] = engine.poll()
        assert reply.version == version
        with torch.no_grad():
            expected = model(IDS[:, :4]).logits[0, -1].log_softmax(-1).numpy()
        ids = [int(sample.ids[0]) for sample in reply.samples]
        logprobs = [float(sample.logprobs[0]) for sample in reply.samples]
        assert np.allclose(logprobs, expected[ids], atol=0.05)
        return logprobs

    before = check(0)
    changed(model)
    engine.load(model, 1)
    after = check(1)
    assert not np.allclose(before, after, atol=0.05)
    assert next(model.parameters()).dtype == torch.float32
    changed(model)
    engine.load(None, 2)
    check(2)
    engine.load(load_model(tiny_model).model, 3)
    engine.submit("again", request)
    [(_, reply)] = engine.poll()
    assert [float(sample.logprobs[0]) for sample in reply.samples] == before
    engine.close()


def test_an_engine_of_the_models_own_dtype_shares_its_weights(tiny_model):
    with assemble.assemble(ModelSettings(path=str(tiny_model)), EngineSettings(dtype="float32")) as system:
        request = Request((5, 6, 7, 8), 1, seed=0, num_samples=4)
        logprobs = []
        for version in (1, 2):
            changed(system.loaded.model)
            assemble.publish(system, version)
            system.engine.submit(0, request)
            [(_, reply)] = system.engine.poll()
            assert reply.version == version
            logprobs.append([float(sample.logprobs[0]) for sample in reply.samples])
        assert logprobs[0] != logprobs[1]
        assert system.weights._temporary is None  # nothing was written


def test_a_run_gives_another_engine_every_version_and_leaves_no_copy_behind(config, backends):
    Run(config).train()
    [backend] = backends
    place = Path(config.run_dir).resolve() / "engine_weights"
    assert backend.loads == [(place / f"{version:06d}", version) for version in range(ITERATIONS + 1)]
    assert backend.closed
    assert not place.exists()


def test_a_resumed_run_gives_another_engine_the_restored_weights(config, backends):
    Run(config).train()
    left_over = Path(config.run_dir) / "engine_weights" / ".000009.partial"
    left_over.mkdir(parents=True)
    Run(replace(config, iterations=ITERATIONS + 1, resume=True)).train()
    assert [version for _, version in backends[1].loads] == [ITERATIONS, ITERATIONS + 1]
    assert not left_over.exists()


def test_a_run_is_resumed_with_another_engine(config, backends):
    Run(config).train()
    local = EngineSettings(slots=8, threads=1)
    Run(replace(config, engine=local, iterations=ITERATIONS + 1, resume=True)).train()
    assert len(backends) == 1
    assert (Path(config.run_dir) / "checkpoints" / f"{ITERATIONS + 1:06d}").exists()


class Sleeper(Follower, VllmBackend):
    """A follower that is taken for a vLLM and writes down when it sleeps."""

    def __init__(self, engine: FakeEngine) -> None:
        super().__init__(engine)
        self.events: list[str] = []

    def load(self, weights: object, version: int) -> None:
        super().load(weights, version)
        self.events.append("load")

    def sleep(self) -> None:
        self.events.append("sleep")

    def wake(self) -> None:
        self.events.append("wake")


@pytest.mark.parametrize("sleep", [True, False])
def test_an_engine_that_may_sleep_does_so_while_the_learner_learns(
    config, monkeypatch, tiny_tokenizer, writer, sleep
):
    backend = Sleeper(FakeEngine(len(tiny_tokenizer), 512, policy=writer))
    engine = SegmentedEngine(backend, vocab_size=len(tiny_tokenizer), max_context=512, slots=8)
    monkeypatch.setattr(assemble, "open_vllm", lambda *_, **__: engine)
    learn = Learner.step

    def step(self, *given):
        backend.events.append("learn")
        return learn(self, *given)

    monkeypatch.setattr(Learner, "step", step)
    Run(replace(config, iterations=1, engine=replace(config.engine, sleep=sleep))).train()
    around = (["sleep"], ["wake"]) if sleep else ([], [])
    assert backend.events == ["load", "load", *around[0], "learn", *around[1], "load"]


class Served(FakeBackend, ServerBackend):
    """A fake backend that is taken for servers."""


@pytest.mark.parametrize("same", [True, False])
def test_a_search_on_servers_with_other_weights_is_refused(config, monkeypatch, tiny_model, writer, same):
    loaded = load_model(tiny_model)

    def logits(tokens):
        with torch.no_grad():
            return loaded.model(torch.tensor([list(tokens)])).logits[0, -1].numpy()

    vocab_size = len(loaded.tokenizer)
    backend = Served(FakeEngine(vocab_size, 512, policy=logits if same else writer), streams=True)
    engine = SegmentedEngine(backend, vocab_size=vocab_size, max_context=512, slots=8)
    monkeypatch.setattr(assemble, "server_engine", lambda *_, **__: engine)
    config = replace(config, engine=EngineSettings(name="server", urls=("http://127.0.0.1:9",)))
    if same:
        assert answer(config, [QUESTION], run=None).answered
    else:
        with pytest.raises(EngineError, match="the servers have other weights"):
            answer(config, [QUESTION], run=None)


def test_a_search_by_a_run_gives_another_engine_what_the_run_learned(config, backends):
    Run(config).train()
    answer(config, [QUESTION], run=Path(config.run_dir))
    [(folder, version)] = backends[1].loads
    assert version == ITERATIONS
    assert backends[1].closed
    assert not folder.exists()


def test_a_search_without_a_run_takes_the_engine_as_it_was_opened(config, backends):
    answers = answer(config, [QUESTION], run=None)
    assert backends[0].loads == []
    assert answers.engine["sampled_tokens"] > 0


def test_an_engine_is_closed_when_a_run_cannot_begin(config, backends):
    with pytest.raises(ConfigError, match="budget_tokens must be at least"):
        Run(replace(config, search=replace(config.search, budget_tokens=1)))
    assert backends[0].closed


def test_an_engine_is_closed_when_a_search_fails(config, backends):
    with pytest.raises(RunError, match="no whole checkpoint"):
        answer(config, [QUESTION], run=Path(config.run_dir))
    assert backends[0].closed


def test_a_checkpoints_folder_is_written_anew_for_another_engine(config, backends, monkeypatch, tiny_model):
    opened = []
    monkeypatch.setattr(
        assemble, "open_vllm", lambda folder, **_: opened.append(folder) or FakeEngine(10, 10)
    )
    Run(replace(config, engine=EngineSettings())).train()
    checkpoint = Path(config.run_dir) / "checkpoints" / f"{ITERATIONS:06d}"  # holds the optimizer, too
    for path, adapter in ((checkpoint, "none"), (tiny_model, "lora"), (tiny_model, "none")):
        model = ModelSettings(path=str(path), adapter=adapter)
        with assemble.assemble(model, EngineSettings(name="vllm")) as system:
            assert opened[-1].parent == system.weights.place or opened[-1] == tiny_model
    assert [folder == tiny_model for folder in opened] == [False, False, True]


def test_the_cache_grows_with_a_gpus_free_memory(monkeypatch):
    cache_bytes = assemble.cache_bytes
    assert (cache_bytes(None), cache_bytes(5), cache_bytes(0)) == (1 << 30, 5 << 20, 0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for free, expected in ((80 << 30, 10 << 30), (2 << 30, 1 << 30)):
        monkeypatch.setattr("torch.cuda.mem_get_info", lambda free=free: (free, 96 << 30))
        assert (cache_bytes(None), cache_bytes(5)) == (expected, 5 << 20)


def test_figures_of_a_phase_are_the_difference_of_two_looks():
    before = EngineFigures(10, 5, 100, 50, 4, 8, slots=4, running=3, waiting=9)
    now = EngineFigures(40, 15, 150, 200, 10, 26, slots=4, running=1, waiting=0)
    phase = now.since(before)
    assert phase == EngineFigures(30, 10, 50, 150, 6, 18, slots=4, running=1, waiting=0)
    assert phase.tokens == 40
    assert phase.occupancy == 18 / (6 * 4)
    assert phase.cache_hit == 150 / 200
    assert before.since(before).occupancy == before.since(before).cache_hit == 0.0


def test_an_engine_tells_how_many_rows_run_and_wait(tiny_model):
    with assemble.assemble(ModelSettings(path=str(tiny_model)), EngineSettings(slots=2)) as system:
        system.engine.submit(0, Request((5, 6), 1, seed=0))
        system.engine.submit(1, Request((5, 7), 9, seed=0, num_samples=4))
        assert system.engine.figures().waiting == 5
        system.engine.poll()
        figures = system.engine.figures()
        assert figures.running <= 2
        assert figures.running + figures.waiting == 4


def test_each_phase_of_a_run_tells_what_the_engine_did(config):
    Run(replace(config, engine=EngineSettings(slots=8, threads=1))).train()
    lines = [json.loads(line) for line in (Path(config.run_dir) / "metrics.jsonl").read_text().splitlines()]
    told = [line for line in lines if line["phase"] in ("play", "evaluate_engine")]
    assert len(told) == ITERATIONS + 4
    for line in told:
        assert 0 < line["occupancy"] <= 1
        assert 0 < line["cache_hit"] <= 1
        assert line["tokens_per_s"] > 0
        assert line["prefilled_tokens"] > 0
    played = sum(line["sampled_tokens"] + line["forced_tokens"] for line in told if line["phase"] == "play")
    rated = 2 * sum(line["nodes"] for line in told if line["phase"] == "play")  # rating and its end
    assert played + rated == sum(line["tokens"] for line in told if line["phase"] == "play")


def test_a_key_that_is_not_in_the_environment_is_named(tiny_model, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    engine = EngineSettings(name="server", urls=("http://127.0.0.1:9",), api_key_env="NO_SUCH_KEY")
    with pytest.raises(ConfigError, match="NO_SUCH_KEY, which is not set"):
        assemble.assemble(ModelSettings(path=str(tiny_model)), engine)


@needs_vllm
def test_a_run_on_vllm_learns_resumes_and_is_searched(config):
    config = replace(config, model=ModelSettings(path="nano"))
    Run(config).train()
    Run(replace(config, iterations=ITERATIONS + 1, resume=True)).train()
    trees = sorted((Path(config.run_dir) / "trees").iterdir())
    assert len(trees) == ITERATIONS + 1
    found = answer(config, [QUESTION], run=Path(config.run_dir)).answered[0]
    versions = {node.payload.version for node in found.tree.nodes[1:]}
    assert versions == {ITERATIONS + 1}


@needs_vllm
@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_vllm_follows_the_learners_weights(adapter):
    engine = EngineSettings(name="vllm", slots=4, cache_mb=64)
    with assemble.assemble(ModelSettings(path="nano", adapter=adapter), engine) as system:
        local = LocalEngine(system.loaded.model, slots=4)
        request = Request((5, 6, 7, 8), 0, seed=0, rating=(9, 10))
        values = []
        for version in range(3):
            for one in (system.engine, local):
                one.submit(version, request)
                [(_, reply)] = one.poll()
                assert reply.version == version
                values.append(reply.samples[0].value)
            assert values[-2] == pytest.approx(values[-1], abs=1e-4)
            changed(system.loaded.model)
            assemble.publish(system, version + 1)
            local.load(None, version + 1)
        assert len({round(value, 4) for value in values}) == 3


@needs_vllm
def test_a_context_beyond_the_models_is_refused_by_vllm():
    engine = EngineSettings(name="vllm", max_context=5000)
    with pytest.raises(EngineError, match="at most the model's 1024 positions, got 5000"):
        assemble.assemble(ModelSettings(path="nano"), engine)
