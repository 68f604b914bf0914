"""The charts of an evaluation: from arrays of a book's days to what a reader sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.stats import norm

from conf.errors import InputError
from conf.types import DateArray, FloatArray
from experiments.reporting.charts import Bars, Chart, Histogram, Intervals, Line, Mark, Panel
from experiments.reporting.style import BOOKS, INK, MUTED, book_colours, number, percent, shown_name
from experiments.statistics.verdict import Difference
from risk import metrics

_IN_COLOUR = 5  # books that an eye can follow; further ones stand grey in the background
_RUINED = 0.01  # of the start: what a book is shown at that has lost everything, or more
_TAIL_LEVEL = 0.95  # of VaR and CVaR


def book_line(
    name: str, dates: DateArray, values: FloatArray, colours: Mapping[str, str], **style: Any
) -> Line:
    """A book's curve (T,); the managed book is dashed, for it often lies on top of the raw one."""
    shown = shown_name(name)
    curve = np.asarray(values, np.float64)
    return Line(shown, dates, curve, colours[name], dash=shown == "managed", **style)


def equity_chart(
    dates: DateArray,
    curves: Mapping[str, FloatArray],
    *,
    key: str = "equity",
    title: str = "Equity and drawdown",
) -> Chart:
    """Equity by name (up to T + 1,) in any unit above its drawdown; dates (T + 1,).

    The first is the one that matters: its drawdown is filled. A curve may end early, as that of a
    ruined book. Raises InputError for a curve that is longer than the dates.
    """
    colours = _colours(curves)
    upper: list[Line] = []
    lower: list[Line] = []
    marks: list[Mark] = [Mark("y", 1.0, dash=False, colour=MUTED)]
    ends: list[str] = []
    others = f"{len(curves) - _IN_COLOUR} other books"
    for i, (name, curve) in enumerate(curves.items()):
        if not 2 <= len(curve) <= len(dates):
            raise InputError(
                f"{name}: {len(curve)} values of equity for {len(dates)} dates",
                "Give a value for each date, the start included, or fewer if a book ended early",
            )
        shown, days, muted = shown_name(name), dates[: len(curve)], i >= _IN_COLOUR
        group = others if muted else ""
        line = partial(book_line, name, days, colours=colours, muted=muted, group=group)
        scaled = np.asarray(curve, np.float64) / curve[0]
        upper.append(line(scaled, width=2.0 if i == 0 else 1.5))
        if not muted and shown != "cash":
            loss = -100.0 * metrics.drawdown(curve)
            lower.append(line(loss, fill=i == 0))
            ends.append(f"{shown} ends at {scaled[-1]:.2f}, deepest drawdown {-loss.min():.1f} %")
        if scaled[-1] <= _RUINED:
            ruin = days[int(np.argmax(scaled <= _RUINED))]
            marks.append(Mark("x", ruin, f"{shown} ruined on {ruin.astype('datetime64[D]')}"))
    first, last = dates[[0, -1]].astype("datetime64[D]")
    return Chart(
        key,
        title,
        (
            Panel("value of 1 invested", tuple(upper), marks=tuple(marks), share=2.6),
            Panel("drawdown from the peak", tuple(lower), "percent"),
        ),
        subtitle=f"{first} to {last}, {_sessions(len(dates) - 1)}, after costs.",
        height=470,
        description="; ".join(ends),
    )


def return_histogram(returns: FloatArray, *, name: str = "policy") -> Chart:
    """Daily simple returns (T,), decimals: how often which, beside a normal of the same moments."""
    days = metrics.checked_series("returns", returns)
    edges = common_edges(100.0 * days)
    counts = np.histogram(100.0 * days, edges)[0].astype(np.float64)
    series: list[Histogram | Line] = [Histogram(shown_name(name), edges, counts, BOOKS["policy"])]
    spread = float(100.0 * days.std(ddof=1)) if len(days) > 1 else 0.0
    if spread > 100.0 * metrics.NEGLIGIBLE:
        x = np.linspace(edges[0], edges[-1], 160)
        density = norm.pdf(x, 100.0 * days.mean(), spread) * len(days) * np.diff(edges)[0]
        series.append(Line("normal of the same mean and deviation", x, density, INK, width=1.3))
    var = float(metrics.value_at_risk(days, _TAIL_LEVEL))
    cvar = float(metrics.expected_shortfall(days, _TAIL_LEVEL))
    tail = f"{100 * _TAIL_LEVEL:g} %"
    marks = (
        Mark("x", -100.0 * var, f"VaR {tail}: {percent(var, 2)}", "#c47a00"),
        Mark("x", -100.0 * cvar, f"CVaR {tail}: {percent(cvar, 2)}", "#b3261e"),
    )
    mean, worst, best = float(days.mean()), float(days.min()), float(days.max())
    return Chart(
        "returns",
        "Daily returns",
        (Panel("sessions", tuple(series), marks=marks),),
        subtitle=f"{_sessions(len(days))}; mean {percent(mean, 3)}, worst {percent(worst, 2)}, "
        f"best {percent(best, 2)}.",
        x_label="return of a day",
        x_unit="percent",
        height=360,
    )


