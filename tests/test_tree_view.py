"""Trees for people: what is drawn, and that model text stays text."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tree.actions import MetaAction
from tree.node import Node
from tree.record import to_row
from tree.view import best_leaf, html_page, terminal_tree

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def make_tree(*thoughts):
    """A root and thoughts given as (parent, action, text, fields); ids are ten times the index."""
    nodes = [Node(index=0, local_id=0, parent=-1, depth=0, action=MetaAction.PROBLEM, text="2 + 2?")]
    for index, (parent, action, text, fields) in enumerate(thoughts, start=1):
        depth = nodes[parent].depth + 1
        nodes.append(Node(index, 10 * index, parent, depth, MetaAction(action), text, **fields))
        nodes[parent].children.append(index)
    return nodes


def four_thoughts():
    """0 -> 1 -> 3 (right), 0 -> 2 -> 4 (wrong); the line through 2 is visited more."""
    return make_tree(
        (0, "expand", "add", {"value": 0.5, "visits": 2, "value_sum": 1.5}),
        (0, "divide", "halve", {"value": 0.25, "visits": 3, "value_sum": 0.75}),
        (1, "conclude", "four", {"value": 0.9, "outcome": 1.0, "answer": "4", "terminal": True}),
        (2, "conclude", "five", {"value": 0.8, "outcome": 0.0, "answer": "5", "terminal": True}),
    )


def a_row(nodes, answer="4"):
    return to_row(nodes, problem=nodes[0].text, answer=answer, confidence=0.5, tokens_used=7)


def drawn(nodes, **options):
    return terminal_tree(nodes, **({"colour": False, "width": 100} | options))


class Parts(HTMLParser):
    """Tags in order, and the text of each script, style and title."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts = [], {}
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        tag, attrs = self.tags[-1] if self.tags else ("", {})
        self.texts.setdefault(attrs.get("id", tag), data)


def test_a_line_shows_id_action_value_q_visits_mark_and_text():
    lines = drawn(four_thoughts()).splitlines()
    assert lines[0].split() == ["id", "action", "value", "q", "visits", "thought"]
    # thought 10: q is 1.5 / 2
    assert "10 expand    0.50 0.75      2   └╴add" in lines[4]
    assert "30 conclude  0.90    –      0 ✓   └╴= 4 │ four" in lines[5]


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


def test_the_best_leaf_is_the_first_of_highest_value_that_declares_the_answer():
    conclusions = [("4", 0.3), ("4", 0.6), ("4", 0.6), ("5", 0.9)]
    fields = [{"answer": answer, "value": value, "terminal": True} for answer, value in conclusions]
    nodes = make_tree(*((0, "conclude", "", each) for each in fields))
    assert best_leaf(nodes, "4") == 2
    nodes[2].terminal = False
    assert best_leaf(nodes, "4") == 3
    assert best_leaf(nodes, "6") is None
    assert best_leaf(nodes, None) is None


def test_the_page_carries_its_rows_as_data():
    rows = [a_row(four_thoughts()), a_row(four_thoughts(), answer=None)]
    parts = Parts(html_page(rows, "two problems"))
    assert json.loads(parts.texts["data"]) == {"rows": rows, "best": [30, None]}
    assert parts.texts["title"] == "two problems"


@settings(deadline=None, max_examples=60)
@given(st.text() | st.sampled_from(["</script><script>x()</script>", "<!--<script>", "&lt;\u2028@@data@@"]))
def test_a_thought_cannot_leave_the_data(text):
    rows = [a_row(make_tree((0, "conclude", text, {"answer": text})), answer=text)]
    page = html_page(rows, "t")
    parts, calm = Parts(page), Parts(html_page([a_row(four_thoughts())], "t"))
    assert parts.tags == calm.tags
    assert json.loads(parts.texts["data"])["rows"] == rows
    data = page.split('id="data">')[1].split("</script>")[0]
    assert data.isascii()
    assert not re.search("[<>&]", data)


def test_the_title_is_escaped_and_is_no_template():
    parts = Parts(html_page([], "</title><script>@@data@@"))
    assert parts.texts["title"] == "</title><script>@@data@@"


def test_the_page_asks_for_nothing_outside_itself():
    page = html_page([a_row(four_thoughts())], "t")
    parts = Parts(page)
    assert not re.search(r"https?:|url\(|@import|fetch\(|import\(", page)
    links = [value for _, attrs in parts.tags for name, value in attrs.items() if name in ("src", "href")]
    assert links == ["data:,"]


def test_the_policy_allows_exactly_the_pages_own_style_and_script():
    page = html_page([], "t")
    policy = next(attrs["content"] for tag, attrs in Parts(page).tags if "http-equiv" in attrs)
    for kind, pattern in (("style", r"<style>(.*?)</style>"), ("script", r"<script>(.*?)</script>")):
        inline = re.findall(pattern, page, re.DOTALL)
        assert len(inline) == 1
        digest = base64.b64encode(hashlib.sha256(inline[0].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_the_script_sets_model_text_as_text_only():
    script = re.findall(r"<script>(.*?)</script>", html_page([], "t"), re.DOTALL)[0]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(", script)


def test_a_row_that_is_no_tree_makes_no_page():
    row = a_row(four_thoughts())
    row["nodes"][2]["parent"] = 99
    with pytest.raises(ValueError, match="parent 99 does not stand before it"):
        html_page([row], "t")
