"""The file: kills, second writers, damage, newer formats, plain SQL clients."""

import gc
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest

from replay import Experience, PrioritizedReplayBuffer, ReplayError
from replay.file import FILE_NAME
from replay.inspect.query import ReplayReader
from replay.wal import Checkpointer

CHILD = """
import sys
import numpy as np
from replay import Experience, PrioritizedReplayBuffer

def experience(number):
    ids = np.full(40, number, dtype=np.int32)
    return Experience(ids, ids, ids > -1, np.zeros(40, np.float32), 1.0, 0.0, 0.5, 1.0, None, 0, "expand",
                      "p", "t", number, number - 1)

buffer = PrioritizedReplayBuffer(sys.argv[1], capacity=50)
start = buffer.stats()["added"]
print("open", flush=True)
for i in range(start, start + 100_000, 2):
    ids = buffer.extend([experience(i), experience(i + 1)])
    print("added", *ids, flush=True)
    buffer.update_priority(ids, [i + 1.0, i + 2.0])
    print("updated", *ids, flush=True)
    if i % 7 == 0:
        buffer.mark()
"""


def experience(number=0):
    ids = np.full(40, number, dtype=np.int32)
    return Experience(
        context=ids,
        ids=ids,
        sampled=ids >= 0,
        logprobs=np.zeros(40, np.float32),
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
        parent=number - 1,
    )


def begin(folder, count=4, **settings):
    with PrioritizedReplayBuffer(folder, capacity=50, **settings) as buffer:
        buffer.extend([experience(0x1234 + i) for i in range(count)])
    return Path(folder) / FILE_NAME


def test_a_second_writer_is_refused(tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=50) as buffer:
        with pytest.raises(ReplayError, match="already open for writing in this process"):
            PrioritizedReplayBuffer(tmp_path, capacity=50)
        code = CHILD.replace("buffer = ", "import replay.errors\ntry:\n    buffer = ").split("start =")[0]
        code += "\nexcept replay.errors.ReplayError as error:\n    print(error)"
        child = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
        assert "open for writing in another process; stop it, or use another folder" in child.stdout
        buffer.extend([experience()])
    with PrioritizedReplayBuffer(tmp_path, capacity=50) as buffer:
        assert len(buffer) == 1


def test_a_closed_buffer_writes_no_more(tmp_path):
    buffer = PrioritizedReplayBuffer(tmp_path, capacity=50)
    buffer.close()
    buffer.close()
    with pytest.raises(ReplayError, match="nothing of this call was stored"):
        buffer.extend([experience()])


def flip(path, content, offset=0):
    """Flip one bit of the first place in the file that holds this content."""
    data = bytearray(path.read_bytes())
    at = data.find(content)
    assert at >= 0
    data[at + offset] ^= 1
    path.write_bytes(data)


def test_a_flipped_bit_of_an_array_names_its_node(tmp_path):
    path = begin(tmp_path)
    flip(path, np.full(20, 0x1236, "<i4").tobytes(), 33)
    with pytest.raises(ReplayError, match=r"replay\.sqlite is damaged: node 2 does not match its checksum"):
        PrioritizedReplayBuffer(tmp_path, capacity=50)
    with ReplayReader(tmp_path) as reader, pytest.raises(ReplayError, match="node 2 does not match"):
        reader.node(2)


