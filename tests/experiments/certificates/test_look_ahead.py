"""The look-ahead tripwire trips where something reads ahead, and names what."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from envs.market.sources import bundled as embedded
from envs.market.volatility_estimate import fill_implied_vol
from envs.option_portfolio.env import OptionPortfolioKernel
from envs.option_portfolio.extra_blocks import EXTRA_BLOCKS, volatility_block
from envs.option_portfolio.observation import MARKET, BookObservation
from experiments.certificates import look_ahead
from experiments.certificates.look_ahead import Configuration, session_arrays, trip
from experiments.certificates.other_future import LoadedSource, TableSource
from experiments.certificates.outside_tables import index_table, panel_tables, sp500_table
from experiments.certificates.setups import (
    allocation,
    index_history,
    option_book,
    panel_histories,
    with_own_columns,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def an_index(**kind):
    rng = np.random.default_rng(0)
    return with_own_columns(index_history("gbm", 110, **kind), rng)


def tripped(source=None, moments=2):
    source = source or LoadedSource("gbm", an_index())
    case = option_book(source.history(), "vix", "expiry", managed=False)
    found = trip(Configuration("x", source, case), moments, seed=3)
    assert len(found.sessions) == moments
    return found


def test_a_feature_that_reads_the_next_session_is_named(monkeypatch):
    from envs.option_portfolio import observation

    right, column = observation.market_features, [f.name for f in MARKET].index("rsi_14")

    def shifted(history):
        values = right(history).copy()
        values[:, :-1, column] = values[:, 1:, column]
        return values

    monkeypatch.setattr(observation, "market_features", shifted)
    found = tripped()
    assert [t for t, _ in found.differences] == list(found.sessions)
    assert {what.item for _, what in found.differences} == {"rsi_14"}
    assert [what.session for _, what in found.differences] == list(found.sessions)


def test_a_block_scaled_by_the_whole_sample_is_named(monkeypatch):
    def fitted(history, tape):
        features, values = volatility_block(history, tape)
        return features, values - np.nanmean(values, axis=1, keepdims=True)

    monkeypatch.setitem(EXTRA_BLOCKS, "volatility", fitted)
    found = tripped(moments=1)
    assert found.differences[0][1].item == "vix_level"


def test_a_kernel_that_looks_one_row_ahead_is_found_on_the_way(monkeypatch):
    right = BookObservation.observe

    def ahead(self, row, *rest):
        return right(self, row + 1, *rest)

    monkeypatch.setattr(BookObservation, "observe", ahead)
    assert tripped(moments=1).differences[0][1].where == "observation"


def reading_the_next_row(monkeypatch, method):
    right = getattr(OptionPortfolioKernel, method)

    def ahead(self, *arguments):
        *rest, row = arguments
        return right(self, *rest, np.minimum(row + 1, len(self._mark) - 1))

    monkeypatch.setattr(OptionPortfolioKernel, method, ahead)


@pytest.mark.parametrize(
    ("method", "where"),
    [("_risk_book", "traded to"), ("_cost", "cost of the trade"), ("_target", "traded to")],
)
def test_what_reads_ahead_only_when_it_trades_is_found(monkeypatch, method, where):
    source = LoadedSource("gbm", an_index())
    case = option_book(source.history(), "vix", "expiry", managed=True)
    reading_the_next_row(monkeypatch, method)
    found = trip(Configuration("x", source, case), 3, seed=3)
    assert where in {what.where for _, what in found.differences}


def test_a_file_whose_gaps_are_filled_from_behind_is_found(monkeypatch, tmp_path):
    from envs.market.sources import index_file as files

    def from_behind(observed, *prices):
        return fill_implied_vol(pd.Series(observed).bfill(), *prices)

    table = index_table(an_index(paths=1), np.random.default_rng(0))
    table.iloc[60:101, table.columns.get_loc("vix")] = np.nan

    def read(table):
        table.to_csv(tmp_path / "a.csv", index_label="date", date_format="%Y-%m-%d")
        return files.load_file(tmp_path / "a.csv", 0.025, 0.015)[0]

    source = TableSource("csv", table, read)
    assert tripped(source, 3).differences == ()
    monkeypatch.setattr(files, "fill_implied_vol", from_behind)
    assert tripped(source, 3).differences[0][1].where == "history.implied_vol"


def test_a_vix_that_comes_a_day_early_is_found(monkeypatch, tmp_path):
    right = embedded._read

    def early(folder, name):
        table = right(folder, name)
        return table.shift(-1) if name == "vix" else table

    source = sp500_table(130, tmp_path)
    assert tripped(source, 3).differences == ()
    monkeypatch.setattr(embedded, "_read", early)
    assert tripped(source, 3).differences[0][1].where == "history.implied_vol"


def test_a_downloaded_panel_whose_holes_are_filled_from_behind_is_found(monkeypatch, tmp_path):
    from envs.market.sources import yahoo_panel as panel_yahoo

    def from_behind(table):
        close = pd.DataFrame(table.close).bfill().to_numpy(copy=True)
        close[:5] = table.close[:5]
        return dataclasses.replace(table, close=close), ()

    monkeypatch.setattr(look_ahead, "chosen_sessions", lambda *_: [34, 35, 36])

    def looked_at():
        _, history = next(panel_histories(80, everything=False))
        (source,) = [s for s in panel_tables(history, tmp_path) if s.name == "panel_yahoo"]
        return trip(Configuration("x", source, allocation(managed=False)), 3, seed=0)

    assert looked_at().differences == ()
    monkeypatch.setattr(panel_yahoo, "_without_missing_sessions", from_behind)
    found = looked_at().differences
    # Row 40 of the table; its first five come before the last listing.
    assert [(t, what.where) for t, what in found] == [(35, "history.close")]


def test_a_panel_feature_that_reads_the_next_session_is_named(monkeypatch):
    from envs.allocation import market as panel_market

    right = panel_market.panel_features

    def shifted(history):
        found = right(history)
        later = np.concatenate([found.returns[:, 1:], found.returns[:, -1:]], axis=1)
        return dataclasses.replace(found, returns=later)

    monkeypatch.setattr(panel_market, "panel_features", shifted)
    name, history = next(panel_histories(110, everything=False))
    found = trip(
        Configuration(name, LoadedSource(name, history), allocation(managed=False)), 1, seed=0
    )
    assert len(found.differences) == 1


def test_everything_of_a_market_is_compared():
    history = an_index()
    market = option_book(history, "vix", "daily", managed=False).build(history)
    names = {name for name, _ in session_arrays(market, history.num_sessions)}
    assert {
        "history.close",
        "history.extras.sentiment",
        "tape.mark",
        "tape.aged",
        "tape.rolled",
        "observed.before",
        "observed.after",
        "unit_cost",
        "closing_unit_cost",
        "cash_return",
    } <= names
