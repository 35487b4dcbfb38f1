"""A backend without a model, for what `SegmentedEngine` promises. Ships for tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from llama_o1.engine.fake import FakeEngine
from llama_o1.engine.sampling import uniforms
from llama_o1.engine.segmented import Piece, Rate, Segment


class FakeBackend:
    """A `Backend` that draws from a fake engine's distribution.

    Streaming, every `receive` brings one token of every segment. Otherwise it brings one job whole, the
    youngest first, so an engine also sees what was drawn beyond the place where a program forces.
    """

    def __init__(self, engine: FakeEngine, *, streams: bool) -> None:
        self._engine = engine
        self._streams = streams
        self._jobs: dict[int, Segment | Rate] = {}  # by ticket, oldest first
        self._drawn: dict[int, list[int]] = {}  # what a segment has so far

    def send(self, ticket: int, job: Segment | Rate) -> None:
        """Queue a job."""
        if isinstance(job, Segment):
            self._drawn[ticket] = []
            job = replace(job, tokens=list(job.tokens))
        self._jobs[ticket] = job

    def receive(self) -> list[tuple[int, Piece | float]]:
        """One token of every segment, or one whole job; values at once."""
        tickets = list(self._jobs) if self._streams else [next(reversed(self._jobs))]
        return [(ticket, self._work(ticket)) for ticket in tickets]

    def drop(self, ticket: int) -> None:
        """Forget a job."""
        self._jobs.pop(ticket, None)
        self._drawn.pop(ticket, None)

    def load(self, weights: object, version: int) -> None:
        """Take a new policy (None keeps the one there is)."""
        self._engine.load(weights, version)

    def close(self) -> None:
        """Nothing is held."""
        self._engine.close()

    def _work(self, ticket: int) -> Piece | float:
        job = self._jobs[ticket]
        if isinstance(job, Rate):
            self.drop(ticket)
            positive, negative = self._engine.distribution(job.tokens)[list(job.rating)]
            return float(1.0 / (1.0 + np.exp(negative - positive)))
        piece = Piece([], [], ended=False, cached=0)
        while not piece.ended:
            token, logprob = self._draw(job, self._drawn[ticket])
            self._drawn[ticket].append(token)
            ended = token in job.wakes or len(self._drawn[ticket]) == job.max_draws
            piece = Piece([*piece.ids, token], [*piece.logprobs, logprob], ended, 0)
            if self._streams:
                break
        if piece.ended:
            self.drop(ticket)
        return piece

    def _draw(self, job: Segment, drawn: list[int]) -> tuple[int, float]:
        tokens = [*job.tokens, *drawn]
        if job.temperature == 0.0:
            logprobs = self._engine.distribution(tokens)
            return int(logprobs.argmax()), float(logprobs.max())
        logprobs = self._engine.distribution(tokens, job.temperature)
        cumulated = np.exp(logprobs).cumsum()
        uniform = uniforms([job.seed], [0], [len(drawn)])[0]
        token = int(np.searchsorted(cumulated, uniform * cumulated[-1], side="right"))
        return token, float(logprobs[token])
