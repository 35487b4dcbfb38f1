"""What is particular to the local engine: any model, a shared module, one prefix once."""

from __future__ import annotations

import gc
import math
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    DynamicCache,
    FalconConfig,
    FalconForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTJConfig,
    GPTJForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
    OPTConfig,
    OPTForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from llama_o1.engine.kv import KeyValues
from llama_o1.engine.local import LocalEngine
from llama_o1.engine.places import Range
from llama_o1.engine.protocol import Draw, Force, Reply, Request, Sample, Step
from llama_o1.errors import EngineError

VOCAB = 32
RATING = (5, 6)
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": VOCAB,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}


def llama(seed: int = 0, **sizes: object) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**{**SIZES, "num_key_value_heads": 2, **sizes}))


def gemma2() -> PreTrainedModel:
    config = Gemma2Config(**SIZES, num_key_value_heads=2, head_dim=8, attn_logit_softcapping=1.0)
    return Gemma2ForCausalLM._from_config(config, attn_implementation="eager")  # others do not cap


OPT_SIZES = {"ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.3}
GPT_SIZES = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.3}

OURS: dict[str, Callable[[], PreTrainedModel]] = {  # served by our attention
    "llama": llama,
    "llama, biases": lambda: llama(attention_bias=True, mlp_bias=True, hidden_act="gelu"),
    "llama, growing positions": lambda: llama(
        rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 100.0}
    ),
    "mistral": lambda: MistralForCausalLM(
        MistralConfig(**SIZES, num_key_value_heads=1, head_dim=16, sliding_window=None)
    ),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, num_key_value_heads=1)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=8)),
    "phi3": lambda: Phi3ForCausalLM(Phi3Config(**SIZES, pad_token_id=0, eos_token_id=1)),
    "gpt-neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT_SIZES, vocab_size=VOCAB)),
    "opt": lambda: OPTForCausalLM(OPTConfig(**SIZES, **OPT_SIZES)),
    "mistral, sliding window": lambda: MistralForCausalLM(
        MistralConfig(**SIZES, num_key_value_heads=2, head_dim=8, sliding_window=6)
    ),
    "gemma2, soft-capping": gemma2,
    "gemma3, sliding window": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(**SIZES, num_key_value_heads=2, head_dim=8, sliding_window=6)
    ),
}
CACHED: dict[str, Callable[[], PreTrainedModel]] = {  # by each row's own cache
    "bloom, alibi": lambda: BloomForCausalLM(
        BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=VOCAB, initializer_range=0.3)
    ),
    "falcon": lambda: FalconForCausalLM(FalconConfig(**SIZES)),
    "gpt-j": lambda: GPTJForCausalLM(GPTJConfig(**GPT_SIZES, vocab_size=VOCAB, rotary_dim=8)),
    "mamba, no attention": lambda: MambaForCausalLM(
        MambaConfig(hidden_size=32, num_hidden_layers=2, state_size=4, vocab_size=VOCAB)
    ),
}
WHOLE: dict[str, Callable[[], PreTrainedModel]] = {  # anew for every token: these have no cache that we know
    "gpt1": lambda: OpenAIGPTLMHeadModel(OpenAIGPTConfig(**GPT_SIZES, vocab_size=VOCAB)),
}
MODELS = OURS | CACHED | WHOLE


@dataclass(frozen=True)
class Header:
    """Forces a header at the start and a block after `at` tokens."""

    ids: tuple[int, ...]
    at: int = -1
    block: tuple[int, ...] = ()

    def __call__(self, ids: Sequence[int]) -> Step:
        if not ids and self.ids:
            return Force(self.ids)
        return Force(self.block) if len(ids) == self.at else Draw()


def ask(engine: LocalEngine, *requests: Request) -> list[Reply]:
    for i, request in enumerate(requests):
        engine.submit(i, request)
    replies: dict[Hashable, Reply] = {}
    while got := engine.poll():
        replies.update(got)
    return [replies[i] for i in range(len(requests))]


