"""Looking into a buffer: conditions, views, text, and a writer that goes on."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay import Experience, PrioritizedReplayBuffer, ReplayError
from replay.file import FILE_NAME
from replay.inspect.overview import overview, spread_out
from replay.inspect.query import ReplayReader
from replay.inspect.summary import render_node, render_summary
from replay.inspect.text import ASCII, UNICODE, bar, escape, sparkline
from replay.inspect.where import parse_where


def experience(node, parent, action, value, value_target, outcome=None, version=0, tree="t1"):
    return Experience(
        context=np.array([7, 8], np.int32),
        ids=np.array([node, 100, 101], np.int32),
        sampled=np.array([False, True, True]),
        logprobs=np.array([0, -0.5, -1.5], np.float32),
        temperature=1.0,
        advantage=value_target - value,
        value=value,
        value_target=value_target,
        outcome=outcome,
        version=version,
        action=action,
        problem="p1",
        tree=tree,
        node=node,
        parent=parent,
    )


@pytest.fixture
def folder(tmp_path):
    with PrioritizedReplayBuffer(tmp_path / "replay", capacity=16) as buffer:
        buffer.extend(
            [
                experience(1, 0, "expand", 0.25, 0.5),
                experience(2, 1, "critic", 0.5, 0.5),
                experience(3, 2, "refine", 0.5, 1.0, version=3),
                experience(4, 3, "conclude", 0.75, 1.0, outcome=1.0, version=3),
                experience(5, 1, "conclude", 0.95, 0.0, outcome=0.0, version=4),
            ],
            [1.0, 2.0, 3.0, 4.0, 5.0],
        )
        buffer.update_priority([1], [6.0])
    return tmp_path


def found(folder, where):
    with ReplayReader(folder) as reader:
        return sorted(item.id for item in reader.top(100, where=where))


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ("action = 'conclude'", [3, 4]),
        ('action == "conclude" AND outcome = 0', [4]),
        ("value < .5 or value >= 9.5e-1", [0, 4]),
        ("NOT (action = 'expand' OR action = 'critic') AND version <> 3", [4]),
        ("outcome IS NULL and value_target = 0.5", [0, 1]),
        ("outcome is not null", [3, 4]),
        ("priority > 5.5", [1]),  # as the journal has it
        ("age = 4", [0, 1]),
        ("error >= 0.5", [2, 4]),
        ("ID != 2 AND (node = 3 OR parent = 1)", [1, 4]),
        ("advantage = -0.95", [4]),
        ("action in ('critic', 'refine') and id not in (2)", [1]),
        ("value between 0.5 and 0.75", [1, 2, 3]),
        ("node not between 2 and 4", [0, 4]),
        ("action like '%c%' and action not like 'conclud_'", [1]),
        ("draws = 1", [1]),
        ("num_context = 2 and num_sampled <> 3 and temperature = 1", [0, 1, 2, 3, 4]),
        ("  ", [0, 1, 2, 3, 4]),
    ],
)
def test_a_condition_finds_its_items(folder, where, ids):
    assert found(folder, where) == ids


def test_quotes_inside_quotes_are_doubled():
    assert parse_where("tree = 'it''s'").parameters == ("it's",)
    assert parse_where('tree = "a""b"').parameters == ('a"b',)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("valeu > 1", "no column 'valeu'; the nearest is 'value'"),
        ("1=1", "expected a column at character 1"),
        ("value", "expected one of .* got the end"),
        ("value > ", "expected a number for value .* got the end"),
        ("value > 'x'", "expected a number for value"),
        ("action = critic", "expected text in quotes for action at character 10"),
        ("value > 1 priority < 2", "expected AND, OR or the end"),
        ("(value > 1", "expected a closing parenthesis"),
        ("value > 1)", "expected AND, OR or the end"),
        ("value IS 1", "expected NULL"),
        ("value > 1e999", "expected a finite number"),
        ("value > 1; DROP TABLE nodes", "cannot read the condition at character 10"),
        ("value > 1 -- all", "cannot read the condition"),
        ("id IN (SELECT id FROM nodes)", "expected a number for id"),
        ("id IN ()", "expected a number for id"),
        ("id IN (1, 2", "expected '\\)'"),
        ("id BETWEEN 1", "expected 'AND'"),
        ("id LIKE '1%'", "expected one of"),
        ("id NOT 1", "expected IN, BETWEEN, LIKE"),
        ("id IN (" + "1," * 10_001 + "1)", "at most 10000 values"),
        ("id = (SELECT 1)", "expected a number"),
        ("id = 1 OR load_extension = 1", "no column 'load_extension'"),
        ("sqlite_master = 1", "no column"),
        ("value > ?", "cannot read"),
        ("value > :x", "cannot read"),
        ("tree = 'unclosed", "cannot read"),
        ("value > 1\x00", "cannot read"),
        ("(" * 1000 + "id = 1" + ")" * 1000, "nested 20 deep"),
        ("NOT " * 1000 + "id = 1", "nested 20 deep"),
        (" AND ".join(["id = 1"] * 101), "at most 100 conditions"),
        ("id = \u0661", "cannot read"),
    ],
)
def test_a_condition_outside_the_grammar_is_refused(folder, where, message):
    with ReplayReader(folder) as reader, pytest.raises(ReplayError, match=message):
        reader.top(where=where)


@pytest.mark.parametrize("text", ["'; DROP TABLE nodes; --", "x' OR '1'='1", "%", "\x00", "\ud7ff"])
def test_hostile_text_stays_a_value(folder, text):
    quoted = text.replace("'", "''")
    assert found(folder, f"action = '{quoted}'") == []
    assert len(found(folder, f"action <> '{quoted}'")) == 5


@given(st.text(max_size=60))
def test_no_text_reaches_sql_but_names_and_marks(text):
    try:
        condition = parse_where(text)
    except ReplayError:
        return
    assert all(c.isalnum() or c in "()_?<>=, " for c in condition.sql)
    assert condition.sql.count("?") == len(condition.parameters)


def test_the_longest_condition_is_within_what_sqlite_takes(folder):
    assert found(folder, " OR ".join(["id = 1"] * 100)) == [1]
    level = "(id <> 0 AND NOT (id = 0 OR id <> 9 AND "  # three deep
    assert found(folder, level * 6 + "id = 1" + "))" * 6) == [1]  # an even number of NOTs


def test_top_sorts_by_any_column(folder):
    with ReplayReader(folder) as reader:
        assert [item.id for item in reader.top(3)] == [1, 4, 3]
        assert [item.id for item in reader.top(2, "value asc")] == [0, 1]
        assert [item.id for item in reader.top(9, "outcome DESC")] == [3, 4, 0, 1, 2]  # nothing comes last
        assert reader.top(0) == []
        with pytest.raises(ReplayError, match="nearest is 'priority'"):
            reader.top(1, "prioritty")
        with pytest.raises(ReplayError, match="sort must be a column"):
            reader.top(1, "id; DROP TABLE nodes")
        with pytest.raises(ReplayError, match="limit"):
            reader.top(-1)


def test_the_overview_counts_and_averages(folder):
    with ReplayReader(folder) as reader:
        found = overview(reader)
        conclusions = overview(reader, "action = 'conclude'")
    assert (found.num_live, found.num_matching, found.num_looked_at, found.versions) == (5, 5, 5, (0, 4))
    assert found.payload_bytes == 5 * (2 * 4 + 3 * 9)
    assert (found.draws, found.duplicates, found.is_sample) == ((1, 4), 0, False)
    # Priorities 1, 6, 3, 4, 5: (sum 19)^2 / (sum of squares 87).
    assert found.effective_sample_size == pytest.approx(361 / 87)
    assert {group.name: group.num_nodes for group in found.by_outcome} == {
        "none": 3,
        "right": 1,
        "wrong": 1,
    }
    conclude = next(group for group in found.by_action if group.name == "conclude")
    assert conclude.value == pytest.approx(0.85)
    assert conclude.error == pytest.approx((0.25 + 0.95) / 2)
    assert [(group.name, group.num_nodes) for group in found.by_value] == [
        ("1", 1),
        ("2", 2),
        ("3", 1),
        ("4", 1),
    ]
    age = next(spread for spread in found.spreads if spread.name == "age")
    assert (age.least, age.median, age.mean, age.most) == (0, 1, 2, 4)  # ages 4 4 1 1 0
    assert conclusions.num_matching == 2
    assert [group.name for group in conclusions.by_action] == ["conclude"]


def test_a_node_comes_with_its_arrays_and_ancestors(folder):
    with ReplayReader(folder) as reader:
        detail = reader.node(3)
        with pytest.raises(ReplayError, match="no node 99; live ids are 0 to 4"):
            reader.node(99)
        with pytest.raises(ReplayError, match="no node"):
            reader.node(2**80)
    assert (detail.state, detail.priority) == ("live", 4.0)
    assert detail.experience.ids.tolist() == [4, 100, 101]
    assert [a.experience.node for a in detail.ancestors] == [3, 2, 1]
    assert [a.id for a in detail.ancestors] == [2, 1, 0]


def test_dropped_and_evicted_nodes_are_told_apart(folder):
    with PrioritizedReplayBuffer(folder / "replay", capacity=16) as buffer:
        buffer.mark()  # so that what goes can still be read
        buffer.drop_older_than(1)
    with PrioritizedReplayBuffer(folder / "replay", capacity=2) as buffer, ReplayReader(folder) as reader:
        assert [reader.node(i).state for i in (0, 2, 3)] == ["dropped", "evicted", "live"]
        assert [item.id for item in reader.top(9)] == [4, 3]


def test_a_cycle_of_parents_ends(tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=4) as buffer:
        buffer.extend([experience(1, 2, "expand", 0, 0), experience(2, 1, "expand", 0, 0)])
    with ReplayReader(tmp_path) as reader:
        assert [a.id for a in reader.node(0).ancestors] == [1, 0]


def test_a_folder_without_a_buffer_is_named_and_left_alone(tmp_path):
    with pytest.raises(ReplayError, match="no replay buffer in"):
        ReplayReader(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / FILE_NAME).touch()
    with pytest.raises(ReplayError, match="its writer has not begun yet"):
        ReplayReader(tmp_path)


def test_a_reader_cannot_write(folder):
    with ReplayReader(folder) as reader, pytest.raises(Exception, match="readonly"):
        reader._db.execute("DELETE FROM nodes")


def test_a_reader_sees_one_moment_while_the_writer_goes_on(folder):
    with PrioritizedReplayBuffer(folder / "replay", capacity=16) as buffer, ReplayReader(folder) as early:
        for i in range(20):
            buffer.extend([experience(i, 0, "expand", 0.5, 0.5, version=5)])
            buffer.update_priority([20], [9.0])
            buffer.mark()
            with ReplayReader(folder) as reader:
                found = overview(reader)
                assert found.num_matching == found.num_live == min(6 + i, 16)
                assert found.position.next_id == 6 + i
        assert overview(early).num_matching == 5
        assert len(buffer) == 16


def decode(ids):
    return "".join({100: "\x1b[31mred", 101: "\n<b>\u202e"}.get(i, f"<{i}>") for i in ids)


def test_the_summary_is_plain_aligned_text(folder):
    text = render_summary(folder, limit=2, where="value > 0.3")
    assert "5 live of 5 added; 0 evicted, 0 dropped, 0 stale updates" in text
    assert "4 match value > 0.3" in text
    lines = text.splitlines()
    at = lines.index("First 2 by priority")
    assert lines[at + 1].split()[:5] == ["id", "problem", "tree", "node", "action"]
    assert lines[at + 2].split() == "1 p1 t1 2 critic 4 6 1 0 0.5000 0.5000 - 3".split()
    assert lines[at + 3].split() == "4 p1 t1 5 conclude 0 5 0 -0.9500 0.9500 0 0 3".split()
    assert len(lines) == at + 4
    assert lines[at + 2].index("critic") == lines[at + 3].index("conclude")


def test_control_characters_of_a_model_are_never_printed(folder):
    for text in (render_summary(folder, decode), render_node(folder, 3, decode)):
        assert "\\x1b[31mred" in text
        assert "\\u202e" in text
        assert all(c.isprintable() or c == "\n" for c in text)
    assert escape("a\r\n\tb\x07\ud800") == "a\\r\\n\\tb\\x07\\ud800"


def test_a_node_is_shown_token_by_token(folder):
    lines = render_node(folder, 3, decode).splitlines()
    at = lines.index("Tokens")
    assert lines[0] == "Node 3 (live)"
    assert lines[at + 2].split() == ["0", "4", "forced", "<4>"]
    assert lines[at + 3].split() == ["1", "100", "-0.5000", "\\x1b[31mred"]
    assert lines[-1] == "  2 of 3 sampled, mean log-prob -1.0000"
    assert "7 8" in render_node(folder, 3)


def test_a_node_says_where_it_comes_from_and_what_lies_above_it(folder):
    lines = render_node(folder, 3, decode, lambda tree: {"run": "my\nrun", "seed": f"of {tree}"}).splitlines()
    assert "  run             my\\nrun" in lines
    assert "  seed            of t1" in lines
    at = lines.index("Path, from the root's side")
    assert [line.split()[:3] for line in lines[at + 2 : at + 6]] == [
        ["0", "1", "expand"], ["1", "2", "critic"], ["2", "3", "refine"], ["3", "4", "conclude"],
    ]  # fmt: skip


def test_a_large_buffer_is_answered_from_a_sample_that_is_said(tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=400) as buffer:
        buffer.extend([experience(i, 0, "expand", i / 400, 0.5, version=i // 100) for i in range(400)])
    with ReplayReader(tmp_path) as reader:
        found = overview(reader, sample=100)
        assert overview(reader, "id < 90", sample=100).num_looked_at == 90
        with pytest.raises(ReplayError, match="sample must be at least 0"):
            overview(reader, sample=-1)
    assert (found.num_matching, found.num_looked_at, found.draws) == (400, 100, (0, 400))
    assert found.effective_sample_size == pytest.approx(400)  # of all: their priorities are equal
    text = render_summary(tmp_path, sample=100)
    assert "estimates from 100 nodes spread evenly" in text
    assert text.split("By action\n")[1].splitlines()[1].split()[:2] == ["expand", "~400"]
    assert "estimates" not in render_summary(tmp_path, sample=0)


@given(st.integers(0, 500), st.integers(1, 500))
def test_a_sample_is_as_large_as_asked_for_at_most_and_reaches_both_ends(num_ids, wanted):
    ids = np.arange(7, 7 + num_ids)
    chosen = spread_out(ids, wanted)
    assert len(chosen) <= wanted
    assert np.isin(chosen, ids).all()
    if num_ids <= wanted:
        assert (chosen == ids).all()
    else:
        assert 2 * len(chosen) > min(wanted, 50)
        assert chosen[0] == 7
        assert chosen[-1] == ids[-1] or wanted < 100


def test_equal_tokens_are_duplicates_and_equal_numbers_are_not(tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=8) as buffer:
        buffer.extend([experience(1, 0, "expand", 0.1 * i, 0.5, tree=f"t{i}") for i in range(3)])
        buffer.extend([experience(2, 0, "expand", 0, 0.5)])
    with ReplayReader(tmp_path) as reader:
        assert overview(reader).duplicates == 2


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.0]), min_size=1, max_size=40), st.integers(0, 45))
def test_what_is_read_from_ram_is_what_the_file_would_sort(tmp_path_factory, priorities, limit):
    folder = tmp_path_factory.mktemp("replay")
    with PrioritizedReplayBuffer(folder, capacity=64) as buffer:
        buffer.extend([experience(1, 0, "expand", 0, 0) for _ in priorities], priorities)
    least = sorted(range(len(priorities)), key=lambda i: (priorities[i], i))
    most = sorted(range(len(priorities)), key=lambda i: (-priorities[i], i))
    with ReplayReader(folder) as reader:
        reader.FIRST_LOOKS = (5, 20)
        assert [item.id for item in reader.top(limit, "priority asc")] == least[:limit]
        assert [item.id for item in reader.top(limit)] == most[:limit]
        odd = [i for i in most if i % 2]
        condition = f"id IN ({', '.join(map(str, odd))})" if odd else "id < 0"
        assert [item.id for item in reader.top(limit, where=condition)] == odd[:limit]


def test_bars_and_sparklines_show_shares_and_never_hide_a_count():
    assert sparkline([0, 1, 50, 100], UNICODE) == " ▁▄█"
    assert sparkline([0, 0], ASCII) == "  "
    assert bar(3, 4, 4, UNICODE) == "███ "
    assert bar(1, 1000, 4, UNICODE) == "▏   "
    assert bar(0, 0, 4, ASCII) == "    "


def test_an_empty_buffer_has_a_summary(tmp_path):
    PrioritizedReplayBuffer(tmp_path, capacity=4).close()
    assert "0 live of 0 added" in render_summary(tmp_path)


def test_replay_imports_neither_torch_nor_its_neighbours():
    code = (
        "import sys, replay, replay.inspect.summary; "
        "sys.exit(bool({'torch', 'tree', 'llama_o1'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
