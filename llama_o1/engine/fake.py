"""An engine without a model: next tokens come from a hash of the tokens before. Ships for tests.

Numpy only. Every number it reports is consistent with `FakeEngine.distribution`, which a test may call.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import cast

import numpy as np

from llama_o1.engine.protocol import EngineFigures, Reply, Request
from llama_o1.engine.queue import RequestQueue
from llama_o1.engine.row import Row
from llama_o1.engine.sampling import Float64, mix, uniforms
from llama_o1.errors import EngineError

Policy = Callable[[Sequence[int]], Float64]  # all tokens so far, context first -> logits [vocab_size]

_SPREAD = 3.0  # hashed logits lie in (-3, 3): neither flat nor peaked
_TAIL = 8  # tokens that decide the next distribution


class FakeEngine:
    """An `Engine` whose policy is a function of the tokens so far: hashed, or given by the caller."""

    def __init__(
        self,
        vocab_size: int,
        max_context: int,
        *,
        slots: int = 4,
        policy: Policy | None = None,
        scramble_seed: int | None = None,
    ) -> None:
        """With `scramble_seed`, samples are worked on, and replies come back, in an order it decides."""
        for name, count in (("vocab_size", vocab_size), ("max_context", max_context), ("slots", slots)):
            if count < 1:
                raise EngineError(f"{name} must be at least 1, got {count}")
        self._vocab_size = vocab_size
        self._slots = slots
        self._policy = policy
        self._order = None if scramble_seed is None else np.random.default_rng(scramble_seed)
        self._queue = RequestQueue(vocab_size, max_context)
        self._closed = False

    @property
    def max_context(self) -> int:
        """Positions of context and sample together."""
        return self._queue.max_context

    @property
    def slots(self) -> int:
        """Samples worked on in one poll."""
        return self._slots

    def submit(self, key: Hashable, request: Request) -> None:
        """Queue a request."""
        self._check_open()
        self._queue.submit(key, request)

    def poll(self) -> list[tuple[Hashable, Reply]]:
        """Work on `slots` samples at a time until at least one reply is ready."""
        self._check_open()
        while self._queue.waiting and not self._queue.is_ready:
            for _ in range(min(self._slots, len(self._queue.waiting))):
                self._run_one()
        return self._queue.take_ready()

    def cancel(self, key: Hashable) -> None:
        """Forget a request."""
        self._check_open()
        self._queue.cancel(key)

    def load(self, weights: object, version: int) -> None:
        """Take a new policy (None keeps the one there is) as this version."""
        self._check_open()
        self._queue.check_idle()
        if weights is not None and not callable(weights):
            raise EngineError(f"a fake engine's weights are a policy or None, got {type(weights).__name__}")
        if weights is not None:
            self._policy = cast(Policy, weights)
        self._queue.version = version

    def figures(self) -> EngineFigures:
        """The counters so far, and how full the engine is."""
        self._check_open()
        return self._queue.counters.figures(self._slots, 0, len(self._queue.waiting))

    def close(self) -> None:
        """Later calls are errors."""
        self._closed = True

    def distribution(self, tokens: Sequence[int], temperature: float = 1.0) -> Float64:
        """Log-probs [vocab_size] of what follows `tokens`; the temperature must be above 0."""
        logits = (
            self._hashed(tokens) if self._policy is None else np.asarray(self._policy(tokens), np.float64)
        )
        logits = logits / temperature
        logits = logits - logits.max()
        return cast(Float64, logits - np.log(np.exp(logits).sum()))

    def _run_one(self) -> None:
        waiting = self._queue.waiting
        if self._order is not None:
            waiting.rotate(int(self._order.integers(len(waiting))))
        row = waiting.popleft()
        try:
            self._continue(row)
        except EngineError:
            self._queue.drop(row.ticket)
            raise
        self._queue.counters.add_context(0, len(row.request.context))
        self._queue.finish(row)

    def _continue(self, row: Row) -> None:
        row.advance()
        while row.stopped is None:
            self._draw(row)
            row.advance()
        if row.request.rating is not None:
            positive, negative = row.request.rating
            logprobs = self.distribution(row.tokens)
            row.value = float(1.0 / (1.0 + np.exp(logprobs[negative] - logprobs[positive])))

    def _draw(self, row: Row) -> None:
        self._queue.counters.add_step(1)
        logprobs = self.distribution(row.tokens)
        probs = np.exp(logprobs)
        entropy = float(-(probs * logprobs).sum())
        varentropy = float((probs * (logprobs + entropy) ** 2).sum())
        temperature = row.request.temperature
        if temperature == 0.0:
            token = int(logprobs.argmax())
        else:
            logprobs = self.distribution(row.tokens, temperature)
            cumulated = np.exp(logprobs).cumsum()
            uniform = uniforms([row.request.seed], [row.number], [len(row.ids)])[0]
            token = int(np.searchsorted(cumulated, uniform * cumulated[-1], side="right"))
        row.append_drawn(token, float(logprobs[token]), entropy, varentropy)

    def _hashed(self, tokens: Sequence[int]) -> Float64:
        tail = np.array([len(tokens), *tokens[-_TAIL:]], dtype=np.uint64)
        places = np.arange(len(tail), dtype=np.uint64) << np.uint64(32)
        state = np.bitwise_xor.reduce(mix(tail + places))
        words = mix(np.arange(self._vocab_size, dtype=np.uint64) ^ state)
        return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53 * (2 * _SPREAD) - _SPREAD

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the engine is closed; make a new one")
