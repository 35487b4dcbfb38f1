"""Trees as one offline page: what it carries, and that model text stays data."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from some_trees import a_row, four_thoughts, make_tree

from tree.page import best_leaf, html_page, winning_leaf


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


def test_the_best_leaf_is_the_first_of_highest_value_that_declares_the_answer():
    conclusions = [("4", 0.3), ("4", 0.6), ("4", 0.6), ("5", 0.9)]
    fields = [{"answer": answer, "value": value, "terminal": True} for answer, value in conclusions]
    nodes = make_tree(*((0, "conclude", "", each) for each in fields))
    assert best_leaf(nodes, "4") == 2
    nodes[2].answer = None
    assert best_leaf(nodes, "4") == 3
    assert best_leaf(nodes, "6") is None
    assert best_leaf(nodes, None) is None


def test_the_winner_is_the_leaf_that_the_row_names_and_else_the_best():
    nodes = four_thoughts()
    row = a_row(nodes)  # answers 4, as thought 30 at index 3 does
    assert winning_leaf(nodes, row) == 3
    assert winning_leaf(nodes, row | {"leaf": 40}) == 4
    assert winning_leaf(nodes, row | {"leaf": None}) == winning_leaf(nodes, row | {"leaf": 99}) == 3


def test_the_page_carries_its_rows_as_data():
    rows = [a_row(four_thoughts()), a_row(four_thoughts(), answer=None)]
    parts = Parts(html_page(rows, "two problems"))
    assert json.loads(parts.texts["data"]) == {"rows": rows, "best": [30, None], "compare": None}
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


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ({"pieces": "abc"}, "pieces must be a list or null, got 'abc'"),
        (
            {"pieces": [["a", -1], ["b"]]},
            r"piece 1 must be \[text, log-prob of at most 0 or null\], got \['b'\]",
        ),
        ({"pieces": [["a", 0.5]]}, "piece 0 must be"),
        ({"pieces": [["a", True]]}, "piece 0 must be"),
        ({"pieces": [[None, -1]]}, "piece 0 must be"),
        ({"priority": "high"}, "priority must be a number or null, got 'high'"),
        ({"advantage": float("inf")}, "advantage must be a number or null, got inf"),
    ],
)
def test_what_the_page_cannot_show_is_refused_with_its_place(extra, complaint):
    row = a_row(four_thoughts())
    row["nodes"][2] |= extra
    with pytest.raises(ValueError, match=f"node at position 2: {complaint}"):
        html_page([row], "t")


@pytest.mark.parametrize("curve", [7, "abc", [[1, 2, "4"]], [[1, 2, 4, 0.5]], [[True, 2, "4", 0.5]], [None]])
def test_a_curve_that_the_page_cannot_show_is_refused(curve):
    assert html_page([a_row(four_thoughts()) | {"curve": [[9, 2, None, 0.0], [20, 4, "4", 1]]}], "t")
    with pytest.raises(ValueError, match="curve must be a list of"):
        html_page([a_row(four_thoughts()) | {"curve": curve}], "t")


def test_a_name_that_is_no_text_is_refused():
    with pytest.raises(ValueError, match="name must be a string, got 7"):
        html_page([a_row(four_thoughts()) | {"name": 7}], "t")


def test_trees_of_different_problems_are_not_compared():
    rows = [a_row(four_thoughts()), a_row(four_thoughts()) | {"problem": "3 + 3?"}]
    assert html_page(rows, "t")
    with pytest.raises(ValueError, match="of the same problem"):
        html_page(rows, "t", compare=(0, 1))
