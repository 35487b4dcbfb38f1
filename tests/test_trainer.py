"""The learner on tiny random models: what a step changes, and what it must not depend on."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from llama_o1.errors import ConfigError, RunError
from llama_o1.format.tokens import SpecialIds
from llama_o1.learn.forward import read
from llama_o1.learn.model import add_lora
from llama_o1.learn.pack import pack
from llama_o1.learn.settings import LearnerSettings, LoraSettings
from llama_o1.learn.trainer import Learner
from replay.experience import Experience

VOCAB = 40
POSITIVE, NEGATIVE = 8, 9
SPECIAL = SpecialIds(*range(11), tags={}, remaining=())
SIZE = {
    "vocab_size": VOCAB,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
GROUPED = {**SIZE, "num_key_value_heads": 1}


def llama(tied=True):
    torch.manual_seed(3)
    return LlamaForCausalLM(LlamaConfig(**GROUPED, tie_word_embeddings=tied, initializer_range=0.3)).eval()


def gemma2():
    torch.manual_seed(3)
    return Gemma2ForCausalLM(
        Gemma2Config(**GROUPED, head_dim=8, sliding_window=8, initializer_range=0.3)
    ).eval()


def qwen2():
    torch.manual_seed(3)
    return Qwen2ForCausalLM(Qwen2Config(**GROUPED, initializer_range=0.3)).eval()


def neox():
    torch.manual_seed(3)
    return GPTNeoXForCausalLM(GPTNeoXConfig(**SIZE, tie_word_embeddings=False, initializer_range=0.3)).eval()


def experiences(count, seed=0, temperature=0.7):
    rng = np.random.default_rng(seed)
    found = []
    for node in range(count):
        ids = rng.integers(11, VOCAB, size=rng.integers(2, 9)).astype(np.int32)
        sampled = rng.random(ids.size) < 0.7
        sampled[0] = False
        found.append(
            Experience(
                context=rng.integers(11, VOCAB, size=rng.integers(3, 20)).astype(np.int32),
                ids=ids,
                sampled=sampled,
                logprobs=np.where(sampled, -3.0, 0.0).astype(np.float32),
                temperature=temperature,
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
        )
    return found


def learner(model=None, **over):
    settings = LearnerSettings(**{"learning_rate": 1e-2, "warmup_steps": 0, **over})
    return Learner(llama() if model is None else model, SPECIAL, settings, pad_id=0)


def unbatched(model, experience):
    """Log-probs of the own tokens and the value, by one plain forward pass of one row."""
    ids = torch.tensor(np.concatenate([experience.context, experience.ids])).long()[None]
    logits = model(input_ids=ids).logits[0].double()
    start, end = len(experience.context), ids.shape[1]
    logp = (logits / experience.temperature).log_softmax(-1)[start - 1 : end - 1]
    chosen = logp.gather(1, ids[0, start:, None])[:, 0].detach().numpy()
    value = torch.sigmoid(logits[-1, POSITIVE] - logits[-1, NEGATIVE]).item()
    return np.where(experience.sampled, chosen, 0.0), value


@pytest.mark.parametrize("make", [llama, gemma2, qwen2, neox])
def test_batched_log_probs_and_values_are_those_of_one_row_alone(make):
    model, data = make(), experiences(6)
    unit = learner(model, max_tokens_per_forward=60)
    for e, logprobs, value in zip(data, unit.logprobs(data), unit.values(data), strict=True):
        expected, expected_value = unbatched(model, e)
        np.testing.assert_allclose(logprobs, expected, atol=2e-5)
        assert value == pytest.approx(expected_value, abs=1e-5)


def test_a_model_that_cannot_choose_its_logits_gives_the_same():
    class Whole(LlamaForCausalLM):
        def forward(self, input_ids, attention_mask, use_cache):
            return super().forward(input_ids, attention_mask, use_cache=use_cache)

    part = llama()
    whole = Whole(part.config).eval()
    whole.load_state_dict(part.state_dict())
    batch = pack(experiences(4), 0, torch.device("cpu"))
    for a, b in zip(read(part, batch, (8, 9)), read(whole, batch, (8, 9)), strict=True):
        torch.testing.assert_close(a, b)


def test_entropy_is_that_of_the_sampling_distribution_and_zero_where_forced():
    model, data = llama(), experiences(1)
    batch = pack(data, 0, torch.device("cpu"))
    found = read(model, batch, (8, 9)).entropy[0]
    logits = model(input_ids=batch.input_ids).logits[0, len(data[0].context) - 1 : -1] / data[0].temperature
    by_hand = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(found, torch.where(batch.sampled[0], by_hand, 0.0))


@pytest.mark.parametrize("mean", ["thought", "token"])
def test_micro_batches_leave_loss_gradient_and_weights_as_they_are(mean):
    data, weights = experiences(9), np.linspace(0.1, 1.0, 9)
    whole, parts = learner(policy_mean=mean), learner(policy_mean=mean, max_tokens_per_forward=40)
    a, b = whole.step(data, weights), parts.step(data, weights)
    assert a.metrics == pytest.approx(b.metrics, rel=1e-5, abs=1e-7)
    np.testing.assert_allclose(a.values, b.values, atol=1e-6)
    np.testing.assert_allclose(a.ratios, b.ratios, rtol=1e-5)
    for (name, p), q in zip(whole.model.named_parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_figures_come_back_in_the_order_of_the_experiences():
    data = experiences(9)
    unit = learner(max_tokens_per_forward=40)
    before = unit.values(data)
    found = unit.step(data, np.ones(9))
    np.testing.assert_allclose(found.values, before, atol=1e-6)
    targets = np.array([e.value_target for e in data])
    np.testing.assert_allclose(found.td_errors, np.abs(targets - before), atol=1e-6)


def test_at_the_behaviour_policy_ratio_is_one_and_the_loss_minus_the_mean_advantage():
    unit, data = learner(), experiences(6)
    data = [replace(e, logprobs=logp) for e, logp in zip(data, unit.logprobs(data), strict=True)]
    found = unit.step(data, np.ones(6))
    np.testing.assert_allclose(found.ratios, 1.0, atol=1e-6)
    advantages = [e.advantage if e.sampled.any() else 0.0 for e in data]
    assert found.metrics["policy_loss"] == pytest.approx(-np.mean(advantages), abs=1e-6)
    assert found.metrics["clip_fraction"] == 0


def test_a_mean_by_token_counts_every_drawn_token_alike():
    unit, data, weights = learner(policy_mean="token", value_weight=0.0), experiences(6), np.arange(1.0, 7.0)
    data = [replace(e, logprobs=logp) for e, logp in zip(data, unit.logprobs(data), strict=True)]
    found = unit.step(data, weights)
    lengths = np.array([e.sampled.sum() for e in data])
    assert len({*lengths}) > 2
    # At ratio 1 the loss is -A a token, and the mean by token has as much weight as the mean by thought.
    losses = -weights * lengths * [e.advantage for e in data]
    expected = losses.sum() / (weights @ lengths) * weights.mean()
    assert found.metrics["loss"] == pytest.approx(expected, rel=1e-5)
    plain = llama()
    for weight, one in zip(weights, data, strict=True):
        ids = torch.tensor(np.concatenate([one.context, one.ids])).long()[None]
        logp = (plain(input_ids=ids).logits[0] / one.temperature).log_softmax(-1)[len(one.context) - 1 : -1]
        drawn = logp[range(len(one.ids)), one.ids.tolist()][torch.from_numpy(one.sampled)]
        (-weight * one.advantage * drawn.sum() * weights.mean() / (weights @ lengths)).backward()
    gradient = torch.cat([p.grad.flatten() for p in plain.parameters()])
    gradient /= max(1.0, float(gradient.norm()))  # as long as the learner lets it be
    for p, part in zip(
        unit.model.parameters(), gradient.split([p.numel() for p in plain.parameters()]), strict=True
    ):
        torch.testing.assert_close(p.grad.flatten(), part, rtol=1e-4, atol=1e-6)


def test_without_a_drawn_token_a_mean_by_token_is_zero():
    data = [replace(e, sampled=np.zeros_like(e.sampled), logprobs=0 * e.logprobs) for e in experiences(2)]
    assert learner(policy_mean="token").step(data, np.ones(2)).metrics["policy_loss"] == 0


def test_steps_move_the_value_to_its_target_and_good_tokens_up():
    unit, data = learner(), experiences(4)
    data = [
        replace(e, logprobs=logp, advantage=1.0 if i % 2 else -1.0)
        for i, (e, logp) in enumerate(zip(data, unit.logprobs(data), strict=True))
    ]
    first = unit.step(data, np.ones(4))
    for _ in range(15):
        last = unit.step(data, np.ones(4))
    assert last.metrics["value_loss"] < first.metrics["value_loss"]
    assert last.td_errors.max() < 0.15
    assert all((ratio > 1) == bool(i % 2) for i, ratio in enumerate(last.ratios))


def test_an_importance_weight_of_zero_leaves_a_sample_out():
    data = experiences(5)
    part, alone = learner(), learner()
    part.step(data, np.array([2.0, 0.0, 2.0, 0.0, 0.0]))
    alone.step([data[0], data[2]], np.array([0.8, 0.8]))  # 2 / 5 = 0.8 / 2
    for p, q in zip(part.model.parameters(), alone.model.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-6)


def test_the_learning_rate_warms_up_in_a_line():
    unit, data = learner(learning_rate=0.4, warmup_steps=4), experiences(2)
    rates = [unit.step(data, np.ones(2)).metrics["learning_rate"] for _ in range(6)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_the_gradient_is_clipped_to_its_norm():
    unit = learner(max_grad_norm=0.01)
    found = unit.step(experiences(4), np.ones(4))
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in unit.model.parameters()))
    assert found.metrics["grad_norm"] > 0.01
    assert norm == pytest.approx(0.01, rel=1e-3)


def test_a_loss_that_is_not_finite_stops_before_the_weights_change():
    unit, data = learner(), experiences(3)
    before = {name: p.clone() for name, p in unit.model.named_parameters()}
    data[1] = replace(data[1], advantage=float("nan"))
    with pytest.raises(RunError, match="step 1: the loss of node 1 of tree t is not finite"):
        unit.step(data, np.ones(3))
    assert all(torch.equal(p, before[name]) for name, p in unit.model.named_parameters())
    assert unit.num_steps == 0


def test_dropout_never_acts():
    data = experiences(3)
    unit = learner(add_lora(llama(), [8, 9], LoraSettings(rank=2, dropout=0.5), seed=0).train())
    unit.step(data, np.ones(3))
    np.testing.assert_array_equal(unit.values(data), unit.values(data))
    assert not unit.model.training


def test_the_reference_is_the_model_without_its_adapter():
    base, data = llama(), experiences(4)
    unit = learner(
        add_lora(llama(), [8, 9], LoraSettings(rank=2), seed=0), kl_weight=0.1, entropy_weight=0.01
    )
    assert unit.step(data, np.ones(4)).metrics["reference_kl"] == pytest.approx(0.0, abs=1e-6)
    moved = unit.logprobs(data)
    found = unit.step(data, np.ones(4)).metrics["reference_kl"]
    kls = []
    for e, new in zip(data, moved, strict=True):
        log_ratio = unbatched(base, e)[0] - new
        k3 = np.exp(log_ratio) - 1 - log_ratio
        kls.append(k3[e.sampled].mean() if e.sampled.any() else 0.0)
    assert found == pytest.approx(np.mean(kls), rel=1e-3)
    assert found > 0


def test_a_reference_without_an_adapter_is_refused():
    with pytest.raises(ConfigError, match=r"kl_weight 0\.1 needs LoRA"):
        learner(kl_weight=0.1)


def test_as_many_weights_as_experiences_are_wanted():
    with pytest.raises(ValueError, match="3 experiences and 2 importance weights"):
        learner().step(experiences(3), np.ones(2))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", 0.0),
        ("learning_rate", math.inf),
        ("clip", 1.0),
        ("batch_size", 0),
        ("value_weight", -1.0),
        ("betas", (0.9, 1.0)),
    ],
)
def test_a_setting_out_of_range_is_named_with_its_value(field, value):
    with pytest.raises(ConfigError, match=f"{field} must be .*, got"):
        LearnerSettings(**{field: value})


def test_lora_settings_are_checked():
    with pytest.raises(ConfigError, match="rank must be at least 1, got 0"):
        LoraSettings(rank=0)
