"""What is particular to the vLLM engine: a model folder in, new weights by path, nothing stale, all freed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from llama_o1.engine.protocol import Draw, Force, Reply, Request, Step
from llama_o1.engine.segmented import SegmentedEngine
from llama_o1.engine.vllm import VllmBackend, open_vllm
from llama_o1.engine.weights import check_fit, read_weights
from llama_o1.errors import EngineError

needs_vllm = pytest.mark.skipif(
    find_spec("vllm") is None, reason="vLLM is not installed; .ci/vllm makes an environment with it"
)
VOCAB, POSITIONS = 48, 160
RATING = (5, 6)
CACHE_BYTES = 64 << 20


def llama(seed: int, **sizes: object) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        **{
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 64,
            "intermediate_size": 96,
            "vocab_size": VOCAB,
            "max_position_embeddings": POSITIONS,
            **sizes,
        },
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config).eval()


@dataclass(frozen=True)
class Models:
    """Two models of one shape, in memory and on disk."""

    first: LlamaForCausalLM
    second: LlamaForCausalLM
    first_folder: Path
    second_folder: Path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("models")
    made = Models(llama(0), llama(1), folder / "first", folder / "second")
    # A model's own sampling defaults and end tokens must not count.
    made.first.generation_config = GenerationConfig(
        do_sample=True, temperature=0.3, top_k=3, eos_token_id=[1, 2, 3]
    )
    made.first.save_pretrained(made.first_folder)
    made.second.save_pretrained(made.second_folder)
    return made


@pytest.fixture(scope="module")
def shared(models: Models) -> Iterator[SegmentedEngine]:
    engine = open_vllm(models.first_folder, slots=16, cache_bytes=CACHE_BYTES)
    yield engine
    engine.close()


@pytest.fixture
def engine(shared: SegmentedEngine, models: Models) -> SegmentedEngine:
    shared.load(models.first_folder, 0)
    return shared


def logprobs_after(model: LlamaForCausalLM, tokens: Sequence[int], temperature: float = 1.0) -> np.ndarray:
    with torch.no_grad():
        logits = model(torch.tensor([list(tokens)])).logits[0, -1].double()
    return torch.log_softmax(logits / temperature, -1).numpy()


def value_after(model: LlamaForCausalLM, tokens: Sequence[int]) -> float:
    positive, negative = np.exp(logprobs_after(model, tokens)[list(RATING)])
    return float(positive / (positive + negative))


def ask(engine: SegmentedEngine, *requests: Request) -> list[Reply]:
    for i, request in enumerate(requests):
        engine.submit(i, request)
    replies: dict[Hashable, Reply] = {}
    while got := engine.poll():
        replies.update(got)
    return [replies[i] for i in range(len(requests))]


def context(length: int, seed: int = 0) -> tuple[int, ...]:
    return tuple(int(token) for token in np.random.default_rng(seed).integers(VOCAB, size=length))


@dataclass(frozen=True)
class Every:
    """Forces a block after every `period` tokens of its own and of the policy's."""

    period: int
    block: tuple[int, ...]

    def __call__(self, ids: Sequence[int]) -> Step:
        turn = len(ids) % (self.period + len(self.block))
        return Force(self.block) if turn == self.period else Draw()


# Without vLLM.


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_error_names_the_extra(models: Models) -> None:
    with pytest.raises(EngineError, match=r'pip install -e "\.\[vllm\]"'):
        open_vllm(models.first_folder)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: open_vllm(folder / "nowhere"), "no folder of weights"),
        (lambda folder: open_vllm(folder), "no .safetensors file"),
        (lambda folder: open_vllm(folder, slots=0), "slots must be at least 1, got 0"),
        (lambda folder: open_vllm(folder, max_context=0), "max_context must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_opened_is_refused(
    tmp_path: Path, make: Callable[[Path], SegmentedEngine], words: str
) -> None:
    with pytest.raises(EngineError, match=words):
        make(tmp_path)


