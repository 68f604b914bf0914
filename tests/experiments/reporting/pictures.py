"""Charts and a report of plausible numbers, for the tests of what is drawn."""

from typing import Any

import numpy as np

from experiments.reporting import book_figures, figures
from experiments.reporting.charts import Chart
from experiments.reporting.contents import KeyNumber, Report, Section, Table, Text
from experiments.statistics.verdict import Difference, Outcome

EVIL = '<script>alert("x")</script><b>bold</b> %{y} $x$'
BOOKS = ("policy", "managed", "buy_and_hold", "cash", "collar", "strangle", EVIL)
OUTCOMES = tuple(Outcome)


def days(sessions: int) -> np.ndarray:
    """The start and `sessions` further closes."""
    return np.datetime64("2015-11-02") + np.arange(sessions + 1)


def returns(sessions: int, books: tuple[str, ...] = BOOKS) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {book: 0.01 * rng.standard_t(4, sessions) for book in books}


def equity(by_book: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {book: 1e5 * np.concatenate([[1.0], np.cumprod(1.0 + r)]) for book, r in by_book.items()}


def differences(count: int) -> list[Difference]:
    """Names of growing length, all three outcomes, one undefined difference."""
    rows = []
    for i in range(count):
        value = float("nan") if i == 3 else 0.3 * i - 0.8
        name = EVIL if i == 0 else f"baseline {'with a long name ' * i}".strip()
        low, high, outcome = value - 0.4, value + 0.4, OUTCOMES[i % 3]
        rows.append(Difference(name, 0.5, 0.1, value, low, high, 0.2, 0, -1, 1, outcome))
    return rows


def all_charts(sessions: int = 130, slots: int = 20) -> list[Chart]:
    """One of each kind."""
    rng = np.random.default_rng(1)
    dates, by_book = days(sessions), returns(sessions)
    greeks = {name: rng.normal(size=sessions) for name in ("delta", "gamma", "vega", "theta")}
    terms = {name: 1e3 * rng.normal(size=sessions) for name in ("delta", "theta", "cost")}
    traded = {"policy": np.abs(greeks["delta"])}
    return [
        figures.equity_chart(dates, equity(by_book), title=EVIL),
        figures.return_histogram(by_book["policy"]),
        figures.rolling_sharpe_chart(dates[1:], by_book, np.zeros(sessions)),
        figures.yearly_returns_chart(dates[1:], by_book),
        figures.sharpe_difference_chart(differences(7)),
        book_figures.position_heatmap(
            dates[1:],
            tuple(f"call 30d {EVIL if i == 0 else i}" for i in range(slots)),
            0.1 * rng.normal(size=(sessions, slots)),
        ),
        book_figures.exposures_chart(dates[1:], {"policy": greeks, EVIL: greeks}),
        book_figures.attribution_chart(dates[1:], {**terms, EVIL: terms["delta"]}),
        book_figures.attribution_totals_chart({**terms, "nothing": np.zeros(sessions)}),
        book_figures.turnover_chart(dates[1:], traded, limit=2.0),
    ]


def series_of(chart: Chart, panel: int = 0) -> tuple[Any, ...]:
    """The series of a panel, whichever kinds they are."""
    return chart.panels[panel].series


def report(charts: list[Chart] | None = None, outcome: str = Outcome.INCONCLUSIVE) -> Report:
    rows = tuple(
        (f"row {i}", -1.5, 3, None, "−4.0 %", Outcome.OUTPERFORMS.value) for i in range(30)
    )
    columns = ("measure", "a", "b", "c", "d", "verdict")
    wide = tuple(f"column {i}" for i in range(16))
    return Report(
        f"run {EVIL}",
        f"Not shown: {EVIL}\n\nSecond paragraph.",
        (
            Section(f"Performance {EVIL}", tuple(all_charts() if charts is None else charts), EVIL),
            Section(
                "Tables",
                (
                    Table("Long", columns, rows, (EVIL,), frozenset({1})),
                    Table(f"Wide {EVIL}", wide, ((EVIL, *[0.123] * 15),)),
                    Text(EVIL, EVIL, "warning"),
                ),
            ),
        ),
        outcome,
        f"on {EVIL}",
        (KeyNumber("Sharpe ratio", "0.62", "standard error 0.57"), KeyNumber(EVIL, EVIL, EVIL)),
        (EVIL,),
    )
