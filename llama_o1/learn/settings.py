"""Settings of the learner and of LoRA. Must not import torch: the command line reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from llama_o1.errors import ConfigError

Packing = Literal["trie", "padded"]
Objective = Literal["ppo", "imitation", "paths"]
PolicyMean = Literal["thought", "token"]
ValueSource = Literal["rating", "head"]
Precision = Literal["no", "bf16"]  # no fp16: its loss scale would be one more state to resume exactly


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters on all linear layers (Hu et al. 2021); the special tokens' rows train with them."""

    rank: int = 16
    """Width of an adapter."""
    alpha: int = 32
    """The adapter's output is scaled by alpha / rank."""
    dropout: float = 0.0
    """Acts in the cold start only: the learner compares two policies, without noise."""

    def __post_init__(self) -> None:
        _require(self.rank >= 1, "rank", "at least 1", self.rank)
        _require(self.alpha >= 1, "alpha", "at least 1", self.alpha)
        _require(0 <= self.dropout < 1, "dropout", "in [0, 1)", self.dropout)


@dataclass(frozen=True)
class LearnerSettings:
    """One optimizer step: AdamW with linear warm-up on policy and value losses."""

    objective: Objective = "ppo"
    """Of the policy: PPO-clip, or `imitation`: plain cross-entropy of what was drawn, times its advantage
    (expert iteration: with `teach.advantage right` only what led to right answers is taught). `paths`, of
    both: cross-entropy on right paths of the last searches and `value_weight` times a squared error at every
    step of right and wrong ones (AlphaMath)."""
    learning_rate: float = 1e-4
    """Of AdamW, after the warm-up."""
    warmup_steps: int = 10
    """0: none."""
    cosine_steps: int = 0
    """After so many steps the rate is down to 0 along a cosine, and begins anew; 0: it stays."""
    weight_decay: float = 0.0
    """Of AdamW."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of AdamW."""
    max_grad_norm: float = 1.0
    """Longer gradients are scaled down to it."""
    clip: float = 0.2
    """Epsilon of PPO-clip."""
    dual_clip: float | None = None
    """Bound on how much a token with negative advantage counts (Ye et al. 2020, who take 3); null: none."""
    decoupled: bool = False
    """Clip against the weights that the iteration began with and weigh stale draws (Hilton et al. 2022)."""
    policy_mean: PolicyMean = "thought"
    """What counts alike in the policy loss: every thought, or every drawn token (DAPO, Yu et al. 2025, sec.
    3.3). By thought the two tokens of an empty one count as much as the twenty of another: with an advantage
    that is never negative, as `right`, a long run then learns to think nothing."""
    policy_weight: float = 1.0
    """Of the policy loss."""
    value_weight: float = 1.0
    """Of the value loss."""
    kl_weight: float = 0.0
    """To the model without its adapter; above 0 needs LoRA."""
    behaviour_kl_weight: float = 0.0
    """Of the KL from the policy that drew a thought (Schulman et al. 2017, eq. 8): holds the policy while the
    value loss moves weights that both share."""
    entropy_weight: float = 0.0
    """Of the entropy as a bonus."""
    batch_size: int = 32
    """Experiences of one step."""
    packing: Packing = "trie"
    """`trie`: what experiences share is computed once, if the model's attention takes it; `padded`: never."""
    max_tokens_per_forward: int = 8192
    """Padding included; a longer experience goes alone."""
    mixed_precision: Precision = "no"
    """`bf16`: autocast of the forward passes; weights stay fp32."""
    threads: int = 0
    """CPU threads of a step; 0: as many as there are cores. The same bytes need the same number."""

    def __post_init__(self) -> None:
        _require(
            _finite(self.learning_rate) and self.learning_rate > 0,
            "learning_rate",
            "above 0",
            self.learning_rate,
        )
        for name in ("warmup_steps", "cosine_steps", "threads"):
            _require(getattr(self, name) >= 0, name, "at least 0", getattr(self, name))
        _require(all(0 <= b < 1 for b in self.betas), "betas", "two numbers in [0, 1)", self.betas)
        _require(self.max_grad_norm > 0, "max_grad_norm", "above 0", self.max_grad_norm)
        _require(0 < self.clip < 1, "clip", "between 0 and 1", self.clip)
        _require(
            self.dual_clip is None or self.dual_clip > 1, "dual_clip", "above 1, or null", self.dual_clip
        )
        for name in (
            "weight_decay",
            "policy_weight",
            "value_weight",
            "kl_weight",
            "behaviour_kl_weight",
            "entropy_weight",
        ):
            weight = getattr(self, name)
            _require(_finite(weight) and weight >= 0, name, "at least 0", weight)
        _require(self.batch_size >= 1, "batch_size", "at least 1", self.batch_size)
        _require(
            self.max_tokens_per_forward >= 1,
            "max_tokens_per_forward",
            "at least 1",
            self.max_tokens_per_forward,
        )


