"""What the inspector's questions are answered with: items, with and without their arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from replay.experience import Experience


@dataclass(frozen=True, slots=True)
class Item:
    """One live item without its arrays."""

    id: int
    problem: str
    tree: str
    node: int
    parent: int
    action: str
    version: int
    age: int  # versions behind the newest
    priority: float
    draws: int  # how often it was drawn and given a new priority
    temperature: float
    advantage: float
    value: float
    value_target: float
    outcome: float | None  # grade of its own answer; None: it declared none
    num_context: int
    num_tokens: int
    num_sampled: int


class Held(NamedTuple):
    """A live item with its arrays."""

    item: Item
    experience: Experience


class Ancestor(NamedTuple):
    """A node above another, live or not."""

    id: int
    experience: Experience


@dataclass(frozen=True, slots=True)
class Detail:
    """One node with everything the file knows of it."""

    id: int
    state: Literal["live", "dropped", "evicted"]
    priority: float | None  # None: it is not live
    draws: int | None  # None: it is not live
    experience: Experience
    ancestors: list[Ancestor]  # as far as the file has them, the parent first


class Kept(NamedTuple):
    """A node of a tree that the file still has."""

    experience: Experience
    priority: float | None  # None: it is not live
