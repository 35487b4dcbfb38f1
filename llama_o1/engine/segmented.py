"""The engine over somebody else's sampler: a sample comes in segments, forced tokens join the next one.

Whoever continues the tokens (a vLLM in this process, a server) is a `Backend` and knows no programs. A
segment ends where the program wants to force or to stop; a backend that hands tokens out as they come is
told at once, one that hands them out by the segment loses what it drew beyond that place.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from llama_o1.engine.protocol import EngineFigures, Reply, Request
from llama_o1.engine.queue import RequestQueue
from llama_o1.engine.row import Row
from llama_o1.engine.sampling import segment_seed
from llama_o1.errors import EngineError


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens to continue by sampling: filled by `SegmentedEngine`, read by a backend."""

    tokens: list[int]  # context and what the sample has so far; lent: it grows with the sample, so copy it
    max_draws: int  # at least 1
    wakes: frozenset[int]  # ids after which to end early, included in what comes back
    temperature: float
    seed: int  # of these draws, in [0, 2^63)
    group: str  # segments of one group share prefixes


@dataclass(frozen=True, slots=True)
class Rate:
    """A value to read: P(positive) / (P(positive) + P(negative)) after the last token."""

    tokens: list[int]
    rating: tuple[int, int]
    group: str


class Piece(NamedTuple):
    """Tokens that were drawn for a segment, in order; a segment may come in several pieces."""

    ids: list[int]
    logprobs: list[float]  # under the sampled distribution, temperature included
    ended: bool  # nothing more comes of this segment
    cached: int  # tokens of the segment that needed no forward pass, 0 when unknown


class Backend(Protocol):
    """Who samples. Tickets are the engine's and never repeat."""

    def send(self, ticket: int, job: Segment | Rate) -> None:
        """Queue a job."""
        ...

    def receive(self) -> list[tuple[int, Piece | float]]:
        """Wait until something came and return it: pieces of segments, values of rates."""
        ...

    def drop(self, ticket: int) -> None:
        """Forget a job; nothing more of it may come back from `receive`."""
        ...

    def load(self, weights: object, version: int) -> None:
        """Take new weights (None: only a new version) and drop cached prefixes; nothing is in flight."""
        ...

    def close(self) -> None:
        """Free what is held."""
        ...


class SegmentedEngine:
    """An `Engine` that asks a backend for segments and the requests' programs what comes between them."""

    def __init__(self, backend: Backend, *, vocab_size: int, max_context: int, slots: int) -> None:
        if slots < 1:
            raise EngineError(f"slots must be at least 1, got {slots}")
        self.backend = backend
        self._slots = slots
        self._queue = RequestQueue(vocab_size, max_context, gives_entropy=False)
        self._running: dict[int, Row] = {}  # by ticket of the job in flight
        self._next_ticket = 0
        self._failures: list[EngineError] = []  # of requests that were dropped, one told by each poll
        self._closed = False

    @property
    def max_context(self) -> int:
        """Positions of context and sample together."""
        return self._queue.max_context

    @property
    def slots(self) -> int:
        """Samples in flight at once."""
        return self._slots

    def submit(self, key: Hashable, request: Request) -> None:
        """Queue a request."""
        self._check_open()
        self._queue.submit(key, request)

    def poll(self) -> list[tuple[Hashable, Reply]]:
        """Work until at least one reply is ready and return all that are."""
        self._check_open()
        while not self._queue.is_ready and not self._failures:
            self._fill()
            if not self._running:
                break
            self._queue.counters.add_step(len(self._running))
            for ticket, came in self.backend.receive():
                self._take(ticket, came)
            self._sweep()
        if self._failures:
            raise self._failures.pop(0)
        return self._queue.take_ready()

    def cancel(self, key: Hashable) -> None:
        """Forget a request."""
        self._check_open()
        self._queue.cancel(key)
        self._sweep()

    def load(self, weights: object, version: int) -> None:
        """Take new weights, in whatever form the backend reads, as this version."""
        self._check_open()
        self._queue.check_idle()
        self.backend.load(weights, version)
        self._queue.version = version

    def figures(self) -> EngineFigures:
        """The counters so far, and how full the engine is."""
        self._check_open()
        return self._queue.counters.figures(self._slots, len(self._running), len(self._queue.waiting))

    def close(self) -> None:
        """Free the backend; later calls are errors."""
        if not self._closed:
            self._closed = True
            self.backend.close()

    def _fill(self) -> None:
        """Send waiting rows while there are slots."""
        while self._queue.waiting and len(self._running) < self._slots:
            self._send(self._queue.waiting.popleft())

    def _send(self, row: Row) -> None:
        request = row.request
        ticket = self._next_ticket
        self._next_ticket += 1
        self._running[ticket] = row
        if row.stopped is not None:
            assert request.rating is not None
            self.backend.send(ticket, Rate(row.tokens, request.rating, request.group))
            return
        span = row.span()
        seed = segment_seed(request.seed, row.number, len(row.ids))
        self.backend.send(
            ticket, Segment(row.tokens, span.draws, span.wakes, request.temperature, seed, request.group)
        )

    def _take(self, ticket: int, came: Piece | float) -> None:
        """Give a row what came for it, and send what it needs next."""
        row = self._running.get(ticket)
        if row is None or not self._queue.knows(row.ticket):
            return  # dropped by an earlier item of the same batch
        if isinstance(came, float):
            self._count_context(row, 0)
            del self._running[ticket]
            row.value = came
            self._queue.finish(row)
            return
        self._count_context(row, came.cached)
        try:
            wants_more = self._append(row, came)
        except EngineError as error:
            self._queue.drop(row.ticket)
            self._failures.append(error)
            return
        if wants_more and not came.ended:
            return
        del self._running[ticket]
        if not came.ended:
            self.backend.drop(ticket)
        if row.stopped is not None and row.request.rating is None:
            self._queue.finish(row)
        else:
            self._send(row)

    def _append(self, row: Row, piece: Piece) -> bool:
        """Append drawn tokens up to where the program forces or stops; whether it drew to the piece's end."""
        if piece.ended and not piece.ids:
            raise EngineError("the sampler ended a segment without a token")
        for token, logprob in zip(piece.ids, piece.logprobs, strict=True):
            row.append_drawn(token, min(logprob, 0.0))
            length = len(row.ids)
            row.advance()
            if row.stopped is not None or len(row.ids) > length:
                return False
        return True

    def _count_context(self, row: Row, cached: int) -> None:
        """Count a sample's context when the first of it comes back."""
        if row.fed:
            return
        row.fed = len(row.tokens)
        row.cached = min(cached, len(row.request.context))
        self._queue.counters.add_context(row.cached, len(row.request.context) - row.cached)

    def _sweep(self) -> None:
        """Drop the jobs of requests that are gone."""
        for ticket in [t for t, row in self._running.items() if not self._queue.knows(row.ticket)]:
            del self._running[ticket]
            self.backend.drop(ticket)

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the engine is closed; make a new one")