def rolling_sharpe_chart(
    dates: DateArray, returns: Mapping[str, FloatArray], risk_free: FloatArray, *, window: int = 60
) -> Chart:
    """Annual Sharpe ratio of the last `window` sessions; dates, risk_free and returns (T,).

    There is none before `window` sessions are known.
    """
    colours = _colours(returns)
    lines = tuple(
        book_line(
            name,
            dates,
            rolling_sharpe(days, risk_free, window, metrics.sessions_per_year(dates)),
            colours,
            width=2.0 if i == 0 else 1.4,
        )
        for i, (name, days) in islice(enumerate(returns.items()), _IN_COLOUR)
        if shown_name(name) != "cash"
    )
    note, zero = f"fewer than {window} sessions", Mark("y", 0.0, dash=False)
    error = np.sqrt(metrics.sessions_per_year(dates) / window)
    return Chart(
        "rolling_sharpe",
        f"Sharpe ratio over the last {window} sessions",
        (Panel("annual Sharpe ratio", lines, marks=(zero,), note=note),),
        subtitle=f"The standard error of so short a window is about ±{error:.1f}: most of the ups "
        "and downs are chance.",
        height=330,
    )


def rolling_sharpe(
    returns: FloatArray,
    risk_free: FloatArray,
    window: int,
    sessions_per_year: float = metrics.SESSIONS_PER_YEAR,
) -> FloatArray:
    """Annual Sharpe ratio (T,) of the `window` sessions up to each; NaN before they are known."""
    if window < 2:
        raise InputError(f"a window of {window} sessions has no deviation", "Give 2 or more")
    excess = metrics.checked_series("returns", returns) - risk_free
    rolling = np.full(excess.shape, np.nan)
    if len(excess) >= window:
        windows = sliding_window_view(excess, window)
        rolling[window - 1 :] = metrics.sharpe_ratio(windows, 0.0, sessions_per_year)
    return rolling


def yearly_returns_chart(dates: DateArray, returns: Mapping[str, FloatArray]) -> Chart:
    """Compounded return of each calendar year by book; dates and returns (T,)."""
    colours = _colours(returns)
    bars: list[Bars] = []
    labels: tuple[str, ...] = ()
    for name, days in islice(returns.items(), _IN_COLOUR):
        years, by_year = metrics.period_returns(days, dates, "year")
        labels = tuple(str(year) for year in years.astype("datetime64[Y]"))
        bars.append(Bars(shown_name(name), labels, 100.0 * by_year, colours[name]))
    return Chart(
        "yearly",
        "Return by calendar year",
        (Panel("return", tuple(bars), "percent"),),
        subtitle="Compounded, after costs; the first and the last year may be partial.",
        height=330,
        description=f"Years {labels[0]} to {labels[-1]}" if labels else "",
    )


def sharpe_difference_chart(differences: Sequence[Difference], *, level: float = 0.95) -> Chart:
    """The agent's Sharpe ratio less each benchmark's, with intervals, the best on top."""
    rows = sorted(differences, key=lambda row: (np.isnan(row.difference), -row.difference))
    names = tuple(shown_name(row.benchmark) for row in rows)
    numbers = np.array([(row.difference, row.low, row.high) for row in rows]).reshape(-1, 3)
    value, low, high = numbers.T
    outcomes = tuple(str(row.outcome) for row in rows)
    intervals = Intervals("difference", names, value, low, high, outcomes)
    zero = Mark("x", 0.0, dash=False)
    return Chart(
        "sharpe_differences",
        "Policy against each benchmark",
        (Panel("", (intervals,), marks=(zero,), note="no benchmarks"),),
        subtitle=f"Difference of annual Sharpe ratios with {100 * level:g} % bootstrap intervals; "
        "to the right of zero the policy is better.",
        x_label="Sharpe ratio, policy minus benchmark",
        height=100 + 25 * max(len(rows), 3),
        description="; ".join(
            f"{name} {number(row.difference)}, {row.outcome}"
            for name, row in zip(names, rows, strict=True)
        ),
    )


def common_edges(percents: FloatArray) -> FloatArray:
    """Bins of one width that cover everything, 60 at most."""
    low, high = float(percents.min()), float(percents.max())
    if high - low < 1e-9:
        return np.linspace(low - 0.05, high + 0.05, 4)
    quartiles = np.quantile(percents, [0.25, 0.75])
    # D. Freedman and P. Diaconis (1981).
    width = 2.0 * (quartiles[1] - quartiles[0]) / np.cbrt(len(percents))
    count = 60 if width <= (high - low) / 60 else int(np.ceil((high - low) / width))
    return np.linspace(low, high, max(count, 5) + 1)


def _colours(books: Mapping[str, FloatArray]) -> dict[str, str]:
    leading = list(islice(books, _IN_COLOUR))
    return {**dict.fromkeys(books, MUTED), **book_colours(leading)}


def _sessions(count: int) -> str:
    return "1 session" if count == 1 else f"{count:,} sessions"
