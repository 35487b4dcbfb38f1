"""What is whole of a damaged file is saved: nodes, ids, priorities; what is not is named."""

import os
import random
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from llama_o1.cli import main
from replay import Experience, PrioritizedReplayBuffer, ReplayError
from replay.file import FILE_NAME
from replay.salvage import salvage


def experience(number):
    ids = np.arange(number, number + 200, dtype=np.int32)
    return Experience(
        context=ids[:50],
        ids=ids,
        sampled=ids % 3 > 0,
        logprobs=np.full(200, -0.25, np.float32),
        temperature=1.0,
        advantage=0.5,
        value=0.5,
        value_target=1.0,
        outcome=None,
        version=number // 100,
        action="expand",
        problem="p",
        tree="t",
        node=number,
        parent=number - 1,
    )


@pytest.fixture
def folder(tmp_path):
    """300 nodes, 0 to 99 evicted; node i has priority i, given since the last mark for every second one."""
    with PrioritizedReplayBuffer(tmp_path / "old", capacity=200, backend="numpy") as buffer:
        buffer.extend([experience(i) for i in range(300)], np.arange(300.0))
        buffer.update_priority(np.arange(101, 300, 2), np.full(100, 5.0))
        buffer.mark()
        buffer.update_priority(np.arange(101, 300, 2), np.arange(101.0, 300, 2))
    return tmp_path / "old"


def held(folder):
    """Number of each node and its priority, by id; reading them checks every row."""
    with PrioritizedReplayBuffer(folder, capacity=200, backend="numpy") as buffer:
        ids = buffer._memory.ids()
        rows = buffer._memory.experiences_at(ids % buffer._memory.position.num_slots)
        priorities = buffer._memory.priorities(ids)
        assert buffer.extend([experience(0)]).tolist() >= [300]
        return {int(i): (row.node, p) for i, row, p in zip(ids, rows, priorities.tolist(), strict=True)}


WHOLE = {i: (i, float(i)) for i in range(100, 300)}


def damage(folder, sql):
    with closing(sqlite3.connect(folder / FILE_NAME)) as db:
        db.execute(sql)
        db.commit()


def test_a_whole_buffer_is_saved_whole(folder, tmp_path):
    found = salvage(folder, tmp_path / "new")
    assert found == (200, [], True, 0)
    assert held(tmp_path / "new") == WHOLE


def test_damaged_nodes_are_named_and_all_others_saved(folder, tmp_path):
    damage(folder, "UPDATE nodes SET value = 0.75 WHERE id IN (120, 250)")
    damage(folder, "UPDATE payloads SET payload = zeroblob(length(payload)) WHERE id = 130")
    damage(folder, "DELETE FROM nodes WHERE id = 299")
    found = salvage(folder, tmp_path / "new")
    assert found == (196, [120, 130, 250, 299], True, 0)
    assert found.line(folder, tmp_path).endswith("lost 4 (120, 130, 250, 299)")
    assert held(tmp_path / "new") == {i: WHOLE[i] for i in WHOLE if i not in found.lost}


def test_without_the_journal_priorities_are_those_of_the_mark(folder, tmp_path):
    damage(folder, "UPDATE journal SET crc32 = crc32 + 1")
    assert salvage(folder, tmp_path / "new").num_guessed == 0
    assert held(tmp_path / "new")[101] == (101, 5.0)
    damage(folder, "UPDATE snapshots SET crc32 = crc32 + 1")
    assert salvage(folder, tmp_path / "other").num_guessed == 200
    assert held(tmp_path / "other")[101] == (101, 5.0)
    assert held(tmp_path / "other")[102] == (102, 102.0)


def test_a_damaged_first_page_is_replaced(folder, tmp_path):
    path = folder / FILE_NAME
    data = path.read_bytes()
    path.write_bytes(b"\xff" * 4096 + data[4096:])
    with pytest.raises(ReplayError, match="not a database"):
        PrioritizedReplayBuffer(folder, capacity=200)
    assert salvage(folder, tmp_path / "new") == (200, [], True, 0)
    assert held(tmp_path / "new") == WHOLE


def test_a_file_cut_short_gives_what_came_before(folder, tmp_path):
    path = folder / FILE_NAME
    os.truncate(path, path.stat().st_size * 3 // 4)
    found = salvage(folder, tmp_path / "new")
    assert 0 < found.num_nodes < 200
    assert all(node == i for i, (node, _) in held(tmp_path / "new").items())


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bits_lose_no_node_they_did_not_hit(folder, tmp_path, seed):
    rng = random.Random(seed)
    path = folder / FILE_NAME
    data = bytearray(path.read_bytes())
    for _ in range(5):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    found = salvage(folder, tmp_path / "new")
    saved = held(tmp_path / "new")
    assert found.num_nodes == len(saved)
    assert all(node == i for i, (node, _) in saved.items())
    assert len(saved) > 150  # five pages hold at most so many rows that are not alone in theirs


def test_what_cannot_be_repaired_is_one_clear_error(folder, tmp_path):
    with pytest.raises(ReplayError, match="no replay buffer in"):
        salvage(tmp_path, tmp_path / "new")
    with pytest.raises(ReplayError, match="is there already"):
        salvage(folder, folder)
    with (
        PrioritizedReplayBuffer(folder, capacity=200),
        pytest.raises(ReplayError, match="already open for writing"),
    ):
        salvage(folder, tmp_path / "new")
    damage(folder, "UPDATE meta SET format = 3")
    with pytest.raises(ReplayError, match="has format 3, this program repairs format 2"):
        salvage(folder, tmp_path / "new")


def test_inspect_repairs_from_the_command_line(folder, tmp_path, capsys):
    damage(folder, "DELETE FROM payloads WHERE id = 150")
    assert main(["inspect", str(folder), "--repair", str(tmp_path / "new" / "replay")]) == 0
    assert "saved 199 nodes" in capsys.readouterr().out
    assert 150 not in held(tmp_path / "new" / "replay")
    assert main(["inspect", str(folder), "--repair", str(tmp_path / "new" / "replay")]) == 2
    assert "is there already" in capsys.readouterr().err
