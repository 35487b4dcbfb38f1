"""What every engine is: requests in, replies out, in any order.

An engine continues token ids. It knows no trees, no problems and no training.
Letters of a shape: T tokens of one sample (forced and sampled).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

StopReason = Literal["program", "stop", "allowance"]
Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]


class Draw(NamedTuple):
    """A program's answer: sample the next token from the policy."""


class Force(NamedTuple):
    """A program's answer: append these ids; the policy has no say in them.

    At least one; those beyond the allowance are cut off.
    """

    ids: tuple[int, ...]


class Halt(NamedTuple):
    """A program's answer: the sample ends here."""


Step = Draw | Force | Halt


@runtime_checkable
class Program(Protocol):
    """What is forced where: a pure function of the tokens so far.

    Asked before every token, the first included, until it halts. Must be pure: engines may ask
    it again, for a part of the tokens, or from the start.
    """

    def __call__(self, ids: Sequence[int]) -> Step:
        """What comes after `ids`, the sample's own tokens so far (the context is not in it).

        `ids` is lent: neither to be changed nor kept.
        """
        ...


class Span(NamedTuple):
    """How far a program lets the policy run on its own."""

    draws: int  # it answers Draw so many times in a row, at least 1, unless a wake is drawn before
    wakes: frozenset[int]  # ids after which it wants to be asked


@runtime_checkable
class FarSighted(Protocol):
    """A program that can say how far it lets the policy run; saves whoever samples in segments the rest."""

    def ahead(self, ids: Sequence[int]) -> Span:
        """The span after `ids`, where the program answers Draw."""
        ...


def free_running(ids: Sequence[int]) -> Step:
    """A program that forces nothing."""
    return Draw()


@dataclass(frozen=True, slots=True)
class Request:
    """One context to continue: filled by play/, read by an engine.

    Before each token the program is asked first; then a sampled stop token ends the sample, then the
    allowance does. So a program may force an end of thought and a rating after a stop token.
    """

    context: tuple[int, ...]  # at least one token
    max_tokens: int  # allowance of one sample, forced tokens included; 0: only the value is read
    seed: int  # with the sample's number, decides every draw: alone or inside any batch
    program: Program = free_running
    num_samples: int = 1
    temperature: float = 1.0  # 0: the likeliest token
    stop: frozenset[int] = frozenset()  # a sampled one ends the sample, unless the program then forces
    rating: tuple[int, int] | None = None  # (positive, negative) ids; None: no value is wanted
    group: str = ""  # requests of one group share prefixes: where there are replicas, one serves them all


@dataclass(frozen=True, slots=True)
class Sample:
    """One continuation. Arrays have one entry a token, forced tokens included."""

    ids: Int32  # [T]
    sampled: Bool  # [T] False where the program forced the token
    logprobs: Float32  # [T] under the sampled distribution, of 1 at temperature 0; NaN where forced
    entropy: Float32 | None  # [T] nats, at temperature 1; NaN where forced; None: the engine gives none
    varentropy: Float32 | None  # [T] nats squared, as entropy
    value: float | None  # P(positive) / (P(positive) + P(negative)) after the last token
    stopped: StopReason


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one request."""

    samples: tuple[Sample, ...]
    version: int  # of the weights that made every token of it
    cached_prefix: int  # context tokens of the first sample that needed no forward pass


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """Counters since the engine was made, and how full it is now; rates are left to whoever has a clock."""

    sampled_tokens: int
    forced_tokens: int
    prefilled_tokens: int  # context tokens that were fed, over all samples
    cached_tokens: int  # context tokens that were not
    steps: int  # decode steps
    slot_steps: int  # rows that did work, summed over steps
    slots: int  # rows the engine can hold at once
    running: int = 0  # rows that are in a slot now
    waiting: int = 0  # rows that are queued now
    found_tokens: int = 0  # forced tokens at the beginning of samples that needed no forward pass either

    @property
    def tokens(self) -> int:
        """Tokens of finished samples."""
        return self.sampled_tokens + self.forced_tokens

    @property
    def occupancy(self) -> float:
        """Mean share of the slots that did work in a step, in [0, 1]; 0 before the first step."""
        return self.slot_steps / (self.steps * self.slots) if self.steps else 0.0

    @property
    def cache_hit(self) -> float:
        """Share of context tokens that needed no forward pass, in [0, 1]; 0 before the first context."""
        context_tokens = self.cached_tokens + self.prefilled_tokens
        return self.cached_tokens / context_tokens if context_tokens else 0.0

    def since(self, before: EngineFigures) -> EngineFigures:
        """What was counted since `before`; slots, running and waiting are those of now."""
        counters = (
            "sampled_tokens",
            "forced_tokens",
            "prefilled_tokens",
            "cached_tokens",
            "found_tokens",
            "steps",
            "slot_steps",
        )
        return replace(self, **{name: getattr(self, name) - getattr(before, name) for name in counters})


class Engine(Protocol):
    """Who continues tokens. Keys are the caller's; a key may be used again once it came back."""

    @property
    def max_context(self) -> int:
        """Positions the model has: context and sample together."""
        ...

    @property
    def slots(self) -> int:
        """Samples worked on at once; keep about twice as many submitted."""
        ...

    def submit(self, key: Hashable, request: Request) -> None:
        """Queue a request; EngineError at once when it cannot ever be served.

        That is: an id out of the vocabulary, no context, context and allowance beyond `max_context`,
        a number out of its range, a key in flight.
        """
        ...

    def poll(self) -> list[tuple[Hashable, Reply]]:
        """Work until at least one reply is ready and return all that are; [] when nothing is queued.

        EngineError when a program forces what cannot be fed; its request alone is dropped.
        """
        ...

    def cancel(self, key: Hashable) -> None:
        """Forget a request: its key never comes back. An unknown key is ignored."""
        ...

    def load(self, weights: object, version: int) -> None:
        """Take new weights; cached prefixes are dropped. EngineError while requests are in flight."""
        ...

    def figures(self) -> EngineFigures:
        """The counters so far, and how full the engine is."""
        ...

    def close(self) -> None:
        """Free what is held; later calls are errors."""
        ...