@pytest.mark.parametrize("collects", [True, False])
@pytest.mark.parametrize("damage", ["", "DELETE FROM nodes WHERE id = 2"])
def test_opening_leaves_the_collector_and_the_mapping_as_they_were(tmp_path, collects, damage):
    path = begin(tmp_path)
    with closing(sqlite3.connect(path)) as db:
        db.execute(damage)
        db.commit()
    (gc.enable if collects else gc.disable)()
    try:
        with suppress(ReplayError), PrioritizedReplayBuffer(tmp_path, capacity=50) as buffer:
            assert buffer._store._db.execute("PRAGMA mmap_size").fetchone() == (0,)
            assert not damage
        assert gc.isenabled() == collects
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE nodes SET value = 0.25 WHERE id = 3", "node 3 does not match its checksum"),
        ("UPDATE nodes SET action = 'expanD' WHERE id = 1", "node 1 does not match its checksum"),
        ("UPDATE nodes SET num_context = 'x' WHERE id = 1", "node 1 cannot be read"),
        ("UPDATE nodes SET tree = x'ff' WHERE id = 1", "node 1 cannot be read"),
        ("DELETE FROM nodes WHERE id = 2", "node 2 is missing"),
        ("DELETE FROM nodes WHERE id = 3", "node 3 is missing"),
        ("DELETE FROM payloads WHERE id = 0", "node 0 cannot be read"),
        ("UPDATE journal SET priorities = zeroblob(32)", "journal entry 1 does not match its checksum"),
        ("UPDATE snapshots SET priorities = zeroblob(32)", "snapshot 1 does not match its checksum"),
        ("UPDATE meta SET next_id = 3", "meta does not match its checksum"),
        ("DELETE FROM meta", "meta holds no format"),
        ("UPDATE meta SET format = 3", "has format 3, this program reads format 2; install a newer"),
        (
            "UPDATE meta SET format = 1",
            "has format 1, this program reads format 2; use the llama-o1 that wrote",
        ),
        ("DROP TABLE payloads", "not a replay buffer"),
        ("DROP TABLE evicted", "it has no table evicted"),
        ("DELETE FROM priorities WHERE id = 1", "holds 3 live nodes, meta says 4"),
        ("UPDATE priorities SET id = 9 WHERE id = 3", "node 9 has no priority"),
        ("DELETE FROM journal", "node 0 has no priority"),
    ],
)
def test_damage_is_named(tmp_path, damage, message):
    path = begin(tmp_path)
    if "snapshots" in damage:
        with PrioritizedReplayBuffer(tmp_path, capacity=50) as buffer:
            buffer.mark()
    with closing(sqlite3.connect(path)) as db:
        db.execute(damage)
        db.commit()
    with pytest.raises(ReplayError, match=message) as refused:
        PrioritizedReplayBuffer(tmp_path, capacity=50)
    repair = f"`llama-o1 inspect {tmp_path} --repair FOLDER` saves what is whole"
    assert ("is damaged" in str(refused.value)) == str(refused.value).endswith(repair)
    with closing(sqlite3.connect(path)) as db:  # the lock is free and the file was left alone
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / FILE_NAME).write_bytes(b"no database at all" * 100)
    with pytest.raises(ReplayError, match="is damaged: file is not a database"):
        PrioritizedReplayBuffer(tmp_path, capacity=50)


def test_a_truncated_file_is_refused(tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=500) as buffer:
        buffer.extend([experience(i) for i in range(200)])
    path = tmp_path / FILE_NAME
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)
    with pytest.raises(ReplayError, match=r"replay\.sqlite"):
        PrioritizedReplayBuffer(tmp_path, capacity=500)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ReplayError, match="cannot make the folder"):
        PrioritizedReplayBuffer(tmp_path / "file" / "replay", capacity=4)


def test_a_full_disk_stores_nothing_of_the_call(tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=50_000) as buffer:
        buffer.extend([experience(i) for i in range(3)])
        before = buffer.stats()
        pages = buffer._store._db.execute("PRAGMA page_count").fetchone()[0]
        buffer._store._db.execute(f"PRAGMA max_page_count = {pages + 2}").fetchall()
        with pytest.raises(ReplayError, match="full; nothing of this call was stored"):
            buffer.extend([experience(i) for i in range(1000)])
        assert buffer.stats() == before
        buffer._store._db.execute("PRAGMA max_page_count = 100000").fetchall()
        assert buffer.extend([experience(3)]).tolist() == [3]
    with PrioritizedReplayBuffer(tmp_path, capacity=50_000) as buffer:
        assert len(buffer) == 4


