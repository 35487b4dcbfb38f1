"""The losses on numbers worked out by hand, and how experiences become tensors."""

import math

import numpy as np
import pytest
import torch

from llama_o1.learn.figures import node_figures
from llama_o1.learn.forward import Readout
from llama_o1.learn.loss import (
    PolicyLoss,
    Weights,
    combine,
    entropy_of,
    imitation,
    k3_kl,
    masked_mean,
    ppo_clip,
    value_cross_entropy,
    value_of,
)
from llama_o1.learn.pack import pack, split
from llama_o1.learn.settings import LearnerSettings
from replay.experience import Experience

ALL = torch.tensor([[True]])


def one_token(ratio, advantage, clip=0.2):
    old = torch.tensor([[-1.0]])
    new = (old + math.log(ratio)).requires_grad_()
    return new, ppo_clip(new, old, torch.tensor([advantage]), ALL, clip)


def make(context, ids, sampled=None, **over):
    fields = {
        "context": np.array(context, dtype=np.int32),
        "ids": np.array(ids, dtype=np.int32),
        "sampled": np.array([True] * len(ids) if sampled is None else sampled),
        "logprobs": np.full(len(ids), -0.5, dtype=np.float32),
        "temperature": 0.5,
        "advantage": 1.5,
        "value": 0.4,
        "value_target": 0.75,
        "outcome": None,
        "version": 0,
        "action": "expand",
        "problem": "p",
        "tree": "t",
        "node": 3,
        "parent": 0,
    }
    return Experience(**{**fields, **over})


def test_at_ratio_one_the_policy_loss_is_minus_the_advantage():
    _, found = one_token(1.0, 2.5)
    assert found.loss.item() == pytest.approx(-2.5)
    assert found.ratio.item() == pytest.approx(1.0)
    assert found.clipped.item() == 0
    assert found.approx_kl.item() == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.5, 2.0, -2.4, 0.0),  # a good token that is already likelier: held at 1.2 * 2
        (0.5, -2.0, 1.6, 0.0),  # a bad token that is already rarer: held at 0.8 * 2
        (0.5, 2.0, -1.0, -1.0),  # a good token that became rarer is pulled back: -r A, d/dlogp = -r A
        (1.5, -2.0, 3.0, 3.0),  # a bad token that became likelier is pushed down
    ],
)
def test_the_clip_holds_a_ratio_only_where_it_has_gone_far_enough(ratio, advantage, loss, gradient):
    new, found = one_token(ratio, advantage)
    found.loss.sum().backward()
    assert found.loss.item() == pytest.approx(loss)
    assert new.grad.item() == pytest.approx(gradient)
    assert found.clipped.item() == (gradient == 0)
    assert found.approx_kl.item() == pytest.approx(ratio - 1 - math.log(ratio))


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (5.0, -2.0, 6.0, 0.0),  # a bad token five times likelier: -r A = 10, bounded by 3 * 2
        (2.0, -2.0, 4.0, 4.0),  # within the bound: as without it
        (5.0, 2.0, -2.4, 0.0),  # a good one is held by the usual clip
        (0.5, -2.0, 1.6, 0.0),
    ],
)
def test_a_dual_clip_bounds_what_a_bad_token_costs(ratio, advantage, loss, gradient):
    old = torch.tensor([[-3.0]])
    new = (old + math.log(ratio)).requires_grad_()
    found = ppo_clip(new, old, torch.tensor([advantage]), ALL, 0.2, dual_clip=3.0)
    found.loss.sum().backward()
    assert found.loss.item() == pytest.approx(loss)
    assert new.grad.item() == pytest.approx(gradient)
    assert found.clipped.item() == (gradient == 0)