def test_weights_fit_with_or_without_what_a_loader_makes_itself(models: Models, tmp_path: Path) -> None:
    held = read_weights(models.first_folder)
    check_fit(read_weights(models.second_folder), held)
    tensors = load_file(models.second_folder / "model.safetensors")
    shutil.copytree(models.second_folder, tmp_path / "other")
    frequencies = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(32)}
    save_file(tensors | frequencies, tmp_path / "other" / "model.safetensors")
    check_fit(read_weights(tmp_path / "other"), held)
    check_fit(held, read_weights(tmp_path / "other"))
    del tensors["lm_head.weight"]
    save_file(tensors, tmp_path / "other" / "model.safetensors")
    with pytest.raises(EngineError, match=r"lm_head\.weight is missing"):
        check_fit(read_weights(tmp_path / "other"), held)
    llama(0, tie_word_embeddings=True).save_pretrained(tmp_path / "tied")
    tied = read_weights(tmp_path / "tied")
    with pytest.raises(EngineError, match="tie_word_embeddings is True, expected False"):
        check_fit(tied, held)
    save_file(tensors | {"lm_head.weight": torch.zeros(48, 64)}, tmp_path / "tied" / "model.safetensors")
    check_fit(read_weights(tmp_path / "tied"), tied)


def test_files_that_are_no_part_of_the_weights_are_refused_or_not_read(
    models: Models, tmp_path: Path
) -> None:
    held = read_weights(models.first_folder)
    models.first.save_pretrained(tmp_path)
    save_file({"extra": torch.zeros(1)}, tmp_path / "extra.safetensors")
    with pytest.raises(EngineError, match=r"extra is \[1\], expected no such tensor"):
        check_fit(read_weights(tmp_path), held)
    models.first.save_pretrained(tmp_path, max_shard_size="100KB")  # an index says what belongs together
    check_fit(read_weights(tmp_path), held)
    shard = next(tmp_path.glob("model-*.safetensors"))
    shard.unlink()
    with pytest.raises(EngineError, match=f"{shard.name} cannot be read"):
        read_weights(tmp_path)


# Numbers.


@needs_vllm
@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.4])
def test_log_probs_and_values_equal_a_plain_forward(
    engine: SegmentedEngine, models: Models, temperature: float
) -> None:
    request = Request(
        context(50), 60, 3, Every(16, (7, 8, 9)), num_samples=4, temperature=temperature, rating=RATING
    )
    for sample in ask(engine, request)[0].samples:
        tokens = [*request.context, *sample.ids.tolist()]
        assert sample.value == pytest.approx(value_after(models.first, tokens), abs=1e-5)
        for t in np.flatnonzero(sample.sampled):
            expected = logprobs_after(models.first, tokens[: 50 + t], temperature)[sample.ids[t]]
            assert sample.logprobs[t] == pytest.approx(expected, abs=1e-4)


@needs_vllm
def test_forced_tokens_stand_where_the_program_puts_them(engine: SegmentedEngine) -> None:
    sample = ask(engine, Request(context(37), 95, 3, Every(16, (7, 8, 9))))[0].samples[0]
    assert np.flatnonzero(~sample.sampled).tolist() == [i for i in range(95) if i % 19 >= 16]
    assert sample.ids[~sample.sampled].tolist() == [7, 8, 9] * 5


@needs_vllm
def test_the_models_own_end_tokens_do_not_end_a_sample(engine: SegmentedEngine) -> None:
    samples = ask(engine, Request(context(20), 100, 3, num_samples=8))[0].samples
    assert {len(sample.ids) for sample in samples} == {100}
    assert {1, 2, 3} <= {int(token) for sample in samples for token in sample.ids}


@needs_vllm
def test_a_value_alone_and_in_a_batch_of_samples_is_the_same(engine: SegmentedEngine, models: Models) -> None:
    values = [Request(context(20 + i, i), 0, 0, rating=RATING) for i in range(6)]
    others = [Request(context(40, i), 20, i, temperature=0.5) for i in range(6)]
    replies = ask(engine, *(request for pair in zip(values, others, strict=True) for request in pair))
    for request, reply in zip(values, replies[::2], strict=True):
        expected = value_after(models.first, request.context)
        assert reply.samples[0].value == pytest.approx(expected, abs=1e-5)
        assert ask(engine, request)[0].samples[0].value == pytest.approx(expected, abs=1e-5)


