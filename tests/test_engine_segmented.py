"""What is particular to an engine over segments: what a backend is asked for, and what is counted."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import pytest

from llama_o1.engine.fake import FakeEngine
from llama_o1.engine.fake_backend import FakeBackend
from llama_o1.engine.protocol import Draw, Force, Reply, Request, Span, Step
from llama_o1.engine.segmented import Piece, Rate, Segment, SegmentedEngine
from llama_o1.errors import EngineError

VOCAB = 40
CONTEXT = (1, 2, 3, 4, 5)


class Recorder(FakeBackend):
    """A fake backend that keeps what it was sent."""

    def __init__(self, *, streams: bool) -> None:
        super().__init__(FakeEngine(VOCAB, 96), streams=streams)
        self.sent: list[Segment | Rate] = []

    def send(self, ticket: int, job: Segment | Rate) -> None:
        self.sent.append(replace(job, tokens=list(job.tokens)))
        super().send(ticket, job)


@dataclass(frozen=True)
class Blocks:
    """Forces (7, 8) after every 3 tokens of the policy, and says so ahead; wants to be asked after a 9."""

    def __call__(self, ids: Sequence[int]) -> Step:
        return Force((7, 8)) if len(ids) % 5 == 3 else Draw()

    def ahead(self, ids: Sequence[int]) -> Span:
        return Span(3 - len(ids) % 5, frozenset({9}))


def over(backend: FakeBackend, slots: int = 4) -> SegmentedEngine:
    return SegmentedEngine(backend, vocab_size=VOCAB, max_context=96, slots=slots)


def ask(engine: SegmentedEngine, request: Request) -> Reply:
    engine.submit(0, request)
    replies: dict[Hashable, Reply] = dict(engine.poll())
    return replies[0]


@pytest.mark.parametrize("streams", [True, False])
def test_a_far_sighted_program_makes_segments_as_long_as_it_sees(streams: bool) -> None:
    backend = Recorder(streams=streams)
    request = Request(CONTEXT, 9, 1, Blocks(), stop=frozenset({12}), rating=(5, 6))
    sample = ask(over(backend), request).samples[0]
    first, second, rate = backend.sent
    ids = sample.ids.tolist()
    assert not {9, 12} & set(ids)  # else there would be more segments
    assert isinstance(first, Segment)
    assert isinstance(second, Segment)
    assert (first.wakes, first.max_draws, first.tokens) == ({9, 12}, 3, list(CONTEXT))
    assert (second.wakes, second.max_draws, second.tokens) == ({9, 12}, 3, [*CONTEXT, *ids[:5]])
    assert isinstance(rate, Rate)
    assert rate.tokens == [*CONTEXT, *ids]
    assert sample.sampled.tolist() == [True, True, True, False, False, True, True, True, False]


def test_what_was_drawn_beyond_a_forced_place_is_drawn_anew_from_the_context_with_it() -> None:
    def program(ids: Sequence[int]) -> Step:
        return Force((7, 8)) if len(ids) == 3 else Draw()

    backend = Recorder(streams=False)
    sample = ask(over(backend), Request(CONTEXT, 12, 1, program)).samples[0]
    first, second = backend.sent
    assert (first.tokens, second.tokens) == (list(CONTEXT), [*CONTEXT, *sample.ids.tolist()[:5]])
    assert sample.ids.tolist()[3:5] == [7, 8]
    assert len(sample.ids) == 12


@pytest.mark.parametrize("streams", [True, False])
def test_every_samples_context_is_counted_once(streams: bool) -> None:
    engine = over(FakeBackend(FakeEngine(VOCAB, 96), streams=streams))
    ask(engine, Request(CONTEXT, 9, 1, Blocks(), num_samples=3, rating=(5, 6)))
    assert engine.figures().prefilled_tokens == 3 * len(CONTEXT)
    ask(engine, Request(CONTEXT, 0, 1, rating=(5, 6)))
    assert engine.figures().prefilled_tokens == 4 * len(CONTEXT)


def test_a_cached_prefix_is_what_the_backend_says_of_the_context() -> None:
    class Remembers(FakeBackend):
        def receive(self) -> list[tuple[int, Piece | float]]:
            return [
                (ticket, came._replace(cached=4) if isinstance(came, Piece) else came)
                for ticket, came in super().receive()
            ]

    engine = over(Remembers(FakeEngine(VOCAB, 96), streams=True))
    assert ask(engine, Request(CONTEXT, 9, 1, Blocks())).cached_prefix == 4
    assert ask(engine, Request(CONTEXT[:2], 9, 1, Blocks())).cached_prefix == 2
    figures = engine.figures()
    assert (figures.cached_tokens, figures.prefilled_tokens) == (6, 1)


def test_a_segment_that_ends_without_a_token_fails_its_request_alone() -> None:
    class Empty(FakeBackend):
        def receive(self) -> list[tuple[int, Piece | float]]:
            return [
                (ticket, Piece([], [], True, 0) if ticket == 0 else came)
                for ticket, came in super().receive()
            ]

    engine = over(Empty(FakeEngine(VOCAB, 96), streams=True))
    engine.submit("ended", Request(CONTEXT, 5, 1))
    engine.submit("good", Request(CONTEXT, 5, 1))
    with pytest.raises(EngineError, match="without a token"):
        engine.poll()
    assert [key for key, _ in engine.poll()] == ["good"]
    assert engine.poll() == []


def test_two_requests_that_go_wrong_in_one_step_are_both_told() -> None:
    def program(ids: Sequence[int]) -> Step:
        return Force((VOCAB,)) if len(ids) == 2 else Draw()

    engine = over(FakeBackend(FakeEngine(VOCAB, 96), streams=True))
    for key in ("bad", "worse"):
        engine.submit(key, Request(CONTEXT, 5, 1, program, num_samples=2))
    for _ in range(2):
        with pytest.raises(EngineError, match="forced"):
            engine.poll()
    assert engine.poll() == []