@pytest.mark.parametrize(
    ("proximal", "step", "advantage", "loss", "gradient"),
    [
        (0.5, 1.1, 2.0, -1.1, -1.1),  # half as likely as when drawn: 0.5 * 1.1 * 2
        (0.5, 1.5, 2.0, -1.2, 0.0),  # held at 0.5 * 1.2 * 2, although new / behaviour is 0.75 only
        (2.0, 1.0, -1.0, 2.0, 2.0),  # twice as likely by now: no clip, although new / behaviour is 2
    ],
)
def test_the_decoupled_loss_clips_against_recent_weights_and_weighs_by_behaviour(
    proximal, step, advantage, loss, gradient
):
    behaviour = torch.tensor([[-2.0]])
    recent = (behaviour + math.log(proximal)).requires_grad_()
    new = (recent.detach() + math.log(step)).requires_grad_()
    found = ppo_clip(new, behaviour, torch.tensor([advantage]), ALL, 0.2, proximal=recent)
    found.loss.sum().backward()
    assert found.loss.item() == pytest.approx(loss)
    assert new.grad.item() == pytest.approx(gradient)
    assert found.ratio.item() == pytest.approx(proximal * step)


def test_the_gradient_of_imitation_is_that_of_cross_entropy():
    torch.manual_seed(0)
    logits = torch.randn(4, 7, requires_grad=True)  # of four tokens of one node
    drawn, sampled = torch.tensor([2, 0, 6, 6]), torch.tensor([[True, False, True, True]])
    usual = torch.nn.functional.cross_entropy(logits[[0, 2, 3]], drawn[[0, 2, 3]])
    (expected,) = torch.autograd.grad(usual, logits)
    logprobs = logits.log_softmax(1)[torch.arange(4), drawn][None]
    found = imitation(logprobs, logprobs.detach() - 0.7, torch.tensor([1.0]), sampled)
    (gradient,) = torch.autograd.grad(found.loss.sum(), logits)
    assert found.loss.item() == pytest.approx(usual.item())
    torch.testing.assert_close(gradient, expected)
    # what was drawn e^-0.7 times as often by older weights clips nothing
    assert found.ratio.item() == pytest.approx(math.exp(0.7))
    assert found.clipped.item() == 0


def test_imitation_counts_a_thought_by_its_advantage():
    new, mask = torch.tensor([[-1.0, -3.0], [-2.0, 0.0]]), torch.tensor([[True, True], [True, False]])
    # mean of 1 and 3 three times, 2 not at all
    assert imitation(new, new, torch.tensor([3.0, 0.0]), mask).loss.tolist() == [6.0, 0.0]


def test_with_the_behaviour_for_its_proximal_policy_the_decoupled_loss_is_the_usual_one():
    old, new = torch.randn(3, 4), torch.randn(3, 4)
    a, mask = torch.randn(3), torch.rand(3, 4) < 0.7
    for usual, decoupled in zip(
        ppo_clip(new, old, a, mask, 0.2), ppo_clip(new, old, a, mask, 0.2, proximal=old), strict=True
    ):
        torch.testing.assert_close(usual, decoupled)


def test_forced_tokens_and_padding_change_neither_loss_nor_gradient():
    old = torch.tensor([[-1.0, -1.0, 0.0, 0.0]])
    new = torch.tensor([[-1.0, -0.5, -40.0, 3.0]], requires_grad=True)
    sampled = torch.tensor([[True, True, False, False]])
    found = ppo_clip(new, old, torch.tensor([-1.0]), sampled, 0.2)
    found.loss.sum().backward()
    # Two sampled tokens with A = -1: (1 + e^0.5) / 2.
    assert found.loss.item() == pytest.approx((1 + math.exp(0.5)) / 2)
    assert new.grad[0, 2:].tolist() == [0, 0]
    assert found.ratio.item() == pytest.approx((1 + math.exp(0.5)) / 2)


