import asyncio
import math
from typing import Any

import numpy as np
import pytest

from conf.errors import InputError
from risk.hedging import HedgingStrategy, PaperExchange
from risk.manager import AdvancedRiskManager, checked_weights
from risk.sizing import PositionSizer, kelly_fraction, volatility_leverage

MARKET = {"volatility": 0.3, "trend": 0.05}


def decide(portfolio, market=MARKET, **changes):
    return asyncio.run(AdvancedRiskManager(**changes).manage_risk(market, portfolio))


def test_a_drawdown_beyond_its_threshold_is_hedged_in_proportion():
    exchange = PaperExchange()
    hedger = HedgingStrategy(max_drawdown_threshold=0.05)
    result = hedger.execute_hedge(position_size=1000, drawdown=0.08, exchange_client=exchange)
    assert result.hedged
    assert result.ratio == pytest.approx(0.6)
    assert result.amount == pytest.approx(600)
    assert exchange.orders == [result.order]
    assert result.order is not None
    assert (result.order["side"], result.order["type"]) == ("sell", "market")
    short = HedgingStrategy().execute_hedge(-1000, 0.2, exchange)
    assert (short.side, short.amount) == ("buy", 1000)


@pytest.mark.parametrize(("size", "drawdown"), [(1000, 0.05), (1000, 0.0), (0, 0.5)])
def test_within_the_threshold_or_without_a_position_no_order_is_sent(size, drawdown):
    exchange = PaperExchange()
    assert not HedgingStrategy().execute_hedge(size, drawdown, exchange).hedged
    assert exchange.orders == []


def test_the_same_drawdown_is_hedged_once_and_a_deeper_one_by_the_difference():
    exchange, hedger = PaperExchange(), HedgingStrategy()
    first, again, deeper, past = (
        hedger.execute_hedge(1000, drawdown, exchange) for drawdown in (0.08, 0.08, 0.09, 0.0)
    )
    assert again.hedged
    assert (again.amount, again.order) == (0.0, None)
    assert again.ratio == first.ratio == pytest.approx(0.6)
    assert deeper.amount == pytest.approx(200)
    assert (past.side, past.hedged) == ("buy", False)
    assert past.amount == pytest.approx(800)
    assert len(exchange.orders) == 3
    assert hedger.hedge_units == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("answer", "hedged", "units"),
    [
        ({"status": "rejected", "filled": 0.0}, False, 0.0),
        ({"status": "rejected"}, False, 0.0),
        ({"status": "closed", "filled": 0.0}, False, 0.0),
        ({"status": "closed", "filled": 400.0}, True, -400.0),
        ({"status": "open", "filled": 0.0}, False, -1000.0),  # it may still be filled
        ({"id": "7", "status": None, "filled": None}, True, -1000.0),
        (None, True, -1000.0),
    ],
)
def test_only_what_the_exchange_filled_counts_as_hedged(answer, hedged, units):
    class Exchange:
        def create_order(self, *_, **__):
            return answer

    hedger = HedgingStrategy()
    result = hedger.execute_hedge(1000, 0.5, Exchange())
    assert (result.hedged, hedger.hedge_units) == (hedged, units)


class AsyncExchange:
    def __init__(self, fails=False):
        self.paper, self.fails = PaperExchange(), fails

    async def create_order(self, *order):
        await asyncio.sleep(0)
        if self.fails:
            raise ConnectionError("timed out")
        return self.paper.create_order(*order)


def test_an_asynchronous_exchange_is_awaited():
    exchange = AsyncExchange()
    decisions = decide({"btc": 1000.0, "current_drawdown": 0.2}, exchange_client=exchange)
    assert decisions["hedge"].hedged
    assert [order["amount"] for order in exchange.paper.orders] == [1000.0]


@pytest.mark.filterwarnings("error")
def test_an_asynchronous_exchange_is_refused_by_the_synchronous_call():
    exchange = AsyncExchange()

    class Hidden:
        def create_order(self, *order):
            return exchange.create_order(*order)

    for client in (exchange, Hidden()):
        hedger = HedgingStrategy()
        with pytest.raises(InputError, match="asynchronous"):
            hedger.execute_hedge(1000, 0.2, client)
        assert hedger.hedge_units == 0.0


def test_concurrent_calls_do_not_hedge_twice_and_a_failed_order_is_not_counted():
    async def twice(manager):
        calls = (manager.manage_risk(MARKET, {"a": 10.0, "current_drawdown": 1}) for _ in "ab")
        return await asyncio.gather(*calls, return_exceptions=True)

    exchange = AsyncExchange()
    asyncio.run(twice(AdvancedRiskManager(exchange_client=exchange)))
    assert len(exchange.paper.orders) == 1
    broken = AdvancedRiskManager(exchange_client=AsyncExchange(fails=True))
    assert isinstance(asyncio.run(twice(broken))[0], ConnectionError)
    assert broken.hedging.hedge_units == 0.0


def test_the_facade_hedges_in_units_of_the_hedge_and_leaves_cash_alone():
    portfolio = {"btc": 5000.0, "eth": -1000.0, "cash": 700.0, "current_drawdown": 0.2}
    hedge = decide(portfolio, {"volatility": 0.3, "hedge_price": 200.0})["hedge"]
    assert (hedge.side, hedge.amount) == ("sell", 20.0)
    with pytest.raises(InputError, match="hedge_price is 0"):
        decide(portfolio, {"volatility": 0.3, "hedge_price": 0})