@dataclass(frozen=True)
class PathSettings:
    """Which paths of its own searches a model is taught, where `learner.objective` is `paths`."""

    trees: int = 1
    """Searches of each problem."""
    right: int = 4
    """Most right paths of a problem."""
    wrong: int = 4
    """Most wrong paths of a problem; they teach the value only."""
    batch: int = 16
    """Paths of one learner step."""

    def __post_init__(self) -> None:
        for name, least in (("trees", 1), ("right", 0), ("wrong", 0), ("batch", 1)):
            _require(getattr(self, name) >= least, f"paths.{name}", f"at least {least}", getattr(self, name))
        _require(self.right + self.wrong > 0, "paths.right + paths.wrong", "above 0", 0)


@dataclass(frozen=True)
class NewModelSettings:
    """The size of a Llama made from scratch, by default of the nano model: 2.4 M parameters."""

    hidden_size: int = 192
    """Width of the residual stream."""
    intermediate_size: int = 512
    """Width inside the feed-forward layers."""
    layers: int = 5
    """Blocks of attention and feed-forward."""
    heads: int = 3
    """Of 64 each, the size that GPU attention kernels are made for."""
    max_context: int = 1024
    """Tokens."""
    vocab_size: int = 1024
    """Entries of the tokenizer; at least 512, which bytes, pieces of numbers and special tokens take."""

    def __post_init__(self) -> None:
        least = {"max_context": 64, "vocab_size": 512}
        for name in ("hidden_size", "intermediate_size", "layers", "heads", *least):
            at_least = least.get(name, 1)
            found = getattr(self, name)
            _require(found >= at_least, f"new_model.{name}", f"at least {at_least}", found)


@dataclass(frozen=True)
class ColdstartSettings:
    """Supervised fine-tuning on lines: AdamW, linear warm-up, then a cosine."""

    steps: int = 2000
    """Optimizer steps."""
    epochs: int | None = None
    """Instead of steps: passes over a fixed set of lines (`data`, or `examples` worked problems)."""
    batch_tokens: int = 8192
    """Of one step, each line counted as long as the longest, before that is rounded up."""
    batch_lines: int | None = None
    """Lines of one step (s1: 16), in passes of at most batch_tokens; null: one pass, as full as it may be."""
    row_tokens: int | None = None
    """Pack lines into rows of so many tokens, where none sees another; null: one line a row, beside others of
    like length, which on a CPU is faster."""
    max_length: int | None = None
    """Tokens of a line, the rest is cut off (s1's block size); null: whole lines."""
    learning_rate: float = 2e-3
    """Of AdamW, after the warm-up."""
    warmup_steps: int = 100
    """In which the learning rate rises; 0: none."""
    warmup_share: float | None = None
    """Instead of warmup_steps: share of the steps (s1: 0.05)."""
    last_rate: float = 0.1
    """Share of the learning rate that the cosine comes down to (s1: 0)."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Of AdamW."""
    weight_decay: float = 0.05
    """Of AdamW."""
    max_grad_norm: float = 1.0
    """Longer gradients are scaled down to it."""
    bf16: bool = True
    """Autocast of the forward pass; weights stay fp32."""
    special_token_weight: float = 0.0
    """Of control tokens of the budget in the loss (BudgetThinker section 3.3: F is 0, T is 1, Tn is n). They
    are forced, so 0 loses nothing in a search."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_tokens", "learning_rate", "max_grad_norm"):
            _require(getattr(self, name) > 0, f"sft.{name}", "above 0", getattr(self, name))
        for name, least in (("epochs", 1), ("batch_lines", 1), ("row_tokens", 2), ("max_length", 2)):
            count = getattr(self, name)
            _require(count is None or count >= least, f"sft.{name}", f"at least {least}, or null", count)
        _require(self.warmup_steps >= 0, "sft.warmup_steps", "at least 0", self.warmup_steps)
        for name in ("warmup_share", "last_rate"):
            share = getattr(self, name)
            _require(share is None or 0 <= share <= 1, f"sft.{name}", "in [0, 1]", share)
        _require(all(0 <= b < 1 for b in self.betas), "sft.betas", "two numbers in [0, 1)", self.betas)
        for name in ("special_token_weight", "weight_decay"):
            weight = getattr(self, name)
            _require(_finite(weight) and weight >= 0, f"sft.{name}", "at least 0", weight)

    def rate(self, step: int, steps: int) -> float:
        """Share of the learning rate at a step, counted from 0, of so many."""
        share = self.warmup_share
        warmup = self.warmup_steps if share is None else math.ceil(share * steps)
        if step < warmup:
            return (step + 1) / warmup
        progress = (step - warmup) / max(1, steps - warmup)
        half = (1 - self.last_rate) / 2
        return self.last_rate + half * (1 + math.cos(math.pi * min(1.0, progress)))


def _finite(number: float) -> bool:
    return math.isfinite(number)


def _require(holds: bool, name: str, expected: str, found: object) -> None:
    if not holds:
        raise ConfigError(f"{name} must be {expected}, got {found}")
