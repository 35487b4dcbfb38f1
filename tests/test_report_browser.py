"""The page of a run in a real browser: nothing is fetched, texts stay texts, links hold when it is moved."""

import shutil

import pytest
from report_runs import SETS, write_reported

from llama_o1.cli import main

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
EVIL = "</style><script>window.hurt = 1</script><img src=x onerror='window.hurt = 2'> $x_{1}$ é漢"


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """A run with a set of an evil name, reported and then moved; and a page that compares it with another."""
    place = tmp_path_factory.mktemp("runs")
    run = write_reported(place / "first", sets={**SETS, EVIL: ("01", "11", "11")})
    other = write_reported(place / "second", learning_rate=3e-4, trees=False)
    assert main(["report", str(run)]) == 0
    assert main(["report", str(run), str(other), "--html", str(place / "compared.html")]) == 0
    return place.rename(place.with_name("elsewhere"))


@pytest.fixture
def opened(browser):
    """Opens a file; fails when it logs an error or asks for anything that does not lie on the disk."""
    contexts, said = [], []

    def opened(file, **options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text))
        page.on(
            "request", lambda request: request.url.startswith(("file:", "data:")) or said.append(request.url)
        )
        page.goto(file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []


def test_every_picture_is_shown_and_told_in_words(opened, moved):
    page = opened(moved / "first" / "report" / "index.html")
    seen = page.locator("figure img").evaluate_all("all => all.map(i => [i.naturalWidth, i.alt.length])")
    assert len(seen) > 8
    assert all(width > 300 and words > 10 for width, words in seen)


def test_a_name_that_is_code_stays_a_name(opened, moved):
    for file in (moved / "first" / "report" / "index.html", moved / "compared.html"):
        page = opened(file)
        assert page.locator("td", has_text="onerror").first.inner_text() == EVIL
        assert page.evaluate("window.hurt") is None
        assert page.locator("script").count() == 0


def test_links_lead_to_trees_and_buffer_after_the_folder_was_moved(opened, moved):
    page = opened(moved / "first" / "report" / "index.html")
    page.click("text=trees of iteration 1")
    assert page.locator("#canvas [role=treeitem]").count() > 0
    page.go_back()
    page.click("text=the replay buffer")
    assert page.locator("#canvas [role=row]").count() == 7
    address = page.locator("#node h2 a").get_attribute("href")
    assert address == "trees/000001.html#2/3"  # of the highest priority: the last thought


def test_a_comparison_links_the_reports_of_its_runs(opened, moved):
    page = opened(moved / "compared.html")
    assert page.locator("h1").inner_text() == "2 runs compared"
    assert "learner.learning_rate" in page.locator("table", has_text="setting").inner_text()
    page.click("text=report of first")
    assert page.locator("h1").inner_text() == "Run first"


def test_changes_clear_of_zero_are_marked(opened, moved):
    page = opened(moved / "first" / "report" / "index.html")
    assert page.locator("td.up").all_inner_texts() == [
        "+50.0 [+13.0, +87.0]"
    ]  # of all: 4 of 8 better, 0 worse


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_what_it_stands_on(opened, moved, scheme):
    page = opened(moved / "first" / "report" / "index.html", color_scheme=scheme)
    seen = page.evaluate(
        """() => ["h1", "#place", "dt", "th", "td", "td.up", "figcaption", "a", "code"].map(selector => {
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


def test_pictures_turn_dark_with_the_page(opened, moved):
    grounds = {}
    for scheme in ("light", "dark"):
        page = opened(moved / "first" / "report" / "index.html", color_scheme=scheme)
        grounds[scheme] = page.locator("figure img").first.evaluate("image => getComputedStyle(image).filter")
    assert grounds == {"light": "none", "dark": "invert(1) hue-rotate(180deg)"}


def test_a_narrow_window_needs_no_scrolling_aside(opened, moved):
    for file in (moved / "first" / "report" / "index.html", moved / "compared.html"):
        page = opened(file, viewport={"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