def test_short_positions_keep_their_negative_weights():
    short = decide({"btc": 200.0, "eth": -100.0, "current_drawdown": 0.0})
    assert short["rebalance_weights"] == {"btc": 2.0, "eth": -1.0}
    with pytest.raises(InputError, match="worth -100 in total"):
        decide({"btc": -200.0, "eth": 100.0, "current_drawdown": 0.0})


def test_numpy_numbers_are_accepted():
    portfolio = {"a": np.float32(10), "b": np.int64(30), "current_drawdown": np.float64(0.0)}
    assert decide(portfolio)["rebalance_weights"] == {"a": 0.25, "b": 0.75}


def test_errors_of_the_exchange_are_passed_on():
    class Broken:
        def create_order(self, *_, **__):
            raise ConnectionError("timed out")

    with pytest.raises(ConnectionError):
        HedgingStrategy().execute_hedge(10, 0.2, Broken())


def test_the_facade_decides_weights_leverage_and_hedge():
    decisions = decide({"btc": 3000.0, "eth": 1000.0, "current_drawdown": 0.1})
    assert decisions["rebalance_weights"] == {"btc": 0.75, "eth": 0.25}
    assert decisions["leverage"] == 1.0
    assert decisions["hedge"].amount == 4000
    calm = decide({"btc": 0.0, "current_drawdown": 0.0}, {"volatility": 0.05})
    assert calm["rebalance_weights"] == {"cash": 1.0}
    assert calm["leverage"] == pytest.approx(6.0)
    assert not calm["hedge"].hedged


def test_weights_that_do_not_sum_to_one_are_refused():
    assert checked_weights({"a": 0.5, "b": 0.5 + 1e-12}) == {"a": 0.5, "b": 0.5 + 1e-12}
    portfolio = {"a": 1.0, "current_drawdown": 0.0}
    for weights in ({"a": 0.9}, {"a": 1.5, "b": -0.5}, {"a": math.nan}, {}):
        with pytest.raises(InputError, match="weight"):
            decide(portfolio, allocator=lambda market, positions, w=weights: w)


@pytest.mark.parametrize(
    ("portfolio", "market", "complaint"),
    [
        ({"a": 1.0}, MARKET, "current_drawdown"),
        ({"a": math.nan, "current_drawdown": 0.0}, MARKET, "a is nan"),
        ({"a": 1.0, "current_drawdown": -0.1}, MARKET, "drawdown"),
        ({"a": 1.0, "current_drawdown": 0.0}, {}, "volatility"),
        ({"a": "x", "current_drawdown": 0.0}, MARKET, "a is 'x'"),
    ],
)
def test_a_missing_or_non_finite_entry_is_refused(portfolio, market, complaint):
    with pytest.raises(InputError, match=complaint):
        decide(portfolio, market)


def test_kelly_and_leverage_can_be_called_alone():
    manager = AdvancedRiskManager()
    assert manager.compute_leverage(volatility=0.3) == 1.0
    assert manager.apply_kelly_criterion(win_rate=0.6, avg_win=2.0, avg_loss=1.0) == pytest.approx(
        0.2
    )


ANSWERS = (math.nan, math.inf, -1.0, 1000.1, 10**400, "400", "all", True, [400.0], b"x")


@pytest.mark.parametrize("filled", ANSWERS)
def test_an_answer_that_cannot_be_right_stops_all_orders_until_a_person_settles(filled, caplog):
    sent = []

    class Exchange:
        def create_order(self, *order):
            sent.append(order)
            return {"status": "closed", "filled": filled}

    hedger = HedgingStrategy()
    first = hedger.execute_hedge(1000, 0.5, Exchange())
    assert (first.hedged, first.ratio, first.amount, hedger.hedge_units) == (False, 0.0, 0.0, 0.0)
    assert "sell 1000 HEDGE is unresolved" in first.reason
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    again = hedger.execute_hedge(2000, 1.0, Exchange())
    later = asyncio.run(hedger.execute_hedge_async(2000, 1.0, Exchange()))
    assert (again.order, again.reason) == (later.order, later.reason) == (None, first.reason)
    assert len(sent) == 1
    hedger.settle(-400.0)
    assert hedger.execute_hedge(1000, 0.5, PaperExchange()).amount == 600.0


def test_an_answer_that_is_no_order_is_unresolved_too():
    class Exchange:
        def create_order(self, *order):
            return "OK"

    hedger = HedgingStrategy()
    assert not hedger.execute_hedge(1000, 0.5, Exchange()).hedged
    assert hedger.unresolved is not None


@pytest.mark.parametrize("held", [math.nan, math.inf, 10**400, "3", None, -1.8e308])
def test_an_order_that_is_no_number_never_goes_out(held):
    exchange = PaperExchange()
    with pytest.raises(InputError):
        HedgingStrategy(hedge_units=held).execute_hedge(1e308, 1.0, exchange)
    assert exchange.orders == []


def test_a_number_too_large_for_a_float_is_refused_or_the_least_leverage():
    with pytest.raises(InputError, match="avg_win is too large a number"):
        kelly_fraction(0.5, 10**400, 1.0)
    with pytest.raises(InputError, match="account_balance is too large"):
        PositionSizer().calculate_size(10**400, 2.0, 100.0)
    assert volatility_leverage(10**400) == 1.0
    unfit: list[Any] = [3.0, (1.0,), (1.0, 10**400), None]
    for bounds in unfit:
        with pytest.raises(InputError, match="leverage_range"):
            volatility_leverage(0.2, bounds)
