"""Priorities are acknowledged in the journal's tail, a file beside the database while a buffer is open."""

import os
import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from replay import Experience, PrioritizedReplayBuffer, ReplayError
from replay.file import FILE_NAME
from replay.inspect.query import ReplayReader
from replay.salvage import salvage
from replay.tail import tail_path

HEAD_BYTES, ITEM_BYTES = 32, 16  # of an entry


def experience(number):
    token = np.array([number], np.int32)
    return Experience(
        context=token, ids=token, sampled=np.array([True]), logprobs=np.zeros(1, np.float32), temperature=1.0,
        advantage=0.0, value=0.5, value_target=0.5, outcome=None, version=0, action="expand",
        problem="p", tree="t", node=number, parent=0,
    )  # fmt: skip


def opened(folder, **settings):
    return PrioritizedReplayBuffer(folder, capacity=8, **settings)


def priorities(folder):
    with ReplayReader(folder) as reader:
        return reader.live.priorities.tolist(), reader.live.draws.tolist(), reader.position.stale_updates


def killed(folder, out):
    """What a kill would leave now."""
    shutil.copytree(folder, out)
    return out


@pytest.fixture
def left(tmp_path):
    """A folder as a kill left it: four items, then updates of two, one and three of them, one id stale."""
    with opened(tmp_path / "first") as buffer:
        buffer.extend([experience(i) for i in range(4)])
        buffer.update_priority([0, 1], [2.0, 3.0])
        buffer.update_priority([1], [4.0])
        buffer.update_priority([2, 0, 77], [5.0, 6.0, 7.0])
        yield killed(tmp_path / "first", tmp_path / "left")


def test_updates_are_in_the_tail_until_the_buffer_is_closed(left):
    with closing(sqlite3.connect(left / FILE_NAME)) as db:
        assert db.execute("SELECT length(ids) FROM journal").fetchall() == [(0,), (4 * 8,)]
    assert tail_path(left / FILE_NAME).stat().st_size == 3 * HEAD_BYTES + 5 * ITEM_BYTES
    expected = [6.0, 4.0, 5.0, 1.0], [2, 2, 1, 0], 1
    assert priorities(left) == expected
    opened(left).close()
    assert not tail_path(left / FILE_NAME).exists()
    assert priorities(left) == expected
    with closing(sqlite3.connect(left / FILE_NAME)) as db:
        assert db.execute("SELECT length(ids) FROM journal").fetchall() == [(0,), (9 * 8,)]


def test_an_end_that_is_not_whole_was_not_acknowledged(left):
    path = tail_path(left / FILE_NAME)
    whole, ends = path.read_bytes(), [0, 64, 112, 176]  # 32 + 2 * 16, + 32 + 16, + 32 + 2 * 16
    states = [[1.0, 1.0, 1.0, 1.0], [2.0, 3.0, 1.0, 1.0], [2.0, 4.0, 1.0, 1.0], [6.0, 4.0, 5.0, 1.0]]
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        num_whole = max(i for i, end in enumerate(ends) if end <= size)
        assert priorities(left)[0] == states[num_whole]
    path.write_bytes(whole[:150])
    with opened(left) as buffer:
        buffer.update_priority([3], [9.0])
        assert path.stat().st_size == 112 + HEAD_BYTES + ITEM_BYTES
    assert priorities(left)[0] == [2.0, 4.0, 1.0, 9.0]


@pytest.mark.parametrize("byte", range(0, 112, 3))
def test_damage_before_a_whole_entry_is_named_and_the_rest_is_saved(left, tmp_path, byte):
    path = tail_path(left / FILE_NAME)
    data = bytearray(path.read_bytes())
    data[byte] ^= 4
    path.write_bytes(data)
    for attempt in (opened, ReplayReader):
        with pytest.raises(ReplayError, match=r"replay\.tail is not whole from byte .* --repair"):
            attempt(left)
    salvage(left, tmp_path / "saved")
    second = 4.0 if byte < 64 else 3.0  # as the second entry has it, else as the first
    assert priorities(tmp_path / "saved")[0] == [6.0, second, 5.0, 1.0]


