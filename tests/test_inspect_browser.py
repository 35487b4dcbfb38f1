"""The page of a replay buffer in a real browser: what a reader sees, and what keys and clicks do."""

import shutil
import threading

import numpy as np
import pytest
from small_run import write_run

from llama_o1.cli import main
from llama_o1.texts import texts_of
from replay import Experience, PrioritizedReplayBuffer
from replay.inspect.page import offline_page
from replay.inspect.query import ReplayReader
from replay.inspect.serve import InspectServer

CHROMIUM = shutil.which("chromium")
expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
LINES = "#canvas [role=row]"


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("run"))
    assert main(["inspect", str(folder), "--html", str(folder / "page.html")]) == 0
    return folder


@pytest.fixture
def opened(browser):
    """Opens an address; fails when the page logs an error or asks for what is not its own."""
    contexts, said = [], []

    def opened(address, **options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text))
        ours = ("file:", "data:", "http://127.0.0.1")
        page.on("request", lambda request: request.url.startswith(ours) or said.append(request.url))
        page.goto(address)
        page.wait_for_selector(LINES)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []


@pytest.fixture
def page(opened, run):
    return opened((run / "page.html").as_uri())


def ids(page):
    return [int(text) for text in page.locator(f"{LINES} .id:first-child").all_inner_texts()]


def chosen(page):
    return int(page.locator(f"{LINES}[aria-selected=true] .id:first-child").inner_text())


def test_nodes_stand_by_priority_and_the_first_is_chosen(page):
    # priorities 1 to 7 by id, but 0 has 3.5 and 1 has 2.5
    assert ids(page) == [6, 5, 4, 3, 0, 2, 1]
    assert chosen(page) == 6
    assert page.locator("#node h2").inner_text().startswith("Node 6")
    assert page.locator("#figures dd").first.inner_text() == "7"
    assert page.locator(".chart").count() == 10


def test_a_column_sorts_both_ways(page):
    page.get_by_role("button", name="value", exact=True).click()
    assert ids(page) == [1, 2, 0, 4, 3, 5, 6]  # 3 and 4 are equal and stay as they stood
    page.keyboard.press("Enter")  # the column keeps the focus
    assert ids(page) == [6, 5, 4, 3, 0, 2, 1]
    assert page.locator("[aria-sort=ascending]").inner_text() == "value"


def test_keys_move_search_and_clear(page):
    page.keyboard.press("/")
    page.keyboard.type("BOXED")
    expect(page.locator("#hits")).to_have_text("3 of 7")
    assert ids(page) == [5, 2, 1]
    assert page.locator("mark").all_inner_texts() == ["boxed"] * 3
    page.keyboard.press("ArrowDown")
    page.keyboard.press("End")
    assert chosen(page) == 1
    page.keyboard.press("ArrowUp")
    assert chosen(page) == 2
    page.keyboard.press("Escape")
    assert ids(page) == [6, 5, 4, 3, 0, 2, 1]
    assert chosen(page) == 2
    assert page.locator("#query").input_value() == ""


def test_filters_keep_what_was_asked_for(page):
    page.get_by_role("button", name="✓ right").click()
    assert ids(page) == [1]
    page.get_by_role("button", name="✗ wrong").click()
    assert ids(page) == [5, 2, 1]
    page.get_by_role("button", name="critic").click()
    assert page.locator("#canvas .empty").inner_text() == "No node fits."
    page.get_by_role("button", name="Show all").click()
    assert len(ids(page)) == 7


def test_a_node_shows_its_path_its_tokens_and_leads_to_its_tree(page):
    page.locator(LINES).filter(has_text="boxed{5}").click()
    assert chosen(page) == 1
    assert [text.split()[0] for text in page.locator(".path .action").all_inner_texts()] == [
        "expand",
        "conclude",
    ]
    sampled = page.locator(".tokens span:not(.forced)")
    assert "".join(sampled.all_inner_texts()) == r"\boxed{5}<end_of_thought>"
    assert sampled.first.get_attribute("title") == "log-prob -0.2500, probability 77.9 %"  # e^-0.25
    with page.context.expect_page() as other:
        page.keyboard.press("t")
    tree = other.value
    tree.wait_for_selector("[role=treeitem][aria-selected=true]")
    assert "boxed{5}" in tree.locator("[role=treeitem][aria-selected=true]").inner_text()


