import json
from itertools import product

import numpy as np
import plotly.graph_objects as go
import pytest

from conf.errors import InputError
from experiments.reporting.charts import (
    Bars,
    Chart,
    Heatmap,
    Histogram,
    Intervals,
    Line,
    Mark,
    Panel,
    legend_of,
)
from experiments.reporting.matplotlib_backend import chart_png, figure_of
from experiments.reporting.plotly_backend import plotly_figure, thinned
from experiments.reporting.style import compact_dollars, dollars, looks_numeric, number, percent
from tests.experiments.reporting.pictures import EVIL, all_charts, days, series_of

X = days(9)
Y = np.linspace(-1.0, 2.0, 10)
UNDEFINED = np.full(10, np.nan)

SERIES = {
    "line": Line("a", X, Y, "#005f9e", dash=True),
    "filled": Line("a", X, Y, "#005f9e", fill=True, muted=True),
    "numbers": Line("a", Y, Y, "#005f9e"),
    "infinite": Line("a", X, np.append(Y[:-1], np.inf), "#005f9e"),
    "bars": Bars("a", ("x", EVIL, "2016"), np.array([1.0, -2.0, np.nan]), "#005f9e"),
    "lying": Bars("a", ("x", "y"), np.array([1e6, -2.0]), "#005f9e", ("#111111", "#222222"), True),
    "histogram": Histogram("a", Y, np.arange(9.0), "#005f9e"),
    "intervals": Intervals("a", ("x", "x"), Y[:2], Y[:2] - 1, Y[:2] + 1, ("OUTPERFORMS", "?")),
    "heatmap": Heatmap("a", X, ("x", "x"), np.stack([Y, UNDEFINED]), 2.0),
    "undefined": Line("a", X, UNDEFINED, "#005f9e"),
}


ON_AXES = ("line", "lying", "heatmap")  # values up, along and in colour


def chart_of(*series, **panel):
    return Chart("k", "Title", (Panel("y, units", series, **panel),), height=300)


@pytest.mark.parametrize(
    ("kind", "unit"),
    [*((kind, "number") for kind in SERIES), *product(ON_AXES, ("percent", "dollars"))],
)
def test_both_renderers_draw_every_kind_of_series(kind, unit):
    marks = (Mark("y", 0.5, "limit"), Mark("y", 0.0, dash=False))
    chart = chart_of(SERIES[kind], unit=unit, marks=marks)
    text = json.dumps(plotly_figure(chart), allow_nan=False)
    assert json.loads(text)["data"]
    figure = figure_of(chart)
    assert figure.get_size_inches()[0] == pytest.approx(9.0)
    assert chart_png(chart).startswith(b"\x89PNG")


def test_the_same_chart_gives_the_same_bytes():
    for first, again in zip(all_charts(40), all_charts(40), strict=True):
        assert json.dumps(plotly_figure(first)) == json.dumps(plotly_figure(again))
    chart, again = (all_charts(40)[0] for _ in range(2))
    assert chart_png(chart) == chart_png(again)


def test_text_reaches_plotly_without_markup_or_placeholders():
    for chart in all_charts():
        text = json.dumps(plotly_figure(chart))
        for trace in plotly_figure(chart)["data"]:
            # It tells the legend what to switch and is never drawn.
            text = text.replace(json.dumps(trace["meta"]), "")
        assert "<b>" not in text
        assert "<script" not in text
        assert "bold&lt;/b&gt; %{y}" not in text


def test_an_empty_panel_says_why():
    figure = plotly_figure(chart_of(SERIES["undefined"], note="fewer than 60 sessions"))
    texts = [note["text"] for note in figure["layout"]["annotations"]]
    assert "fewer than 60 sessions" in texts


def test_the_first_series_lies_on_top():
    data = plotly_figure(chart_of(SERIES["line"], SERIES["filled"]))["data"]
    assert data[0]["zorder"] > data[1]["zorder"]


def test_rows_of_the_same_name_stay_two():
    (trace,) = plotly_figure(chart_of(SERIES["heatmap"]))["data"]
    assert trace["y"] == [0, 1]


def test_legend_has_each_name_once_and_none_for_a_single_entry():
    assert legend_of(chart_of(SERIES["line"], SERIES["filled"])) == ()
    chart = chart_of(SERIES["line"], SERIES["filled"], marks=(Mark("x", 1.0, "here"),))
    assert [entry.label for entry in legend_of(chart)] == ["a", "here"]
    assert [entry.switchable for entry in legend_of(chart)] == [True, False]


def test_thinning_keeps_spikes_ends_and_common_dates():
    rng = np.random.default_rng(0)
    x, y = days(5999), rng.normal(size=6000)
    y[:70] = np.nan
    y[4321] = 50.0
    other = Line("b", x, rng.normal(size=6000), "#111111")
    short = Line("c", x[:3000], y[:3000], "#222222")
    chart = thinned(chart_of(Line("a", x, y, "#005f9e"), other, short), 1500)
    a, b, c = series_of(chart)
    assert 500 < len(a.x) <= 1502
    assert (a.x == b.x).all()
    assert a.x[0] == x[0]
    assert a.x[-1] == x[-1]
    assert c.x[-1] == x[2999]
    assert np.nanmax(a.y) == 50.0
    assert np.isnan(a.y[0])


def test_thinning_leaves_short_series_alone():
    chart = chart_of(SERIES["line"])
    assert thinned(chart) is chart


def test_every_figure_is_valid_plotly():
    for chart in [*all_charts(), *map(chart_of, SERIES.values())]:
        go.Figure(plotly_figure(chart))
    with pytest.raises(ValueError, match="linecolour"):
        go.Figure({"layout": {"xaxis": {"linecolour": "#111111"}}})


@pytest.mark.parametrize(
    "make",
    [
        lambda: Line("a", X, Y[:-1], "#005f9e"),
        lambda: Bars("a", ("x",), Y, "#005f9e"),
        lambda: Bars("a", ("x",), Y[:1], "#005f9e", ("#111111",) * 2),
        lambda: Histogram("a", Y, Y, "#005f9e"),
        lambda: Intervals("a", ("x",), Y[:1], Y[:1], Y[:1], ()),
        lambda: Heatmap("a", X, ("x",), Y, 1.0),
        lambda: Heatmap("a", X, ("x",), Y[None], 0.0),
        lambda: Chart("../x", "t", (Panel("", ()),)),
        lambda: Chart("x", "t", ()),
    ],
)
def test_mismatched_lengths_and_bad_keys_are_refused(make):
    with pytest.raises(InputError):
        make()


def test_numbers_have_true_minus_signs_separators_and_units():
    assert number(-1234.5) == "−1,234.50"
    assert number(-0.001) == "0.00"
    assert number(0.5, plus=True) == "+0.50"
    assert number(float("nan")) == number(None) == "–"
    assert percent(-0.125) == "−12.5\u00a0%"
    assert percent(-0.00001) == "0.0\u00a0%"
    assert dollars(-1234.4) == "−$1,234"
    assert dollars(-0.2) == "$0"
    assert [compact_dollars(v) for v in (950, -1500, 2e6)] == ["$950", "−$1.5k", "$2M"]


def test_numeric_cells_are_told_apart_from_names():
    assert all(map(looks_numeric, ("1.5", "−4.0 %", "+0.31", "-", "–", "1,234", "$5k", "17.6 ×")))
    assert all(map(looks_numeric, ("0.31 (0.05 to 0.60)", "−$1,234", "2.1\u00a0%")))
    assert not any(
        map(looks_numeric, ("collar", "OUTPERFORMS", "30d put", "2015-11-02 to 2018-01-01"))
    )
