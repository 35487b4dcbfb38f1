"""Settings of the steps that learn preferences. Must not import torch: the command line reads them."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from llama_o1.errors import ConfigError


@dataclass(frozen=True)
class PreferenceSettings:
    """Steps on pairs of solutions, each in both orders: AdamW, linear warm-up, then linear to zero."""

    loss: Literal["logistic", "dpo"] = "logistic"
    """`logistic`: the better one is to be answered; `dpo`: more so than by the model before, as
    LLaMA-Berry's is trained, which is right where that model compares already."""
    beta: float = 1.0
    """Factor of the difference of the two ratings' log-probs; DPO's usual 0.1 leaves a new answer weak."""
    keep: float = 1.0
    """Weight of the KL from the model before, in all other tokens: what it writes and rates stays."""
    steps: int = 300
    """Optimizer steps."""
    batch_pairs: int = 16
    """Pairs of one step."""
    learning_rate: float = 3e-4
    """Of AdamW, after the warm-up."""
    warmup_steps: int = 20
    """In which the learning rate rises; 0: none."""
    weight_decay: float = 0.0
    """Of AdamW."""
    max_grad_norm: float = 1.0
    """Longer gradients are scaled down to it."""

    def __post_init__(self) -> None:
        """Refuse numbers that make no step."""
        for name in ("beta", "steps", "batch_pairs", "learning_rate", "max_grad_norm"):
            if not 0 < getattr(self, name) < inf:
                raise ConfigError(f"prefer.{name} must be above 0, got {getattr(self, name)}")
        for name in ("keep", "warmup_steps", "weight_decay"):
            if not 0 <= getattr(self, name) < inf:
                raise ConfigError(f"prefer.{name} must be at least 0, got {getattr(self, name)}")
