"""Schedules of prioritized replay: how beta anneals, how often an insert may be sampled."""

from __future__ import annotations

from dataclasses import dataclass, replace

from replay.errors import ReplayError


def beta_at(step: int, num_steps: int, start: float = 0.4) -> float:
    """Exponent of the importance weights: linear from `start` at step 0 to 1 at `num_steps`, then 1.

    Schaul et al., Prioritized Experience Replay (1511.05952), section 3.4.
    """
    if num_steps < 1:
        raise ReplayError(f"num_steps must be at least 1, got {num_steps}")
    if not 0 <= start <= 1:
        raise ReplayError(f"beta must start in [0, 1], got {start}")
    done = min(max(step / num_steps, 0.0), 1.0)
    return start + (1.0 - start) * done


@dataclass(frozen=True, slots=True)
class SamplesPerInsert:
    """Holds sampling to `ratio` samples an inserted item, and back until `min_size` items came in.

    A value: `record` answers the next one. The two counts are the whole state of it.
    """

    ratio: float
    min_size: int
    inserted: int = 0
    sampled: int = 0

    def __post_init__(self) -> None:
        if not self.ratio > 0:
            raise ReplayError(f"samples per insert must be above 0, got {self.ratio}")
        if self.min_size < 1:
            raise ReplayError(f"min_size must be at least 1, got {self.min_size}")

    def may_sample(self, batch_size: int = 1) -> bool:
        """Whether a batch of this size fits under the ratio now."""
        return self.inserted >= self.min_size and self.sampled + batch_size <= self.ratio * self.inserted

    def record(self, *, inserted: int = 0, sampled: int = 0) -> SamplesPerInsert:
        """The limiter after these inserts and samples."""
        return replace(self, inserted=self.inserted + inserted, sampled=self.sampled + sampled)
