"""The surfaces say what the formula says, allow no arbitrage and see no future."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

import conf
from conf.errors import InputError
from conf.settings import build_settings
from envs.options.black_scholes import price
from envs.options.surface import AtmKnot, FlatSurface, SurfaceSettings, VixSurface
from tests.markets import monthly_surface

LATE = {182: (0.0296, 0.529, 0.282), 365: (0.0424, 0.400, 0.368)}
MONTHLY = {30: (-0.0082, 0.912, 0.030), 91: (0.0149, 0.678, 0.184), **LATE}
WEEKLY = {
    7: (-0.0182, 1.0944, -0.1607),
    30: (-0.0084, 0.892, 0.0428),
    91: (0.0131, 0.6754, 0.1895),
    **LATE,
}
# surface, its rho, eta and gamma, its knots by days: (a, b, c)
FITS = [
    (VixSurface(), (-0.518, 0.493, 0.601), WEEKLY),
    (monthly_surface(), (-0.7, 0.7, 0.5), MONTHLY),
]
Table = dict[int, tuple[float, float, float]]
KNOT = {"days": 9, "constant": 0.1, "level": 1.0, "average": 0.0}
vix_levels = st.floats(0.08, 0.90)
averages = st.floats(0.10, 0.50)


def plain_atm(table: Table, vix: float, average: float, days: float) -> float:
    """At-the-money volatility, by hand."""
    known = sorted(table)
    days = min(max(days, known[0]), known[-1])
    right = next(i for i, knot in enumerate(known) if days <= knot)
    left = max(right - 1, 0)
    share = (days - known[left]) / (known[right] - known[left]) if right > left else 0.0
    a, b, c = (
        (1 - share) * low + share * high
        for low, high in zip(table[known[left]], table[known[right]], strict=True)
    )
    return max(a + b * vix + c * average, 0.03)


def plain_vol(fit: tuple[float, float, float], atm: float, k: float, days: float) -> float:
    """The SSVI volatility, by hand."""
    rho, eta, gamma = fit
    years = max(days, 7) / 365
    theta = atm**2 * years
    phi = eta / (theta**gamma * (1 + theta) ** (1 - gamma))
    root = math.sqrt((phi * k + rho) ** 2 + 1 - rho**2)
    return math.sqrt(theta / 2 * (1 + rho * phi * k + root) / years)


@given(st.sampled_from(FITS), vix_levels, averages, st.floats(-1.0, 1.0), st.floats(0.0, 1000.0))
@settings(max_examples=200, deadline=None)
def test_volatility_is_the_closed_form(
    fit: Any, vix: float, average: float, k: float, days: float
) -> None:
    surface, parameters, table = fit
    vol = surface.vol([vix, average], k, days / 365)
    atm = plain_atm(table, vix, average, days)
    assert vol == pytest.approx(plain_vol(parameters, atm, k, days), rel=1e-12)


@given(vix_levels, averages)
@settings(max_examples=50, deadline=None)
def test_at_the_money_volatility_hits_the_knots(vix: float, average: float) -> None:
    surface = VixSurface()
    for days, (a, b, c) in WEEKLY.items():
        expected = pytest.approx(max(a + b * vix + c * average, 0.03), rel=1e-14)
        assert surface.vol([vix, average], 0.0, days / 365) == expected
    for days, knot in ((1, 7), (400, 365)):
        at_knot = surface.vol([vix, average], 0.0, knot / 365)
        assert surface.vol([vix, average], 0.0, days / 365) == at_knot


def test_the_smile_of_the_last_week_stays_that_of_seven_days() -> None:
    surface, k = VixSurface(), np.linspace(-0.2, 0.2, 9)
    week = surface.vol([0.2, 0.2], k, 7 / 365)
    assert np.array_equal(surface.vol([0.2, 0.2], k, 0.0), week)
    assert not np.allclose(surface.vol([0.2, 0.2], k, 14 / 365), week)


@given(vix_levels, averages, st.sampled_from([7, 14, 30, 60, 91, 182, 365, 730]))
@settings(max_examples=60, deadline=None)
def test_no_butterfly_earns_without_risk(vix: float, average: float, days: int) -> None:
    surface, tau = VixSurface(), days / 365
    wide = 8 * float(surface.vol([vix, average], 0.0, tau)) * math.sqrt(tau)
    strike = np.linspace(math.exp(-wide), math.exp(min(wide, 2.0)), 2001)
    vols = surface.vol([vix, average], np.log(strike), tau)
    calls = price(1.0, strike, tau, vols, 0.0, 0.0, True)
    density = np.diff(calls, 2)
    assert density.min() > -1e-15
    slope = np.diff(calls) / np.diff(strike)
    assert slope.min() > -1 - 1e-12
    assert slope.max() < 1e-12


@given(vix_levels, averages)
@settings(max_examples=100, deadline=None)
def test_total_variance_rises_with_maturity_at_every_strike(vix: float, average: float) -> None:
    surface, drivers = VixSurface(), np.array([vix, average])
    surface.check_calendar(drivers[None, None, :])
    tau = np.linspace(7, 800, 400)[:, None] / 365
    variance = surface.vol(drivers, np.linspace(-1.5, 1.5, 31), tau) ** 2 * tau
    assert np.diff(variance, axis=0).min() > 0


def test_the_floor_keeps_the_smile_free_of_butterflies_where_volatility_collapses() -> None:
    # A calm VIX after a storm: the knot of a week alone would give less than 2 %.
    surface, k = VixSurface(), np.linspace(-0.35, 0.35, 4001)
    drivers = [0.10, 0.45]
    assert surface.vol(drivers, 0.0, 7 / 365) == 0.03
    least = dataclasses.replace(surface, floor_vol=0.0199)  # just allowed, see below
    for floored in (surface, least):
        theta = floored.least_variance
        phi = surface.eta / (theta**surface.gamma * (1 + theta) ** (1 - surface.gamma))
        assert theta * phi**2 * (1 + abs(surface.rho)) < 4.0
        w = floored.vol(drivers, k, 7 / 365) ** 2 * 7 / 365
        first, second = np.gradient(w, k), np.gradient(np.gradient(w, k), k)
        # Durrleman's condition: the density implied by the smile is not negative.
        g = (1 - k * first / (2 * w)) ** 2 - first**2 / 4 * (1 / w + 1 / 4) + second / 2
        assert g[2:-2].min() > -1e-9


def test_a_term_structure_that_falls_too_fast_is_refused_with_the_session() -> None:
    steep = VixSurface(
        knots=(
            AtmKnot(days=30, constant=0.0, level=1.0, average=0.0),
            AtmKnot(days=60, constant=0.0, level=0.5, average=0.5),
        )
    )
    drivers = np.full((2, 5, 2), 0.2)
    steep.check_calendar(drivers)
    drivers[0, 4], drivers[1, 3] = (0.9, 0.1), (0.8, 0.1)
    with pytest.raises(InputError, match=r"falls with maturity at session 3 .*drivers 0.8, 0.1"):
        steep.check_calendar(drivers)


@given(st.floats(0.05, 2.0), st.floats(0.0, 1.0))
@settings(max_examples=200, deadline=None)
def test_the_calendar_check_finds_exactly_what_a_fine_grid_finds(vix: float, late: float) -> None:
    surface = VixSurface(
        knots=(
            AtmKnot(days=30, constant=0.1, level=1.0, average=0.0),
            AtmKnot(days=90, constant=0.1, level=late, average=0.0),
        )
    )
    tau = np.linspace(30, 90, 60_001) / 365
    growth = np.diff(surface.vol([vix, 0.2], 0.0, tau) ** 2 * tau)
    if abs(growth.min()) < 1e-9:  # on the edge the grid cannot tell
        return
    try:
        surface.check_calendar([[[vix, 0.2]]])
        refused = False
    except InputError:
        refused = True
    assert refused == (growth.min() < 0)


def test_drivers_are_the_level_and_its_slow_average() -> None:
    implied = np.random.default_rng(1).uniform(0.1, 0.5, (2, 40))
    drivers = VixSurface().drivers(implied)
    keep = 0.5 ** (1 / 126)
    for path in range(2):
        for t in range(40):
            weights = [keep ** (t - s) for s in range(t + 1)]
            past = sum(w * v for w, v in zip(weights, implied[path], strict=False)) / sum(weights)
            assert drivers[path, t] == pytest.approx([implied[path, t], past], rel=1e-13)


@pytest.mark.parametrize("surface", [VixSurface(), FlatSurface()])
def test_drivers_see_no_future_and_no_other_path(surface: VixSurface | FlatSurface) -> None:
    implied = np.random.default_rng(2).uniform(0.1, 0.5, (3, 300))
    drivers = surface.drivers(implied)
    later = implied.copy()
    later[:, 200:] *= 1.5
    assert np.array_equal(surface.drivers(later)[:, :200], drivers[:, :200])
    assert np.array_equal(surface.drivers(implied[1:2]), drivers[1:2])


def test_a_slot_axis_broadcasts_as_one_by_one() -> None:
    surface, rng = VixSurface(), np.random.default_rng(4)
    drivers = surface.drivers(rng.uniform(0.1, 0.5, (3, 200)))
    k, tau = rng.normal(0, 0.1, (3, 200, 20)), rng.uniform(0, 0.3, (200, 20))
    vols = surface.vol(drivers[:, :, None, :], k, tau)
    assert vols.shape == (3, 200, 20)
    assert vols[2, 150, 7] == surface.vol(drivers[2, 150], k[2, 150, 7], tau[150, 7])
    flat = FlatSurface().vol(FlatSurface().drivers(np.full((3, 200), 0.5))[:, :, None, :], k, tau)
    assert flat.shape == (3, 200, 20)


def test_flat_is_flat() -> None:
    surface = FlatSurface(vol_annual=0.25)
    drivers = surface.drivers([[0.1, 0.9]])
    assert drivers.tolist() == [[[0.25], [0.25]]]
    k, tau = np.array([-0.5, 0.0, 0.5]), np.array([[0.01], [2.0]])
    assert surface.vol(drivers[0, 0], k, tau).tolist() == [[0.25] * 3] * 2
    assert surface.vol(drivers, 0.0, [0.1, 0.2]).tolist() == [[0.25, 0.25]]
    surface.check_calendar(drivers)


def test_puts_cost_more_than_calls_as_far_away() -> None:
    vols = VixSurface().vol([0.2, 0.2], [-0.1, 0.0, 0.1], 30 / 365)
    assert vols[0] > vols[1] > vols[2] > 0


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda s: s.drivers([[0.2, math.nan]]), "not positive at session 1"),
        (lambda s: s.drivers([[0.2, 0.2, 0.0]]), "not positive at session 2"),
        (lambda s: s.drivers([[0.2, math.inf]]), "not positive at session 1"),
        (lambda _: monthly_surface().drivers([[0.005, 0.2]]), "volatility is not positive"),
        (lambda s: s.drivers([0.2, 0.3]), r"shape \(2,\), expected \(paths, sessions\)"),
        (lambda s: s.vol([[0.2, 0.2, 0.2]], 0.0, 0.1), r"expected \(..., 2\)"),
        (lambda s: s.vol(0.2, 0.0, 0.1), r"expected \(..., 2\)"),
    ],
)
def test_bad_drivers_are_refused(action: Callable[[VixSurface], Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        action(VixSurface())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "vix", "rho": -0.7, "gamma": 0.5, "eta": 1.6}, "eta must be at most 1.5339"),
        ({"kind": "vix", "gamma": 0.5, "rho": 0.0, "eta": 4.1}, "eta must be at most 2"),
        ({"kind": "vix", "gamma": 0.7}, "eta must be at most 0.181"),
        ({"kind": "vix", "floor_vol": 0.019}, "butterfly arbitrage at a total variance of 6.9e-06"),
        ({"kind": "vix", "floor_vol": 0.0}, "gamma above 0.5 needs a floor_vol above 0"),
        ({"kind": "vix", "rho": 1.0}, "rho"),
        ({"kind": "vix", "etta": 1.0}, "Did you mean 'eta'"),
        ({"kind": "flat", "vol_annual": 0.0}, "vol_annual"),
        ({"kind": "sabr"}, "'flat', 'vix'"),
        ({"kind": "vix", "knots": [KNOT, KNOT]}, "not in increasing order"),
        ({"kind": "vix", "knots": []}, "knots"),
    ],
)
def test_settings_refuse_what_allows_arbitrage(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        build_settings(SurfaceSettings, values, "surface")


@pytest.mark.parametrize(("name", "expected"), [("vix", VixSurface()), ("flat", FlatSurface())])
def test_the_configuration_files_state_the_defaults(name: str, expected: Any) -> None:
    file = Path(conf.__file__).parent / "surface" / f"{name}.yaml"
    values: Any = OmegaConf.to_container(OmegaConf.load(file))
    assert build_settings(SurfaceSettings, values, "surface") == expected
    assert set(values) == set(expected.__pydantic_fields__) - {"knots"}
