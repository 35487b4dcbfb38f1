"""The backend over running servers: segments and values by HTTP, to vLLM or whatever offers the same.

    VLLM_SERVER_DEV_MODE=1 python -m vllm.entrypoints.openai.api_server --model FOLDER
        --logprobs-mode processed_logprobs --enable-prompt-tokens-details
        on a CPU also: --enforce-eager --dtype float32 --block-size 32 --no-enable-chunked-prefill

Development mode is for new weights only; the details tell how much of a context was cached. vLLM on a CPU
goes down when it cuts a seeded request's context in chunks. One thread a job in flight, so the rest of the
program needs no event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from uuid import uuid4

from llama_o1.engine.fleet import Fleet
from llama_o1.engine.offer import Offer, check_same, look_at
from llama_o1.engine.reload import load_into
from llama_o1.engine.replica import Call, Replica
from llama_o1.engine.segmented import Piece, Rate, Segment, SegmentedEngine
from llama_o1.engine.weights import Weights, check_fit, read_weights, with_output
from llama_o1.engine.wire import COMPLETIONS, completion, rating, read_completion, read_rating
from llama_o1.errors import EngineError

TIMEOUT_S = 120.0  # for one answer: a segment or a value
THREAD = "server-job"


def server_engine(
    urls: Sequence[str],
    *,
    slots: int,
    vocab_size: int,
    max_context: int | None = None,
    temperature: float = 1.0,
    timeout_s: float = TIMEOUT_S,
    api_key: str | None = None,
) -> SegmentedEngine:
    """An engine over servers that run; EngineError in one line when one does not answer or cannot serve.

    `temperature` is the one that will be asked for: a server that gives only log-probs of temperature 1 is
    refused for another. The context is one token shorter than the server's, which draws a token for a value.
    """
    replicas = [Replica(url, timeout_s=timeout_s, api_key=api_key) for url in urls]
    if not replicas or len({replica.url for replica in replicas}) < len(replicas):
        raise EngineError(
            f"urls must name at least one server and each once, got {', '.join(urls) or 'none'}"
        )
    try:
        offers = [look_at(replica, vocab_size) for replica in replicas]
        check_same(offers)
        for offer in offers:
            _check_temperature(offer, temperature)
        context = _context(offers[0], max_context)
        offer = replace(offers[0], scaled=all(offer.scaled for offer in offers))
        backend = ServerBackend(replicas, offer, vocab_size=vocab_size, connections=slots)
        return SegmentedEngine(backend, vocab_size=vocab_size, max_context=context, slots=slots)
    except EngineError:
        for replica in replicas:
            replica.close()
        raise


@dataclass(slots=True, eq=False)
class _Task:
    ticket: int
    job: Segment | Rate
    call: Call = field(default_factory=Call)
    failure: Exception | None = None


class ServerBackend:
    """A `Backend` over replicas of one model.

    A segment comes back whole. A job that failed makes `receive` raise once, and the call after that sends
    it again unless it was dropped.
    """

    def __init__(
        self, replicas: Sequence[Replica], offer: Offer, *, vocab_size: int, connections: int
    ) -> None:
        self._offer = offer  # what all of them offer
        self._vocab_size = vocab_size
        self._fleet = Fleet(list(replicas), self._welcome)
        self._weights: Weights | None = None  # None: those the servers were started with
        self._version = 0
        self._name = uuid4().hex[:12]  # what other runs left in the caches may be of other weights
        self._tasks: dict[int, _Task] = {}
        self._waiting: SimpleQueue[_Task | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[_Task, Piece | float | Exception]] = SimpleQueue()
        self._failed: list[_Task] = []
        self._reported: list[_Task] = []  # failed, and `receive` said so
        self._threads = [Thread(target=self._work, name=THREAD, daemon=True) for _ in range(connections)]
        for thread in self._threads:
            thread.start()

    def send(self, ticket: int, job: Segment | Rate) -> None:
        """Queue a job."""
        task = self._tasks[ticket] = _Task(ticket, job)
        self._waiting.put(task)

    def receive(self) -> list[tuple[int, Piece | float]]:
        """Wait for answers; EngineError when a job cannot be served, or no server is left."""
        if self._reported:
            self._send_again()
        while True:
            came = self._take()
            if came:
                return came
            self._failed = [task for task in self._failed if self._wants(task)]
            if self._failed:
                self._reported, self._failed = self._failed, []
                failure = self._reported[0].failure
                assert failure is not None
                raise failure

    def drop(self, ticket: int) -> None:
        """Forget a job and break its connection off, which makes the server give it up."""
        task = self._tasks.pop(ticket, None)
        if task is not None:
            task.call.give_up()

    def load(self, weights: object, version: int) -> None:
        """Let every server load a folder that it sees under the same path; None: only drop caches.

        Weights of another model are refused before a server sees them; the folder that servers were started
        with is compared where it is seen from here. A folder with tied weights must be writable: while
        servers read, there is a hidden one in it (`with_output`). After an EngineError servers may hold
        different weights, until a load succeeds.
        """
        new = None if weights is None else read_weights(weights)
        if new is not None and (held := self._held()) is not None:
            check_fit(new, held)
        replicas = list(self._fleet.up())
        with _seen(new) as folder, ThreadPoolExecutor(max(1, len(replicas))) as pool:
            list(pool.map(lambda replica: self._load_or_take_out(replica, folder), replicas))
        if not any(True for _ in self._fleet.up()):
            raise self._fleet.none_left()
        self._weights, self._version = new or self._weights, version

    def close(self) -> None:
        """Break off what is in flight and let the threads end."""
        for ticket in list(self._tasks):
            self.drop(ticket)
        for _ in self._threads:
            self._waiting.put(None)
        self._fleet.close()

    def _take(self) -> list[tuple[int, Piece | float]]:
        """All answers there are, after a wait for the first unless a failure is to be told."""
        answers = [] if self._failed else [self._done.get()]
        while not self._done.empty():
            answers.append(self._done.get())
        came: list[tuple[int, Piece | float]] = []
        for task, answer in answers:
            if not self._wants(task):
                continue
            if isinstance(answer, Exception):
                task.failure = answer
                self._failed.append(task)
            else:
                del self._tasks[task.ticket]
                came.append((task.ticket, answer))
        return came

    def _send_again(self) -> None:
        self._fleet.ask_all_again()
        for task in self._reported:
            if self._wants(task):
                self._waiting.put(task)
        self._reported = []

    def _wants(self, task: _Task) -> bool:
        return self._tasks.get(task.ticket) is task

    def _work(self) -> None:
        """Serve jobs, one at a time, until there are no more."""
        while (task := self._waiting.get()) is not None:
            if task.call.given_up:
                continue
            try:
                self._done.put((task, self._answer(task)))
            except Exception as error:  # whoever waits must hear of a mistake of ours, too
                self._done.put((task, error))

    def _answer(self, task: _Task) -> Piece | float:
        path, body = self._asked(task.job)
        answer = self._fleet.post(task.job.group, path, body, task.call)
        if answer.status != 200:
            raise EngineError(
                f"the server refused a request of {len(task.job.tokens)} tokens to {path}: {answer.message}"
            )
        if isinstance(task.job, Rate):
            return read_rating(self._offer.rating, answer, task.job.rating)
        return read_completion(answer)

    def _asked(self, job: Segment | Rate) -> tuple[str, dict[str, object]]:
        """Path and body of a job."""
        offer, salt = self._offer, f"{self._name}-{self._version}"
        if isinstance(job, Rate):
            return rating(offer.rating, offer.model, job.tokens, job.rating, salt)
        _check_temperature(offer, job.temperature)
        return COMPLETIONS, completion(
            offer.model,
            job.tokens,
            max_tokens=job.max_draws,
            temperature=job.temperature,
            seed=job.seed,
            stop=job.wakes,
            cache_salt=salt,
        )

    def _welcome(self, replica: Replica) -> None:
        """Make a server that was out fit for use: it may have been started anew."""
        replica.get("/health")
        offer = look_at(replica, self._vocab_size)
        if offer.rating != self._offer.rating or (self._offer.scaled and not offer.scaled):
            raise EngineError("it was started anew with other settings")
        if self._weights is None:
            check_same([self._offer, offer])
        with _seen(self._weights) as folder:
            load_into(replica, folder)

    def _held(self) -> Weights | None:
        """What the servers hold; None where it cannot be seen from here."""
        root = Path(self._offer.root)
        if self._weights is None and root.is_absolute() and root.is_dir():
            return read_weights(root)
        return self._weights

    def _load_or_take_out(self, replica: Replica, folder: Path | None) -> None:
        try:
            load_into(replica, folder)
        except OSError as error:
            self._fleet.take_out(replica, error)


def _seen(weights: Weights | None) -> AbstractContextManager[Path | None]:
    """The folder that a server reads; None for no new weights."""
    return nullcontext() if weights is None else with_output(weights)


def _check_temperature(offer: Offer, temperature: float) -> None:
    if not offer.scaled and temperature not in (0.0, 1.0):
        raise EngineError(
            f"the server at {offer.url} gives log-probs of temperature 1, not of {temperature}; start vLLM's "
            f"api_server with --logprobs-mode processed_logprobs or ask for temperature 1"
        )


def _context(offer: Offer, max_context: int | None) -> int:
    """Positions of context and sample together: the wish, or what the server has room for."""
    if offer.max_model_len is None:
        if max_context is None:
            raise EngineError(f"the server at {offer.url} does not say its max_model_len; give max_context")
        return max_context
    limit = offer.max_model_len - 1
    if max_context is None:
        return limit
    if not 1 <= max_context <= limit:
        raise EngineError(
            f"max_context must be from 1 to {limit}, one less than the max_model_len of {offer.url}, "
            f"got {max_context}; change it or start the server with a larger --max-model-len"
        )
    return max_context
