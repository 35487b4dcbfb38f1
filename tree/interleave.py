"""Several lines of work on one tree at once, with a result that does not depend on who answers first.

Every search is a generator that yields tuples of `Ask` (perhaps empty) and is sent one
`(local_id, Told)` at a time, in any order; Failed, or None for short, means that the request failed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator

from tree.node import Ask, Reply

Answer = tuple[int, Reply]
Search = Generator[tuple[Ask, ...], Answer, None]
Worker = Generator[Ask, Reply, None]  # one ask outstanding at a time


def interleave(start: Callable[[], Worker | None], concurrency: int) -> Search:
    """Run up to `concurrency` workers; replies are handed on in the order they were asked for.

    `start` gives the next worker, or None when there is nothing to start now. It is asked again
    whenever a reply was handed on. Closing the search closes every worker.
    """
    running: dict[int, Worker] = {}  # by the local id of the outstanding ask, oldest first
    early: dict[int, Reply] = {}
    asks: deque[Ask] = deque()
    try:
        _fill(start, running, asks, concurrency)
        while running:
            local_id, told = yield tuple(asks)
            asks.clear()
            if local_id not in running or local_id in early:
                raise ValueError(f"reply for thought {local_id}, which is not outstanding")
            early[local_id] = told
            while running and (oldest := next(iter(running))) in early:
                _hand_on(running.pop(oldest), early.pop(oldest), running, asks)
                _fill(start, running, asks, concurrency)
    finally:
        for worker in running.values():
            worker.close()


def nothing() -> Search:
    """A search that asks for nothing."""
    return
    yield


def _fill(
    start: Callable[[], Worker | None], running: dict[int, Worker], asks: deque[Ask], concurrency: int
) -> None:
    while len(running) < concurrency:
        worker = start()
        if worker is None:
            return
        ask = next(worker, None)
        if ask is None:
            return
        running[ask.local_id] = worker
        asks.append(ask)


def _hand_on(worker: Worker, told: Reply, running: dict[int, Worker], asks: deque[Ask]) -> None:
    try:
        ask = worker.send(told)
    except StopIteration:
        return
    running[ask.local_id] = worker
    asks.append(ask)
