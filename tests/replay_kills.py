"""Kills a process that writes into a replay buffer, again and again, and looks at what is left each time.

    python tests/replay_kills.py FOLDER --kills 1000 --seed 7

The process says on a pipe what it is about to do, and what came of it when the call has returned. A model in
plain dictionaries does the same. After each kill the file must hold exactly what was acknowledged, or that
and all of the one call that was under way; nothing else, and nothing by halves. Children are forked from
here, so that one costs milliseconds. They are killed while they open, add, update, evict, drop, mark, go
back, close, and while the log is copied.
"""

import argparse
import copy
import json
import os
import random
import signal
import sqlite3
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

import replay.wal
from replay import Experience, PrioritizedReplayBuffer
from replay.file import FILE_NAME

CAPACITY, EPS = 40, 1e-3
LONGEST_LIFE, LONGEST_CALL_S = 16, 0.003  # calls before a kill; and the time of one
KEYS = {
    "oldest": lambda id, item: id,
    "lowest_priority": lambda id, item: (item[1], id),
    "oldest_version": lambda id, item: (item[2], id),
}


def opened(folder, eviction):
    return PrioritizedReplayBuffer(folder, capacity=CAPACITY, eps=EPS, eviction=eviction, backend="numpy")


def experience(serial, version):
    length = 5 + serial * 37 % 400
    ids = np.arange(serial, serial + length, dtype=np.int32)
    return Experience(
        context=ids[:7],
        ids=ids,
        sampled=ids % 2 == 0,
        logprobs=np.full(length, -0.5, np.float32),
        temperature=1.0,
        advantage=0.25,
        value=0.5,
        value_target=1.0,
        outcome=None,
        version=version,
        action="expand",
        problem="p",
        tree="t",
        node=serial,
        parent=serial - 1,
    )


class Model:
    """What a buffer should hold: items by id as (serial, priority, version), and its counts."""

    def __init__(self, eviction):
        self.eviction = eviction
        self.items, self.saved = {}, {}
        self.min_version, self.highest, self.serial = -1, 0.0, 0
        self.counts = {"added": 0, "evicted": 0, "dropped": 0, "stale_updates": 0}

    def add(self, versions, priorities, ids):
        """`ids`: as the buffer gave them; None: by serial, -1 and down, until it is known what they are."""
        entering = [self.highest or 1.0] * len(versions) if priorities is None else priorities
        given = [max(p, EPS) for p in entering]
        fits = [i for i, version in enumerate(versions) if version >= self.min_version]
        stays = fits[-CAPACITY:]
        over = max(0, len(self.items) + len(stays) - CAPACITY)
        for id in sorted(self.items, key=lambda id: KEYS[self.eviction](id, self.items[id]))[:over]:
            del self.items[id]
        for i in stays:
            id = -1 - self.serial - i if ids is None else ids[i]
            self.items[id] = (self.serial + i, given[i], versions[i])
        self.serial += len(versions)
        self.highest = max(self.highest, *given)
        self.counts["added"] += len(versions)
        self.counts["evicted"] += over + len(fits) - len(stays)
        self.counts["dropped"] += len(versions) - len(fits)

    def update(self, ids, priorities):
        """Applied and stale."""
        live = [(id, max(p, EPS)) for id, p in zip(ids, priorities, strict=True) if id in self.items]
        for id, priority in live:
            serial, _, version = self.items[id]
            self.items[id] = (serial, priority, version)
            self.highest = max(self.highest, priority)
        self.counts["stale_updates"] += len(ids) - len(live)
        return [len(live), len(ids) - len(live)]

    def drop(self, version):
        if version > self.min_version:
            gone = [id for id, item in self.items.items() if item[2] < version]
            for id in gone:
                del self.items[id]
            self.min_version = version
            self.counts["dropped"] += len(gone)

    def mark(self, number):
        self.saved[number] = copy.deepcopy((self.items, self.min_version, self.highest, self.counts))

    def rewind(self, number):
        """Serials go on: they name nodes, not ids."""
        self.items, self.min_version, self.highest, self.counts = copy.deepcopy(self.saved[number])

    def apply(self, name, arguments, result):
        """Do as the buffer did; `result` None: the call was under way."""
        if name == "add":
            self.add(*arguments, result)
        elif name == "update":
            told = self.update(*arguments)
            assert result in (None, told), f"an update of {arguments} said {result}, expected {told}"
        elif name == "mark" and result is not None:
            self.mark(result)
        elif name in ("drop", "rewind"):
            getattr(self, name)(*arguments)

    def state(self):
        """By serial, since ids of a call under way are not known."""
        return {item[0]: item[1:] for item in self.items.values()}, self.counts