@needs_vllm
def test_a_cache_too_small_for_all_slots_changes_no_sample(engine: SegmentedEngine, models: Models) -> None:
    requests = [Request(context(50 + i % 7, i), 95, i, Every(16, (1, 2)), rating=RATING) for i in range(24)]
    small = open_vllm(models.first_folder, slots=16, cache_bytes=1 << 20)  # 15 blocks of 32, for 16 x 5
    for reply, expected in zip(ask(small, *requests), ask(engine, *requests), strict=True):
        assert reply.samples[0].ids.tolist() == expected.samples[0].ids.tolist()
        assert reply.samples[0].value == pytest.approx(expected.samples[0].value, abs=1e-5)
    small.close()


@needs_vllm
def test_more_requests_than_slots_give_what_one_alone_gives(engine: SegmentedEngine) -> None:
    requests = [
        Request(context(100 - i % 7, i % 5), 5 + 9 * (i % 6), i, Every(8, (4,)), rating=RATING)
        for i in range(60)
    ]
    together = ask(engine, *requests)
    for i in range(0, 60, 7):
        alone, (same,) = ask(engine, requests[i])[0].samples[0], together[i].samples
        assert same.ids.tolist() == alone.ids.tolist()
        assert same.value == pytest.approx(alone.value, abs=1e-5)


@needs_vllm
def test_contexts_that_do_not_go_into_one_step_together_are_served_with_their_seeds(
    engine: SegmentedEngine,
) -> None:
    requests = [Request(context(POSITIONS - 10, i), 10, i) for i in range(32)]  # 16 slots x 150 > 2048 tokens
    together = ask(engine, *requests)
    for i in range(0, 32, 5):
        alone = ask(engine, requests[i])[0].samples[0]
        assert together[i].samples[0].ids.tolist() == alone.ids.tolist()


# Prefixes and weights.


@needs_vllm
def test_samples_of_a_node_and_later_requests_share_its_prefix(engine: SegmentedEngine) -> None:
    before = engine.figures()
    reply = ask(engine, Request(context(100), 4, 3, num_samples=4))[0]
    after = engine.figures()
    assert reply.cached_prefix == 0
    assert after.cached_tokens - before.cached_tokens == 3 * 96  # whole blocks of 32
    assert after.prefilled_tokens - before.prefilled_tokens == 400 - 3 * 96
    assert ask(engine, Request((*context(100), 9), 4, 3))[0].cached_prefix == 96


@needs_vllm
def test_new_weights_count_at_once_and_nothing_stale_is_served(
    engine: SegmentedEngine, models: Models
) -> None:
    request = Request(context(100), 12, 3, rating=RATING)
    (old,) = ask(engine, request)
    assert ask(engine, request)[0].cached_prefix == 96
    for folder, model, version in [
        (models.second_folder, models.second, 1),
        (str(models.first_folder), models.first, 2),
    ]:
        engine.load(folder, version)
        reply = ask(engine, request)[0]
        (sample,) = reply.samples
        assert (reply.version, reply.cached_prefix) == (version, 0)
        assert sample.value == pytest.approx(
            value_after(model, [*request.context, *sample.ids.tolist()]), abs=1e-5
        )
        expected = logprobs_after(model, request.context)[sample.ids[0]]
        assert sample.logprobs[0] == pytest.approx(expected, abs=1e-4)
    assert sample.ids.tolist() == old.samples[0].ids.tolist()


@needs_vllm
def test_new_weights_count_at_once_where_the_output_matrix_is_the_input_one(tmp_path: Path) -> None:
    tied = [llama(seed, tie_word_embeddings=True) for seed in (4, 5)]
    for name, model in zip("ab", tied, strict=True):
        model.save_pretrained(tmp_path / name)
    engine = open_vllm(tmp_path / "a", slots=2, cache_bytes=CACHE_BYTES)
    request = Request(context(40), 8, 3, rating=RATING)
    for version, (name, model) in enumerate([("a", tied[0]), ("b", tied[1]), ("a", tied[0])]):
        engine.load(tmp_path / name, version)
        (sample,) = ask(engine, request)[0].samples
        tokens = [*request.context, *sample.ids.tolist()]
        assert sample.value == pytest.approx(value_after(model, tokens), abs=1e-5)
        for t, logprob in enumerate(sample.logprobs):
            expected = logprobs_after(model, tokens[: 40 + t])[sample.ids[t]]
            assert logprob == pytest.approx(expected, abs=1e-4)
    engine.close()