@pytest.mark.parametrize("name", ["mark", "rewind", "close"])
def test_a_tail_that_is_in_the_database_counts_no_more(tmp_path, name):
    with opened(tmp_path) as buffer:
        buffer.extend([experience(i) for i in range(4)])
        mark = buffer.mark()
        buffer.update_priority([0, 1], [2.0, 3.0])
        old = tail_path(tmp_path / FILE_NAME).read_bytes()
        if name == "mark":
            buffer.mark()
        elif name == "rewind":
            buffer.rewind(mark)
    before = priorities(tmp_path)
    assert before[:2] == (([1.0] * 4, [0] * 4) if name == "rewind" else ([2.0, 3.0, 1.0, 1.0], [1, 1, 0, 0]))
    tail_path(tmp_path / FILE_NAME).write_bytes(old)  # as when the kill came before it was emptied
    assert priorities(tmp_path) == before
    with opened(tmp_path) as buffer:
        buffer.update_priority([3], [8.0])
    after = priorities(tmp_path)
    assert after == ([*before[0][:3], 8.0], [*before[1][:3], before[1][3] + 1], 0)


def test_a_tail_of_a_database_that_is_gone_does_not_count(left):
    (left / FILE_NAME).unlink()
    with opened(left) as buffer:
        buffer.extend([experience(i) for i in range(4)])
    assert priorities(left)[0] == [1.0] * 4


@pytest.mark.parametrize("marked", [False, True])
def test_a_file_of_format_2_is_read_and_goes_on(tmp_path, marked):
    with opened(tmp_path) as buffer:
        buffer.extend([experience(i) for i in range(4)])
        buffer.update_priority([0], [2.0])
        if marked:
            buffer.mark()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
        db.execute("DELETE FROM journal WHERE ids = x''")
        db.execute("UPDATE meta SET format = 2")
        db.commit()
    assert priorities(tmp_path)[:2] == ([2.0, 1.0, 1.0, 1.0], [1, 0, 0, 0])
    with opened(tmp_path) as buffer:
        buffer.update_priority([1], [3.0])
        assert priorities(tmp_path)[:2] == ([2.0, 3.0, 1.0, 1.0], [1, 1, 0, 0])
    assert priorities(tmp_path)[:2] == ([2.0, 3.0, 1.0, 1.0], [1, 1, 0, 0])


def test_a_full_disk_stores_nothing_of_an_update(tmp_path, monkeypatch):
    def half(file, parts, offset):
        return os.pwrite(file, b"".join(parts)[:30], offset)

    with opened(tmp_path) as buffer:
        buffer.extend([experience(i) for i in range(4)])
        buffer.update_priority([0], [2.0])
        before = buffer.stats()
        with monkeypatch.context() as patch:
            patch.setattr("os.pwritev", half)
            with pytest.raises(ReplayError, match="disk is full; nothing of this call was stored"):
                buffer.update_priority([1, 2], [3.0, 3.0])
        assert buffer.stats() == before
        buffer.update_priority([3], [4.0])
        assert priorities(tmp_path)[0] == [2.0, 1.0, 1.0, 4.0]


def test_power_syncs_every_entry(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("os.fdatasync", lambda file: synced.append(os.fstat(file).st_size))
    for durability in ("process", "power"):
        with opened(tmp_path / durability, durability=durability) as buffer:
            buffer.extend([experience(0)])
            buffer.update_priority([0], [2.0])
            buffer.update_priority([0], [3.0])
    assert synced == [HEAD_BYTES + ITEM_BYTES, 2 * (HEAD_BYTES + ITEM_BYTES)]


def test_a_forked_process_that_closes_leaves_the_tail_to_its_owner(tmp_path):
    with opened(tmp_path) as buffer:
        buffer.extend([experience(0)])
        buffer.update_priority([0], [2.0])
        buffer._store._process += 1  # as the forked one finds it
        left = tail_path(tmp_path / FILE_NAME).read_bytes()
    assert tail_path(tmp_path / FILE_NAME).read_bytes() == left
    assert priorities(tmp_path)[0] == [2.0]
