"""What every engine promises. A new engine joins `CASES` and writes no suite of its own."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from fake_server import FakeServer
from small_vocabulary import EVERY, NAMES, RATIO, codec_of
from transformers import LlamaConfig, LlamaForCausalLM

from llama_o1.engine.fake import FakeEngine
from llama_o1.engine.fake_backend import FakeBackend
from llama_o1.engine.local import LocalEngine
from llama_o1.engine.protocol import Draw, Engine, Force, Halt, Reply, Request, Span, Step
from llama_o1.engine.segmented import Piece, Rate, Segment, SegmentedEngine
from llama_o1.engine.server import server_engine
from llama_o1.engine.vllm import VllmBackend, open_vllm
from llama_o1.errors import EngineError
from llama_o1.format.budget import BudgetPlan
from llama_o1.play.program import ThoughtProgram
from llama_o1.play.segment import Ending, SegmentProgram
from tree.actions import MetaAction

VOCAB = 40
MAX_CONTEXT = 96
RATING = (5, 6)


@dataclass(frozen=True)
class Case:
    """One engine: how to make it, and the log-probs it must agree with."""

    make: Callable[..., Engine]  # (slots=...)
    logprobs: Callable[[Sequence[int]], np.ndarray]  # of what follows these tokens, at temperature 1


@cache
def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,  # vLLM's kernels have no smaller one
        intermediate_size=96,
        vocab_size=VOCAB,
        max_position_embeddings=MAX_CONTEXT,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config).eval()


def plain_forward(tokens: Sequence[int]) -> np.ndarray:
    with torch.no_grad():
        logits = llama()(torch.tensor([list(tokens)])).logits[0, -1].double()
    return torch.log_softmax(logits, -1).numpy()


def segmented(slots: int, *, streams: bool) -> SegmentedEngine:
    backend = FakeBackend(FakeEngine(VOCAB, MAX_CONTEXT), streams=streams)
    return SegmentedEngine(backend, vocab_size=VOCAB, max_context=MAX_CONTEXT, slots=slots)


class Lent:
    """A vLLM backend that outlives the engines over it, because it takes seconds to start."""

    def __init__(self, backend: VllmBackend) -> None:
        self._backend = backend
        self._in_flight: set[int] = set()

    def send(self, ticket: int, job: Segment | Rate) -> None:
        self._in_flight.add(ticket)
        self._backend.send(ticket, job)

    def receive(self) -> list[tuple[int, Piece | float]]:
        return self._backend.receive()

    def drop(self, ticket: int) -> None:
        self._backend.drop(ticket)

    def load(self, weights: object, version: int) -> None:
        self._backend.load(weights, version)

    def close(self) -> None:
        for ticket in self._in_flight:
            self._backend.drop(ticket)
        self._backend.load(None, 0)


@cache
def vllm_backend() -> VllmBackend:
    with TemporaryDirectory() as folder:
        llama().save_pretrained(folder)
        backend = open_vllm(folder, slots=64, cache_bytes=64 << 20).backend
    assert isinstance(backend, VllmBackend)
    return backend


lent: list[Lent] = []  # the newest


def over_vllm(slots: int) -> SegmentedEngine:
    """An engine as good as new on the one backend; only one of them may have requests in flight."""
    while lent:
        lent.pop().close()
    lent.append(Lent(vllm_backend()))
    return SegmentedEngine(lent[0], vocab_size=VOCAB, max_context=MAX_CONTEXT, slots=slots)


@pytest.fixture(scope="module", autouse=True)
def closes_vllm() -> Iterator[None]:
    yield
    if vllm_backend.cache_info().currsize:
        vllm_backend().close()


CASES = {
    "fake": Case(
        lambda slots=4: FakeEngine(VOCAB, MAX_CONTEXT, slots=slots),
        lambda tokens: FakeEngine(VOCAB, MAX_CONTEXT).distribution(tokens),
    ),
    "fake-scrambled": Case(
        lambda slots=4: FakeEngine(VOCAB, MAX_CONTEXT, slots=slots, scramble_seed=3),
        lambda tokens: FakeEngine(VOCAB, MAX_CONTEXT).distribution(tokens),
    ),
    "local": Case(lambda slots=4: LocalEngine(llama(), slots=slots), plain_forward),
    "local-uncached": Case(lambda slots=4: LocalEngine(llama(), slots=slots, cache_bytes=0), plain_forward),
    "segmented-streaming": Case(
        lambda slots=4: segmented(slots, streams=True),
        lambda tokens: FakeEngine(VOCAB, MAX_CONTEXT).distribution(tokens),
    ),
    "segmented-whole": Case(
        lambda slots=4: segmented(slots, streams=False),
        lambda tokens: FakeEngine(VOCAB, MAX_CONTEXT).distribution(tokens),
    ),
}
if find_spec("vllm") is not None:
    CASES["vllm"] = Case(lambda slots=4: over_vllm(slots), plain_forward)


SERVED = {"server-fake": "fake_server_case", "server-vllm": "vllm_server_case"}  # fixtures that hold a server


@pytest.fixture(scope="module")
def fake_server_case() -> Iterator[Case]:
    with FakeServer(vocab_size=VOCAB, max_model_len=MAX_CONTEXT + 1) as server:
        yield Case(
            lambda slots=4: server_engine([server.url], slots=slots, vocab_size=VOCAB),
            lambda tokens: FakeEngine(VOCAB, MAX_CONTEXT).distribution(tokens),
        )


@pytest.fixture(scope="module")
def vllm_server_case(vllm_server: Any) -> Case:
    return Case(
        lambda slots=4: server_engine(
            [vllm_server.url], slots=slots, vocab_size=VOCAB, max_context=MAX_CONTEXT
        ),
        vllm_server.logprobs,
    )


@pytest.fixture(params=[*CASES, *SERVED])
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    name = request.param
    case: Case = CASES[name] if name in CASES else request.getfixturevalue(SERVED[name])
    engines: list[Engine] = []

    def make(**settings: Any) -> Engine:
        engines.append(case.make(**settings))
        return engines[-1]

    yield replace(case, make=make)
    for engine in engines:
        engine.close()


# Programs: pure functions of the sample's own tokens.


@dataclass(frozen=True)
class ForceAt:
    """Forces blocks where the sample has exactly so many tokens, halts after `halt_at`."""

    blocks: dict[int, tuple[int, ...]]
    halt_at: int | None = None

    def __call__(self, ids: Sequence[int]) -> Step:
        if self.halt_at is not None and len(ids) >= self.halt_at:
            return Halt()
        block = self.blocks.get(len(ids))
        return Draw() if block is None else Force(block)


@dataclass(frozen=True)
class RateAfter:
    """Forces token 4 after token `end`, then halts: the shape of one thought."""

    end: int

    def __call__(self, ids: Sequence[int]) -> Step:
        if ids and ids[-1] == self.end:
            return Force((4,))
        if len(ids) > 1 and ids[-2:] == [self.end, 4]:
            return Halt()
        return Draw()


@dataclass(frozen=True)
class FarSightedForceAt(ForceAt):
    """The same, and it says how far it lets the policy run."""

    def ahead(self, ids: Sequence[int]) -> Span:
        places = [*self.blocks, 10_000 if self.halt_at is None else self.halt_at]
        return Span(min(place for place in places if place > len(ids)) - len(ids), frozenset())


def ask(engine: Engine, requests: dict[Hashable, Request]) -> dict[Hashable, Reply]:
    for key, request in requests.items():
        engine.submit(key, request)
    return drain(engine)


def drain(engine: Engine) -> dict[Hashable, Reply]:
    replies: dict[Hashable, Reply] = {}
    while got := engine.poll():
        assert not replies.keys() & {key for key, _ in got}
        replies.update(got)
    return replies


def context(length: int, seed: int = 0) -> tuple[int, ...]:
    return tuple(random.Random(seed).choices(range(VOCAB), k=length))


def mixed_requests(count: int) -> dict[Hashable, Request]:
    """Requests of all shapes: programs, lengths, temperatures, samples, stops."""
    rng = random.Random(1)
    programs: list[Any] = [
        ForceAt({}),
        ForceAt({0: (7, 8, 9)}),
        ForceAt({3: (1,), 5: (2, 3), 9: (4, 4, 4, 4, 4)}),
        ForceAt({0: (1,), 1: (2,), 2: (3,)}, halt_at=6),
        RateAfter(end=11),
    ]
    return {
        ("request", i): Request(
            context=context(rng.randrange(1, 70), rng.randrange(6)),
            max_tokens=rng.randrange(0, 25),
            seed=rng.randrange(-5, 1 << 70),
            program=rng.choice(programs),
            num_samples=rng.choice((1, 1, 3)),
            temperature=rng.choice((1.0, 0.7, 0.0, 1.5)),
            stop=frozenset(rng.sample(range(VOCAB), rng.choice((0, 2)))),
            rating=rng.choice((None, RATING)),
        )
        for i in range(count)
    }


def assert_same(a: Reply, b: Reply) -> None:
    assert len(a.samples) == len(b.samples)
    for x, y in zip(a.samples, b.samples, strict=True):
        assert x.ids.tolist() == y.ids.tolist()
        assert x.sampled.tolist() == y.sampled.tolist()
        assert x.stopped == y.stopped
        assert x.value == pytest.approx(y.value, abs=1e-5)
        np.testing.assert_allclose(x.logprobs, y.logprobs, atol=1e-4)


def softmax_at(logprobs: np.ndarray, temperature: float) -> np.ndarray:
    scaled = logprobs / temperature
    return scaled - scaled.max() - np.log(np.exp(scaled - scaled.max()).sum())


# Who comes back.


def test_every_key_comes_back_once_whatever_the_order(case: Case) -> None:
    requests = mixed_requests(30)
    replies = ask(case.make(slots=3), requests)
    assert replies.keys() == requests.keys()
    assert all(len(replies[key].samples) == requests[key].num_samples for key in requests)


def test_an_idle_engine_polls_nothing(case: Case) -> None:
    engine = case.make()
    assert engine.poll() == []
    ask(engine, mixed_requests(2))
    assert engine.poll() == []


def test_a_key_may_be_used_again_once_it_came_back(case: Case) -> None:
    engine = case.make()
    request = Request(context(9), 5, seed=1)
    assert_same(ask(engine, {"key": request})["key"], ask(engine, {"key": request})["key"])


def test_requests_submitted_while_others_run_are_served(case: Case) -> None:
    engine = case.make(slots=2)
    requests = mixed_requests(12)
    alone = ask(case.make(), requests)
    replies: dict[Hashable, Reply] = {}
    waiting = list(requests.items())
    while waiting or len(replies) < len(requests):
        for key, request in waiting[:3]:
            engine.submit(key, request)
        del waiting[:3]
        replies.update(engine.poll())
    for key, reply in replies.items():
        assert_same(reply, alone[key])


# Randomness.


def test_the_same_seed_gives_the_same_tokens_alone_and_in_any_batch(case: Case) -> None:
    requests = mixed_requests(24)
    together = ask(case.make(slots=5), requests)
    reverse = ask(case.make(slots=64), dict(reversed(requests.items())))
    for key, request in requests.items():
        alone = ask(case.make(slots=1), {key: request})[key]
        assert_same(alone, together[key])
        assert_same(alone, reverse[key])


def test_seeds_and_sample_numbers_draw_differently(case: Case) -> None:
    request = Request(context(9), 12, seed=1, num_samples=4)
    replies = ask(case.make(), {0: request, 1: replace(request, seed=2)})
    drawn = {tuple(sample.ids.tolist()) for reply in replies.values() for sample in reply.samples}
    assert len(drawn) == 8


def test_tokens_come_as_often_as_their_probability_says(case: Case) -> None:
    count = 3000
    reply = ask(case.make(slots=64), {0: Request(context(6), 1, seed=4, num_samples=count)})[0]
    seen = np.bincount([sample.ids[0] for sample in reply.samples], minlength=VOCAB) / count
    probs = np.exp(case.logprobs(context(6)))
    deviation = np.sqrt(probs * (1 - probs) / count)
    assert (np.abs(seen - probs) <= 4.5 * deviation + 1e-9).all()


def test_temperature_0_takes_the_likeliest_token_with_its_log_prob_at_temperature_1(case: Case) -> None:
    sample = ask(case.make(), {0: Request(context(9), 8, seed=1, temperature=0.0)})[0].samples[0]
    tokens = list(context(9))
    for token, logprob in zip(sample.ids.tolist(), sample.logprobs, strict=True):
        assert token == int(case.logprobs(tokens).argmax())
        assert logprob == pytest.approx(case.logprobs(tokens).max(), abs=1e-4)
        tokens.append(token)


# Numbers.


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_statistics_equal_a_plain_forward(case: Case, temperature: float) -> None:
    request = Request(context(30), 14, 5, ForceAt({0: (3, 9), 7: (1, 2, 3)}), 2, temperature)
    for sample in ask(case.make(), {0: request})[0].samples:
        for t, token in enumerate(sample.ids.tolist()):
            if not sample.sampled[t]:
                continue
            logprobs = case.logprobs([*request.context, *sample.ids[:t].tolist()])
            entropy = -(np.exp(logprobs) * logprobs).sum()
            varentropy = (np.exp(logprobs) * (logprobs + entropy) ** 2).sum()
            assert sample.logprobs[t] == pytest.approx(softmax_at(logprobs, temperature)[token], abs=1e-4)
            if sample.entropy is not None:
                assert sample.entropy[t] == pytest.approx(entropy, abs=1e-4)
                assert sample.varentropy[t] == pytest.approx(varentropy, abs=1e-3)


def test_the_value_equals_a_plain_forward_after_the_last_token(case: Case) -> None:
    requests = {key: replace(request, rating=RATING) for key, request in mixed_requests(16).items()}
    for key, reply in ask(case.make(), requests).items():
        for sample in reply.samples:
            logprobs = case.logprobs([*requests[key].context, *sample.ids.tolist()])
            positive, negative = np.exp(logprobs[list(RATING)])
            assert sample.value == pytest.approx(positive / (positive + negative), abs=1e-5)


def test_no_rating_no_value(case: Case) -> None:
    assert ask(case.make(), {0: Request(context(5), 3, 0)})[0].samples[0].value is None


def test_statistics_are_nan_exactly_where_tokens_were_forced(case: Case) -> None:
    for reply in ask(case.make(), mixed_requests(20)).values():
        for sample in reply.samples:
            for numbers in (sample.logprobs, sample.entropy, sample.varentropy):
                if numbers is not None:
                    assert (np.isnan(numbers) == ~sample.sampled).all()
                    assert numbers.dtype == np.float32
            assert sample.ids.dtype == np.int32
            assert (np.nan_to_num(sample.logprobs) <= 0).all()


# Ends.


def test_a_sampled_stop_token_ends_the_sample(case: Case) -> None:
    stop = frozenset(range(0, VOCAB, 3))
    for sample in ask(case.make(), {0: Request(context(9), 60, 1, num_samples=6, stop=stop)})[0].samples:
        assert sample.stopped == "stop"
        assert int(sample.ids[-1]) in stop
        assert not stop & set(sample.ids[:-1].tolist())


def test_a_forced_stop_token_does_not_end_the_sample(case: Case) -> None:
    stop = frozenset({2})
    request = Request(context(9), 6, 1, ForceAt({0: (2,), 3: (2, 2)}, halt_at=5), stop=stop)
    sample = ask(case.make(), {0: request})[0].samples[0]
    assert sample.ids[[0, 3, 4]].tolist() == [2, 2, 2]
    assert sample.stopped == "program"


def test_a_program_may_force_on_after_a_stop_token(case: Case) -> None:
    everything = frozenset(range(VOCAB))
    request = Request(context(9), 9, 1, ForceAt({1: (7,), 3: (8,)}), stop=everything)
    sample = ask(case.make(), {0: request})[0].samples[0]
    assert sample.sampled.tolist() == [True, False, True, False, True]
    assert sample.stopped == "stop"


def test_the_allowance_is_never_passed_even_by_a_forced_block(case: Case) -> None:
    for room in range(6):
        request = Request(context(9), room, 1, ForceAt({0: (1, 2), 3: (3, 4, 5)}), rating=RATING)
        sample = ask(case.make(), {0: request})[0].samples[0]
        assert len(sample.ids) == room
        assert sample.stopped == "allowance"
        assert sample.sampled.tolist() == [False, False, True, False, False][:room]


def test_allowance_0_only_reads_the_value(case: Case) -> None:
    reply = ask(case.make(), {0: Request(context(9), 0, 1, num_samples=2, rating=RATING)})[0]
    assert [len(sample.ids) for sample in reply.samples] == [0, 0]
    assert all(0 < sample.value < 1 for sample in reply.samples)
    assert ask(case.make(), {0: Request(context(9), 0, 1)})[0].samples[0].value is None


def test_a_program_that_halts_at_once_leaves_an_empty_sample(case: Case) -> None:
    sample = ask(case.make(), {0: Request(context(9), 5, 1, ForceAt({}, halt_at=0))})[0].samples[0]
    assert (len(sample.ids), sample.stopped) == (0, "program")


def test_forced_tokens_at_odd_places_are_all_there(case: Case) -> None:
    blocks = {0: (1,), 1: (2, 3), 4: (4,), 11: (5, 6, 7)}
    sample = ask(case.make(), {0: Request(context(9), 14, 1, ForceAt(blocks))})[0].samples[0]
    for at, block in blocks.items():
        assert tuple(sample.ids[at : at + len(block)]) == block
    assert np.flatnonzero(~sample.sampled).tolist() == [0, 1, 2, 4, 11, 12, 13]


def test_a_far_sighted_program_makes_the_same_samples(case: Case) -> None:
    for blocks, halt_at, room in (
        ({0: (1,), 6: (2, 3), 11: (5, 6, 7)}, None, 30),
        ({4: (2,)}, 9, 30),
        ({}, None, 7),
    ):
        near = Request(context(9), room, 1, ForceAt(blocks, halt_at), 3, stop=frozenset({12, 13}))
        far = replace(near, program=FarSightedForceAt(blocks, halt_at))
        replies = ask(case.make(), {"near": near, "far": far})
        assert_same(replies["near"], replies["far"])


def test_a_sample_that_is_all_forced_draws_nothing(case: Case) -> None:
    engine = case.make()
    sample = ask(engine, {0: Request(context(9), 9, 1, ForceAt({0: (1, 2, 3)}, halt_at=3), rating=RATING)})[
        0
    ].samples[0]
    assert sample.ids.tolist() == [1, 2, 3]
    assert engine.figures().sampled_tokens == 0
    assert engine.figures().forced_tokens == 3


def test_a_program_may_be_asked_again_with_the_same_answer(case: Case) -> None:
    asked: dict[tuple[int, ...], Step] = {}
    inner = RateAfter(end=11)

    def program(ids: Sequence[int]) -> Step:
        step = inner(ids)
        assert asked.setdefault(tuple(ids), step) == step
        return step

    request = Request(context(9), 40, 1, program, num_samples=2)
    first, again = (ask(case.make(), {0: request})[0] for _ in range(2))
    assert_same(first, again)
    assert () in asked


# Control tokens of a budget.

BUDGETS = (17, 23, 31, 40)
ABOVE = (0, 3, 9)  # thinking tokens of the path before the sample


def marks_by_hand(budget: int, mode: str) -> dict[int, int]:
    """Ids of the control tokens by thinking position, as the budget alone says."""
    if mode == "ratio":  # at k * floor(B / 4): 3/4, 2/4, 1/4
        return {k * (budget // 4): NAMES.index(f"<remaining>{4 - k}/4</remaining>") for k in (1, 2, 3)}
    return {  # at every fifth: the largest multiple of five that remains
        t: NAMES.index(f"<remaining>{(budget - t) // 5 * 5}</remaining>")
        for t in range(5, budget, 5)
        if budget - t >= 5
    }


def assert_marks(
    ids: Sequence[int], sampled: Sequence[bool], first: int, budget: int, mode: str, rest: tuple[int, ...]
) -> int:
    """Check the tokens from thinking position `first` on, up to forced ids of `rest`; how many there are."""
    marks, seen = marks_by_hand(budget, mode), 0
    for position, (token, drawn) in enumerate(zip(ids, sampled, strict=True), start=first):
        if not drawn and token in rest:
            return seen
        assert drawn == (position not in marks)
        assert drawn or token == marks[position]
        seen += not drawn
    return seen


@pytest.mark.parametrize("marks", [RATIO, EVERY], ids=lambda marks: marks.mode)
def test_control_tokens_of_a_line_stand_at_their_positions_whatever_else_is_in_the_batch(
    case: Case, marks: Any
) -> None:
    codec = codec_of(marks)
    requests = {
        (budget, above, seed): Request(
            context(5 + above, seed),
            60,
            seed,
            SegmentProgram(
                (),
                budget - above,
                Ending(codec, "abcdabcd"),
                BudgetPlan(budget, codec.special.remaining, marks),
                above,
            ),
        )
        for budget in BUDGETS
        for above in ABOVE
        for seed in range(2)
    }
    together = ask(case.make(slots=5), requests)
    for (budget, above, seed), request in requests.items():
        sample = together[budget, above, seed].samples[0]
        ids, sampled = sample.ids.tolist(), sample.sampled.tolist()
        there = [t for t in marks_by_hand(budget, marks.mode) if above < t]
        assert len(ids) == budget - above
        assert assert_marks(ids, sampled, above + 1, budget, marks.mode, ()) == len(there) > 0
        if budget == BUDGETS[0]:
            assert_same(ask(case.make(slots=1), {0: request})[0], together[budget, above, seed])


@pytest.mark.parametrize("marks", [RATIO, EVERY], ids=lambda marks: marks.mode)
def test_control_tokens_of_a_thought_stand_at_their_positions_whatever_else_is_in_the_batch(
    case: Case, marks: Any
) -> None:
    codec = codec_of(marks)
    ends = (codec.special.end_of_thought, codec.special.start_of_rating)
    header = codec.header(0, 1, None)
    requests = {
        (budget, above): Request(
            context(7, above),
            44,
            above,
            ThoughtProgram(
                header, 30, 30, codec, BudgetPlan(budget, codec.special.remaining, marks), spent=above
            ),
            num_samples=3,
        )
        for budget in BUDGETS
        for above in range(12)
    }
    seen = 0
    for (budget, above), reply in ask(case.make(slots=7), requests).items():
        for sample in reply.samples:
            assert tuple(sample.ids[: len(header)]) == header
            own, drawn = sample.ids[len(header) :].tolist(), sample.sampled[len(header) :].tolist()
            tag = next(i for i, token in enumerate(own) if token not in codec.special.remaining)
            if tag < 2 and own[tag] in codec.tag_ids:
                if own[tag] == codec.special.tags[MetaAction.CONCLUDE]:
                    continue  # it shows no budget
                del own[tag], drawn[tag]  # a tag is no thinking
            seen += assert_marks(own, drawn, above + 1, budget, marks.mode, ends)
    assert seen > 20


# Limits and mistakes.


def test_a_context_may_fill_every_position(case: Case) -> None:
    engine = case.make()
    replies = ask(
        engine,
        {
            "value": Request(context(MAX_CONTEXT), 0, 1, rating=RATING),
            "last": Request(context(MAX_CONTEXT - 1), 1, 1, rating=RATING),
        },
    )
    assert len(replies["last"].samples[0].ids) == 1
    assert replies["value"].samples[0].value is not None


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request(context(MAX_CONTEXT), 1, 0), "max_context"),
        (Request((1, VOCAB), 1, 0), f"got {VOCAB}"),
        (Request((1, -2), 1, 0), "got -2"),
        (Request((), 1, 0), "at least one token"),
        (Request((1,), -1, 0), "max_tokens must be at least 0, got -1"),
        (Request((1,), 1, 0, num_samples=0), "num_samples must be at least 1, got 0"),
        (Request((1,), 1, 0, temperature=-0.5), "temperature"),
        (Request((1,), 1, 0, temperature=math.nan), "temperature"),
        (Request((1,), 1, 0, rating=(1, VOCAB)), "rating"),
        (Request((1,), 1, 0, ForceAt({0: (VOCAB,)})), "forced"),
        (Request((1,), 1, 0, ForceAt({0: ()})), "forced no tokens"),
    ],
)
def test_what_cannot_be_served_is_refused_at_once(case: Case, request_: Request, words: str) -> None:
    engine = case.make()
    with pytest.raises(EngineError, match=words):
        engine.submit(0, request_)
    assert engine.poll() == []


def test_a_key_in_flight_is_refused(case: Case) -> None:
    engine = case.make()
    engine.submit("key", Request(context(3), 2, 0))
    with pytest.raises(EngineError, match="'key' is in flight"):
        engine.submit("key", Request(context(3), 2, 0))
    assert drain(engine).keys() == {"key"}


def test_a_program_that_goes_wrong_later_takes_only_its_own_request_down(case: Case) -> None:
    engine = case.make()
    good = Request(context(5), 6, 0)
    engine.submit("good", good)
    engine.submit("bad", replace(good, program=ForceAt({3: (VOCAB,)}), num_samples=3))
    replies: dict[Hashable, Reply] = {}
    failures = []
    while not failures or replies.keys() != {"good"}:
        try:
            replies.update(engine.poll())
        except EngineError as failure:
            failures.append(str(failure))
    assert len(failures) == 1
    assert "forced" in failures[0]
    assert engine.poll() == []
    assert_same(replies["good"], ask(case.make(), {0: good})[0])


def test_a_cancelled_request_never_comes_back(case: Case) -> None:
    requests = mixed_requests(12)
    engine = case.make(slots=3)
    for key, request in requests.items():
        engine.submit(key, replace(request, max_tokens=request.max_tokens + 1))
    replies = dict(engine.poll())
    gone = [key for key in requests if key not in replies][::2]
    for key in [*gone, "unknown"]:
        engine.cancel(key)
    replies.update(drain(engine))
    assert replies.keys() == requests.keys() - set(gone)


def test_a_cancelled_key_may_be_used_again(case: Case) -> None:
    engine = case.make(slots=2)
    engine.submit("first", Request(context(5), 1, 0))
    engine.submit("key", Request(context(5), 20, 0))
    engine.poll()
    engine.cancel("key")
    other = Request(context(7), 4, 9)
    assert_same(ask(engine, {"key": other})["key"], ask(case.make(), {0: other})[0])


def test_the_version_is_in_every_reply(case: Case) -> None:
    engine = case.make()
    assert {reply.version for reply in ask(engine, mixed_requests(4)).values()} == {0}
    engine.load(None, 7)
    assert {reply.version for reply in ask(engine, mixed_requests(4)).values()} == {7}


def test_load_is_refused_while_requests_are_in_flight(case: Case) -> None:
    engine = case.make()
    engine.submit(0, Request(context(5), 3, 0))
    with pytest.raises(EngineError, match="1 requests in flight"):
        engine.load(None, 1)
    engine.cancel(0)
    engine.load(None, 1)


def test_weights_of_a_wrong_kind_are_refused(case: Case) -> None:
    with pytest.raises(EngineError, match="int"):
        case.make().load(3, 1)


def test_load_drops_cached_prefixes(case: Case) -> None:
    engine = case.make()
    request = Request(context(30), 4, 0)
    ask(engine, {0: request})
    assert ask(engine, {0: request})[0].cached_prefix < 30
    engine.load(None, 1)
    assert ask(engine, {0: request})[0].cached_prefix == 0


def test_a_closed_engine_refuses_everything(case: Case) -> None:
    engine = case.make()
    engine.close()
    calls: Iterable[Callable[[], object]] = (
        lambda: engine.submit(0, Request((1,), 1, 0)),
        engine.poll,
        lambda: engine.cancel(0),
        lambda: engine.load(None, 1),
        engine.figures,
    )
    for call in calls:
        with pytest.raises(EngineError, match="closed"):
            call()


def test_figures_count_what_the_replies_hold(case: Case) -> None:
    engine = case.make(slots=3)
    requests = mixed_requests(15)
    samples = [sample for reply in ask(engine, requests).values() for sample in reply.samples]
    figures = engine.figures()
    assert figures.sampled_tokens == sum(int(sample.sampled.sum()) for sample in samples)
    assert figures.forced_tokens == sum(int((~sample.sampled).sum()) for sample in samples)
    assert figures.slots == engine.slots == 3
    assert figures.steps <= figures.slot_steps <= figures.steps * figures.slots
