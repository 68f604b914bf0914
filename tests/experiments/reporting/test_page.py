import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from conf.errors import InputError
from experiments.reporting.charts import Chart, Panel
from experiments.reporting.contents import NO_VERDICT, Report, Section, Table
from experiments.reporting.page import render
from experiments.statistics.verdict import Outcome
from tests.experiments.reporting.pictures import EVIL, all_charts, report

VOID = {"meta", "link", "br", "img", "input", "hr"}
SVG = {"path", "rect", "circle"}


class Page(HTMLParser):
    """A parsed page: checks that its elements close, keeps elements and scripts."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in SVG

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)

    def of(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="module")
def text():
    return render(report())


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_the_same_report_gives_the_same_bytes(text):
    assert render(report()) == text


def test_everything_is_escaped(text, page):
    visible = re.sub(r"<script type.*?</script>", "", text, flags=re.DOTALL)
    assert "<b>" not in visible
    assert "alert(" not in re.sub(r"&lt;script&gt;alert\(", "", visible)
    kinds = [attrs.get("type") for attrs in page.of("script")]
    assert kinds.count(None) == 1
    assert kinds.count("application/octet-stream") == 1
    assert kinds.count("application/json") == len(report().charts)
    handlers = [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    assert handlers == []


def test_all_links_stay_inside_the_page(text, page):
    assert "http" not in re.sub(r"http-equiv", "", re.sub(r'id="plotly">[^<]*<', "", text))
    links = [attrs["href"] for tag in ("a", "link") for attrs in page.of(tag)]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not [attrs for _, attrs in page.elements if "src" in attrs]


def test_links_of_the_contents_lead_to_sections(page):
    ids = [attrs["id"] for _, attrs in page.elements if attrs.get("id")]
    assert len(ids) == len(set(ids))
    for attrs in page.of("a"):
        assert attrs["href"].removeprefix("#") in ids


def found(pattern, text, flags=0) -> re.Match[str]:
    match = re.search(pattern, text, flags)
    assert match, pattern
    return match


def test_the_policy_names_the_hashes_of_both_scripts(page, text):
    (policy,) = (m["content"] for m in page.of("meta") if "http-equiv" in m)
    packed = found(r'id="plotly">([^<]*)<', text).group(1)
    plotly = gzip.decompress(base64.b64decode(packed))
    own = found(r"<script>(.*?)</script>", text, re.DOTALL).group(1).encode()
    for code in (plotly, own):
        digest = base64.b64encode(hashlib.sha256(code).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    scripts = found(r"script-src ([^;]*)", policy).group(1)
    assert "unsafe" not in scripts
    assert "default-src 'none'" in policy


def test_figures_have_descriptions_and_data(text, page):
    plots = [attrs for attrs in page.of("div") if attrs.get("class") == "plot"]
    assert [plot["aria-label"] for plot in plots] == [chart.alt for chart in report().charts]
    assert all(plot["role"] == "img" for plot in plots)
    sources = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text)
    for source in sources:
        figure = json.loads(source)
        assert all(isinstance(trace["x"], int) for trace in figure["data"])


@pytest.mark.parametrize("outcome", [*Outcome, NO_VERDICT])
def test_the_verdict_is_shown_by_word_sign_and_colour(outcome):
    banner = found(r'<section class="verdict".*?</section>', render(report([], outcome)), re.S)
    assert f"<strong>{outcome}</strong>" in banner.group()
    assert 'class="icon"' in banner.group()
    with pytest.raises(InputError, match="no verdict"):
        report([], "WINS")


def test_tables_align_numbers_and_fold_when_long(text):
    assert '<details class="table"><summary><h3>Long</h3> <span>30 rows</span>' in text
    row = found(r'<tr class="strong">.*?</tr>', text).group()
    assert '<th scope="row" class="k">row 1</th><td class="n">−1.50</td><td class="n">3</td>' in row
    assert '<td class="n">–</td><td class="n">−4.0 %</td><td class="k"><span class="pill"' in row
    assert "tabindex" in found(r'<div class="scroll"[^>]*>', text).group()


def test_ragged_rows_and_repeated_chart_keys_are_refused():
    with pytest.raises(InputError, match="row 1 has 1 cells for 2 columns"):
        Table("t", ("a", "b"), (("x", 1), ("y",)))
    chart = Chart("k", "t", (Panel("", ()),))
    with pytest.raises(InputError, match="several charts are called k"):
        Report("t", "v", (Section("s", (chart, chart)),))


def test_an_empty_report_is_a_page():
    page = Page(render(Report(EVIL, "", ())))
    assert page.of("html")[0]["lang"] == "en"


def test_the_page_is_small(text):
    assert len(text.encode()) < 3_000_000
    assert len(all_charts()) == 10