def as_nobody(folder):
    """What is said when a user whom file permissions bind opens the folder, which they do not bind root."""
    command = [sys.executable, "-c", OPEN, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    if done == ["still root"]:
        pytest.skip("root cannot become another user here")
    return done


OPEN = """
import os, sys
from replay import PrioritizedReplayBuffer, ReplayError
from replay.inspect.query import ReplayReader
if os.getuid() == 0:
    try:
        os.setgroups([]), os.setgid(65534), os.setuid(65534)
    except OSError:
        print("still root")
        sys.exit()
try:
    with PrioritizedReplayBuffer(sys.argv[1], capacity=50, backend="numpy") as buffer:
        print(len(buffer))
except ReplayError as error:
    print(error)
with ReplayReader(sys.argv[1]) as reader:
    print(reader.node(2).experience.node)
"""


def test_a_folder_that_cannot_be_written_is_named_and_can_be_read():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begin(folder)
        (folder / "replay.lock").unlink()
        for path, mode in ((folder / FILE_NAME, 0o444), (folder, 0o555)):
            path.chmod(mode)
        refused, node = as_nobody(folder)
        folder.chmod(0o755)
    assert refused == f"cannot write in {folder}: Permission denied"
    assert node == str(0x1236)


def test_a_file_that_cannot_be_written_is_named():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = begin(folder)
        folder.chmod(0o777)
        (folder / "replay.lock").chmod(0o666)
        path.chmod(0o444)
        refused, node = as_nobody(folder)
    assert refused == f"cannot write {path}: it is read-only; allow it, or use another folder"
    assert node == str(0x1236)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MB."""
    if os.getuid() or not shutil.which("mount"):
        pytest.skip("only root can mount a small disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(tmp_path)]
    mounted = subprocess.run(command, capture_output=True)
    if mounted.returncode:
        pytest.skip("no small disk can be mounted here")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_disk_that_is_really_full_loses_nothing_that_was_acknowledged(small_disk):
    with PrioritizedReplayBuffer(small_disk, capacity=100_000, backend="numpy") as buffer:
        acknowledged = 0

        def fill():
            nonlocal acknowledged
            for number in range(0, 100_000, 50):
                buffer.extend([experience(i) for i in range(number, number + 50)])
                acknowledged = number + 50

        with pytest.raises(ReplayError, match="nothing of this call was stored"):
            fill()
        assert acknowledged > 500
        assert len(buffer) == acknowledged
        assert len(buffer.sample(8, 1.0, np.random.default_rng(0)).experiences) == 8
    with PrioritizedReplayBuffer(small_disk, capacity=100_000, backend="numpy") as buffer:
        ids = buffer._memory.ids()
        rows = buffer._memory.experiences_at(ids % buffer._memory.position.num_slots)
        assert [row.node for row in rows] == list(range(acknowledged))


def test_the_log_is_copied_while_the_writer_goes_on_and_starts_anew(tmp_path, monkeypatch):
    monkeypatch.setattr("replay.wal._DUE_BYTES", 1 << 15)
    monkeypatch.setattr("replay.wal._RESTART_PAGES", 64)
    copied = threading.Event()
    whole = Checkpointer._copy

    def copy(self, db):
        whole(self, db)
        copied.set()

    monkeypatch.setattr(Checkpointer, "_copy", copy)
    log = tmp_path / f"{FILE_NAME}-wal"
    with PrioritizedReplayBuffer(tmp_path, capacity=100, backend="numpy") as buffer:
        for number in range(0, 6000, 100):
            copied.clear()
            buffer.extend([experience(i) for i in range(number, number + 100)])
            assert copied.wait(30)
        assert log.stat().st_size < 1 << 20  # 60 times 100 nodes of more than 600 bytes were written to it
        with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
            assert db.execute("SELECT count(*) FROM live").fetchone() == (100,)


def test_a_buffer_is_written_by_the_process_that_opened_it(tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=4) as buffer:
        buffer.extend([experience()])
        buffer._store._process += 1  # as a forked worker would find it
        with pytest.raises(ReplayError, match="opened by another process; open it in the one that writes"):
            buffer.update_priority([0], [2.0])
        assert len(buffer.sample(2, 1.0, np.random.default_rng(0)).experiences) == 2


@pytest.mark.parametrize(("durability", "synchronous"), [("process", 1), ("power", 2)])
def test_durability_sets_when_sqlite_syncs(tmp_path, durability, synchronous):
    with PrioritizedReplayBuffer(tmp_path, capacity=4, durability=durability) as buffer:
        assert buffer._store._db.execute("PRAGMA synchronous").fetchone() == (synchronous,)
        assert buffer._store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_any_sqlite_client_reads_nodes_and_priorities(tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=3) as buffer:
        buffer.extend([experience(i) for i in range(5)])
        buffer.update_priority([3], [2.5])
        with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
            ask = "SELECT id, node, priority FROM live"
            assert db.execute(ask).fetchall() == [(2, 2, 1.0), (3, 3, 1.0), (4, 4, 1.0)]
            buffer.mark()
            assert db.execute(ask).fetchall() == [(2, 2, 1.0), (3, 3, 2.5), (4, 4, 1.0)]
            assert db.execute("SELECT next_id, added, evicted FROM meta").fetchone() == (5, 5, 2)


def test_evicted_nodes_are_deleted_unless_a_mark_needs_them(tmp_path):
    def stored():
        with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
            return [i for (i,) in db.execute("SELECT id FROM nodes ORDER BY id")]

    with PrioritizedReplayBuffer(tmp_path, capacity=3) as buffer:
        buffer.extend([experience(i) for i in range(5)])
        assert stored() == [2, 3, 4]
        buffer.mark()
        buffer.extend([experience(i) for i in range(3)])
        assert stored() == [2, 3, 4, 5, 6, 7]
        for _ in range(8):  # the mark that needs 2 to 4 is then the ninth from the end
            buffer.mark()
        assert stored() == [5, 6, 7]
