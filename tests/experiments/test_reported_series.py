"""Series that users reported, with the values that are right for them and those once shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from agents.baselines.rebalanced import Rebalanced
from agents.baselines.reference import Cash
from agents.policy import Trader
from conf.errors import InputError
from envs.core.batch import Window
from envs.market.models.gbm import GbmModel, Scenario
from envs.market.models.index_models import simulate_index
from envs.market.sources.index import FileData, load_market
from envs.market.sources.panel import PanelFileData, load_panel
from envs.market.volatility_estimate import estimate_implied_vol
from experiments.backtests.backtest import run_backtest
from experiments.statistics.performance import Performance
from tests.markets import weekdays
from tests.panels import allocation_of, panel_market_of

FIRST = 20  # session at which the features are known, and a book begins


def prices_with(mean: float, deviation: float, sessions: int, assets: int = 3) -> np.ndarray:
    """Prices (T, A) whose mean return over assets has these moments from session FIRST on."""
    rng = np.random.default_rng(4)
    returns = 0.01 * rng.standard_normal((sessions - 1, assets))
    held = returns[FIRST:].mean(axis=1)
    wanted = mean + deviation * (held - held.mean()) / held.std(ddof=1)
    returns[FIRST:] += (wanted - held)[:, None]
    return 100.0 * np.cumprod(np.vstack([np.ones(assets), 1.0 + returns]), axis=0)


def measured(path: Path, trader: str, cost_bps: float = 0.0, step: int = 1) -> Performance:
    """A book of the whole file after the warm-up: equal weights restored every `step`, or cash."""
    history = load_panel(PanelFileData(path=str(path))).history
    options = allocation_of(costs={"kind": "flat", "rate_bps": cost_bps})
    market = panel_market_of(history, options)
    assert market.first_usable == FIRST
    equal = np.append(np.full(history.num_assets, 1.0 / history.num_assets), 0.0)
    book: Trader = Cash() if trader == "cash" else Rebalanced(market, FIRST, equal, step)
    window = Window(FIRST, history.num_sessions)
    return run_backtest(book, market, options, window).performance()


def written(path: Path, days: np.ndarray, prices: np.ndarray) -> Path:
    frame = pd.DataFrame(prices, pd.Index(days, name="date"), list("ABC")[: prices.shape[1]])
    frame.to_csv(path)
    return path


@pytest.fixture
def coins(tmp_path: Path) -> Path:
    """Three coins of 2,000 days whose equal weight has a yearly mean of 13.4 % and 35.3 %."""
    days = np.datetime64("2016-01-01") + np.arange(2000)
    prices = prices_with(0.13396 / 365, 0.35309 / np.sqrt(365), len(days))
    return written(tmp_path / "coins.csv", days, prices)


def test_coins_that_trade_every_day_are_annualised_by_365(coins: Path) -> None:
    """Mean m and deviation s of a year compound to exp(m - s^2 / 2) - 1 = 7.43 %.

    The Sharpe ratio is (m - 2.5 %) / s = 0.309. By 252 days it would be 5.07 %, 29.3 % and 0.257.
    """
    book, cash = measured(coins, "equal"), measured(coins, "cash")
    assert np.expm1(0.13396 - 0.35309**2 / 2) == pytest.approx(0.0743, abs=5e-5)
    assert book.annual_return[0] == pytest.approx(0.0743, abs=4e-4)
    assert book.annual_volatility[0] == pytest.approx(0.353, abs=5e-4)
    assert book.sharpe[0] == pytest.approx(0.309, abs=1e-3)
    assert cash.annual_return[0] == pytest.approx(0.0253, abs=5e-5)


def test_coins_held_at_the_costs_of_the_defaults_earn_less_by_what_they_trade(coins: Path) -> None:
    """Why a baseline shows less than the coins' mean: it pays, once a month and at the start."""
    free, paid = (measured(coins, "equal", bps, step=21) for bps in (0.0, 10.0))
    charged = 1e-3 * paid.turnover[0]
    assert 0.0005 < charged < 0.01
    assert free.annual_return[0] - paid.annual_return[0] == pytest.approx(charged, rel=0.1)


def test_a_market_that_never_closes_is_estimated_as_volatile_as_on_exchange_days() -> None:
    vols = {}
    for name, days in {
        "every day": np.arange("2010-01-01", "2020-01-01", dtype="datetime64[D]"),
        "weekdays": np.busday_offset("2010-01-01", np.arange(2609), roll="forward"),
    }.items():
        scenario = Scenario(days, 4, 100.0, 0.0, 0.0, 0.0)
        history = simulate_index(GbmModel(), scenario, np.random.default_rng(0))
        estimate = estimate_implied_vol(
            history.high, history.low, history.close, history.sessions_per_year
        )
        vols[name] = float(np.median(estimate[:, 250:]))
    assert vols["every day"] == pytest.approx(vols["weekdays"], rel=0.03)
    assert vols["every day"] > 0.99 * vols["weekdays"]