def thoughts(count: int = 10) -> list[Request]:
    """Contexts of all lengths, some of them beginning alike."""
    return [
        Request(
            context=tuple((7 * j + i % 3 * (j > 10)) % VOCAB for j in range(1 + 3 * i)),
            max_tokens=14,
            seed=i,
            program=Header((1, 2, 3) if i % 2 else (), at=9, block=(4, 4)),
            num_samples=1 + i % 2,
            rating=RATING,
        )
        for i in range(count)
    ]


def check(model: nn.Module, request: Request, sample: Sample, atol: float = 1e-4) -> None:
    """A sample's log-probs and value against the model's own forward."""
    tokens = [*request.context, *sample.ids.tolist()]
    model.eval()
    with torch.no_grad():
        logprobs = torch.log_softmax(model(torch.tensor([tokens])).logits[0].float(), -1)
    own = (
        logprobs[len(request.context) - 1 : -1]
        .gather(1, torch.tensor(sample.ids[:, None].tolist()))[:, 0]
        .numpy()
    )
    np.testing.assert_allclose(sample.logprobs[sample.sampled], own[sample.sampled], atol=atol)
    positive, negative = logprobs[-1, list(RATING)].exp()
    assert sample.value == pytest.approx(float(positive / (positive + negative)), abs=atol / 10)


# Any model.


@pytest.mark.parametrize("name", MODELS)
def test_log_probs_and_values_equal_the_models_own_forward(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    engine = LocalEngine(model, slots=5, max_context=64)
    requests = thoughts()
    for reply, request in zip(ask(engine, *requests), requests, strict=True):
        for sample in reply.samples:
            check(model, request, sample)


@pytest.mark.parametrize(
    ("models", "words"),
    [
        (OURS, None),
        (CACHED, r"cannot use our attention .* no prefix is shared and each row runs alone over a cache"),
        (WHOLE, r"cannot use our attention .* every token costs a pass over its row's whole context"),
    ],
)
def test_how_a_model_is_served_is_told_in_one_line_where_it_is_slow(
    caplog: pytest.LogCaptureFixture, models: dict[str, Callable[[], PreTrainedModel]], words: str | None
) -> None:
    for make in models.values():
        caplog.clear()
        torch.manual_seed(0)
        engine = LocalEngine(make(), slots=2, max_context=64)
        told = [record.getMessage() for record in caplog.records if record.name.startswith("llama_o1")]
        assert len(told) == (words is not None)
        if words is not None:
            assert re.search(words, told[0])
            assert "\n" not in told[0]
            request = Request((1, 2, 3), 4, 0)
            assert [reply.cached_prefix for reply in ask(engine, request) + ask(engine, request)] == [0, 0]


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("llama", True),
        ("llama, biases", True),
        ("mistral", True),
        ("qwen2", True),
        ("qwen3", False),
        ("mistral, sliding window", False),
    ],
)
def test_layers_of_llamas_kind_are_computed_without_their_modules(name: str, own: bool) -> None:
    torch.manual_seed(0)
    model = OURS[name]()
    engine, called = LocalEngine(model, max_context=64), []
    model.model.layers[0].register_forward_pre_hook(lambda *_: called.append(True))
    ask(engine, *thoughts(3))
    assert bool(called) != own


def caches() -> int:
    """How many a model's own caches there are in memory."""
    gc.collect()
    return sum(type(found) is DynamicCache for found in gc.get_objects())


def test_a_rows_own_cache_is_freed_when_it_ends() -> None:
    torch.manual_seed(0)
    engine = LocalEngine(CACHED["bloom, alibi"](), slots=4, max_context=64)
    before = caches()
    for i, draws in enumerate((2, 5, 9, 9, 9)):
        engine.submit(i, Request((1, 2, i), draws, i))
    assert [key for key, _ in engine.poll()] == [0]
    assert caches() == before + 3
    engine.cancel(1)
    assert caches() == before + 2
    engine.poll()
    engine.cancel(4)
    assert caches() == before
    engine.load(None, 1)
    assert ask(engine, Request((1, 2), 3, 0))[0].version == 1


