"""What is shown of an account is what its events, its market and the backtest say."""

import numpy as np
import pytest

from envs.option_portfolio.market import OptionMarket
from envs.option_portfolio.risk_view import scan_market
from experiments.accounts.account import CLOSED, ORDER, Account
from experiments.accounts.events import decoded, open_store
from experiments.accounts.verification import backtest_of
from experiments.monitoring.view import Use, read_account


def test_the_book_is_that_of_the_last_close(traded_folder, view):
    with open_store(traded_folder) as store:
        closed = [event.content for event in store.of(CLOSED)]
        market = Account(traded_folder, store).kernel_at_opening()[2]
    last, spot, quantity = closed[-1], market.history.close[0, -1], decoded(closed[-1]["quantity"])
    assert view.equity_after == pytest.approx(last["equity_usd"], rel=1e-12)
    assert view.cash == pytest.approx(last["cash_usd"], rel=1e-12)
    assert view.decided == tuple(each["session"] for each in closed)
    assert sum(p.value_usd for p in view.positions) + view.cash == pytest.approx(view.equity_after)
    assert isinstance(market, OptionMarket)
    tape = market.tape
    for name, unit in {
        "delta": tape.delta[0, -1] * spot,
        "gamma": tape.gamma[0, -1] * spot**2 / 100.0,
        "vega": tape.vega[0, -1] / 100.0,
    }.items():
        assert view.greeks[name] == pytest.approx(float(quantity[0] @ unit))
        assert sum(getattr(p, f"{name}_usd") for p in view.positions) == pytest.approx(
            view.greeks[name]
        )


def test_equity_moves_by_the_book_less_its_costs(view):
    """From after one session's trades to before the next's: the difference is the costs."""
    assert view.equity[0] == view.initial_usd
    assert view.equity_after == pytest.approx(view.equity[-1] - view.cost[-1])
    assert view.day_pnl == view.equity[-1] - view.equity[-2]


def test_limits_are_measured_as_the_overlay_does(view):
    by_name = {use.name: use for use in view.limits}
    assert by_name["delta"].used == pytest.approx(abs(view.greeks["delta"]) / view.equity[-1])
    assert by_name["delta"].share == pytest.approx(by_name["delta"].used / 0.5)
    assert by_name["invested"].used == pytest.approx(
        sum(p.value_usd for p in view.positions) / view.equity[-1]
    )
    month = view.traded.sum() / view.equity[-1]
    assert by_name["turnover, month"].used == pytest.approx(month)
    assert Use("a", 0.1, 0.0).share == float("inf")


def test_the_stress_loss_is_the_worst_scenario_of_the_scan(traded_folder, view):
    with open_store(traded_folder) as store:
        account = Account(traded_folder, store)
        market = account.kernel_at_opening()[2]
        quantity = decoded(store.of(CLOSED)[-1].content["quantity"])
        assert isinstance(market, OptionMarket)
        whole = scan_market(market, account.market_settings.risk.scan)
    assert view.scan_loss == pytest.approx(-(quantity[0] @ whole[0, -1]).min() / view.equity[-1])


def test_drift_is_what_the_broker_made_of_the_backtest(play, traded_folder, tested, view, tmp_path):
    with open_store(traded_folder) as store:
        account = Account(traded_folder, store)
        backtest = backtest_of(account, account.kernel_at_opening()[2])
        orders = len({e.content["id"] for e in store.of(ORDER)})
    assert view.drift == view.equity[-1] - backtest.equity[0, -1]
    assert abs(view.drift) > 1e-3
    assert 0 < len(view.orders) <= orders
    assert {"filled", "cancelled"} == {order.end for order in view.orders}
    play(tmp_path, tested)
    with open_store(tmp_path) as store:
        model = read_account(Account(tmp_path, store))
    np.testing.assert_array_equal(model.equity, model.backtest)
    assert {order.end for order in model.orders} == {"model"}
