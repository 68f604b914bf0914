import asyncio
import math

import pytest

from risk.errors import InputError
from risk.hedging import HedgingStrategy, PaperExchange
from risk.manager import AdvancedRiskManager, checked_weights

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
    assert (result.order["side"], result.order["type"]) == ("sell", "market")
    assert hedger.execute_hedge(-1000, 0.2, exchange).side == "buy"
    assert hedger.execute_hedge(-1000, 0.2, exchange).amount == 1000


@pytest.mark.parametrize(("size", "drawdown"), [(1000, 0.05), (1000, 0.0), (0, 0.5)])
def test_otherwise_no_order_is_sent(size, drawdown):
    exchange = PaperExchange()
    assert not HedgingStrategy().execute_hedge(size, drawdown, exchange).hedged
    assert exchange.orders == []


def test_an_exchange_that_fails_is_heard():
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
def test_what_is_missing_or_no_number_is_refused(portfolio, market, complaint):
    with pytest.raises(InputError, match=complaint):
        decide(portfolio, market)


def test_kelly_and_leverage_can_be_asked_alone():
    manager = AdvancedRiskManager()
    assert manager.compute_leverage(volatility=0.3) == 1.0
    assert manager.apply_kelly_criterion(win_rate=0.6, avg_win=2.0, avg_loss=1.0) == pytest.approx(
        0.2
    )
