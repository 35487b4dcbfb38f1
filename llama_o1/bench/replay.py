"""`bench replay`: our durable buffer against cpprb's in RAM, and against a plain copy of the payloads.

One cycle draws a batch with its payloads and gives new priorities; ours has committed them when it returns.
Systems take turns, a few cycles each, so that noise hits all, and a ratio is one of median wall times. The
floor is `np.take` of as many rows of 256 ids and 256 log-probs, without any choice of rows. Our records also
hold what else an experience has (88 bytes of scalars, names, which tokens were sampled), are copied
whole, and become objects when they are asked for, which `unpack_us` says apart.

Harder than it looks: ours writes to disk in every cycle, moves a fifth more bytes an item, and looks for
stale ids.
Easier than it looks: cpprb's batch holds its columns as arrays, one for all items, ours one block of records;
records here are equally long and priorities come from one draw of a log-normal, so that no item is drawn
every time; as many items as there are have been drawn from each before the clock starts, as in a run that has
gone on for a while, and what filling ours left to be written is on the disk; the batch is let go before the
next one, so that its memory is used again, by all three; and the thread that copies ours from the log into
the database works beside the cycles, which its time is not part of.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_o1.bench.measure import Measured, Row, Spent
from llama_o1.bench.report import Report
from llama_o1.bench.settings import ReplayBench
from llama_o1.progress import bar
from replay.buffer import PrioritizedReplayBuffer
from replay.experience import Experience

OURS, CPPRB, FLOOR = "llama-o1", "cpprb", "floor"
BATCHES = (64, 256, 1024)
MISSING = "cpprb is not installed, so that nothing is compared with it: pip install llama-o1[bench]"
_BETA = 0.5
_TURN = 20  # cycles of one system before the next has its turn
_POOL = 4096  # different experiences
_APPEND = 64  # nodes a call
_APPEND_CONTEXT = 160  # tokens, with which a node of 256 tokens has about 3 KB

Cycle = Callable[[int], None]


def run(settings: ReplayBench) -> Report:
    """Fill the buffers, measure cycles, appends and the time to open what was written."""
    with tempfile.TemporaryDirectory(dir=settings.folder, prefix="bench_replay_") as folder:
        return _Bench(settings, Path(folder)).report()


class _Bench:
    def __init__(self, settings: ReplayBench, folder: Path) -> None:
        self._settings, self._folder = settings, folder
        self._rng = np.random.default_rng(settings.seed)
        self._pool = _experiences(self._rng, settings.tokens, context=0)
        self._figures: dict[str, float] = {}
        self._ratios: dict[str, float] = {}

    def report(self) -> Report:
        settings = self._settings
        num_cycles = settings.repeats * settings.cycles * len(BATCHES)
        with bar(num_cycles, "bench replay", "cycle") as progress, self._open("full") as ours:
            self._fill(ours)
            systems = {OURS: self._cycle_of(ours)} | self._others()
            self._warm(systems)
            measured = [self._measure(batch, systems, progress.update) for batch in BATCHES]
            self._unpack(ours)
            self._append(ours, "append_full_nodes_per_s", settings.append // 4)
            self._figures |= _ram(ours, settings.entries)
        self._reopen()
        with self._open("fresh") as fresh:
            self._append(fresh, "append_nodes_per_s", settings.append)
        self._ratios["append_nodes_per_s"] = self._figures.pop("append_nodes_per_s")
        notes = [] if CPPRB in systems else [MISSING]
        about = {"entries": settings.entries, "tokens": settings.tokens, "backend": settings.backend}
        return Report("replay", about, asdict(settings), measured, self._figures, self._ratios, notes)

    def _open(self, name: str) -> PrioritizedReplayBuffer:
        return PrioritizedReplayBuffer(
            self._folder / name,
            capacity=self._settings.entries,
            durability=self._settings.durability,
            backend=self._settings.backend,
        )

    def _fill(self, buffer: PrioritizedReplayBuffer) -> None:
        begin = time.perf_counter()
        for first in range(0, self._settings.entries, _POOL):
            count = min(_POOL, self._settings.entries - first)
            buffer.extend(self._pool[:count], self._rng.lognormal(size=count))
        self._figures["fill_nodes_per_s"] = self._settings.entries / (time.perf_counter() - begin)

    def _cycle_of(self, buffer: PrioritizedReplayBuffer) -> Cycle:
        def cycle(batch_size: int) -> None:
            batch = buffer.sample(batch_size, _BETA, self._rng)
            buffer.update_priority(batch.ids, self._priorities[:batch_size])

        return cycle

    def _others(self) -> dict[str, Cycle]:
        entries, tokens = self._settings.entries, self._settings.tokens
        rows = np.zeros((entries, tokens * 2), dtype=np.int32)
        rows[:] = self._rng.integers(0, 1 << 15, tokens * 2)

        def floor(batch_size: int) -> None:
            np.take(rows, self._drawn[:batch_size], axis=0)

        if not self._settings.cpprb or find_spec("cpprb") is None:
            return {FLOOR: floor}
        from cpprb import PrioritizedReplayBuffer as Other

        shapes = {name: {"shape": tokens, "dtype": kind} for name, kind in _COLUMNS.items()}
        other = Other(entries, shapes, alpha=0.6)
        for first in range(0, entries, _POOL):
            count = min(_POOL, entries - first)
            columns = {name: np.stack([getattr(e, name) for e in self._pool[:count]]) for name in _COLUMNS}
            other.add(**columns, priorities=self._rng.lognormal(size=count))

        def cycle(batch_size: int) -> None:
            batch = other.sample(batch_size, beta=_BETA)
            other.update_priorities(batch["indexes"], self._priorities[:batch_size])

        return {CPPRB: cycle, FLOOR: floor}

    def _warm(self, systems: dict[str, Cycle]) -> None:
        """Go through the memory of all: what lay idle while the others were filled is slow to come back."""
        for cycle in systems.values():
            for _ in range(self._settings.entries // BATCHES[-1]):
                self._new_numbers(BATCHES[-1])
                cycle(BATCHES[-1])
        os.sync()

    def _measure(self, batch_size: int, systems: dict[str, Cycle], done: Callable[[int], object]) -> Measured:
        """All systems in turn."""
        walls: dict[str, list[float]] = {name: [] for name in systems}
        spent: dict[str, list[Spent]] = {name: [] for name in systems}
        for name in systems:
            self._new_numbers(batch_size)
            systems[name](batch_size)  # what is made once is made before the clock starts
        for _ in range(self._settings.repeats):
            before = {name: len(walls[name]) for name in systems}
            cpu = dict.fromkeys(systems, 0.0)
            for first in range(0, self._settings.cycles, _TURN):
                turn = min(_TURN, self._settings.cycles - first)
                for name, cycle in systems.items():
                    for _ in range(turn):
                        self._new_numbers(batch_size)
                        begin, cpu_begin = time.perf_counter(), time.thread_time()
                        cycle(batch_size)
                        cpu[name] += time.thread_time() - cpu_begin
                        walls[name].append(time.perf_counter() - begin)
                done(turn)
            for name in systems:
                wall = sum(walls[name][before[name] :])
                spent[name].append(Spent(self._settings.cycles, cpu[name], wall))
        medians = {name: median(times) for name, times in walls.items()}
        for name, time_s in medians.items():
            self._figures[f"{name}_{batch_size}_us"] = time_s * 1e6
        if CPPRB in systems:
            self._ratios[f"vs_cpprb_{batch_size}"] = medians[CPPRB] / medians[OURS]
        if batch_size > BATCHES[0]:
            self._ratios[f"vs_floor_{batch_size}"] = medians[OURS] / medians[FLOOR]
        none: dict[str, Callable[[int], Spent]] = dict.fromkeys(systems, _never)
        return Measured(Row(f"cycle_{batch_size}", "cycles", none, ()), spent)

    def _new_numbers(self, batch_size: int) -> None:
        self._priorities = self._rng.lognormal(size=batch_size)
        self._drawn = self._rng.integers(0, self._settings.entries, batch_size)

    def _unpack(self, buffer: PrioritizedReplayBuffer) -> None:
        times = []
        for _ in range(20):
            experiences = buffer.sample(256, _BETA, self._rng).experiences
            begin = time.perf_counter()
            list(experiences)
            times.append((time.perf_counter() - begin) / 256)
        self._figures["unpack_us"] = median(times) * 1e6

    def _append(self, buffer: PrioritizedReplayBuffer, name: str, num_nodes: int) -> None:
        pool = _experiences(self._rng, self._settings.tokens, _APPEND_CONTEXT)
        begin = time.perf_counter()
        for first in range(0, num_nodes, _APPEND):
            start = first % _POOL
            buffer.extend(pool[start : start + min(_APPEND, num_nodes - first)])
        self._figures[name] = num_nodes / (time.perf_counter() - begin)

    def _reopen(self) -> None:
        begin = time.perf_counter()
        with self._open("full") as again:
            self._figures["reopen_s"] = time.perf_counter() - begin
            assert len(again) == self._settings.entries


_COLUMNS: dict[str, Any] = {"ids": np.int32, "logprobs": np.float32}


def _never(repeat: int) -> Spent:
    raise AssertionError("cycles were measured already")


def _experiences(rng: np.random.Generator, tokens: int, context: int) -> list[Experience]:
    return list(_endless(rng, tokens, context, _POOL))


def _endless(rng: np.random.Generator, tokens: int, context: int, count: int) -> Iterator[Experience]:
    sampled: npt.NDArray[np.bool_] = np.ones(tokens, dtype=np.bool_)
    for node in range(count):
        yield Experience(
            context=rng.integers(0, 1 << 15, context).astype(np.int32),
            ids=rng.integers(0, 1 << 15, tokens).astype(np.int32),
            sampled=sampled,
            logprobs=-rng.random(tokens, dtype=np.float32),
            temperature=1.0,
            advantage=0.25,
            value=0.5,
            value_target=0.75,
            outcome=None,
            version=0,
            action="expand",
            problem=f"problem/{node // 64}",
            tree=f"000001/{node // 64:04d}",
            node=node % 64,
            parent=node % 64 // 2,
        )


def _ram(buffer: PrioritizedReplayBuffer, entries: int) -> dict[str, float]:
    stats = buffer.stats()
    raw = stats["payload_bytes"] / entries
    return {
        "raw_bytes_per_node": raw,
        "ram_bytes_per_node": stats["ram_bytes"] / entries,
        "ram_allowed_per_node": 1.25 * raw + 64,
    }
