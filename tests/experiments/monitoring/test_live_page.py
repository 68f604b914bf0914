"""The page as a person sees it, on a phone and a laptop, and what the server gives out."""

import datetime as dt
import http.client
import threading
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from experiments.monitoring.checks import CheckSettings, daily, weekly
from experiments.monitoring.live_page import build_page, contract
from experiments.monitoring.metrics import metrics_text
from experiments.monitoring.serving import open_server
from experiments.monitoring.watch import LIVE, METRICS
from experiments.reporting.page import render
from tests.experiments.reporting.test_browser import Visit, chromium

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

NOW = dt.datetime(2026, 1, 5, 22, 0, tzinfo=dt.UTC)
SCREENS = {"phone": (360, 780), "laptop": (1280, 900)}


def checks(view, undecided=()):
    options = CheckSettings()
    return [*daily(view, list(undecided), options), *weekly(view, options)]


@pytest.fixture(scope="module")
def served(view, tmp_path_factory):
    """A served folder: it and the server's port."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "secret.txt").write_text("secret")
    page = build_page(view, checks(view, ["2026-01-05"]), NOW, full=True)
    (folder / LIVE).write_text(render(page), encoding="utf-8")
    with open_server(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser():
    if chromium() is None:
        pytest.skip("no chromium on the path (Debian: apt-get install chromium)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("screen", SCREENS)
def test_the_page_is_read_on_phone_and_laptop(served, browser, screen):
    folder, port = served
    visit = Visit(browser, folder / LIVE, SCREENS[screen])
    page = visit.page
    assert (visit.messages, visit.requests) == ([], [(folder / LIVE).as_uri()])
    assert page.get_attribute("html", "data-failed") is None
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert page.inner_text(".verdict strong") == "ALERT"
    assert "nothing was decided on 2026-01-05" in page.inner_text(".verdict")
    for box in [page.locator(".verdict"), *page.locator(".cards div").all()]:
        around = box.bounding_box()
        assert around["x"] >= 0
        assert around["x"] + around["width"] <= SCREENS[screen][0]
    assert page.locator(".cards").bounding_box()["y"] < SCREENS[screen][1]
    assert page.locator("#plot-limits svg.main-svg").count() > 0
    if screen == "phone":  # once is enough
        page.goto(f"http://127.0.0.1:{port}/")
        assert page.inner_text("h1") == "Report on account mine"
    page.close()


def test_numbers_of_the_page_are_those_of_the_view(view):
    page = build_page(view, checks(view), NOW)
    cards = {card.label: card.value for card in page.key_numbers}
    assert cards["Equity after trades"] == f"${view.equity_after:,.0f}"
    assert len(cards) == 8
    tables = {t.title: t for s in page.sections for t in s.items if hasattr(t, "rows")}
    assert len(tables[f"Positions after the trades of {view.session}"].rows) == len(view.positions)
    assert len(tables["Orders of the last five sessions"].rows) == len(view.orders)


def test_an_account_without_a_past_or_a_risk_module_has_a_page(view):
    first = replace(
        view, dates=view.dates[:1], equity=view.equity[:1], backtest=view.equity[:1],
        index_return=view.index_return[:0], exposures={}, limits=(), breakers=(), positions=(),
        orders=(), alerts=(), greeks={},
    )  # fmt: skip
    text = render(build_page(first, checks(first), NOW))
    for said in ("Nothing is held.", "There was never an alert.", "nothing limits the book"):
        assert said in text


def test_contracts_are_written_as_people_do():
    assert contract("30D_Put_0.95:SPX   180706P02673000") == "SPX 2018-07-06 2,673 put"
    assert contract("AAPL") == "AAPL"


def test_prometheus_reads_the_metrics(view):
    text = metrics_text(view, checks(view, ["2026-01-05"]), NOW)
    samples = {
        (s.name.removeprefix("polyhedgerl_account_"), *s.labels.values()): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }
    assert samples["equity_dollars", "mine"] == view.equity_after
    assert samples["greek_dollars", "mine", "delta"] == view.greeks["delta"]
    assert samples["limit_used_ratio", "mine", "delta"] == view.limits[3].share
    assert samples["check_level", "mine", "undecided", "daily"] == 2.0
    assert samples["renewed_seconds", "mine"] == NOW.timestamp()
    assert samples["halted", "mine"] == 0.0
    assert 'halted{account="mine"} 1.0' in metrics_text(replace(view, halt={}), [], NOW)


def ask(port, path, method="GET", host=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body, dict(answer.getheaders())


def test_the_server_gives_out_two_files_and_takes_nothing(served):
    folder, port = served
    assert ask(port, "/metrics")[0] == 503  # none was written yet
    (folder / METRICS).write_text("first\n")
    assert ask(port, "/metrics")[1] == b"first\n"
    (folder / METRICS).write_text("second\n")
    assert ask(port, "/metrics")[1] == b"second\n"
    status, body, headers = ask(port, "/", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) == (folder / LIVE).stat().st_size
    for path in ("/secret.txt", "/live.html", "/../secret.txt", "/%2e%2e/secret.txt", "/?a"):
        assert ask(port, path)[0] == 404
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert ask(port, "/", method)[0] == 501
    assert ask(port, "/", host="evil.example")[0] == 403
    assert ask(port, "/", host=f"localhost:{port}")[0] == 200
    assert sorted(p.name for p in folder.iterdir()) == [LIVE, METRICS, "secret.txt"]
