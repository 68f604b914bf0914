import json
from typing import Any

import numpy as np
import pytest

from conf.errors import InputError
from experiments.reporting import book_figures, figures
from experiments.reporting.charts import Chart, legend_of
from experiments.reporting.matplotlib_backend import figure_of
from experiments.reporting.plotly_backend import plotly_figure
from experiments.reporting.style import MUTED
from risk import metrics
from tests.experiments.reporting.pictures import (
    all_charts,
    days,
    differences,
    equity,
    returns,
    series_of,
)


def drawn(chart: Chart) -> Any:
    figure_of(chart).canvas.draw()
    return json.loads(json.dumps(plotly_figure(chart), allow_nan=False))


@pytest.mark.parametrize("sessions", [1, 2, 59, 61])
def test_short_stretches_are_drawn(sessions):
    for chart in all_charts(sessions):
        assert drawn(chart)["data"] is not None


@pytest.mark.parametrize("slots", [1, 47, 120])
def test_any_number_of_slots_is_drawn(slots):
    chart = next(chart for chart in all_charts(30, slots) if chart.key == "positions")
    assert len(drawn(chart)["data"][0]["z"]) == slots


def test_equity_starts_at_one_with_the_first_book_on_top():
    curves = equity(returns(300))
    chart = figures.equity_chart(days(300), curves)
    upper, lower = (series_of(chart, panel) for panel in range(len(chart.panels)))
    assert [line.y[0] for line in upper] == [1.0] * len(curves)
    assert upper[0].name == "policy"
    assert lower[0].fill
    assert lower[0].y.min() == -100.0 * metrics.max_drawdown(curves["policy"])
    assert "cash" not in [line.name for line in lower]


def test_books_beyond_the_fifth_share_one_entry_in_the_background():
    chart = figures.equity_chart(days(30), equity(returns(30)))
    muted = [line for line in series_of(chart) if line.muted]
    assert len(muted) == 2
    assert {line.colour for line in muted} == {MUTED}
    labels = [entry.label for entry in legend_of(chart)]
    expected = ["policy", "managed", "buy and hold", "cash", "collar", "2 other books"]
    assert labels == expected


def test_a_ruined_book_is_marked_and_may_end_early():
    ruined = np.array([1e5, 6e4, 2e4, 0.01, 0.01])
    curves = {"policy": ruined, "cash": np.full(6, 1e5), "short": np.array([1e5, 2e4, 0.01])}
    chart = figures.equity_chart(days(5), curves)
    labels = [entry.label for entry in legend_of(chart)]
    assert "policy ruined on 2015-11-05" in labels
    assert "short ruined on 2015-11-04" in labels
    assert drawn(chart)
    with pytest.raises(InputError):
        figures.equity_chart(days(2), curves)


def test_histogram_counts_every_day_and_marks_the_tail():
    r = returns(500)["policy"]
    chart = figures.return_histogram(r)
    histogram, normal = series_of(chart)
    assert histogram.heights.sum() == 500
    width = np.diff(histogram.edges)[0]
    assert normal.y.sum() * np.diff(normal.x)[0] / width == pytest.approx(500, rel=0.02)
    var, cvar = (mark.value for mark in chart.panels[0].marks)
    assert var == -100.0 * metrics.value_at_risk(r)
    assert cvar == -100.0 * metrics.expected_shortfall(r)


@pytest.mark.parametrize("r", [np.zeros(50), np.full(50, 0.01), np.array([0.02])])
def test_constant_returns_have_a_histogram_without_a_normal(r):
    chart = figures.return_histogram(r)
    assert len(chart.panels[0].series) == 1
    assert drawn(chart)


def test_outliers_do_not_make_thousands_of_bins():
    r = np.append(np.full(1000, 1e-4) + 1e-6 * np.arange(1000), -0.9)
    assert len(series_of(figures.return_histogram(r))[0].heights) <= 60


def test_rolling_sharpe_is_that_of_the_window_and_unknown_before():
    r = returns(100)["policy"]
    rolling = figures.rolling_sharpe(r, np.full(100, 1e-4), 60)
    assert np.isnan(rolling[:59]).all()
    assert rolling[59] == metrics.sharpe_ratio(r[:60], 1e-4)
    assert rolling[-1] == metrics.sharpe_ratio(r[40:], 1e-4)
    with pytest.raises(InputError):
        figures.rolling_sharpe(r, np.zeros(100), 1)


