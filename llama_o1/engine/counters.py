"""What an engine counts while it works."""

from __future__ import annotations

from dataclasses import dataclass

from llama_o1.engine.protocol import EngineFigures
from llama_o1.engine.row import Row


@dataclass(slots=True)
class Counters:
    """The mutable side of `EngineFigures`."""

    sampled_tokens: int = 0
    forced_tokens: int = 0
    prefilled_tokens: int = 0
    cached_tokens: int = 0
    found_tokens: int = 0
    steps: int = 0
    slot_steps: int = 0

    def add_step(self, rows: int) -> None:
        """Count one decode step of so many rows."""
        self.steps += 1
        self.slot_steps += rows

    def add_context(self, cached: int, prefilled: int, found: int = 0) -> None:
        """Count the context of one sample, and what of its beginning was found."""
        self.cached_tokens += cached
        self.prefilled_tokens += prefilled
        self.found_tokens += found

    def add_sample(self, row: Row) -> None:
        """Count the tokens of a finished sample."""
        sampled = sum(row.sampled)
        self.sampled_tokens += sampled
        self.forced_tokens += len(row.sampled) - sampled

    def figures(self, slots: int, running: int, waiting: int) -> EngineFigures:
        """The counters, frozen, and how full the engine is."""
        return EngineFigures(
            sampled_tokens=self.sampled_tokens,
            forced_tokens=self.forced_tokens,
            prefilled_tokens=self.prefilled_tokens,
            cached_tokens=self.cached_tokens,
            found_tokens=self.found_tokens,
            steps=self.steps,
            slot_steps=self.slot_steps,
            slots=slots,
            running=running,
            waiting=waiting,
        )
