"""The report in a real browser; skipped where there is none."""

import os
import shutil
from pathlib import Path

import pytest

from experiments.reporting.page import render
from experiments.statistics.verdict import Outcome
from tests.experiments.reporting.pictures import all_charts, report

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

SCREENS = {"laptop": (1280, 900), "phone": (390, 844)}


def chromium() -> str | None:
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser():
    path = chromium()
    if path is None:
        pytest.skip("no chromium on the path (Debian: apt-get install chromium)")
    with api.sync_playwright() as playwright:
        # Debian's needs no sandbox in containers, where tests run as root.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(report()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def short_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two charts, where it matters little what they show."""
    path = tmp_path_factory.mktemp("short") / "report.html"
    path.write_text(render(report(all_charts()[:2])), encoding="utf-8")
    return path


class Visit:
    """A drawn page, with its console messages and network requests."""

    def __init__(self, browser, file: Path, size: tuple[int, int]):
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.page = browser.new_page(viewport={"width": size[0], "height": size[1]})
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())
        ended = "html[data-drawn], html[data-failed]"
        self.page.wait_for_selector(ended, state="attached", timeout=120_000)


@pytest.fixture(scope="module", params=SCREENS)
def visit(request, browser, file):
    visit = Visit(browser, file, SCREENS[request.param])
    yield visit
    visit.page.close()


def test_every_figure_is_drawn_without_console_messages(visit):
    page = visit.page
    assert visit.messages == []
    assert page.get_attribute("html", "data-failed") is None
    assert page.get_attribute("html", "data-drawn") == str(len(report().charts))
    for plot in page.query_selector_all(".plot"):
        box = plot.query_selector("svg.main-svg").bounding_box()
        assert box["width"] > 300
        assert box["height"] > 100
    assert not page.is_visible("#unable")


def test_the_page_makes_no_network_request(visit, file):
    assert visit.requests == [file.as_uri()]


def test_the_verdict_is_seen_first(visit):
    assert visit.page.inner_text(".verdict strong") == Outcome.INCONCLUSIVE
    assert visit.page.locator(".verdict").bounding_box()["y"] < 500


def test_nothing_is_wider_than_the_page(visit):
    page = visit.page
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    width = page.viewport_size["width"]
    for plot in page.query_selector_all(".plot"):
        box = plot.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    inside = "[...document.querySelectorAll('.scroll')].some(f => f.scrollWidth > f.clientWidth)"
    assert page.evaluate(inside)


def test_the_contents_stand_beside_on_wide_screens_only(visit):
    assert visit.page.is_visible(".toc") == (visit.page.viewport_size["width"] > 1000)


def test_the_legend_switches_curves(visit):
    page = visit.page
    entry = page.locator('#figure-equity button[data-group="policy"]')
    shown = "document.getElementById('plot-equity').data"
    shown += ".filter(t => t.meta === 'policy').map(t => t.visible)"
    entry.click()
    assert page.evaluate(shown) == [False, False]
    entry.click()
    assert page.evaluate(shown) == [True, True]
    assert visit.messages == []


def test_markup_in_figure_labels_is_shown_as_text(visit):
    labels = visit.page.text_content("#plot-positions")
    assert "call 30d <script>" in labels


def test_the_page_prints_without_navigation(browser, short_file):
    visit = Visit(browser, short_file, SCREENS["laptop"])
    page = visit.page
    page.emulate_media(media="print")
    assert not page.is_visible(".toc")
    pdf = page.pdf(format="A4", print_background=True)
    assert pdf.startswith(b"%PDF")
    assert page.evaluate("document.querySelectorAll('details[open]').length") == 0
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert visit.messages == []
    page.close()


def test_a_browser_without_decompression_names_the_png_files(browser, short_file):
    page = browser.new_page()
    page.add_init_script("delete window.DecompressionStream")
    page.goto(short_file.as_uri())
    page.wait_for_selector("html[data-failed]", state="attached", timeout=60_000)
    assert page.is_visible("#unable")
    assert "equity.png" in page.inner_text("#plot-equity")
    page.close()


def test_without_scripts_the_page_names_the_png_files(browser, short_file):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(short_file.as_uri())
    assert "PNG images" in page.inner_text("noscript")
    assert page.is_visible(".verdict")
    context.close()