def weeks(path: Path, bars: bool) -> Path:
    """A thousand weeks of 16 % volatility a year and no drift."""
    days = np.datetime64("2000-01-07") + 7 * np.arange(1000)
    prices = prices_with(0.04 / 52.18, 0.16 / np.sqrt(52.18), len(days))
    if not bars:
        return written(path, days, prices)
    close = prices[:, 0]
    opening = np.append(close[0], close[:-1])
    frame = pd.DataFrame({"date": days, "open": opening, "close": close, "volume": 1000})
    frame["high"], frame["low"] = np.maximum(opening, close), np.minimum(opening, close)
    frame.to_csv(path, index=False)
    return path


def test_weekly_bars_are_no_option_book(tmp_path: Path) -> None:
    data = FileData(path=str(weeks(tmp_path / "weekly.csv", bars=True)))
    with pytest.raises(InputError, match=r"rows are not daily: .* 7 days apart") as caught:
        load_market(data, embargo_days=35)
    assert "\n" not in str(caught.value)
    assert "weekly prices suit data=panel_csv" in caught.value.remedy


def test_an_allocation_annualises_weekly_prices_by_their_own_weeks(tmp_path: Path) -> None:
    """By 252 the same weeks would show 35.2 % for 16 %, and cash 12.8 % for 2.53 %."""
    path = weeks(tmp_path / "weekly.csv", bars=False)
    assert load_panel(PanelFileData(path=str(path))).history.sessions_per_year == pytest.approx(
        52.18, abs=0.005
    )
    book, cash = measured(path, "equal"), measured(path, "cash")
    assert book.annual_volatility[0] == pytest.approx(0.16, abs=5e-4)
    assert cash.annual_return[0] == pytest.approx(0.0253, abs=5e-5)
    assert np.expm1(0.025 * 7 / 365 * 252) == pytest.approx(0.128, abs=5e-4)


@pytest.fixture
def split_days() -> tuple[pd.DatetimeIndex, np.ndarray]:
    """Six years that lose 18.7 %, 0.8 % of them on 2018-11-05, the day of a 4:1 split."""
    days = pd.DatetimeIndex(weekdays(1500, "2015-01-05"), name="date")
    moves = 0.008 * np.random.default_rng(5).standard_normal(len(days) - 1)
    at = days.get_loc("2018-11-05")
    assert isinstance(at, int)
    others = np.arange(len(moves)) != at - 1
    moves[at - 1] = np.log(0.992)
    moves[others] += (np.log(0.813 / 0.992) - moves[others].sum()) / others.sum()
    return days, 100.0 * np.exp(np.append(0.0, np.cumsum(moves)))


def test_a_split_in_the_closes_is_named_and_the_adjusted_ones_show_what_was_earned(
    tmp_path: Path, split_days: tuple[pd.DatetimeIndex, np.ndarray]
) -> None:
    """Closes show 0.813 / 4 - 1 = -79.7 % for -18.7 %, and 0.992 / 4 - 1 = -75.2 % on the day."""
    days, adjusted = split_days
    close = np.where(days < pd.Timestamp("2018-11-05"), 4.0, 1.0) * adjusted
    opening = np.where(days == pd.Timestamp("2018-11-05"), close, np.append(close[0], close[:-1]))
    frame = pd.DataFrame({"open": opening, "close": close, "adj_close": adjusted}, days)
    frame["high"], frame["low"] = np.maximum(opening, close), np.minimum(opening, close)
    path = tmp_path / "split.csv"
    frame.assign(volume=1000).to_csv(path)
    market = load_market(FileData(path=str(path)), embargo_days=0)
    (notice,) = [notice for notice in market.notices if "split.csv, line" in notice]
    assert "close moves by -75.2 % on 2018-11-05" in notice
    assert "splits have to be in the prices; adj_close, which is in the file and not used" in notice
    prices = market.history
    assert prices.close[0, -1] / prices.close[0, 0] - 1 == pytest.approx(-0.797, abs=5e-4)
    shown = prices.extras["adj_close"][0]
    assert shown[-1] / shown[0] - 1 == pytest.approx(-0.187, abs=5e-4)

    frame[["close"]].rename(columns={"close": "A"}).assign(B=adjusted).to_csv(path)
    (notice,) = load_panel(PanelFileData(path=str(path))).notices
    assert "A moves by -75.2 % on 2018-11-05" in notice
    assert "splits have to be in the prices" in notice

    frame.assign(ticker="A")[["ticker", "close", "adj_close"]].to_csv(path)
    held = load_panel(PanelFileData(path=str(path))).history.close[0, :, 0]
    assert held[-1] / held[0] - 1 == pytest.approx(-0.187, abs=5e-4)


def test_a_close_half_above_the_days_high_is_refused_with_its_line(
    tmp_path: Path, split_days: tuple[pd.DatetimeIndex, np.ndarray]
) -> None:
    days, close = split_days
    frame = pd.DataFrame({"open": close, "close": close, "volume": 1000}, days)
    frame["high"], frame["low"] = 1.003 * close, 0.997 * close
    frame.loc[days[699], "close"] = 1.5 * frame["high"].iloc[699]
    path = tmp_path / "prices.csv"
    frame.to_csv(path)
    with pytest.raises(InputError, match=r"line 701: close [\d.]+ lies far outside low .* to high"):
        load_market(FileData(path=str(path)), embargo_days=0)
