"""The driver: many searches over one engine, always full, no lock step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from llama_o1.engine.protocol import Engine
from llama_o1.play.expand import Expander, Judge
from tree.interleave import Answer, Search
from tree.node import Ask, Tree

TREES_PER_SLOT = 2  # enough that a slot never waits for a tree


@dataclass(slots=True, eq=False)
class Job:
    """One tree, the search that grows it, and the judge of its conclusions."""

    name: str
    tree: Tree
    search: Search
    expander: Expander
    judge: Judge


def drive(engine: Engine, jobs: Iterable[Job]) -> Iterator[Job]:
    """Grow every job's tree and yield the jobs as they finish, in any order.

    Jobs are drawn only as trees finish. Closing the iterator, or an error, cancels what is in flight
    and leaves every tree at rest.
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
            for key, reply in engine.poll():
                assert isinstance(key, tuple)
                number, job = key[0], active[key[0]]
                ask = asked.pop(key)
                told = job.expander.told(job.tree, ask, reply, job.judge)
                if not _advance(engine, number, job, (ask.local_id, told), asked):
                    yield active.pop(number)
    finally:
        for pending in asked:
            engine.cancel(pending)
        for job in active.values():
            job.search.close()


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
        engine.submit((number, ask.local_id), job.expander.request(job.tree, ask))
    return True
