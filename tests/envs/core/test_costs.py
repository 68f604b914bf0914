import numpy as np
import pytest

from envs.core.costs import FlatCosts, RealisticCosts
from envs.options.black_scholes import price
from tests.markets import monthly_surface

SPOT = 2800.0


def quoted(moneyness: float, is_call: bool, days: float = 30, vix: float = 0.15):
    """Premium and cost per unit of an S&P 500 option when VIX stands at `vix`."""
    surface = monthly_surface()  # on whose premiums the quoted spreads were read
    drivers = surface.drivers(np.array([[vix]]))[0]
    tau = days / 365
    k = np.log(moneyness) - 0.01 * tau
    vol = surface.vol(drivers, np.array([k]), np.array([tau]))
    args = (SPOT, SPOT * moneyness, tau, vol, 0.025, 0.015, np.array([is_call]))
    premium = price(*args)
    gap = SPOT * (1 - moneyness) * (1 if is_call else -1)
    intrinsic = np.array([max(gap, 0.0)])
    cost = RealisticCosts(slippage_bps=0).per_unit(
        premium, np.array([SPOT]), intrinsic, np.array([vix])
    )
    return float(premium[0]), float(cost[0])


def test_flat_costs_are_five_basis_points_of_the_premium():
    cost = FlatCosts().per_unit(np.array([40.0]), np.array([SPOT]), np.zeros(1), np.full(1, 0.2))
    assert cost[0] == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("moneyness", "is_call", "share"),
    [(1.0, True, 0.006), (0.95, False, 0.014), (0.90, False, 0.03), (1.05, True, 0.05)],
)
def test_half_spreads_match_the_quotes_they_were_read_from(moneyness, is_call, share):
    premium, cost = quoted(moneyness, is_call)
    assert cost / premium == pytest.approx(share, rel=0.35)


def test_in_the_money_costs_a_share_of_the_premium():
    premium, cost = quoted(0.95, True)
    assert cost == pytest.approx(0.007 * premium)


def test_spreads_widen_with_volatility_above_calm():
    spot, intrinsic, premium = np.array([SPOT]), np.zeros(1), np.array([40.0])
    costs = RealisticCosts(slippage_bps=0)
    calm, normal, panic = (
        costs.per_unit(premium, spot, intrinsic, np.array([vix]))[0] for vix in (0.1, 0.15, 0.6)
    )
    assert calm == normal
    assert panic == pytest.approx(4 * normal)


def test_slippage_is_two_basis_points_on_top():
    spot, none, premium = np.array([SPOT]), np.zeros(1), np.array([40.0])
    for vix in (np.array([0.15]), np.array([0.60])):  # fear widens the spread, not this
        without = RealisticCosts(slippage_bps=0).per_unit(premium, spot, none, vix)
        extra = RealisticCosts().per_unit(premium, spot, none, vix) - without
        assert extra[0] == pytest.approx(40 * 2e-4)


def test_impact_is_charged_on_what_an_order_has_beyond_the_threshold():
    impact = RealisticCosts().impact(np.array([[1500.0, -1200.0, 900.0]]), np.full((1, 3), 10.0))
    assert impact is not None
    assert impact[0] == pytest.approx(3e-4 * (500 + 200) * 10)


def test_the_multiplier_scales_everything():
    premium, spot, none, vix = np.array([40.0]), np.array([SPOT]), np.zeros(1), np.array([0.3])
    once, thrice = RealisticCosts(), RealisticCosts(multiplier=3)
    assert thrice.per_unit(premium, spot, none, vix) == pytest.approx(
        3 * once.per_unit(premium, spot, none, vix)
    )
    order = np.array([[5000.0]])
    impact = once.impact(order, premium)
    assert impact is not None
    assert thrice.impact(order, premium) == pytest.approx(3 * impact)
