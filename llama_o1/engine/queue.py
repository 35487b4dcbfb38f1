"""Requests between submit and reply: which rows still wait, which samples are done.

Shared by the engines that work token by token. Must not know tensors.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from llama_o1.engine.counters import Counters
from llama_o1.engine.protocol import Reply, Request, Sample
from llama_o1.engine.row import Row, check_ids
from llama_o1.errors import EngineError


@dataclass(slots=True)
class _Entry:
    key: Hashable
    request: Request
    samples: dict[int, Sample] = field(default_factory=dict)
    cached_prefix: int = 0


class RequestQueue:
    """Book of the requests of one engine."""

    def __init__(self, vocab_size: int, max_context: int, *, gives_entropy: bool = True) -> None:
        self.vocab_size = vocab_size
        self.max_context = max_context
        self._gives_entropy = gives_entropy
        self.version = 0  # of the weights; changes only while nothing is in flight
        self.waiting: deque[Row] = deque()
        self.counters = Counters()
        self._entries: dict[int, _Entry] = {}  # by ticket
        self._tickets: dict[Hashable, int] = {}
        self._next_ticket = 0
        self._ready: dict[Hashable, Reply] = {}

    def submit(self, key: Hashable, request: Request) -> None:
        """Queue every sample of a request; EngineError when it cannot ever be served.

        The program is asked what it forces at the start, so that a forced header is fed with the context.
        """
        if key in self._tickets or key in self._ready:
            raise EngineError(f"key {key!r} is in flight; poll its reply or cancel it before using it again")
        self._check(request)
        rows = [
            Row(self._next_ticket, request, number, self.vocab_size) for number in range(request.num_samples)
        ]
        for row in rows:
            row.advance()
        self._tickets[key] = self._next_ticket
        self._entries[self._next_ticket] = _Entry(key, request)
        self._next_ticket += 1
        for row in rows:
            if row.stopped is not None and request.rating is None:
                self.finish(row)  # nothing is left that needs the model
            else:
                self.waiting.append(row)

    def cancel(self, key: Hashable) -> None:
        """Forget a request; rows of it that run are the engine's to drop."""
        self._ready.pop(key, None)
        ticket = self._tickets.get(key)
        if ticket is not None:
            self.drop(ticket)

    def drop(self, ticket: int) -> None:
        """Forget the request of a row."""
        entry = self._entries.pop(ticket, None)
        if entry is not None:
            del self._tickets[entry.key]
            self.waiting = deque(row for row in self.waiting if row.ticket != ticket)

    def knows(self, ticket: int) -> bool:
        """Whether a row's request still wants it."""
        return ticket in self._entries

    def finish(self, row: Row) -> None:
        """File a finished row; the last one of a request makes its reply ready. A dropped one is ignored."""
        entry = self._entries.get(row.ticket)
        if entry is None:
            return
        self.counters.add_sample(row)
        entry.samples[row.number] = row.finish(with_entropy=self._gives_entropy)
        if row.number == 0:
            entry.cached_prefix = row.cached
        if len(entry.samples) == entry.request.num_samples:
            samples = tuple(entry.samples[number] for number in range(entry.request.num_samples))
            self._ready[entry.key] = Reply(samples, self.version, entry.cached_prefix)
            del self._tickets[entry.key], self._entries[row.ticket]

    def take_ready(self) -> list[tuple[Hashable, Reply]]:
        """Every reply that is ready, handed out once."""
        ready, self._ready = self._ready, {}
        return list(ready.items())

    @property
    def is_ready(self) -> bool:
        """Whether a reply waits to be taken."""
        return bool(self._ready)

    def check_idle(self) -> None:
        """Raise EngineError while a request is in flight: its reply would mix two versions."""
        in_flight = len(self._entries) + len(self._ready)
        if in_flight:
            raise EngineError(
                f"load needs an idle engine, got {in_flight} requests in flight; poll or cancel them"
            )

    def _check(self, request: Request) -> None:
        if request.num_samples < 1:
            raise EngineError(f"num_samples must be at least 1, got {request.num_samples}")
        if request.max_tokens < 0:
            raise EngineError(f"max_tokens must be at least 0, got {request.max_tokens}")
        if not (math.isfinite(request.temperature) and request.temperature >= 0):
            raise EngineError(f"temperature must be finite and at least 0, got {request.temperature}")
        if not request.context:
            raise EngineError(
                "the context must have at least one token, got none; start it with the BOS token"
            )
        length = len(request.context) + request.max_tokens
        if length > self.max_context:
            raise EngineError(
                f"{len(request.context)} context tokens and max_tokens {request.max_tokens} make {length}, "
                f"more than the {self.max_context} of max_context; shorten one of them or raise it"
            )
        check_ids(request.context, self.vocab_size, "a context token")
        check_ids(request.rating or (), self.vocab_size, "a rating token")
