"""Scores that pick a child: plain functions of numbers, each with its paper."""

from __future__ import annotations

import math
from collections.abc import Sequence

VISITS, SCALE = 50.0, 0.1  # c_visit and c_scale of Gumbel searches, for values in [0, 1]


def puct(q: float, prior: float, parent_visits: int, visits: int, exploration: float) -> float:
    """Q + c * P * sqrt(N_parent) / (1 + N).

    Silver et al. 2017 (AlphaGo Zero), Methods, "Select". q in [0, 1], prior in [0, 1] normalised over
    siblings; visits may include simulations in flight (virtual loss).
    """
    return q + exploration * prior * math.sqrt(parent_visits) / (1 + visits)


def relative(figures: Sequence[float | None]) -> list[float]:
    """Each figure over the mean of its siblings'; 1 where the engine gave none or all are 0."""
    known = [figure for figure in figures if figure is not None]
    mean = sum(known) / len(known) if known else 0.0
    return [1.0 if figure is None or mean <= 0 else figure / mean for figure in figures]


def ucb(
    q: float,
    prior: float,
    parent_visits: int,
    visits: int,
    exploration: float,
    entropy: float,
    varentropy_share: float,
    varentropy_weight: float,
) -> float:
    """Q + c * P * E * sqrt(N_parent) / (1 + N) + w * VE.

    LLaMA-O1 (first version and 8095e3a), select_action, made well defined. There Q is a log-value without
    a lower bound, the prior a softmax of probabilities, the root of the siblings' visits 0 while none is
    visited, the softmax of nats depends on their unit, and a random factor turns the order of negative scores
    around. Here q is in [0, 1], the prior sums to 1 over siblings, N_parent counts the parent's own
    visit, `entropy` is relative to the siblings' mean, `varentropy_share` sums to 1 over siblings, no noise.
    """
    return puct(q, prior * entropy, parent_visits, visits, exploration) + varentropy_weight * varentropy_share


def mixed_value(value: float, priors: Sequence[float], qs: Sequence[float], visits: Sequence[int]) -> float:
    """What an action that was never tried is worth: the value and the mean of those tried, mixed.

    v_mix of Danihelka et al. 2022, Appendix D: (v + N / P * sum(pi q)) / (1 + N), sums over tried actions,
    P the sum of their priors.
    """
    tried = [(prior, q) for prior, q, n in zip(priors, qs, visits, strict=True) if n]
    mass, total = sum(prior for prior, _ in tried), sum(visits)
    if not mass:
        return value
    return (value + total * sum(prior * q for prior, q in tried) / mass) / (1 + total)


def sigma(q: float, most_visits: int) -> float:
    """(c_visit + max N) * c_scale * q, how much a value weighs against a log-prior.

    Danihelka et al. 2022, section 3.4. c_scale as in mctx's default; q is in [0, 1] already and not rescaled.
    """
    return (VISITS + most_visits) * SCALE * q


def improved_policy(priors: Sequence[float], completed: Sequence[float], most_visits: int) -> list[float]:
    """Softmax of log prior + sigma(completed Q), pi' of Danihelka et al. 2022, section 4; priors above 0."""
    logits = [math.log(p) + sigma(q, most_visits) for p, q in zip(priors, completed, strict=True)]
    peak = max(logits)
    weights = [math.exp(logit - peak) for logit in logits]
    total = sum(weights)
    return [weight / total for weight in weights]


def below_target(policy: Sequence[float], visits: Sequence[int]) -> list[float]:
    """How far each action is behind its share, pi' - N / (1 + sum N); Danihelka et al. 2022, section 5."""
    total = 1 + sum(visits)
    return [share - n / total for share, n in zip(policy, visits, strict=True)]
