"""Progress: what a run's checkpoint keeps beside weights, optimizer and replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llama_o1.measure.summary import History
from tree.actions import Transitions


@dataclass(slots=True)
class Progress:
    """What a checkpoint keeps beside weights, optimizer and replay."""

    iteration: int = 0
    transitions: Transitions = field(default_factory=Transitions)
    history: History = field(default_factory=History)

    def state(self, mark: Mapping[str, Any]) -> dict[str, Any]:
        """As JSON, with the replay buffer's mark."""
        return {
            "iteration": self.iteration,
            "transitions": self.transitions.state(),
            "history": self.history.state(),
            "replay": dict(mark),
        }

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Progress:
        """The progress that `state` described."""
        progress = cls(state["iteration"], history=History.of(state["history"]))
        progress.transitions.restore(state["transitions"])
        return progress
