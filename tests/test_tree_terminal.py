"""Trees in a terminal: what is drawn, and that model text stays text."""

import io
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from some_trees import four_thoughts, make_tree

from tree.terminal import one_line, terminal_tree, wants_colour, writes_signs

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def drawn(nodes, **options):
    return terminal_tree(nodes, **({"colour": False, "width": 100} | options))


def test_a_line_shows_id_action_value_q_visits_mark_and_text():
    lines = drawn(four_thoughts()).splitlines()
    assert lines[0].split() == ["id", "action", "value", "q", "visits", "thought"]
    # thought 10: q is 1.5 / 2; it was rated positive, as a value of a half is
    assert "10 expand    0.50▲ 0.75      2   └╴add" in lines[4]
    assert "30 conclude  0.90▲    –      0 ✓   └╴= 4 │ four" in lines[5]
    assert "20 divide    0.25▼ 0.25      3   ├╴halve" in lines[2]


def test_siblings_stand_by_visits_then_id():
    nodes = make_tree(*((0, "expand", f"t{i}", {"visits": visits}) for i, visits in enumerate((1, 5, 5))))
    assert re.findall(r"t\d", drawn(nodes)) == ["t1", "t2", "t0"]


def test_only_the_winning_line_is_starred():
    lines = drawn(four_thoughts(), best={0, 1, 3}).splitlines()
    assert [line.split()[1] for line in lines if line.startswith("★")] == ["0", "10", "30"]


def test_colours_change_nothing_but_colour():
    coloured = drawn(four_thoughts(), colour=True, best={0})
    assert ANSI.search(coloured)
    assert ANSI.sub("", coloured) == drawn(four_thoughts(), best={0})


@example(["\x08\u08ca\U0001342f"], 0, False)  # a mark of no width once made a line too long
@settings(deadline=None, max_examples=80)
@given(st.lists(st.text(), min_size=1, max_size=5), st.integers(0, 130), st.booleans())
def test_no_text_reaches_the_terminal_as_a_command_or_past_the_width(texts, width, plain):
    # each thought below the one before, so that guides take room too
    nodes = make_tree(*((depth, "expand", text, {"answer": text}) for depth, text in enumerate(texts)))
    page = terminal_tree(nodes, colour=False, width=width, plain=plain)
    lines = page.split("\n")
    assert len(lines) == len(nodes) + 1
    assert all(line.isprintable() and len(line) <= max(width, 60) for line in lines)
    assert page.isascii() or not plain


def test_control_characters_are_escaped_and_white_space_is_folded():
    page = drawn(make_tree((0, "expand", "a\x1b[31m\n\tb\u202ec", {})))
    assert r"a\x1b[31m b\u202ec" in page


def test_wide_letters_take_two_cells():
    lines = drawn(make_tree((0, "expand", "数" * 60, {})), width=80).splitlines()
    wide = lines[-1].count("数")
    assert len(lines[-1]) + wide in (79, 80)
    assert lines[-1].endswith("…")


def test_a_budget_marker_is_shortened_in_a_terminal():
    page = drawn(make_tree((0, "expand", "so<remaining>7/8</remaining>far", {})))
    assert "so[7/8 left] far" in page


def test_a_line_of_five_thousand_thoughts_is_drawn_within_the_width():
    nodes = make_tree(*((depth, "expand", "on", {}) for depth in range(5000)))
    assert max(map(len, drawn(nodes, width=80).splitlines())) <= 80


def test_more_visits_have_another_colour_and_equal_ones_the_same():
    nodes = make_tree(*((0, "expand", f"t{i}", {"visits": visits}) for i, visits in enumerate((1, 100, 100))))
    codes = re.findall(r"\x1b\[([0-9;]*)m +(\d+)\x1b", drawn(nodes, colour=True))
    colours = {visits: code for code, visits in codes if visits in ("1", "100")}
    assert colours["1"] != colours["100"]
    assert [code for code, visits in codes if visits == "100"] == 2 * [colours["100"]]


class Terminal(io.StringIO):
    def __init__(self, encoding="utf-8"):
        super().__init__()
        self._encoding = encoding

    encoding = property(lambda self: self._encoding)

    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_colours_are_for_terminals_that_want_them(environment, wanted):
    assert wants_colour(Terminal(), environment) is wanted
    assert not wants_colour(io.StringIO(), environment)


@pytest.mark.parametrize(
    ("encoding", "can"), [("utf-8", True), ("ascii", False), ("cp1252", False), (None, False)]
)
def test_signs_are_for_streams_that_hold_them(encoding, can):
    assert writes_signs(Terminal(encoding)) is can


def test_one_line_of_text_is_whole_and_obeyed_by_no_terminal():
    assert one_line("a\x1b[2J\n é" + "b" * 300) == r"a\x1b[2J é" + "b" * 300
    assert one_line("é", plain=True) == r"\xe9"
