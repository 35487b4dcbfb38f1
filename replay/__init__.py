"""Prioritized replay on disk: numpy and the standard library, no trees, no torch."""

from replay.batch import Batch, Update, priority_of
from replay.buffer import PrioritizedReplayBuffer
from replay.errors import ReplayError
from replay.experience import Experience
from replay.schedule import SamplesPerInsert, beta_at
from replay.stream import Batches

__all__ = [
    "Batch",
    "Batches",
    "Experience",
    "PrioritizedReplayBuffer",
    "ReplayError",
    "SamplesPerInsert",
    "Update",
    "beta_at",
    "priority_of",
]
