"""Rows on disk: what is written comes back, and what is not a row is refused with its place."""

import json
import math
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tree.actions import MetaAction
from tree.node import Node
from tree.record import FORMAT, from_row, read_rows, to_row, write_rows

shares = st.floats(0, 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 10**6)


@st.composite
def trees(draw):
    nodes = []
    for index, local_id in enumerate(draw(st.lists(counts, unique=True, min_size=1, max_size=12))):
        parent = draw(st.integers(0, index - 1)) if index else -1
        visits = draw(counts)
        node = Node(
            index=index,
            local_id=local_id,
            parent=parent,
            depth=nodes[parent].depth + 1 if index else 0,
            action=draw(st.sampled_from(MetaAction)),
            text=draw(st.text()),
            value=draw(st.none() | shares),
            outcome=draw(st.none() | shares),
            answer=draw(st.none() | st.text()),
            terminal=draw(st.booleans()),
            thinking_left=draw(counts),
            tokens=draw(counts),
            logprob=draw(st.floats(-1e9, 0)),
            entropy=draw(st.none() | finite),
            varentropy=draw(st.none() | finite),
            count=draw(st.integers(1, 50)),
            visits=visits,
            value_sum=draw(shares) * visits,
            closed=draw(st.booleans()),
        )
        nodes.append(node)
        if index:
            nodes[parent].children.append(index)
    return nodes


def three_nodes():
    """A root with two children; the second stands for three equal thoughts."""
    root = Node(index=0, local_id=0, parent=-1, depth=0, action=MetaAction.PROBLEM, text="2 + 2?")
    left = Node(1, 3, 0, 1, MetaAction.EXPAND, "add", value=0.5, logprob=math.log(0.5), visits=2, value_sum=1)
    right = Node(
        2, 5, 0, 1, MetaAction.CONCLUDE, r"\boxed{4}", logprob=math.log(0.25), count=3, terminal=True
    )
    root.children = [1, 2]
    return [root, left, right]


def a_row(**changes):
    row = to_row(three_nodes(), problem="2 + 2?", answer="4", confidence=0.75, tokens_used=9)
    return row | changes


def with_node(position, **changes):
    row = a_row()
    row["nodes"][position] |= changes
    return row


@settings(deadline=None, max_examples=60)
@given(trees(), st.text(), st.none() | st.text(), st.none() | shares, counts)
def test_a_row_gives_back_its_nodes_through_json(nodes, problem, answer, confidence, tokens_used):
    rest = {"problem": problem, "answer": answer, "confidence": confidence, "tokens_used": tokens_used}
    row = to_row(nodes, **rest, seconds=1.5, method="mcts")
    read, others = from_row(json.loads(json.dumps(row, allow_nan=False)))
    assert read == nodes
    assert others == {**rest, "seconds": 1.5, "method": "mcts"}
    assert to_row(read, **others) == row


@settings(deadline=None, max_examples=60)
@given(trees())
def test_the_priors_of_siblings_sum_to_one(nodes):
    records = to_row(nodes, problem="", answer=None, confidence=None, tokens_used=0)["nodes"]
    for node in nodes:
        if node.children:
            assert sum(records[i]["prior"] for i in node.children) == pytest.approx(1)


def test_a_prior_is_the_share_of_probability_times_count():
    root, left, right = a_row()["nodes"]
    assert root["prior"] == 1
    # 0.5 * 1 against 0.25 * 3
    assert left["prior"] == pytest.approx(0.5 / 1.25)
    assert right["prior"] == pytest.approx(0.75 / 1.25)


def test_a_row_names_nodes_by_local_id():
    assert [(node["id"], node["parent"]) for node in a_row()["nodes"]] == [(0, -1), (3, 0), (5, 0)]


def test_the_root_has_no_value_and_a_prior_of_one():
    root = a_row()["nodes"][0]
    assert root["value"] is None
    assert root["prior"] == 1


def test_an_extra_key_cannot_replace_the_format():
    extra = {"format": 7}
    with pytest.raises(ValueError, match="own key cannot be given as extra: 'format'"):
        to_row(three_nodes(), problem="", answer=None, confidence=None, tokens_used=0, **extra)


