"""The page of trees in a real browser: what a reader sees, and what keys and clicks do."""

import shutil

import pytest
from some_trees import a_row, four_thoughts, make_tree, many_thoughts

from tree.page import html_page

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
LINES = "#canvas [role=treeitem]"
EVIL = "</script><script>window.hurt = 1</script><img src=x onerror='window.hurt = 2'>&lt;b&gt; <!--"


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a page of these rows; fails when the page logs an error."""
    contexts, said = [], []

    def opened(rows, address="", *, compare=None, **options):
        file = tmp_path / "page.html"
        file.write_text(html_page(rows, "trees", compare=compare), encoding="utf-8")
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text))
        page.on(
            "request", lambda request: request.url.startswith(("file:", "data:")) or said.append(request.url)
        )
        page.goto(f"{file.as_uri()}{address}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []


def ids(page):
    """The ids of the lines in the document, from top to bottom."""
    return [int(text) for text in page.locator(f"{LINES} .id").all_inner_texts()]


def chosen(page):
    return page.locator(f"{LINES}[aria-selected=true] .id").all_inner_texts()


def with_pieces(row, **pieces):
    """The row with pieces for some thoughts, given as id=list."""
    for record in row["nodes"]:
        record["pieces"] = pieces.get(f"n{record['id']}")
    return row


def test_every_line_tells_its_place_in_the_tree(opened):
    page = opened([a_row(four_thoughts())])
    items = page.locator(LINES)
    named = ("aria-level", "aria-posinset", "aria-setsize", "aria-expanded")
    told = [[items.nth(i).get_attribute(name) for name in named] for i in range(items.count())]
    # the most visited sibling first: 0, then 20 with its 40, then 10 with its 30
    assert ids(page) == [0, 20, 40, 10, 30]
    assert told == [
        ["1", "1", "1", "true"],
        ["2", "1", "2", "true"],
        ["3", "1", "1", None],
        ["2", "2", "2", "true"],
        ["3", "1", "1", None],
    ]
    assert page.locator("[role=tree]").get_attribute("aria-activedescendant") == items.nth(4).get_attribute(
        "id"
    )


def test_arrows_move_fold_and_unfold(opened):
    page = opened([a_row(four_thoughts())], "#1/20")
    page.focus("#tree")
    for key, there, lines in (
        ("ArrowLeft", "20", 4),  # folds
        ("ArrowDown", "10", 4),
        ("ArrowUp", "20", 4),
        ("ArrowRight", "20", 5),  # unfolds
        ("ArrowRight", "40", 5),  # goes to the thought below
        ("ArrowLeft", "20", 5),  # goes back to its parent
        ("Enter", "20", 4),
        ("End", "30", 4),
        ("Home", "0", 4),
        ("*", "0", 5),
        ("w", "30", 5),
    ):
        page.keyboard.press(key)
        assert (chosen(page), len(ids(page))) == ([there], lines), key


def test_a_click_on_the_caret_folds_and_one_on_the_line_chooses(opened):
    page = opened([a_row(four_thoughts())])
    page.click(f"{LINES} >> nth=1 >> .caret")
    assert ids(page) == [0, 20, 10, 30]
    assert chosen(page) == ["30"]
    page.click(f"{LINES} >> nth=1 >> .words")
    assert chosen(page) == ["20"]
    assert page.locator("#cards .card").count() == 2


def test_fold_all_and_unfold_all(opened):
    page = opened([a_row(four_thoughts())])
    page.click("#fold")
    assert ids(page) == [0]
    page.click("#unfold")
    assert len(ids(page)) == 5


def test_a_search_keeps_hits_with_the_lines_to_them_and_escape_ends_it(opened):
    page = opened([a_row(four_thoughts())])
    page.focus("#tree")
    page.keyboard.press("/")
    page.keyboard.type("HALVE")
    page.keyboard.press("Enter")
    assert page.inner_text("#hits") == "1 of 1"
    assert ids(page) == [0, 20]
    assert page.locator(f"{LINES} mark").all_inner_texts() == ["halve"]
    page.keyboard.press("Escape")
    assert len(ids(page)) == 5
    assert page.evaluate("document.activeElement.id") == "tree"


def test_hits_are_walked_through_and_around(opened):
    page = opened([a_row(make_tree(*((0, "expand", f"step {i}", {}) for i in range(3))))])
    page.fill("#query", "step")
    seen = []
    for _ in range(4):
        page.press("#query", "Enter")
        seen += chosen(page)
    page.press("#query", "Shift+Enter")
    assert seen == ["10", "20", "30", "10"]
    assert chosen(page) == ["30"]


def test_nothing_found_is_said(opened):
    page = opened([a_row(four_thoughts())])
    page.fill("#query", "zebra")
    page.wait_for_selector("text=No thought fits")
    assert page.inner_text("#hits") == "0 found"


def test_filters_keep_a_meta_action_or_an_outcome(opened):
    page = opened([a_row(four_thoughts())])
    chips = page.locator("#actions button").all_inner_texts()
    assert chips == ["problem 1", "expand 1", "divide 1", "conclude 2"]
    page.click("#actions >> text=divide")
    assert ids(page) == [0, 20]
    page.click("#clear")
    page.click("#outcomes >> text=wrong")
    assert ids(page) == [0, 20, 40]
    page.click("#actions >> text=divide")  # no divide is wrong
    assert ids(page) == []
    page.click("#clear")
    assert len(ids(page)) == 5


def test_help_opens_by_its_key_and_closes_by_escape(opened):
    page = opened([a_row(four_thoughts())])
    page.focus("#tree")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()


def test_colours_follow_the_metric_and_priority_is_offered_where_it_is_known(opened):
    row = a_row(four_thoughts())
    page = opened([row])
    assert page.locator("#metrics label").all_inner_texts() == ["value", "q", "visits", "prior"]
    for record, priority in zip(row["nodes"][1:], (0.5, 0.1, 1.0, 0.2), strict=True):
        record["priority"] = priority
    page = opened([row])
    page.click("#metrics >> text=priority")
    figures = page.locator(f"{LINES} .meter").all_inner_texts()
    assert figures == ["–", "0.10", "0.20", "0.50", "1.00"]
    colours = page.eval_on_selector_all(
        f"{LINES} .dot", "dots => dots.map(dot => getComputedStyle(dot).backgroundColor)"
    )
    assert len(set(colours)) == 5
    page.focus("#tree")
    page.keyboard.press("c")
    assert page.locator("#metrics :checked").get_attribute("value") == "value"


def test_the_path_shows_the_exact_text_with_forced_tokens_and_budget_marks(opened):
    head = [["<start_of_thought>", None], ["<conclusion>", None]]
    body = [
        ["so <<2", -0.1],
        ["+2=", -0.2],
        ["4>>", None],
        ["<remaining>7/8</remaining>", None],
        [" four", -3.0],
    ]
    tail = [["<end_of_thought>", -0.1], ["<positive_rating>", None]]
    page = opened([with_pieces(a_row(four_thoughts()), n30=head + body + tail)])
    full = page.locator(".card.chosen .full")
    assert full.inner_text() == "so <<2+2=4>>7/8 four"
    assert full.locator(".forced").all_inner_texts() == ["4>>"]
    assert full.locator(".chip").get_attribute("title") == "7/8 of the budget left"
    page.focus("#tree")
    page.keyboard.press("t")
    tokens = full.locator(".token")
    assert tokens.all_inner_texts() == [text for text, _ in head + body + tail]
    assert full.locator(".forced").count() == 5
    assert tokens.nth(6).get_attribute("title") == "log-prob -3.000, probability 4.98 %"  # exp(-3)


def test_a_hit_across_forced_and_sampled_tokens_is_marked(opened):
    pieces = [
        ["<start_of_thought>", None],
        ["ab", -1.0],
        ["cd", None],
        ["ef", -1.0],
        ["<end_of_thought>", -1.0],
    ]
    nodes = four_thoughts()
    nodes[3].text = "abcdef"
    page = opened([with_pieces(a_row(nodes), n30=pieces)])
    page.fill("#query", "bcde")
    page.press("#query", "Enter")
    assert page.locator(".card.chosen mark").all_inner_texts() == ["b", "cd", "e"]


def test_text_of_a_model_stays_text(opened):
    row = a_row(make_tree((0, "conclude", EVIL, {"answer": EVIL, "terminal": True})), answer=EVIL)
    row |= {"problem": EVIL, "name": EVIL}
    page = opened([with_pieces(row, n10=[[EVIL, -1.0]]), row])
    page.focus("#tree")
    page.keyboard.press("t")
    page.fill("#query", "script")
    page.press("#query", "Enter")
    assert page.evaluate("window.hurt") is None
    assert page.locator("body img, body b:not(.meter b)").count() == 0
    assert page.inner_text("#problem") == EVIL
    assert page.locator(".card.chosen .token").all_inner_texts() == [EVIL]


def two_trees():
    """Both have `add` with `four`; the first has `halve` with `five` too, the second `five` below `add`."""
    other = make_tree(
        (0, "expand", "add", {"value": 0.75, "visits": 5, "value_sum": 2.0}),
        (1, "conclude", "four", {"value": 0.9, "outcome": 1.0, "answer": "4", "terminal": True}),
        (1, "conclude", "five", {"value": 0.2, "outcome": 0.0, "answer": "5", "terminal": True}),
    )
    return [a_row(four_thoughts()) | {"name": "before"}, a_row(other) | {"name": "after"}]


def test_two_trees_stand_side_by_side_line_by_line(opened):
    page = opened(two_trees(), compare=(0, 1))
    texts = [
        [
            half.locator(".words").inner_text() if half.locator(".words").count() else ""
            for half in line.locator(".half").all()
        ]
        for line in page.locator(LINES).all()
    ]
    assert texts == [
        ["2 + 2?", "2 + 2?"],
        ["add", "add"],
        ["four", "four"],
        ["", "five"],
        ["halve", ""],
        ["five", ""],
    ]
    # add was worth 0.5 and is worth 0.75
    assert page.locator(".delta").all_inner_texts() == ["+0.25"]
    assert page.locator("#sides button").all_inner_texts() == ["in both 3", "only A 2", "only B 1"]


def test_a_pair_is_filtered_walked_and_left_again(opened):
    page = opened(two_trees(), compare=(0, 1))
    page.click("#sides >> text=only B")
    assert page.locator(LINES).count() == 3  # the question, add, five
    page.click("#clear")
    page.focus("#tree")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    facts = page.locator(".card.chosen .facts").all_inner_texts()
    assert ["value 0.50" in facts[0], "value 0.75" in facts[1]] == [True, True]
    page.select_option("#other", "-1")
    assert ids(page) == [0, 20, 40, 10, 30]
    page.select_option("#other", label="after: = 4")
    assert page.locator(f"{LINES} .half").count() == 12


def test_the_answers_at_earlier_budgets_are_told_where_they_change(opened):
    curve = [[120, 4, "5", 1.0], [150, 5, "5", 0.8], [1310, 9, "4", 0.6]]
    page = opened([a_row(four_thoughts()) | {"curve": curve}])
    assert page.locator("#curves .step").all_inner_texts() == ["5 from 120", "4 from 1,310"]


def test_only_trees_of_the_same_problem_are_offered_to_compare(opened):
    rows = [*two_trees(), a_row(four_thoughts()) | {"problem": "3 + 3?", "name": "other"}]
    page = opened(rows)
    assert page.locator("#other option").count() == 2
    page.click("#problems button >> nth=2")
    assert not page.locator("#pair").is_visible()


def test_an_address_opens_its_tree_or_pair(opened):
    page = opened(two_trees(), "#2/10")
    assert (page.locator("#name").inner_text(), chosen(page)) == ("after", ["10"])
    page = opened(two_trees(), "#1-2/3")
    assert page.locator(".card.chosen .full").inner_text() == "five"


def test_ten_thousand_thoughts_keep_the_document_small(opened):
    nodes = many_thoughts(10_000)
    page = opened([a_row(nodes, answer="7")], viewport={"width": 1200, "height": 800})
    page.click("#unfold")
    assert page.evaluate("now.lines.length") == 10_000
    assert page.locator(LINES).count() < 60
    page.focus("#tree")
    page.keyboard.press("End")
    assert page.evaluate("now.chosen === now.lines.at(-1)")
    assert page.locator(f"{LINES}[aria-selected=true]").is_visible()
    page.fill("#query", "thought 9876 ")
    page.press("#query", "Enter")
    assert chosen(page) == ["98760"]
    page.press("#query", "Escape")
    assert page.evaluate("now.lines.length") == 10_000


def test_budget_marks_of_every_family_are_told_in_words(opened):
    text = "a<remaining>3/4</remaining>b<remaining>32</remaining>c"
    page = opened([a_row(make_tree((0, "expand", text, {})))], "#1/10")
    told = page.locator(".card.chosen .chip").evaluate_all("chips => chips.map(chip => chip.title)")
    assert told == ["3/4 of the budget left", "32 tokens of the budget left"]


def test_a_long_path_shows_its_end_and_the_rest_when_asked(opened):
    page = opened(
        [a_row(make_tree(*((depth, "expand", f"step {depth}", {}) for depth in range(40))))], "#1/400"
    )
    assert page.locator(".card").count() == 24
    page.click("text=Show 17 earlier thoughts")  # 40 and the question, less 24
    assert page.locator(".card").count() == 41
    assert page.locator(".card.chosen .full").inner_text() == "step 39"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_what_it_stands_on(opened, scheme):
    page = opened(two_trees(), color_scheme=scheme)
    seen = page.evaluate(
        """() => ["h1", "#title", ".words", ".card .facts", ".card .action", "#query"].map(selector => {
            const element = document.querySelector(selector);
            let ground = element;
            const clear = "rgba(0, 0, 0, 0)";
            while (getComputedStyle(ground).backgroundColor === clear) ground = ground.parentElement;
            return [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor];
        })"""
    )
    assert all(contrast(*pair) >= 4.5 for pair in seen), seen  # WCAG 2, AA


def contrast(*colours):
    """The contrast ratio of two CSS rgb colours (WCAG 2)."""
    lights = []
    for colour in colours:
        parts = [int(part) / 255 for part in colour[4:-1].split(",")]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def test_a_narrow_window_needs_no_scrolling_aside(opened):
    page = opened(two_trees(), compare=(0, 1), viewport={"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_deep_line_of_a_pair_stays_in_its_half(opened):
    thoughts = [(depth, "expand", "on and on", {"answer": "9" * 40}) for depth in range(60)]
    rows = [a_row(make_tree(*thoughts)), a_row(make_tree(*thoughts[:30]))]
    page = opened(rows, "#1-2/60", compare=(0, 1))
    wide = page.locator(f"{LINES} .half").evaluate_all(
        "halves => halves.map(h => [h.scrollWidth, h.clientWidth])"
    )
    assert all(content <= room for content, room in wide)