def test_rolling_sharpe_of_a_constant_book_is_drawn():
    flat = {"policy": np.zeros(80), "managed": np.full(80, 1e-3)}
    assert drawn(figures.rolling_sharpe_chart(days(80)[1:], flat, np.zeros(80)))


def test_yearly_bars_stand_beside_each_other():
    r = returns(500, ("policy", "buy_and_hold"))
    chart = figures.yearly_returns_chart(days(500)[1:], r)
    policy, index = series_of(chart)
    assert policy.labels == index.labels == ("2015", "2016", "2017")
    assert np.prod(1.0 + policy.values / 100.0) == pytest.approx(np.prod(1.0 + r["policy"]))


def test_differences_are_sorted_and_coloured_by_outcome():
    chart = figures.sharpe_difference_chart([d for d in differences(7) if d.difference < 9])
    values = series_of(chart)[0].values
    assert (np.diff(values) <= 0).all()
    outcomes = {entry.label for entry in legend_of(chart)}
    assert outcomes == {"OUTPERFORMS", "UNDERPERFORMS", "INCONCLUSIVE"}
    assert drawn(chart)
    assert drawn(figures.sharpe_difference_chart([]))


def test_differences_that_are_undefined_come_last():
    (intervals,) = series_of(figures.sharpe_difference_chart(differences(7)))
    assert np.isnan(intervals.values[-1])
    assert (np.diff(intervals.values[:-1]) <= 0).all()


def test_positions_are_percent_of_equity_centred_on_zero():
    shares = np.zeros((50, 3))
    shares[:, 1], shares[:, 2] = 0.15, -0.03
    chart = book_figures.position_heatmap(days(50)[1:], ("a", "b", "c"), shares)
    (heatmap,) = series_of(chart)
    assert heatmap.values[1, 0] == pytest.approx(15.0)
    assert heatmap.limit == 20.0
    (trace,) = plotly_figure(chart)["data"]
    assert trace["zmin"] == -trace["zmax"]


def test_long_histories_of_positions_become_means():
    shares = np.arange(5000.0)[:, None] / 5000
    chart = book_figures.position_heatmap(days(5000)[1:], ("a",), shares)
    (heatmap,) = series_of(chart)
    assert len(heatmap.x) <= 800
    assert heatmap.values[0, 0] == pytest.approx(100 * shares[:7].mean())
    assert "mean of 7 sessions" in chart.subtitle


def test_an_empty_book_says_so():
    chart = book_figures.position_heatmap(days(9)[1:], ("a", "b"), np.zeros((9, 2)))
    assert "Nothing was ever held" in chart.subtitle
    assert drawn(chart)
    with pytest.raises(InputError):
        book_figures.position_heatmap(days(9)[1:], ("a",), np.zeros((9, 2)))


def test_attribution_adds_up_and_leaves_out_what_is_zero():
    rng = np.random.default_rng(0)
    terms = {"delta": rng.normal(size=30), "cost": -rng.random(30), "write_off": np.zeros(30)}
    lines = series_of(book_figures.attribution_chart(days(30)[1:], terms))
    assert [line.name for line in lines] == ["total", "delta", "cost"]
    assert lines[0].y == pytest.approx(lines[1].y + lines[2].y)
    (bars,) = series_of(book_figures.attribution_totals_chart(terms))
    assert bars.values[-1] == pytest.approx(lines[0].y[-1])
    nothing = {"delta": np.zeros(30)}
    assert drawn(book_figures.attribution_chart(days(30)[1:], nothing))
    assert drawn(book_figures.attribution_totals_chart(nothing))


def test_turnover_is_summed_over_its_window():
    traded = {"policy": np.full(30, 0.1)}
    chart = book_figures.turnover_chart(days(30)[1:], traded, limit=2.0)
    (line,) = series_of(chart)
    assert np.isnan(line.y[:20]).all()
    assert line.y[20:] == pytest.approx(210.0)
    assert "limit, 200 %" in [entry.label for entry in legend_of(chart)]


def test_every_chart_has_a_description_for_screen_readers():
    for chart in all_charts():
        assert chart.alt.startswith(chart.title)
        assert len(chart.alt) > len(chart.title) or chart.key == "attribution_totals"
