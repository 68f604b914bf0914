from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from agents.baselines.reference import Cash
from conf.errors import InputError
from conf.settings import build_settings
from envs.allocation.market import AllocationMarketSettings
from envs.core.batch import Window
from envs.market.history import MarketHistory
from envs.market.sources.index import Sp500Data, SyntheticData
from envs.market.sources.panel import PanelSimulatedData
from envs.option_portfolio.env import OptionPortfolioKernel
from envs.option_portfolio.market import (
    OptionMarket,
    OptionMarketSettings,
    OptionPortfolioSettings,
    build_option_market,
)
from envs.options.black_scholes import price
from envs.options.surface import VixSurface
from experiments import stress
from experiments.backtests.backtest import run_backtest
from experiments.environments.opening import open_market
from experiments.environments.setup import MarketSetup
from experiments.scenarios.page import recovery_text
from experiments.scenarios.replay import (
    _outcome,
    replay_crisis,
    replay_shocks,
    sessions_to_recover,
)
from experiments.scenarios.shocks import (
    COVID_CLOSE,
    COVID_VOL,
    LEAD_SESSIONS,
    SHOCKS,
    VOL_CEILING,
    Shock,
    shocked_history,
    shocked_markets,
)
from experiments.scenarios.trials import CRISES, crises_within, possible_shocks, start_sessions
from risk.overlay import RiskSettings
from tests.markets import random_walk, wandering_vol

AT = 200
SHOCK = {shock.name: shock for shock in SHOCKS}


@pytest.fixture(scope="module")
def history() -> MarketHistory:
    return random_walk(620, seed=3, implied_vol=wandering_vol(620, seed=4))


@pytest.fixture(scope="module")
def real() -> MarketSetup:
    env = OptionPortfolioSettings()
    return open_market(
        OptionMarketSettings(data=Sp500Data(), surface=VixSurface(), env=env, risk=RiskSettings())
    )


def three_assets() -> MarketSetup:
    data = PanelSimulatedData(assets=3, sessions=900)
    return open_market(AllocationMarketSettings(data=data, risk=RiskSettings(enabled=False)))


