"""A bandit whose optimum is known: the learner finds the best arm and values it at its reward."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from learning import SPECIAL, experience, make_model

from llama_o1.learn.settings import LearnerSettings
from llama_o1.learn.trainer import Learner

CONTEXT, HEADER, END = [5, 20, 21], 6, 4
REWARDS = {12: 0.2, 13: 0.9, 14: 0.5, 15: 0.0}
BEST = 13


def policy(model):
    """Probability of each arm among the arms, and of any arm at all."""
    with torch.no_grad():
        probabilities = model(torch.tensor([[*CONTEXT, HEADER]])).logits[0, -1].softmax(-1)
    arms = probabilities[list(REWARDS)].numpy()
    return arms / arms.sum()


def pulls(model, rng, count):
    """Arms drawn from the policy; their advantage is the reward less what the policy expects."""
    probabilities = policy(model)
    expected = float(np.dot(probabilities, list(REWARDS.values())))
    found = []
    for place in rng.choice(len(REWARDS), size=count, p=probabilities):
        arm = list(REWARDS)[place]
        found.append(
            experience(
                CONTEXT,
                [HEADER, arm, END],
                sampled=[False, True, False],
                logprobs=np.array([0, np.log(model_probability(model, arm)), 0], dtype=np.float32),
                temperature=1.0,
                advantage=REWARDS[arm] - expected,
                value_target=REWARDS[arm],
            )
        )
    return found


def model_probability(model, arm):
    with torch.no_grad():
        return float(model(torch.tensor([[*CONTEXT, HEADER]])).logits[0, -1].softmax(-1)[arm])


@pytest.mark.parametrize("over", [{}, {"decoupled": True, "dual_clip": 3.0}], ids=["ppo", "decoupled"])
def test_the_best_arm_is_found_and_valued_at_its_reward(over):
    settings = replace(LearnerSettings(learning_rate=3e-3, warmup_steps=0, threads=1), **over)
    model, rng = make_model("llama"), np.random.default_rng(0)
    unit = Learner(model, SPECIAL, settings, pad_id=0)
    for _ in range(30):
        unit.mark_proximal()
        batch = pulls(model, rng, 32)
        for _ in range(2):
            unit.step(batch, np.ones(len(batch)))
    probabilities = dict(zip(REWARDS, policy(model), strict=True))
    assert probabilities[BEST] > 0.95
    value = unit.values([experience(CONTEXT, [HEADER, BEST, END])])[0]
    assert value == pytest.approx(REWARDS[BEST], abs=0.1)


def test_the_proximal_policy_stays_where_it_was_marked():
    unit = Learner(
        make_model("llama"),
        SPECIAL,
        LearnerSettings(learning_rate=1e-2, warmup_steps=0, decoupled=True),
        pad_id=0,
    )
    data = pulls(unit.model, np.random.default_rng(0), 8)
    marked = unit.logprobs(data)
    unit.step(data, np.ones(8))
    moved = unit.logprobs(data)
    ((_, batch),) = unit.batches(data)
    recent = unit._proximal_logprobs(batch).numpy()
    np.testing.assert_allclose(recent, np.stack(marked), atol=1e-6)
    assert np.abs(np.stack(moved) - recent).max() > 1e-3
    np.testing.assert_allclose(np.stack(unit.logprobs(data)), np.stack(moved), atol=1e-6)