def test_a_node_without_sampled_tokens_adds_nothing():
    nothing = torch.tensor([[False, False]])
    new = torch.zeros((1, 2), requires_grad=True)
    found = ppo_clip(new, torch.zeros(1, 2), torch.tensor([3.0]), nothing, 0.2)
    found.loss.sum().backward()
    assert (found.loss.item(), found.ratio.item(), found.approx_kl.item()) == (0, 1, 0)
    assert new.grad.tolist() == [[0, 0]]
    assert k3_kl(new, new + 1, nothing).item() == 0


def test_a_long_node_counts_as_much_as_a_short_one():
    values = torch.tensor([[4.0, 9.0, 9.0], [1.0, 2.0, 3.0]])
    mask = torch.tensor([[True, False, False], [True, True, True]])
    assert masked_mean(values, mask).tolist() == [4.0, 2.0]


@pytest.mark.parametrize("target", [0.0, 0.25, 1.0])
def test_the_value_loss_is_binary_cross_entropy_of_the_logit_difference(target):
    logits = torch.tensor([[1.5, -0.5]])
    p = 1 / (1 + math.exp(-2.0))
    by_hand = -(target * math.log(p) + (1 - target) * math.log(1 - p))
    assert value_cross_entropy(logits, torch.tensor([target])).item() == pytest.approx(by_hand)
    assert value_of(logits).item() == pytest.approx(p)


def test_the_value_gradient_is_probability_minus_target():
    logits = torch.tensor([[0.0, 0.0]], requires_grad=True)
    value_cross_entropy(logits, torch.tensor([0.75])).sum().backward()
    assert logits.grad.tolist() == [[-0.25, 0.25]]


def test_entropy_is_that_of_the_softmax():
    # Probabilities 1/4 and 3/4; then eight equal ones, wherever their logits lie.
    two = torch.tensor([[0.0, math.log(3.0)]])
    assert entropy_of(two).item() == pytest.approx(0.25 * math.log(4) + 0.75 * math.log(4 / 3))
    assert entropy_of(torch.full((1, 8), 50.0)).item() == pytest.approx(math.log(8), rel=1e-5)


def test_k3_is_zero_at_the_reference_and_worked_out_beside_it():
    new = torch.tensor([[-1.0, -1.0]])
    mask = torch.tensor([[True, True]])
    assert k3_kl(new, new, mask).item() == 0
    # log r = 1 on one of two tokens: (e - 1 - 1) / 2.
    assert k3_kl(new, torch.tensor([[0.0, -1.0]]), mask).item() == pytest.approx((math.e - 2) / 2)


def test_importance_weights_scale_each_node_alone():
    ones = torch.ones(2)
    policy = PolicyLoss(ones * 2, ones, ones, approx_kl=ones * 11)
    importance = torch.tensor([1.0, 0.25])
    loss = combine(policy, ones * 3, ones * 5, ones * 7, Weights(1.0, 0.5, 0.1, 0.01), importance)
    # 2 + 1.5 + 0.5 - 0.07
    assert loss.tolist() == pytest.approx([3.93, 3.93 / 4])
    held = combine(policy, ones * 3, ones * 5, ones * 7, Weights(1.0, 0.5, 0.1, 0.01, 0.2), importance)
    assert held.tolist() == pytest.approx([6.13, 6.13 / 4])  # and 0.2 * 11


def test_the_kl_from_the_behaviour_policy_pulls_a_moved_policy_back_and_leaves_one_that_stayed():
    # d/dx of r - 1 - log r with r = exp(x - old) is r - 1: here 2 - 1 on the one sampled token, 0 at r = 1.
    old = torch.tensor([[-2.0, -2.0]])
    moved = torch.tensor([[-2.0 + math.log(2), -1.0]], requires_grad=True)
    mask = torch.tensor([[True, False]])
    ppo_clip(moved, old, torch.zeros(1), mask, 0.2).approx_kl.sum().backward()
    assert moved.grad.tolist() == [[pytest.approx(1.0), 0.0]]
    stayed = old.clone().requires_grad_()
    ppo_clip(stayed, old, torch.zeros(1), mask, 0.2).approx_kl.sum().backward()
    assert stayed.grad.tolist() == [[0.0, 0.0]]