def live(folder, model, seed, out):
    """The child: random calls until the end, each told before and after."""
    replay.wal._DUE_BYTES, replay.wal._RESTART_PAGES = 1 << 14, 16  # the log is copied all the time
    rng, marks, version, serial = random.Random(seed), {}, max(model.min_version, 0), model.serial
    say = lambda *what: os.write(out, json.dumps(what).encode() + b"\n")  # noqa: E731
    say("open")
    buffer = opened(folder, model.eviction)
    ids = list(model.items)
    say("did", True)
    while True:
        name = rng.choices(("add", "update", "drop", "mark", "rewind", "reopen"), (40, 40, 3, 6, 4, 2))[0]
        if name == "add":
            count = rng.choice((1, 3, 8, 50))
            version += rng.random() < 0.2
            versions = [version - rng.choice((0, 0, 1)) for _ in range(count)]
            priorities = None if rng.random() < 0.3 else [rng.lognormvariate(0, 2) for _ in range(count)]
            say(name, versions, priorities)
            rows = [experience(serial + i, v) for i, v in enumerate(versions)]
            new = buffer.extend(rows, priorities).tolist()
            serial, ids = serial + count, (ids + new)[-80:]
            say("did", new)
        elif name == "update" and ids:
            chosen = rng.choices(ids, k=rng.choice((1, 4, 16)))
            priorities = [rng.lognormvariate(0, 2) for _ in chosen]
            say(name, chosen, priorities)
            say("did", list(buffer.update_priority(chosen, priorities)))
        elif name == "drop":
            say(name, version - 2)
            buffer.drop_older_than(version - 2)
            say("did", True)
        elif name == "mark":
            say(name)
            mark = buffer.mark()
            marks = {n: m for n, m in marks.items() if n > mark["mark"] - 7} | {mark["mark"]: mark}
            say("did", mark["mark"])
        elif name == "rewind" and marks:
            number = rng.choice(list(marks))
            say(name, number)
            buffer.rewind(marks[number])
            marks = {n: m for n, m in marks.items() if n <= number}
            say("did", True)
        elif name == "reopen":
            say(name)
            buffer.close()
            buffer = opened(folder, model.eviction)
            say("did", True)


def found(folder, eviction):
    """Everything in the buffer: items by id, counts. Reading it checks every row."""
    with opened(folder, eviction) as buffer:
        memory = buffer._memory
        ids = memory.ids()
        rows = memory.experiences_at(ids % memory.position.num_slots)
        items = {}
        for id, row, priority in zip(ids.tolist(), rows, memory.priorities(ids).tolist(), strict=True):
            expected = experience(row.node, row.version)
            for name in ("context", "ids", "sampled", "logprobs"):
                assert np.array_equal(getattr(row, name), getattr(expected, name)), f"node {id}: {name}"
            items[id] = (row.node, priority, row.version)
        stats = buffer.stats()
    with closing(sqlite3.connect(folder / FILE_NAME)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return items, {name: stats[name] for name in Model("oldest").counts}


def one_life(folder, model, rng):
    """Fork, let live, kill; which call was under way, and how many had been acknowledged."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        try:
            live(folder, model, rng.random(), writing)
        except BaseException as error:
            os.write(writing, json.dumps(["error", repr(error)]).encode() + b"\n")
        finally:
            os._exit(1)
    os.close(writing)
    lines = []
    with open(reading, "rb") as pipe:
        for _ in range(rng.randrange(2 * LONGEST_LIFE)):
            lines.append(pipe.readline())
        time.sleep(rng.uniform(0, LONGEST_CALL_S))  # to the middle of the next call, wherever that is
        os.kill(child, signal.SIGKILL)
        lines = [json.loads(line) for line in [*lines, *pipe] if line.endswith(b"\n")]
    os.waitpid(child, 0)
    under_way, num_done = None, 0
    for name, *arguments in lines:
        assert name != "error", arguments
        if name == "did":
            model.apply(*under_way, arguments[0])
            under_way, num_done = None, num_done + 1
        else:
            under_way = (name, arguments)
    return under_way, num_done


def look(folder, model, under_way):
    """Check the file after a kill; the model then knows what became of the call under way."""
    items, counts = found(folder, model.eviction)
    states = [model]
    if under_way is not None:
        after = copy.deepcopy(model)
        after.apply(*under_way, None)
        states.append(after)
    left = {item[0]: item[1:] for item in items.values()}, counts
    which = next((state for state in states if state.state() == left), None)
    assert which is not None, (
        f"under way: {under_way}\nleft: {left}\nacknowledged: {model.state()}\nor: {states[-1].state()}"
    )
    for id, item in which.items.items():
        assert id < 0 or items[id] == item, f"node {id}"
    which.items = items
    return which


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    models = {eviction: Model(eviction) for eviction in KEYS}
    seen, acknowledged = {}, 0
    for kill in range(given.kills):
        eviction = list(KEYS)[kill % len(KEYS)]
        model = models[eviction]
        model.saved.clear()
        serial = model.serial
        under_way, num_done = one_life(given.folder / eviction, model, rng)
        acknowledged += num_done
        name = under_way[0] if under_way else "between"
        seen[name] = seen.get(name, 0) + 1
        models[eviction] = look(given.folder / eviction, model, under_way)
        models[eviction].serial = max(models[eviction].serial, serial + 10_000)  # a serial is used once
    print(json.dumps({"kills": given.kills, "acknowledged": acknowledged, "under_way": seen}))  # noqa: T201


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
