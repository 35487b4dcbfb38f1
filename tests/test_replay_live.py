"""What the inspector takes for alive is what the buffer does, whatever was done to it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay import Experience, PrioritizedReplayBuffer, ReplayError
from replay.file import connect_reader
from replay.inspect.live import read_live
from replay.inspect.query import find_file
from replay.journal import read_priorities, read_whole_position


def experience(version):
    token = np.array([1], np.int32)
    return Experience(
        context=token, ids=token, sampled=np.array([True]), logprobs=np.zeros(1, np.float32), temperature=1.0,
        advantage=0.0, value=0.5, value_target=0.5, outcome=None, version=version, action="expand",
        problem="p", tree="t", node=1, parent=0,
    )  # fmt: skip


def both(folder):
    path = find_file(folder)
    db = connect_reader(path)
    try:
        db.execute("BEGIN")
        return read_live(db, path, read_whole_position(db, path)), read_priorities(db, path)
    finally:
        db.close()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 6), st.integers(0, 5)),
        st.tuples(st.just("update"), st.lists(st.integers(0, 40), max_size=6), st.integers(1, 9)),
        st.tuples(st.just("drop"), st.integers(0, 4)),
        st.tuples(st.just("mark")),
        st.tuples(st.just("rewind")),
        st.tuples(st.just("reopen"), st.integers(3, 12)),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(STEPS, st.sampled_from(["oldest", "lowest_priority", "oldest_version"]))
def test_the_short_way_finds_what_the_long_way_finds(tmp_path_factory, steps, eviction):
    folder = tmp_path_factory.mktemp("replay")
    buffer = PrioritizedReplayBuffer(folder, capacity=8, eviction=eviction)
    mark = None
    for name, *given_ in steps:
        if name == "add":
            buffer.extend([experience(given_[1]) for _ in range(given_[0])])
        elif name == "update":
            buffer.update_priority(given_[0], np.full(len(given_[0]), float(given_[1])))
        elif name == "drop":
            buffer.drop_older_than(given_[0])
        elif name == "mark":
            mark = buffer.mark()
        elif name == "rewind" and mark is not None:
            buffer.rewind(mark)
        elif name == "reopen":
            buffer.close()
            buffer = PrioritizedReplayBuffer(folder, capacity=given_[0], eviction=eviction)
        live, known = both(folder)
        assert live.ids.tolist() == known.ids.tolist()
        assert live.priorities.tolist() == known.current.tolist()
        assert live.draws.tolist() == known.draws.tolist()
    buffer.close()


def test_a_priority_that_is_gone_is_damage(tmp_path):
    import sqlite3

    with PrioritizedReplayBuffer(tmp_path, capacity=8) as buffer:
        buffer.extend([experience(0)] * 3)
    with sqlite3.connect(find_file(tmp_path)) as db:
        db.execute("DELETE FROM journal")
    db.close()
    with pytest.raises(ReplayError, match="damaged"):
        both(tmp_path)