@needs_vllm
@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"vocab_size": VOCAB + 2}, r"is \[50, 64\], expected \[48, 64\]"),
        ({"num_hidden_layers": 3}, r"model.layers.2.* expected no such tensor"),
        ({"num_hidden_layers": 1}, r"model.layers.1.* is missing"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_the_old_ones_stay(
    engine: SegmentedEngine, tmp_path: Path, sizes: dict[str, int], words: str
) -> None:
    request = Request(context(40), 8, 3, rating=RATING)
    before = ask(engine, request)[0].samples[0]
    llama(2, **sizes).save_pretrained(tmp_path)
    with pytest.raises(EngineError, match=words):
        engine.load(tmp_path, 1)
    after = ask(engine, request)[0]
    assert after.version == 0
    assert after.samples[0].ids.tolist() == before.ids.tolist()
    assert after.samples[0].value == pytest.approx(before.value, abs=1e-6)


@needs_vllm
def test_weights_that_cannot_be_read_are_refused(
    engine: SegmentedEngine, models: Models, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="no folder of weights"):
        engine.load(tmp_path / "nowhere", 1)
    with pytest.raises(EngineError, match=r"no \.safetensors file"):
        engine.load(str(tmp_path), 1)
    with pytest.raises(EngineError, match="must be a folder or None, got LlamaForCausalLM"):
        engine.load(models.first, 1)
    shutil.copytree(models.second_folder, tmp_path / "cut")
    file = tmp_path / "cut" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(EngineError, match="write it again"):
        engine.load(tmp_path / "cut", 1)


# One process.


@needs_vllm
def test_a_cancelled_sample_frees_its_place(engine: SegmentedEngine) -> None:
    engine.submit("short", Request(context(9), 1, 0))
    for i in range(30):
        engine.submit(i, Request(context(60, i), 90, i, rating=RATING))
    assert [key for key, _ in engine.poll()] == ["short"]
    for i in range(30):
        engine.cancel(i)
    assert engine.poll() == []
    engine.load(None, 5)  # refused while vLLM holds a block of theirs
    assert ask(engine, Request(context(9), 3, 0))[0].version == 5


@needs_vllm
def test_an_engine_leaves_the_process_as_it_was_and_another_may_be_open(
    models: Models, shared: SegmentedEngine
) -> None:
    environment, set_num_threads = dict(os.environ), torch.set_num_threads
    state = torch.get_rng_state()
    second = open_vllm(models.second_folder, slots=2, max_context=64, cache_bytes=CACHE_BYTES)
    assert dict(os.environ) == environment
    assert torch.set_num_threads is set_num_threads
    assert torch.equal(torch.get_rng_state(), state)
    assert (second.max_context, shared.max_context) == (64, POSITIONS)
    request = Request(context(40), 8, 3, rating=RATING)
    (reply,) = ask(second, request)
    tokens = [*request.context, *reply.samples[0].ids.tolist()]
    assert reply.samples[0].value == pytest.approx(value_after(models.second, tokens), abs=1e-5)
    assert torch.equal(torch.get_rng_state(), state)
    second.close()
    second.close()
    assert len(ask(shared, request)[0].samples[0].ids) == 8


@needs_vllm
def test_what_vllm_cannot_run_is_told_in_one_line(models: Models, shared: SegmentedEngine) -> None:
    with pytest.raises(EngineError, match=r"^vLLM cannot run the model in .*memory.*") as caught:
        open_vllm(models.first_folder, cache_bytes=1000)
    assert "\n" not in str(caught.value)
    assert len(ask(shared, Request(context(40), 8, 3))[0].samples[0].ids) == 8


@needs_vllm
def test_a_longer_context_than_the_models_is_refused(models: Models) -> None:
    with pytest.raises(EngineError, match=f"at most the model's {POSITIONS} positions, got {POSITIONS + 1}"):
        open_vllm(models.first_folder, max_context=POSITIONS + 1)


@needs_vllm
def test_sleep_does_nothing_on_cpu(engine: SegmentedEngine) -> None:
    backend = engine.backend
    assert isinstance(backend, VllmBackend)
    backend.sleep()
    backend.wake()
    assert len(ask(engine, Request(context(40), 8, 3))[0].samples[0].ids) == 8
