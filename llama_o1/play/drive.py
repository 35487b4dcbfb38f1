"""The driver: many searches over one engine, always full, no lock step."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from llama_o1.engine.protocol import Engine, Reply
from llama_o1.errors import EngineError
from llama_o1.play.judge import Judge
from llama_o1.play.writer import Writer
from tree.interleave import Answer, Search
from tree.node import Ask, Tree

log = logging.getLogger(__name__)

TREES_PER_SLOT = 2  # enough that a slot never waits for a tree


@dataclass(slots=True, eq=False)
class Job:
    """One tree, the search that grows it, and the judge of its conclusions."""

    name: str
    tree: Tree
    search: Search
    writer: Writer
    judge: Judge


def drive(engine: Engine, jobs: Iterable[Job | None]) -> Iterator[Job]:
    """Grow every job's tree and yield the jobs as they finish, in any order.

    Jobs are drawn only as trees finish; a None among them says that the next one waits for a tree to end.
    Closing the iterator, or an error, cancels what is in flight and leaves every tree at rest. A reply that
    nothing waits for is an event of its tree, or a warning where that tree is over. EngineError when the
    engine has nothing left to do and did not answer all it was asked.
    """
    waiting = iter(jobs)
    active: dict[int, Job] = {}
    asked: dict[tuple[int, int], Ask] = {}  # by job and local id
    serial = 0
    try:
        while True:
            while len(active) < TREES_PER_SLOT * engine.slots:
                job = next(waiting, None)
                if job is None:
                    break
                serial += 1
                active[serial] = job
                if not _advance(engine, serial, job, None, asked):
                    yield active.pop(serial)
            if not active:
                return
            for key, reply in _polled(engine, asked):
                number, ask = key[0], asked.pop(key, None)
                if ask is None:
                    _note_stray(key, active)
                    continue
                job = active[number]
                told = job.writer.told(job.tree, ask, reply, job.judge)
                if not _advance(engine, number, job, (ask.local_id, told), asked):
                    yield active.pop(number)
    finally:
        for pending in asked:
            engine.cancel(pending)
        for job in active.values():
            job.search.close()


def _polled(engine: Engine, asked: Mapping[tuple[int, int], Ask]) -> list[tuple[tuple[int, int], Reply]]:
    """Replies with their keys, at least one."""
    replies = engine.poll()
    if not replies:
        raise EngineError(f"the engine has nothing queued, but {len(asked)} requests were not answered")
    return [(cast(tuple[int, int], key), reply) for key, reply in replies]


def _note_stray(key: tuple[int, int], active: Mapping[int, Job]) -> None:
    """Record a reply that came twice, or after its tree was over; it changes nothing else."""
    number, local_id = key
    if number in active:
        active[number].tree.events.append(f"a reply for thought {local_id}, which is not outstanding")
    else:
        log.warning("ignored a reply for thought %d of tree %d, which is over", local_id, number)


def _advance(
    engine: Engine, number: int, job: Job, answer: Answer | None, asked: dict[tuple[int, int], Ask]
) -> bool:
    """Send one answer (None starts the search) and submit what it asks for; False when it is over."""
    try:
        asks = next(job.search) if answer is None else job.search.send(answer)
    except StopIteration:
        return False
    for ask in asks:
        asked[number, ask.local_id] = ask
        engine.submit((number, ask.local_id), job.writer.request(job.tree, ask))
    return True
