"""How often an item was drawn and given a new priority: counted, kept, gone back to."""

import sqlite3

import numpy as np
import pytest

from replay import Experience, PrioritizedReplayBuffer, ReplayError
from replay.file import FILE_NAME, connect_reader
from replay.journal import read_priorities


def experience(number):
    return Experience(
        context=np.array([1], np.int32),
        ids=np.array([number], np.int32),
        sampled=np.array([True]),
        logprobs=np.array([-0.5], np.float32),
        temperature=1.0,
        advantage=0.0,
        value=0.5,
        value_target=1.0,
        outcome=None,
        version=0,
        action="expand",
        problem="p",
        tree="t",
        node=number,
        parent=0,
    )


def draws(folder):
    db = connect_reader(folder / FILE_NAME)
    try:
        found = read_priorities(db, folder / FILE_NAME)
    finally:
        db.close()
    return found.draws.tolist()


def test_an_update_is_a_draw_and_entering_is_none(tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=4) as buffer:
        buffer.extend([experience(i) for i in range(3)])
        assert draws(tmp_path) == [0, 0, 0]
        buffer.update_priority([0, 2, 2], [1, 2, 3])  # drawn twice in one batch is two draws
        assert draws(tmp_path) == [1, 0, 2]
        buffer.mark()  # the journal is gone, the counts are not
        assert draws(tmp_path) == [1, 0, 2]
        buffer.extend([experience(i) for i in range(3, 6)])  # 0 and 1 are evicted, their places taken
        buffer.update_priority([0, 3, 2], [9, 9, 9])
        assert draws(tmp_path) == [3, 1, 0, 0]
    with PrioritizedReplayBuffer(tmp_path, capacity=4) as buffer:
        buffer.mark()
    assert draws(tmp_path) == [3, 1, 0, 0]


def test_a_rewind_goes_back_to_the_draws_of_its_mark(tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=4) as buffer:
        buffer.extend([experience(0), experience(1)])
        buffer.update_priority([1], [2])
        mark = buffer.mark()
        buffer.update_priority([0, 1], [3, 3])
        buffer.mark()
        buffer.rewind(mark)
        assert draws(tmp_path) == [0, 1]
        buffer.mark()
    assert draws(tmp_path) == [0, 1]


def test_damaged_draws_are_named(tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=4) as buffer:
        buffer.extend([experience(0)])
        buffer.mark()
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("UPDATE snapshots SET draws = zeroblob(8)")
    db.close()
    with pytest.raises(ReplayError, match="snapshot 1 does not match"):
        PrioritizedReplayBuffer(tmp_path, capacity=4)