def moved(history: MarketHistory, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Close and implied volatility after a shock."""
    close, vol = history.close[0], history.implied_vol[0]
    factor, after = SHOCK[name].move(close, vol, AT)
    return close * factor, after


# --- what a shock does to a history ------------------------------------------------------------


@pytest.mark.parametrize("shock", SHOCKS, ids=lambda shock: shock.name)
def test_nothing_before_a_shock_changes(shock: Shock, history: MarketHistory) -> None:
    after = shocked_history(history, [shock], AT)
    for name in ("open", "high", "low", "close", "volume", "implied_vol"):
        assert np.array_equal(getattr(after, name)[:, :AT], getattr(history, name)[:, :AT]), name
    assert np.array_equal(after.rate[:AT], history.rate[:AT])
    built = [
        build_option_market(h, VixSurface(), OptionPortfolioSettings()) for h in (history, after)
    ]
    for name in ("mark", "aged", "vol", "strike"):
        before = [getattr(market.tape, name)[:, :AT] for market in built]
        assert np.array_equal(*before), name
    assert np.array_equal(built[0].observed.before[:, 60:AT], built[1].observed.before[:, 60:AT])


@pytest.mark.parametrize(("name", "share"), [("fall_10", 0.1), ("fall_20", 0.2), ("fall_35", 0.35)])
def test_a_fall_is_exact_and_volatility_rises_two_points_a_per_cent(
    history: MarketHistory, name: str, share: float
) -> None:
    close, vol = moved(history, name)
    np.testing.assert_allclose(close[AT:], history.close[0, AT:] * (1 - share))
    before = history.implied_vol[0]
    assert vol[AT] == pytest.approx(min(before[AT] + 2 * share, VOL_CEILING))
    if share < 0.3:  # no ceiling in the way
        assert vol[AT + 21] - before[AT + 21] == pytest.approx(share)
        assert vol[AT + 42] - before[AT + 42] == pytest.approx(share / 2)


def test_covid_is_replayed_to_the_day(history: MarketHistory) -> None:
    close, vol = moved(history, "covid")
    path = close[AT - 1 : AT + 23] / close[AT - 1]
    np.testing.assert_allclose(path, COVID_CLOSE / COVID_CLOSE[0], rtol=1e-12)
    assert path[-1] - 1 == pytest.approx(-0.339, abs=0.001)
    rise = vol[AT : AT + 23] - history.implied_vol[0, AT - 1]
    np.testing.assert_allclose(rise, COVID_VOL[1:] - COVID_VOL[0], atol=1e-12)
    later = np.diff(np.log(close[AT + 22 :]))  # afterwards history goes on
    np.testing.assert_allclose(later, np.diff(np.log(history.close[0, AT + 22 :])), atol=1e-12)


def test_the_grind_is_slow_and_calm(history: MarketHistory) -> None:
    close, vol = moved(history, "grind")
    assert close[AT + 251] / close[AT - 1] == pytest.approx(0.8)
    daily = np.diff(np.log(close[AT - 1 : AT + 252]))
    assert daily.std() * np.sqrt(252) <= 0.08 + 1e-12
    assert vol[AT + 200] == pytest.approx(0.13, abs=0.002)


def test_crush_gaps_and_rates(history: MarketHistory) -> None:
    close, vol = moved(history, "vol_crush")
    assert np.array_equal(close, history.close[0])
    np.testing.assert_allclose(vol[AT:], np.maximum(history.implied_vol[0, AT:] / 2, 0.05))
    close, _ = moved(history, "gaps")
    jump = np.log(close[1:] / close[:-1]) - np.diff(np.log(history.close[0]))
    jumps = {
        int(t) + 1: round(float(np.expm1(jump[t])), 10) for t in np.flatnonzero(abs(jump) > 1e-9)
    }
    assert jumps == {AT: -0.05, AT + 5: 0.05, AT + 10: -0.05, AT + 15: 0.05}
    rates = shocked_history(history, [SHOCK["rates_up"]], AT).rate - history.rate
    np.testing.assert_allclose(rates, np.where(np.arange(620) >= AT, 0.03, 0.0), atol=1e-15)


# --- markets and books -------------------------------------------------------------------------


def test_every_path_has_its_own_shock_and_costs(real: MarketSetup) -> None:
    at = real.window("test").start + 100
    window = Window(at - 40, at + 80)
    built = shocked_markets(real, SHOCKS, at, window)
    assert sorted(s.name for m in built for s in m.shocks) == sorted(SHOCK)
    for shocked in built:
        history, begin = shocked.market.history, at - 40 - LEAD_SESSIONS
        assert history.dates[shocked.at] == real.market.history.dates[at]
        plain = real.market.history.close[0, begin : at + 80]
        for path, shock in enumerate(shocked.shocks):
            ratio = history.close[path] / plain
            expected = {"fall_10": 0.9, "fall_20": 0.8, "fall_35": 0.65}.get(shock.name)
            assert (ratio[: shocked.at] == 1.0).all()
            if expected:
                np.testing.assert_allclose(ratio[shocked.at :], expected)
            assert isinstance(shocked.market, OptionMarket)
            assert shocked.market.market_closed is not None
            market_closed = np.flatnonzero(shocked.market.market_closed[path]) - shocked.at
            assert market_closed.tolist() == list(range(shock.closed_sessions))
    names = [s.name for s in built[0].shocks]
    assert isinstance(built[0].market, OptionMarket)
    cost = built[0].market.unit_cost
    times = cost[names.index("costs_x10")] / cost[names.index("frozen")]
    np.testing.assert_allclose(times[: built[0].at], 1.0)
    np.testing.assert_allclose(times[built[0].at : built[0].at + 63], 10.0)


@pytest.mark.parametrize("managed", [False, True])
def test_no_book_trades_where_the_market_is_closed(history: MarketHistory, managed: bool) -> None:
    env = OptionPortfolioSettings()
    market = build_option_market(history, VixSurface(), env)
    market_closed = np.zeros((1, 620), np.bool_)
    market_closed[0, AT : AT + 5] = True
    risk = RiskSettings() if managed else None
    window = Window(AT - 30, AT + 40)
    kernel = OptionPortfolioKernel(
        replace(market, market_closed=market_closed), env, window, random_start=False, risk=risk
    )
    kernel.reset()
    rng, traded = np.random.default_rng(1), []
    for _ in range(69):
        before, dollars = kernel.ledger.quantity.copy(), kernel.ledger.traded[0]
        kernel.step(rng.uniform(-0.02, 0.02, (1, market.tape.num_slots)))
        traded.append(kernel.ledger.traded[0] - dollars)
        if market_closed[0, kernel.session[0] - 1]:
            assert np.array_equal(kernel.held_quantity, before)
    quiet = np.flatnonzero(np.array(traded) == 0.0)
    assert quiet.tolist() == [30, 31, 32, 33, 34]
    if kernel.overlay is not None:  # what it counts as traded is what was traded
        np.testing.assert_allclose(kernel.overlay.recent_trades[0], traded[-20:], rtol=1e-9)


def test_the_loss_of_a_held_put_is_its_price_at_the_moved_market(history: MarketHistory) -> None:
    env = OptionPortfolioSettings()
    after = shocked_history(history, [SHOCK["fall_20"]], AT)
    market = build_option_market(after, VixSurface(), env)
    slot = next(
        i for i, s in enumerate(market.tape.slots) if not s.is_call and s.maturity_days == 60
    )
    kernel = OptionPortfolioKernel(market, env, Window(AT - 1, AT + 2), random_start=False)
    kernel.reset()
    action = np.zeros((1, market.tape.num_slots))
    action[0, slot] = -0.05
    before = kernel.ledger.equity[0]
    kernel.step(action)
    held = kernel.held_quantity[0, slot]
    drivers = VixSurface().drivers(after.implied_vol)[0, AT]
    strike = market.tape.strike[0, AT - 1, slot]
    expiry_days = market.tape.days_to_expiry[AT - 1, slot]
    tau = (expiry_days - float(history.days_to_next[AT - 1])) / 365
    spot = 0.8 * history.close[0, AT]
    forward = spot * np.exp((0.025 - 0.015) * tau)
    vol = VixSurface().vol(drivers, np.log(strike / forward), tau)
    worth = price(spot, strike, tau, vol, 0.025, 0.015, False)
    bought = market.tape.mark[0, AT - 1, slot]
    interest = (before - kernel.ledger.costs[0] - held * bought) * market.cash_return[AT - 1]
    gain = held * (worth - bought) + interest - kernel.ledger.costs[0]
    assert kernel.ledger.equity[0] - before == pytest.approx(gain, rel=1e-9)
    assert gain < 0


def test_the_index_goes_through_a_crisis_as_it_did(real: MarketSetup) -> None:
    scenario_path = replay_crisis(real, Cash(), (), CRISES["Fourth quarter of 2018"])
    dates, history = real.market.history.dates, real.market.history
    assert str(scenario_path.dates[0]) == "2018-09-28"
    assert str(scenario_path.dates[-1]) == "2018-12-31"
    i, j = (
        int(np.searchsorted(dates, d)) for d in (scenario_path.dates[0], scenario_path.dates[-1])
    )
    dividends = np.exp(0.015 * float((dates[j] - dates[i]).astype(int)) / 365)
    expected = history.close[0, j] / history.close[0, i] * dividends - 1
    outcome = scenario_path.outcomes["buy_and_hold"]
    assert outcome.total_return == pytest.approx(expected)
    assert outcome.recovered is None
    assert outcome.worst_day == pytest.approx(-0.0329, abs=0.0005)  # 10 October 2018
    assert scenario_path.outcomes["policy"].total_return == pytest.approx(
        np.expm1((history.rate[i:j] * history.days_to_next[i:j]).sum() / 365)
    )


def test_the_embedded_data_covers_seven_crises(real: MarketSetup) -> None:
    dates = real.market.history.dates
    titles = list(crises_within(dates[real.market.first_usable], dates[-1]))
    assert titles == [t for t, c in CRISES.items() if c.last <= np.datetime64("2018-12-31")]
    assert len(titles) == 7


def test_an_allocation_falls_with_all_its_assets() -> None:
    class Even:
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            return np.tile([0.25, 0.25, 0.25, 0.25], (len(observation), 1)), None

    setup = three_assets()
    at = setup.window("test").start + 45
    shocks = [SHOCK["fall_20"], SHOCK["grind"], SHOCK["frozen"]]
    scenario_paths = replay_shocks(setup, Even(), (), shocks, at)
    fall = scenario_paths["fall_20"].curves
    index, book = fall["buy_and_hold"][1] - 1, fall["policy"][1] - 1
    assert index == pytest.approx(
        0.8 * (1 + scenario_paths["frozen"].curves["buy_and_hold"][1] - 1) - 1
    )
    assert book == pytest.approx(0.75 * index, abs=0.01)
    assert scenario_paths["frozen"].outcomes["cash"].max_drawdown == 0.0


def test_a_book_that_is_rolled_daily_goes_through_no_closed_market(history: MarketHistory) -> None:
    """Its contracts are sold at each close: it would be flat throughout."""
    data = SyntheticData(sessions=700)
    for roll, left_out in (("expiry", set()), ("daily", {"frozen", "liquidity_gone"})):
        env = build_settings(OptionPortfolioSettings, {"chain": {"roll": roll}}, "env")
        setup = open_market(OptionMarketSettings(data, VixSurface(), env, RiskSettings()))
        possible, why = possible_shocks(setup, SHOCKS)
        assert set(SHOCK) - {shock.name for shock in possible} == left_out
        assert [line.split(":")[0] for line in why] == (
            ["Trading frozen, Liquidity gone"] if left_out else []
        )


def test_an_allocation_has_no_baselines() -> None:
    setup = three_assets()
    assert stress._benchmarks(setup, None) == ()
    with pytest.raises(InputError, match="no benchmark 'genius' of an allocation"):
        stress._benchmarks(setup, ("genius",))


class Reckless:
    """Sells every put over the whole equity."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        action = np.zeros((len(observation), 20), np.float32)
        action[:, [*range(5, 10), *range(15, 20)]] = -1.0
        return action, None


@pytest.mark.parametrize("after", [0, 1, 30])
def test_ruin_at_the_last_close_of_a_shock_is_ruin(history: MarketHistory, after: int) -> None:
    """Whether the backtest ends there, too, or goes on."""
    env = OptionPortfolioSettings()
    crash = shocked_history(history, [SHOCK["fall_35"]], AT)
    market = build_option_market(crash, VixSurface(), env)
    backtest = run_backtest(Reckless(), market, env, Window(AT - 5, AT + 1 + after))
    assert backtest.ruined.all()
    assert int(np.argmin(backtest.equity[0])) == 5
    ruined = [
        _outcome(backtest.equity[0], 0, end, backtest, 0).ruined for end in range(1, 6 + after)
    ]
    assert ruined == [False] * 4 + [True] * (1 + after)


# --- measures and dates ------------------------------------------------------------------------


def test_recovery_counts_from_the_trough_of_the_window() -> None:
    curve = np.array([1.0, 0.99, 1.01, 0.7, 0.8, 0.9, 1.0, 1.1])
    assert sessions_to_recover(curve, 4) == 6
    assert sessions_to_recover(curve, 1) == 2
    assert sessions_to_recover(curve[:6], 4) is None
    assert sessions_to_recover(np.array([1.0, 1.0, 1.2, 1.1]), 3) == 0


def test_the_recovery_text_counts_losses_alone() -> None:
    assert recovery_text([0, 0, 10, 20, None]) == "15 sessions (2 of 3 losses)"
    assert recovery_text([0, None]) == "not yet (0 of 1 losses)"
    assert recovery_text([0, 0]) == recovery_text([0]) == "no loss"
    assert recovery_text([7]) == "7 sessions"
    assert recovery_text([None]) == "not yet"


def test_starts_are_even_and_leave_room() -> None:
    assert start_sessions(100, 400, 63, 3) == [143, 240, 337]
    assert start_sessions(100, 400, 252, 3) == [143, 146, 148]
    assert start_sessions(100, 200, 63, 5) == []
    assert start_sessions(100, 207, 63, 5) == [143, 144]


# --- the command -------------------------------------------------------------------------------


def test_stress_of_a_run(command, finished_run, tmp_path) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    arguments = (f"run={run}", "starts=2", "shocks=[fall_20,frozen,rates_up,grind]")
    code, out, err = command(stress, *arguments)
    assert code == 0, err
    written = json.loads((run / "stress" / "stress.json").read_text())
    assert list(written["shocks"]) == ["fall_20", "frozen", "rates_up"]
    fall = written["shocks"]["fall_20"]
    assert len(fall["starts"]) == 2
    assert {"policy", "managed", "buy_and_hold", "put_write", "cash"} <= set(fall["books"])
    assert fall["books"]["buy_and_hold"]["worst_day"] < -0.15
    assert fall["books"]["put_write"]["worst_return"] < -0.03
    assert len(fall["books"]["managed"]["overlay"]) == 2
    assert not fall["books"]["policy"]["overlay"]
    assert written["crises"] == {}
    assert any("dates mean nothing" in line for line in written["left_out"])
    assert any("Slow grind" in line for line in written["left_out"])
    page = (run / "stress" / "report.html").read_text()
    assert "Index −20 % overnight" in page
    assert (run / "stress" / "shocks.png").stat().st_size > 1000
    assert "Trading frozen" in out
    assert "…" not in out  # nothing is cut off at 80 columns
    assert command(stress, *arguments, "report=false")[0] == 0
    assert json.loads((run / "stress" / "stress.json").read_text()) == written


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ("shocks=[meteor]", "there is no shock 'meteor'"),
        ("beside=[genius]", "there is no benchmark 'genius'"),
        ("starts=0", "setting starts = 0"),
        ("shocks=[]", "its dates mean nothing. Name shocks"),
        ("shocks=[] crises=false", "Set crises=true"),
        ("run=nowhere", "was not found"),
    ],
)
def test_an_impossible_request_is_one_line(command, finished_run, argument, complaint) -> None:
    arguments = [] if argument.startswith("run=") else [f"run={finished_run}"]
    code, _, err = command(stress, *arguments, *argument.split())
    assert code == 2
    assert complaint in err
    assert len(err.strip().splitlines()) == 1