def test_text_of_a_model_stays_text(page):
    for text in ("<script>window.owned = 1</script>", "it is </script><b>"):
        assert page.locator(LINES).filter(has_text=text).count() == 1
        page.locator(LINES).filter(has_text=text).click()
        assert text in page.locator(".tokens").inner_text()
    assert page.evaluate("window.owned") is None
    assert page.locator("b").count() == 0
    assert page.locator("script").count() == 2


def test_without_a_tokenizer_the_page_shows_ids(opened, run, tmp_path):
    with ReplayReader(run) as reader:
        (tmp_path / "page.html").write_text(offline_page(reader, None, [1, 2]), encoding="utf-8")
    page = opened((tmp_path / "page.html").as_uri())
    assert "problem" not in page.locator(LINES).first.inner_text()
    assert "sum, tree 000001/0000, node 3" in page.locator(LINES).filter(has_text="node 3").inner_text()
    assert page.locator(".tokens span.forced").first.inner_text().isdecimal()
    assert "5 are left out" in page.locator("#notes").inner_text()
    assert page.locator("a.tree").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 420])
def test_the_page_fits_the_window_in_light_and_dark(opened, run, scheme, width):
    page = opened((run / "page.html").as_uri(), viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (light == "rgb(246, 245, 241)") == (scheme == "light")


def many(count):
    token = np.array([5, 6], np.int32)
    return (
        Experience(
            context=token, ids=token, sampled=np.array([True, True]), logprobs=np.zeros(2, np.float32),
            temperature=1.0, advantage=0.0, value=(i % 100) / 100, value_target=0.5, outcome=None, version=0,
            action="expand", problem=f"p{i // 50}", tree="000001/0000", node=i, parent=0,
        )
        for i in range(count)
    )  # fmt: skip


def test_of_many_nodes_only_those_in_sight_are_in_the_document(opened, tmp_path):
    with PrioritizedReplayBuffer(tmp_path, capacity=5000) as buffer:
        buffer.extend(many(5000), np.arange(1.0, 5001.0))
    with ReplayReader(tmp_path) as reader:
        page = offline_page(reader, None, reader.ids()[::-1].tolist(), sample=1000)
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    page = opened((tmp_path / "page.html").as_uri())
    assert page.locator(LINES).count() < 60
    assert page.locator("#table").get_attribute("aria-rowcount") == "5000"
    page.locator("#table").focus()
    page.keyboard.press("End")
    assert chosen(page) == 0
    assert page.locator(f"{LINES}[aria-selected=true]").is_visible()
    assert "charts are of 1,000 nodes spread evenly over 5,000" in page.locator("#notes").inner_text()
    assert "of the first 1,000 nodes are in this file" in page.locator("#node").inner_text()


@pytest.fixture
def live(opened, tmp_path):
    """A page that is served, its folder."""
    write_run(tmp_path)
    with InspectServer(tmp_path, texts_of(tmp_path, None)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield opened(server.address), tmp_path
        finally:
            server.shutdown()
            thread.join()


def test_the_live_page_asks_its_server(live):
    page, folder = live
    assert ids(page) == [6, 5, 4, 3, 0, 2, 1]
    assert page.locator("#state").inner_text() == "live"
    page.locator("#where").fill("action = 'critic'")
    page.keyboard.press("Enter")
    expect(page.locator("#hits")).to_have_text("1 nodes")
    assert ids(page) == [3]
    page.wait_for_selector(".tokens")
    assert "<script>window.owned = 1</script>" in page.locator(".tokens").inner_text()
    assert page.evaluate("window.owned") is None
    page.locator("#where").fill("")
    page.keyboard.press("Enter")
    expect(page.locator("#hits")).to_have_text("7 nodes")
    with PrioritizedReplayBuffer(folder / "replay", capacity=64) as buffer:
        buffer.update_priority([2], [50.0])
    page.evaluate("fetchAll(false)")
    expect(page.locator(f"{LINES} .id:first-child").first).to_have_text("2")
    assert chosen(page) == 3  # what was chosen stays chosen


def test_a_mistaken_condition_is_told_on_the_live_page(opened, tmp_path, browser):
    write_run(tmp_path)
    with InspectServer(tmp_path, None) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        context = browser.new_context()  # the browser logs an answer of 400 by itself
        try:
            page = context.new_page()
            page.goto(server.address)
            page.wait_for_selector(LINES)
            page.locator("#where").fill("valeu > 1")
            page.keyboard.press("Enter")
            page.wait_for_selector("#where[aria-invalid=true]")
            assert "the nearest is 'value'" in page.locator("#notes").inner_text()
            assert len(ids(page)) == 7
        finally:
            context.close()
            server.shutdown()
            thread.join()
