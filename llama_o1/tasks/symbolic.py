"""Equality of two expressions by the workers, within limits of size and time; decisions are remembered."""

from __future__ import annotations

import atexit
import os
import re
import threading
import time
from functools import lru_cache

from llama_o1.tasks.workers import WorkerPool

MAX_CHARS = 300
MAX_NESTED = 20  # open brackets
MAX_DIGITS = 60  # of one number
MAX_EXPONENT = 1000
MAX_FACTORIAL = 100


class Undecided(Exception):  # noqa: N818  it is no error: nothing is known
    """A comparison passed a limit; the message names it."""


class Deadline:
    """`same` for one verdict: all its comparisons together take at most the pool's time limit."""

    def __init__(self, pool: WorkerPool | None = None) -> None:
        self._pool = pool
        self._end: float | None = None

    def same(self, gold: str, given: str) -> bool:
        """Whether two LaTeX expressions are equal; Undecided when that takes too long or too much."""
        if not (is_within_limits(gold) and is_within_limits(given)):
            raise Undecided("too large")
        pool = shared_pool() if self._pool is None else self._pool
        known = _decided.get((gold, given))
        if known is not None:
            return known
        if self._end is None:
            self._end = time.monotonic() + pool.timeout_s
        left = self._end - time.monotonic()
        reply = pool.ask(gold, given, left) if left > 0 else "timeout"
        if reply in ("timeout", "memory"):
            raise Undecided("time limit" if reply == "timeout" else "memory limit")
        if len(_decided) >= MAX_REMEMBERED:
            _decided.clear()
        _decided[gold, given] = reply == "equal"
        return reply == "equal"


def is_within_limits(text: str) -> bool:
    """Whether an expression is small enough to be tried: short, flat, without towers of powers."""
    if len(text) > MAX_CHARS or _MANY_DIGITS.search(text) or _TOWER.search(text):
        return False
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    powers = (int(number) for groups in _EXPONENT.findall(text) for number in groups if number)
    factorials = (int(number) for number in _FACTORIAL.findall(text))
    return (
        deepest <= MAX_NESTED
        and all(power <= MAX_EXPONENT for power in powers)
        and all(number <= MAX_FACTORIAL for number in factorials)
        and "!!" not in text
    )


@lru_cache(maxsize=1)
def _pool_of(pid: int) -> WorkerPool:
    pool = WorkerPool()
    atexit.register(pool.close)
    return pool


def shared_pool() -> WorkerPool:
    """The pool of this process; a forked child gets its own."""
    with _lock:
        return _pool_of(os.getpid())


MAX_REMEMBERED = 4096
_decided: dict[tuple[str, str], bool] = {}
_lock = threading.Lock()
_MANY_DIGITS = re.compile(rf"[0-9]{{{MAX_DIGITS + 1}}}")
_TOWER = re.compile(r"(?:\^|\*\*)\s?(?:\{[^{}^]*|\(?[0-9a-z.]+)\s?(?:\^|\*\*)")
_EXPONENT = re.compile(r"(?:\^|\*\*)\s?\{?\(?\s?[-+]?([0-9]+)|exp\s?\(?\s?([0-9]+)")
_FACTORIAL = re.compile(r"([0-9]+)\s?\)?\s?!")
