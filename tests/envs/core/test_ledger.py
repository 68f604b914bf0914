import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.core.ledger import Ledger


def opened(accounts: int, instruments: int, cash: float = 1000.0) -> Ledger:
    ledger = Ledger(accounts, instruments)
    ledger.open(np.ones(accounts, bool), cash)
    return ledger


def test_one_contract_by_hand():
    ledger = opened(1, 2)
    ledger.trade(np.array([[3.0, -2.0]]), np.array([[10.0, 20.0]]), np.array([1.5]))
    assert ledger.cash[0] == 1000 - 30 + 40 - 1.5
    assert ledger.equity[0] == 998.5
    value = ledger.settle(np.array([[12.0, 25.0]]), np.array([[False, True]]), np.array([0.001]))
    assert value.tolist() == [[36.0, -50.0]]
    # Cash 1008.5 earns 0.1 %; the second contract is bought back by paying 2 x 25.
    assert ledger.cash[0] == 1008.5 + 1.0085 - 50.0
    assert ledger.equity[0] == 1008.5 + 1.0085 - 50.0 + 36.0
    assert ledger.quantity.tolist() == [[3.0, 0.0]]
    assert ledger.peak[0] == 1000.0
    assert ledger.drawdown[0] == (1000.0 - ledger.equity[0]) / 1000.0


def test_closing_cost_is_charged_once_and_counted():
    ledger = opened(1, 1)
    ledger.trade(np.array([[2.0]]), np.array([[100.0]]), np.zeros(1))
    ledger.settle(np.array([[110.0]]), np.array([[True]]), np.zeros(1), np.array([0.7]))
    assert ledger.equity[0] == ledger.cash[0] == 1000 + 20 - 0.7
    assert ledger.costs[0] == 0.7
    assert ledger.traded[0] == 200 + 220


finite = st.floats(-50, 50)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_equity_changes_by_revaluation_interest_and_costs_alone(data):
    accounts, instruments = 3, 4
    ledger = opened(accounts, instruments, 5000.0)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    for _ in range(5):
        mark = rng.uniform(0.01, 80, (accounts, instruments))
        # Without trading in between the book is marked at the same prices it was settled at.
        ledger.equity = ledger.cash + (ledger.quantity * mark).sum(-1)
        before = ledger.equity.copy()
        target = rng.normal(0, 20, (accounts, instruments))
        cost = rng.uniform(0, 3, accounts)
        ledger.trade(target, mark, cost)
        np.testing.assert_allclose(ledger.equity, before - cost, rtol=1e-12)
        cash = ledger.cash.copy()
        aged = mark * rng.uniform(0, 2, mark.shape)
        left = rng.random(mark.shape) < 0.3
        interest = rng.uniform(-0.001, 0.002, accounts)
        ledger.settle(aged, left, interest)
        expected = before + (target * (aged - mark)).sum(-1) + cash * interest - cost
        np.testing.assert_allclose(ledger.equity, expected, rtol=1e-9, atol=1e-9)
        assert (ledger.quantity[left] == 0).all()


def test_opening_touches_only_the_masked_accounts():
    ledger = opened(2, 1)
    ledger.trade(np.array([[1.0], [1.0]]), np.array([[10.0], [10.0]]), np.zeros(2))
    ledger.open(np.array([True, False]), 1000.0)
    assert ledger.cash.tolist() == [1000.0, 990.0]
    assert ledger.quantity.tolist() == [[0.0], [1.0]]


def test_state_is_restored():
    ledger = opened(2, 3)
    ledger.trade(np.ones((2, 3)), np.ones((2, 3)), np.ones(2))
    twin = Ledger(2, 3)
    twin.set_state(ledger.get_state())
    for name in Ledger.FIELDS:
        np.testing.assert_array_equal(getattr(twin, name), getattr(ledger, name))
