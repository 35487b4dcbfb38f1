"""WorkerPool: processes that compare expressions symbolically and may be killed at any time.

Knows nothing of problems and answers. Talks to worker_process.py in JSON lines over pipes: no pickle, no
`__main__` that is imported again, no alarm in this process, so it works in any thread. A worker ends
by itself when this process is gone: its pipe closes, and a comparison it is busy with has a timer.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from queue import LifoQueue
from types import TracebackType
from typing import Literal

from llama_o1.errors import RunError

Reply = Literal["equal", "different", "timeout", "memory"]

START_S = 120.0  # a worker has loaded sympy by then, also on a busy machine
GRACE_S = 0.5  # between the worker's own timer and the kill from here
ATTEMPTS = 2  # a worker that dies takes its item along once


class WorkerPool:
    """Up to `num_workers` processes, started when they are needed; `ask` may be called from any thread."""

    def __init__(self, num_workers: int = 2, timeout_s: float = 5.0, memory_mb: int = 1024) -> None:
        self.timeout_s = timeout_s
        self._memory_mb = memory_mb
        self._is_closed = False
        self._idle: LifoQueue[_Worker | None] = LifoQueue()  # None: a place whose worker is not started
        self._workers: set[_Worker] = set()
        for _ in range(num_workers):
            self._idle.put(None)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that are there."""
        return [worker.process.pid for worker in list(self._workers)]

    def ask(self, gold: str, given: str, timeout_s: float | None = None) -> Reply:
        """Whether two expressions are equal; waits for a free worker, then at most about `timeout_s`.

        RunError when no worker can be started.
        """
        seconds = self.timeout_s if timeout_s is None else timeout_s
        worker = self._idle.get()
        try:
            for _ in range(ATTEMPTS):
                if worker is None:
                    worker = self._start()
                reply = worker.ask(gold, given, seconds)
                if not worker.is_usable:
                    self._end(worker)
                    worker = None
                if reply is not None:
                    return reply
            return "timeout"
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """Kill all workers. A closed pool starts no more."""
        self._is_closed = True
        for worker in list(self._workers):
            self._end(worker)

    def _start(self) -> _Worker:
        if self._is_closed:
            raise RunError("the symbolic checker is closed")
        worker = _Worker(self._memory_mb)
        self._workers.add(worker)
        if worker.line(time.monotonic() + START_S) != b"ready":
            self._end(worker)
            raise RunError(
                "the symbolic checker does not start; `python -c 'import math_verify'` should work, "
                f"and a process must be allowed {self._memory_mb} MB"
            )
        return worker

    def _end(self, worker: _Worker) -> None:
        worker.kill()
        self._workers.discard(worker)


class _Worker:
    """One process and its two pipes."""

    def __init__(self, memory_mb: int) -> None:
        script = Path(__file__).with_name("worker_process.py")
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(script), str(memory_mb)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
        )
        self.is_usable = True
        self._read = b""

    def ask(self, gold: str, given: str, seconds: float) -> Reply | None:
        """The worker's reply; None when it died of something else than the item."""
        assert self.process.stdin is not None
        question = json.dumps({"gold": gold, "given": given, "seconds": seconds})
        try:
            self.process.stdin.write(question.encode() + b"\n")
        except OSError:
            self.is_usable = False
            return None
        line = self.line(time.monotonic() + seconds + GRACE_S)
        if line:
            told = json.loads(line)
            self.is_usable = told["reply"] != "memory" and not told["last"]
            reply: Reply = told["reply"]
            return reply
        self.is_usable = False
        if line is None or self.process.wait() == -signal.SIGALRM:
            return "timeout"
        return None

    def line(self, deadline: float) -> bytes | None:
        """The next line without its end; empty when the process is gone, None when the deadline is."""
        assert self.process.stdout is not None
        poll = select.poll()
        poll.register(self.process.stdout, select.POLLIN)
        while b"\n" not in self._read:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                return None
            received = os.read(self.process.stdout.fileno(), 65536)
            if not received:
                return b""
            self._read += received
        line, _, self._read = self._read.partition(b"\n")
        return line

    def kill(self) -> None:
        """End the process and wait until it is gone."""
        self.is_usable = False
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
