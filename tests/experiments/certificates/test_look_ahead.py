"""The look-ahead certificate fails where something reads ahead, and names difference."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from envs.hedging import market as hedging_market
from envs.hedging.env import HedgingKernel
from envs.hedging.liability import Quotes
from envs.market.indicators import market_features, panel_features
from envs.market.sources import bundled as embedded
from envs.market.volatility_estimate import fill_implied_vol
from envs.option_portfolio.env import OptionPortfolioKernel
from envs.option_portfolio.extra_blocks import EXTRA_BLOCKS, volatility_block
from envs.option_portfolio.observation import MARKET, BookObservation
from experiments.certificates import look_ahead
from experiments.certificates.look_ahead import Configuration, compare_futures, session_arrays
from experiments.certificates.small_environments import (
    allocation_settings,
    hedging_settings,
    index_history,
    option_settings,
    panel_histories,
    with_extra_columns,
)
from experiments.certificates.sources import (
    LoadedSource,
    TableSource,
    index_table,
    panel_tables,
    sp500_table,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def small_index(**kind):
    rng = np.random.default_rng(0)
    return with_extra_columns(index_history("gbm", 110, **kind), rng)


def result_of(source=None, moments=2):
    source = source or LoadedSource("gbm", small_index())
    settings = option_settings(source.history(), "vix", "expiry", managed=False)
    result = compare_futures(Configuration("x", source, settings), moments, seed=3)
    assert len(result) == moments
    return result


def arrays(result):
    return [difference and difference.array for difference in result.values()]


def test_a_feature_that_reads_the_next_session_is_named(monkeypatch):
    from envs.option_portfolio import observation

    column = [f.name for f in MARKET].index("rsi_14")

    def shifted(history):
        values = market_features(history).copy()
        values[:, :-1, column] = values[:, 1:, column]
        return values

    monkeypatch.setattr(observation, "market_features", shifted)
    result = result_of()
    assert {difference.column for difference in result.values()} == {"rsi_14"}
    assert [difference.session for difference in result.values()] == list(result)


def test_a_block_scaled_by_the_whole_sample_is_named(monkeypatch):
    def fitted(history, tape):
        features, values = volatility_block(history, tape)
        return features, values - np.nanmean(values, axis=1, keepdims=True)

    monkeypatch.setitem(EXTRA_BLOCKS, "volatility", fitted)
    (difference,) = result_of(moments=1).values()
    assert difference.column == "vix_level"


def test_a_kernel_that_looks_one_row_ahead_is_found_in_the_episode(monkeypatch):
    right = BookObservation.observe

    def ahead(self, row, *rest):
        return right(self, row + 1, *rest)

    monkeypatch.setattr(BookObservation, "observe", ahead)
    assert arrays(result_of(moments=1)) == ["observation"]


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
def test_reading_ahead_only_when_trading_is_found(monkeypatch, method, where):
    history = small_index()
    source = LoadedSource("gbm", history)
    settings = option_settings(history, "vix", "expiry", managed=True)
    reading_the_next_row(monkeypatch, method)
    result = compare_futures(Configuration("x", source, settings), 3, seed=3)
    assert where in arrays(result)


@pytest.mark.parametrize(
    ("method", "where"), [("_observe", "observation"), ("_target", "traded to")]
)
def test_a_hedger_that_reads_the_next_session_is_found(monkeypatch, method, where):
    configuration = Configuration("x", LoadedSource("gbm", small_index()), hedging_settings())
    assert arrays(compare_futures(configuration, 2, seed=3)) == [None, None]
    right, place = getattr(HedgingKernel, method), {"_observe": 0, "_target": 2}[method]

    def ahead(self, *given):
        moved = list(given)
        moved[place] = np.minimum(moved[place] + 1, len(self._mark) - 1)
        return right(self, *moved)

    monkeypatch.setattr(HedgingKernel, method, ahead)
    assert where in arrays(compare_futures(configuration, 2, seed=3))


def test_a_liability_at_tomorrows_volatility_is_named(monkeypatch):
    def early(history, *rest):
        later = np.append(history.implied_vol[:, 1:], history.implied_vol[:, -1:], axis=1)
        return Quotes(dataclasses.replace(history, implied_vol=later), *rest)

    monkeypatch.setattr(hedging_market, "Quotes", early)
    configuration = Configuration("x", LoadedSource("gbm", small_index()), hedging_settings())
    named = arrays(compare_futures(configuration, 2, seed=3))
    assert None not in named
    assert set(named) <= {"mark", "aged", "delta", "gamma", "vega", "observed", "premium"}


def test_a_file_whose_gaps_are_filled_from_later_rows_is_found(monkeypatch, tmp_path):
    from envs.market.sources import index_file as files

    def from_later_rows(observed, *prices):
        return fill_implied_vol(pd.Series(observed).bfill(), *prices)

    table = index_table(small_index(paths=1), np.random.default_rng(0))
    table.loc[table.index[60:101], "vix"] = np.nan

    def read(table):
        table.to_csv(tmp_path / "a.csv", index_label="date", date_format="%Y-%m-%d")
        return files.load_file(tmp_path / "a.csv", 0.025, 0.015)[0]

    source = TableSource("csv", table, read)
    assert arrays(result_of(source, 3)) == [None] * 3
    monkeypatch.setattr(files, "fill_implied_vol", from_later_rows)
    assert next(filter(None, arrays(result_of(source, 3)))) == "history.implied_vol"


def test_a_vix_that_comes_a_day_early_is_found(monkeypatch, tmp_path):
    right = embedded._read

    def early(folder, name):
        table = right(folder, name)
        return table.shift(-1) if name == "vix" else table

    source = sp500_table(130, tmp_path)
    assert arrays(result_of(source, 3)) == [None] * 3
    monkeypatch.setattr(embedded, "_read", early)
    assert next(filter(None, arrays(result_of(source, 3)))) == "history.implied_vol"


def test_a_downloaded_panel_whose_holes_are_filled_from_later_rows_is_found(monkeypatch, tmp_path):
    from envs.market.sources import yahoo_panel as panel_yahoo

    def from_later_rows(table):
        close = pd.DataFrame(table.close).bfill().to_numpy(copy=True)
        close[:5] = table.close[:5]
        return dataclasses.replace(table, close=close), ()

    monkeypatch.setattr(look_ahead, "chosen_sessions", lambda *_: [34, 35, 36])

    def result():
        _, history = next(panel_histories(80, everything=False))
        (source,) = [s for s in panel_tables(history, tmp_path) if s.name == "panel_yahoo"]
        settings = allocation_settings(managed=False)
        return compare_futures(Configuration("x", source, settings), 3, seed=0)

    assert arrays(result()) == [None] * 3
    monkeypatch.setattr(panel_yahoo, "_without_missing_sessions", from_later_rows)
    # Row 40 of the table; its first five come before the last listing.
    assert arrays(result()) == [None, "history.close", None]


def test_a_panel_feature_that_reads_the_next_session_is_named(monkeypatch):
    from envs.allocation import market as panel_market

    def shifted(history):
        features = panel_features(history)
        later = np.concatenate([features.returns[:, 1:], features.returns[:, -1:]], axis=1)
        return dataclasses.replace(features, returns=later)

    monkeypatch.setattr(panel_market, "panel_features", shifted)
    name, history = next(panel_histories(110, everything=False))
    source, settings = LoadedSource(name, history), allocation_settings(managed=False)
    result = compare_futures(Configuration(name, source, settings), 1, seed=0)
    assert None not in result.values()


def test_everything_of_a_market_is_compared():
    history = small_index()
    market = option_settings(history, "vix", "daily", managed=False).build(history)
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