def test_bfloat16_weights_are_served() -> None:
    model = llama(initializer_range=0.1).to(torch.bfloat16)
    request = thoughts(5)[4]
    for sample in ask(LocalEngine(model), request)[0].samples:
        check(model, request, sample, atol=0.1)


def test_an_adapted_model_is_served() -> None:
    torch.manual_seed(0)
    model = get_peft_model(llama(), LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    request = thoughts(4)[3]
    check(model, request, ask(LocalEngine(model), request)[0].samples[0])


# A module that a learner shares.


def test_the_module_keeps_its_modes_and_its_attention_and_can_be_trained() -> None:
    model = llama(attention_dropout=0.5).train()
    model.lm_head.eval()
    request = thoughts(4)[3]
    sample = ask(LocalEngine(model), request)[0].samples[0]
    assert model.training
    assert not model.lm_head.training
    assert model.config._attn_implementation == "sdpa"
    tokens = torch.tensor([request.context])
    model(tokens, labels=tokens).loss.backward()
    assert model.lm_head.weight.grad is not None
    check(model, request, sample)


def test_weights_changed_in_place_are_used_after_load() -> None:
    model = llama()
    engine = LocalEngine(model)
    requests = thoughts(6)
    before = ask(engine, *requests)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    engine.load(None, 3)
    after = ask(engine, *requests)
    fresh = ask(LocalEngine(model), *requests)
    for a, b in zip(after, fresh, strict=True):
        assert (a.version, a.cached_prefix) == (3, b.cached_prefix)
        for x, y in zip(a.samples, b.samples, strict=True):
            assert x.ids.tolist() == y.ids.tolist()
            assert x.value == pytest.approx(y.value, abs=1e-6)
    assert before[5].samples[0].value != pytest.approx(after[5].samples[0].value, abs=1e-4)


def test_another_module_takes_the_place_of_the_first() -> None:
    engine, other = LocalEngine(llama()), llama(seed=1)
    request = thoughts(4)[3]
    ask(engine, request)
    engine.load(other, 1)
    check(other, request, ask(engine, request)[0].samples[0])


def test_a_module_of_another_vocabulary_is_refused() -> None:
    with pytest.raises(EngineError, match="vocabulary of 33, expected 32"):
        LocalEngine(llama()).load(llama(vocab_size=33), 1)


@pytest.mark.parametrize("asked", [0, 65])
def test_max_context_must_lie_within_the_models_positions(asked: int) -> None:
    with pytest.raises(EngineError, match=f"from 1 to the model's 64 positions, got {asked}"):
        LocalEngine(llama(), max_context=asked)


def test_weights_that_are_not_finite_are_reported() -> None:
    model = llama()
    engine = LocalEngine(model)
    with torch.no_grad():
        model.lm_head.weight.fill_(math.nan)
    with pytest.raises(EngineError, match="not finite"):
        ask(engine, Request((1, 2), 3, 0))


# One prefix once.


def test_a_childs_context_finds_its_parents_context_and_sample() -> None:
    engine = LocalEngine(llama())
    parent = Request(tuple(range(20)), 10, 0, Header((1, 2, 3)), rating=RATING)
    sample = ask(engine, parent)[0].samples[0]
    context = (*parent.context, *sample.ids.tolist(), 5, 6)
    child = ask(engine, Request(context, 10, 1, Header((1, 2, 4)), rating=RATING))[0]
    assert child.cached_prefix == 30  # 20 of the parent's context and 10 of its sample
    assert engine.figures().prefilled_tokens == 20 + 2
    check(llama(), Request(context, 10, 1), child.samples[0])
    before = engine.figures()
    ask(engine, Request(parent.context, 10, 0, Header((1, 2, 3)), rating=RATING))
    # The header and the first draws are known; the header's last token is fed for what comes after it.
    assert engine.figures().since(before).found_tokens == 2
    engine.reuse_forced(False)
    ask(engine, Request(parent.context, 10, 0, Header((1, 2, 3)), rating=RATING))
    found = engine.figures().since(before)
    # Both find 20 and 20 of the context, of which nothing needs to be fed for a draw.
    assert (found.found_tokens, found.cached_tokens, found.prefilled_tokens) == (2, 40, 0)


@pytest.mark.parametrize("slots", [2, 64])
def test_samples_and_equal_contexts_compute_their_prefix_once(slots: int) -> None:
    engine = LocalEngine(llama(), slots=slots)
    context = tuple(range(30))
    ask(engine, Request(context, 3, 0, num_samples=4), Request(context, 3, 1), Request(context, 3, 2))
    figures = engine.figures()
    # The first computes all 30; of the others each feeds the last token to have its logits.
    assert (figures.prefilled_tokens, figures.cached_tokens) == (30 + 5, 5 * 29)


def test_a_scattered_prefix_is_moved_to_one_range_and_draws_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moved: list[list[Range]] = []
    copy = KeyValues.copy

    def counted(memory: KeyValues, ranges: Sequence[Range], start: int) -> None:
        moved.append([*ranges])
        copy(memory, ranges, start)

    monkeypatch.setattr(KeyValues, "copy", counted)
    model = llama()
    engine, plain = LocalEngine(model, slots=2), LocalEngine(model, slots=2, cache_bytes=0)
    # Two lines of six tokens more each; they are written in turn, so that neither lies in one piece.
    lines = [tuple((5 * line + 3 * t) % VOCAB for t in range(36)) for line in range(2)]
    for end in range(6, 36, 6):
        ask(engine, *(Request(line[:end], 0, 0, rating=RATING) for line in lines))
    assert not moved  # a value is read once
    children = [Request((*line[:30], i, i), 10, i, rating=RATING) for i in range(3) for line in lines]
    for found, expected, request in zip(ask(engine, *children), ask(plain, *children), children, strict=True):
        assert found.cached_prefix >= 29
        assert found.samples[0].ids.tolist() == expected.samples[0].ids.tolist()
        check(model, request, found.samples[0])
    assert [len(ranges) for ranges in moved] == [5, 5]  # each line once; later rows find it in one piece


def test_the_cache_keeps_within_its_limit_and_changes_no_reply() -> None:
    per_token = 2 * 2 * 2 * 8 * 4  # keys and values, layers, heads, head_dim, bytes
    small = LocalEngine(llama(), slots=3, cache_bytes=100 * per_token)
    for a, b in zip(ask(small, *thoughts(12)), ask(LocalEngine(llama()), *thoughts(12)), strict=True):
        assert [sample.ids.tolist() for sample in a.samples] == [sample.ids.tolist() for sample in b.samples]


# Always full.


def test_a_finished_rows_place_is_taken_at_once() -> None:
    engine = LocalEngine(llama(), slots=2)
    # Rows of 1 + 5 and 2 + 4 draws: two places need six steps, and no place is ever empty.
    ask(engine, *(Request((1, i), draws, i) for i, draws in enumerate((1, 2, 5, 4))))
    figures = engine.figures()
    assert (figures.steps, figures.slot_steps) == (6, 12)


def test_forced_tokens_and_the_value_cost_no_step_of_their_own() -> None:
    engine = LocalEngine(llama())
    program = Header((1, 2, 3), at=6, block=(4, 4, 4))
    ask(engine, Request((1, 2), 10, 0, program, rating=RATING))
    # Draws 3 + 1 after the two blocks, then one pass for the value after the last token.
    assert engine.figures().steps == 5