def test_a_newer_format_is_refused_before_anything_else_is_read():
    with pytest.raises(ValueError, match=f"format {FORMAT + 1}, this release reads up to {FORMAT}"):
        from_row({"format": FORMAT + 1})


@pytest.mark.parametrize(
    "key", ["format", "problem", "answer", "confidence", "tokens_used", "seconds", "nodes"]
)
def test_a_missing_row_key_is_named(key):
    row = a_row()
    del row[key]
    with pytest.raises(ValueError, match=f"row: key '{key}' is missing"):
        from_row(row)


@pytest.mark.parametrize("key", list(a_row()["nodes"][0]))
def test_a_missing_node_key_is_named_with_its_place(key):
    row = a_row()
    del row["nodes"][1][key]
    with pytest.raises(ValueError, match=f"node at position 1: key '{key}' is missing"):
        from_row(row)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"id": 3}, r"\(id 3\): the id is taken by the node at position 1"),
        ({"parent": 7}, "parent 7 does not stand before it"),
        ({"parent": 5}, "parent 5 does not stand before it"),
        ({"parent": -1}, "parent is -1; the first node and no other is the root"),
        ({"action": "guess"}, "action must be one of problem, .*, got 'guess'"),
        ({"value": 1.5}, "value must be a number of at least 0 and at most 1 or null, got 1.5"),
        ({"value": math.nan}, "value must be .*, got nan"),
        ({"logprob": -math.inf}, "logprob must be a number, got -inf"),
        ({"visits": True}, "visits must be an integer of at least 0, got True"),
        ({"visits": 2.0}, "visits must be an integer"),
        ({"value_sum": 10**400}, "value_sum must be a number"),
        ({"terminal": 1}, "terminal must be true or false, got 1"),
        ({"text": None}, "text must be a string, got None"),
        ({"count": 0}, "count must be an integer of at least 1, got 0"),
    ],
)
def test_a_bad_node_is_refused_with_what_and_where(changes, complaint):
    with pytest.raises(ValueError, match=f"row, node at position 2.*{complaint}"):
        from_row(with_node(2, **changes))


def test_a_parent_after_its_child_is_refused():
    row = a_row()
    row["nodes"][1]["parent"] = 5
    with pytest.raises(ValueError, match=r"position 1 \(id 3\): parent 5 does not stand before it"):
        from_row(row)


@pytest.mark.parametrize("nodes", [[], None, {}, ["node"]])
def test_nodes_that_are_no_list_of_objects_are_refused(nodes):
    with pytest.raises(ValueError, match="row"):
        from_row(a_row(nodes=nodes))


def test_a_file_gives_back_its_rows(tmp_path):
    path = tmp_path / "trees.jsonl"
    rows = [a_row(), a_row(problem="自然数 \u2028 \ud800 \x1b")]
    write_rows(path, rows)
    assert list(read_rows(path)) == rows
    assert len(path.read_bytes().splitlines()) == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["trees.jsonl"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"{", "Expecting property name"),
        (b"\xff{}", "can't decode byte"),
        (b"[" * 100_000, "nested too deeply"),
        (b"NaN", "NaN is not a JSON number"),
        (b"[]", "row: expected an object"),
        (b'{"format": 1}', "key 'problem' is missing"),
    ],
)
def test_a_bad_line_is_refused_with_file_and_line(tmp_path, line, complaint):
    path = tmp_path / "trees.jsonl"
    write_rows(path, [a_row()])
    path.write_bytes(path.read_bytes() + b"\n" + line + b"\n")
    with pytest.raises(ValueError, match=rf"trees.jsonl, line 3: .*{complaint}"):
        list(read_rows(path))


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "trees.jsonl"
    write_rows(path, [a_row()])
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"row of problem '2 \+ 2\?' cannot be written"):
        write_rows(path, [a_row(), a_row(confidence=math.nan)])
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["trees.jsonl"]


@pytest.mark.skipif(os.name != "posix", reason="links and devices")
def test_a_link_stays_a_link_and_a_device_stays_a_device(tmp_path):
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "target.jsonl")
    write_rows(tmp_path / "link.jsonl", [a_row()])
    assert (tmp_path / "link.jsonl").is_symlink()
    assert list(read_rows(tmp_path / "target.jsonl")) == [a_row()]
    write_rows(os.devnull, [a_row()])
    assert not os.path.isfile(os.devnull)
