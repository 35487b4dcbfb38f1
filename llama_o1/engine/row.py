"""One sample in the making: what is asked of its program, what was drawn, when it ends.

Shared by the engines that work token by token. Must not know tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from llama_o1.engine.protocol import Draw, Force, Halt, Request, Sample, Span, StopReason
from llama_o1.errors import EngineError

_NAN = float("nan")


class Row:
    """One sample of one request. `tokens` is the context followed by the sample's own ids."""

    __slots__ = (
        "cached",
        "entropy",
        "far_sight",
        "fed",
        "free",
        "ids",
        "logprobs",
        "number",
        "request",
        "sampled",
        "shared",
        "stopped",
        "ticket",
        "tokens",
        "value",
        "varentropy",
        "vocab_size",
        "wakes",
    )

    def __init__(self, ticket: int, request: Request, number: int, vocab_size: int) -> None:
        self.ticket = ticket  # of the request; never repeats, unlike the caller's key
        self.request = request
        self.number = number
        self.vocab_size = vocab_size
        self.tokens = list(request.context)
        self.ids: list[int] = []
        self.sampled: list[bool] = []
        self.logprobs: list[float] = []
        self.entropy: list[float] = []
        self.varentropy: list[float] = []
        # Of a `FarSighted` program; by name, because to look at a protocol costs as much as a program does.
        self.far_sight: Callable[[Sequence[int]], Span] | None = getattr(request.program, "ahead", None)
        self.free = 0  # draws until the program wants to be asked again
        self.wakes: frozenset[int] = frozenset()  # or at once after one of these
        self.value: float | None = None
        self.stopped: StopReason | None = None
        self.fed = 0  # tokens whose keys and values the engine holds
        self.cached = 0  # context tokens that came from the prefix cache
        self.shared = False  # another waiting row wants this one's context

    def advance(self) -> None:
        """Append what the program forces, up to the next draw or the end (then `stopped` is set)."""
        while self.stopped is None and not self.free:
            step = self.request.program(self.ids)
            room = self.request.max_tokens - len(self.ids)
            if isinstance(step, Halt):
                self.stopped = "program"
            elif isinstance(step, Draw) and self._at_stop():
                self.stopped = "stop"
            elif room <= 0:
                self.stopped = "allowance"
            elif isinstance(step, Draw):
                self._look_ahead(room)
                return
            else:
                self._force(step, room)

    @property
    def runs_free(self) -> bool:
        """Whether the next token is drawn without asking the program."""
        return self.free > 0 and self.stopped is None

    def span(self) -> Span:
        """How many tokens to draw, and after which ids to ask the program at once.

        A program that is not far-sighted may want to be asked before.
        """
        if self.free:
            return Span(self.free, self.wakes)
        return Span(self.request.max_tokens - len(self.ids), self.request.stop)

    def append_drawn(
        self, token: int, logprob: float, entropy: float = _NAN, varentropy: float = _NAN
    ) -> None:
        """Append a sampled token with its statistics."""
        self.ids.append(token)
        self.tokens.append(token)
        self.sampled.append(True)
        self.logprobs.append(logprob)
        self.entropy.append(entropy)
        self.varentropy.append(varentropy)
        if self.free:
            self.free = 0 if token in self.wakes else self.free - 1

    def finish(self, *, with_entropy: bool = True) -> Sample:
        """The finished sample."""
        assert self.stopped is not None
        return Sample(
            ids=np.array(self.ids, dtype=np.int32),
            sampled=np.array(self.sampled, dtype=np.bool_),
            logprobs=np.array(self.logprobs, dtype=np.float32),
            entropy=np.array(self.entropy, dtype=np.float32) if with_entropy else None,
            varentropy=np.array(self.varentropy, dtype=np.float32) if with_entropy else None,
            value=self.value,
            stopped=self.stopped,
        )

    def _look_ahead(self, room: int) -> None:
        """Note how far the program lets the policy run, if it can tell."""
        if self.far_sight is not None:
            draws, wakes = self.far_sight(self.ids)
            self.free = min(draws, room)
            self.wakes = wakes | self.request.stop if self.request.stop else wakes

    def _at_stop(self) -> bool:
        return bool(self.ids) and self.sampled[-1] and self.ids[-1] in self.request.stop

    def _force(self, step: Force, room: int) -> None:
        if not step.ids:
            raise EngineError("a program forced no tokens; let it answer Draw or Halt instead")
        check_ids(step.ids, self.vocab_size, "a forced token")
        forced = step.ids[:room]
        self.ids += forced
        self.tokens += forced
        self.sampled += [False] * len(forced)
        for numbers in (self.logprobs, self.entropy, self.varentropy):
            numbers += [_NAN] * len(forced)


def check_ids(ids: tuple[int, ...], vocab_size: int, what: str) -> None:
    """Raise EngineError when an id is not in the vocabulary."""
    if ids and not 0 <= min(ids) <= max(ids) < vocab_size:
        wrong = min(ids) if min(ids) < 0 else max(ids)
        raise EngineError(f"{what} must be an id from 0 to {vocab_size - 1}, got {wrong}")