def test_every_own_token_is_predicted_by_the_position_before_it_in_its_own_row():
    batch = pack([make([5, 6, 7], [8, 9]), make([5], [8, 9, 4, 3])], 0, torch.device("cpu"))
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9], [5, 8, 9, 4, 3]]
    assert batch.predicted_by.tolist() == [[2, 3, 0, 0], [5, 6, 7, 8]]
    assert batch.rated_by.tolist() == [4, 9]
    assert batch.sampled.tolist() == [[True, True, False, False], [True] * 4]
    assert batch.old_logprobs.tolist() == [[-0.5, -0.5, 0, 0], [-0.5] * 4]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4]] * 2


def test_short_rows_are_padded_on_the_right_and_masked():
    batch = pack([make([5], [8]), make([5, 6, 7], [8])], 11, torch.device("cpu"))
    assert batch.input_ids.tolist() == [[5, 8, 11, 11], [5, 6, 7, 8]]
    assert batch.attention_mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch.rated_by.tolist() == [1, 7]


def test_log_probs_of_forced_tokens_are_dropped_even_when_they_are_nan():
    forced = make([5], [8, 9], [False, True], logprobs=np.array([np.nan, -0.5], dtype=np.float32))
    batch = pack([forced], 0, torch.device("cpu"))
    assert batch.old_logprobs.tolist() == [[0, -0.5]]


@pytest.mark.parametrize(
    ("experience", "message"),
    [
        (make([5], [8], temperature=0.0), "drawn at temperature 0.0"),
        (make([5], [8], value_target=1.5), "value_target must be in"),
        (make([], [8]), "no context"),
        (make([5], [8], sampled=[True, False]), "one equal length"),
        (make([5], []), "one equal length"),
    ],
)
def test_an_experience_unfit_to_learn_is_refused_by_name(experience, message):
    with pytest.raises(ValueError, match=f"node 3 of tree t.*{message}"):
        pack([experience], 0, torch.device("cpu"))


def test_groups_stay_under_the_cap_and_hold_every_experience_once():
    lengths = [4, 30, 5, 4, 12, 6]
    groups = split([make([5] * (n - 1), [8]) for n in lengths], 16)
    assert sorted(i for group in groups for i in group) == list(range(6))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[i] for i in group) <= 16
    assert groups == [[0, 3, 2], [5], [4], [1]]


@pytest.mark.parametrize(("tokens", "drift"), [(None, 0.3 * 0.7 * (1 - 1 / 4)), (0.3 * 1 + 0.7 * 4, 0.0)])
def test_only_by_token_are_short_thoughts_taught_no_more_than_long_ones(tokens, drift):
    # One token decides between a thought of one token and one of four; both are right, and drawn as often as
    # they are likely: there is nothing to learn.
    logits = torch.tensor([0.3, 0.7]).log().requires_grad_()
    first = logits.log_softmax(0)
    logprobs = torch.cat((first[:, None], torch.zeros(2, 3)), dim=1)
    sampled = torch.tensor([[True, False, False, False], [True, True, True, True]])
    batch = pack([make([1], [2, 3, 4, 5], mask, advantage=1.0) for mask in sampled.tolist()], 0, "cpu")
    batch = batch._replace(old_logprobs=logprobs.detach())
    new = Readout(logprobs, entropy=torch.zeros(2, 4), rating=torch.zeros(2, 2))
    settings = LearnerSettings(value_weight=0.0)
    found = node_figures(
        new, batch, torch.tensor([0.3, 0.7]), settings, reference=None, proximal=None, tokens=tokens
    )
    found.loss.sum().backward()
    torch.testing.assert_close(-logits.grad, torch.tensor([drift, -drift]))
