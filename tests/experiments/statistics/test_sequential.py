"""Tests of a Sharpe ratio that hold whenever they are looked at, and the triggers that do not."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from arch.data import sp500
from scipy import integrate, stats

from conf.errors import InputError
from experiments.statistics.sequential import (
    DEMOTION,
    MEDIAN_YEARS,
    PROMOTION,
    WARM_UP,
    SharpeTest,
)
from experiments.statistics.triggers import alarm_rates, deepest_fall, normal, recent_sharpe
from risk.bootstrap import stationary_indices
from risk.metrics import sharpe_ratio

DOCUMENT = Path(__file__).parents[3] / "docs" / "paper.md"
SCALE_ONE = np.resize([1.0, -1.0], WARM_UP)  # after it a scale is exactly 1


def student(rng, paths, sessions):
    return rng.standard_t(4, (paths, sessions)) / math.sqrt(2.0)


def garch(rng, paths, sessions):
    """GJR-GARCH with Student shocks; variance 1 in the long run."""
    shocks = rng.standard_t(6, (sessions, paths)) / math.sqrt(1.5)
    variance, days = np.ones(paths), np.empty((sessions, paths))
    for day, shock in zip(days, shocks, strict=True):
        day[:] = np.sqrt(variance) * shock
        variance = 0.02 + (0.02 + 0.12 * (day < 0)) * day**2 + 0.9 * variance
    return days.T


def index(rng, paths, sessions):
    """Blocks of half a year of the S&P 500, recentred."""
    close = sp500.load()["Adj Close"].to_numpy()
    days = np.diff(close) / close[:-1]
    days = (days - days.mean()) / days.std()
    return days[stationary_indices(len(days), 126.0, paths, rng, length=sessions)]


def mean_wealth(test, density, sharpe):
    """Expected wealth after one bet on a day of scale 1, by numeric integration."""

    def wealth(day):
        record = np.append(SCALE_ONE, day + sharpe / math.sqrt(252))
        return (test.wealth(record)[-1] - 1.0) * density(day)

    return (
        1.0 + integrate.quad(wealth, -12.0, 12.0, limit=200, points=[-sharpe / math.sqrt(252)])[0]
    )


@pytest.mark.parametrize(("gain", "loss", "chance"), [(0.01, 0.01, 0.5), (0.01, 0.02, 2 / 3)])
def test_wealth_is_a_martingale_where_nothing_is_earned(gain, loss, chance):
    """Over all paths of ten days that end up or down, its mean is 1 to rounding."""
    paths = np.array(list(itertools.product([gain, -loss], repeat=10)))
    record = np.hstack([np.tile(0.01 * SCALE_ONE, (len(paths), 1)), paths])
    odds = np.where(paths > 0, chance, 1.0 - chance).prod(axis=1)
    mean = odds @ PROMOTION.wealth(record)
    np.testing.assert_allclose(mean, 1.0, rtol=1e-12)
    assert np.ptp(PROMOTION.wealth(record)[:, -1]) > 0.5


@pytest.mark.parametrize("density", [stats.norm.pdf, lambda x: stats.t.pdf(x * 2**0.5, 4) * 2**0.5])
@pytest.mark.parametrize(
    ("test", "sharpe"),
    [
        (DEMOTION, 0.8),
        (DEMOTION, 3.0),
        (SharpeTest(-0.5, "above"), -0.6),
        (SharpeTest(0.5, "above"), 0.45),
        (SharpeTest(0.5, "above"), -1.0),
        (SharpeTest(-0.5, "below"), 0.0),
    ],
)
def test_no_bet_against_a_true_null_earns_in_the_mean(test, sharpe, density):
    assert mean_wealth(test, density, sharpe) <= 1.0 + 1e-6


def test_a_bet_at_the_edge_is_fair_for_the_normal_distribution_and_not_for_thinner_tails():
    """By the mean of |z| in closed form: √(2/π) exp(−s²/2) + s (1 − 2 Φ(−s))."""
    s = 0.8 / math.sqrt(252)
    absolute = math.sqrt(2 / math.pi) * math.exp(-(s**2) / 2) + s * (1 - 2 * stats.norm.cdf(-s))
    payoff = s * math.sqrt(math.pi / 2 / (1 + s**2)) * absolute - s
    assert abs(payoff) < 1e-6
    assert mean_wealth(DEMOTION, stats.norm.pdf, 0.8) == pytest.approx(1 + 0.05 * payoff, abs=1e-8)
    width = math.sqrt(3.0)
    assert mean_wealth(DEMOTION, lambda x: (abs(x) < width) / (2 * width), 0.8) > 1.0001


def test_the_wealth_of_a_steady_gain_is_the_mean_over_all_bets():
    """Each day is one scale: the mean of (1 + b)ⁿ over b in 0 .. .1."""
    n = 100
    wealth = PROMOTION.wealth(np.full(WARM_UP + n, 0.003))
    expected = 10 * (1.1 ** (n + 1) - 1) / (n + 1)
    assert wealth[-1] == pytest.approx(expected, rel=0.01)  # twenty sizes stand for all
    assert (wealth[:WARM_UP] == 1.0).all()
    assert PROMOTION.first_alarm(np.full(WARM_UP + n, 0.003)) == 1 + np.argmax(wealth >= 20)


def test_wealth_depends_on_the_past_alone_and_not_on_the_size_of_the_book():
    record = np.random.default_rng(0).standard_normal((3, 200)) * 0.01
    other = record.copy()
    other[:, 150:] *= -3.0
    for test in (PROMOTION, DEMOTION):
        wealth = test.wealth(record)
        assert (test.wealth(other)[:, :150] == wealth[:, :150]).all()
        assert (test.wealth(other)[:, 150] != wealth[:, 150]).all()
        np.testing.assert_allclose(test.wealth(0.1 * record), wealth, rtol=1e-9)
        assert (test.wealth(record[1]) == wealth[1]).all()
    assert (PROMOTION.wealth(np.zeros(100)) == 1.0).all()


def test_a_ruinous_day_ends_large_bets_for_good():
    after = PROMOTION.wealth(np.concatenate([SCALE_ONE, [-20.0], np.full(50, 100.0)]))
    assert after[WARM_UP] == pytest.approx(
        np.maximum(1 - 20 * (np.arange(20) + 0.5) / 200, 0).mean()
    )
    assert np.isfinite(after).all()
    with pytest.raises(InputError, match="level"):
        SharpeTest(0.0, "above", 2.0)


def test_the_documented_triggers_err_as_their_standard_errors_say():
    """30 sessions: 2.9; six months: √2. Φ((.8 − 1.5) / 2.9) and Φ(−1 / √2)."""
    days = np.random.default_rng(0).standard_normal((20_000, 126))
    fired = recent_sharpe(days[:, :30] + 1.5 / math.sqrt(252), 30)[:, 0] < 0.8
    assert fired.mean() == pytest.approx(stats.norm.cdf(-0.7 / math.sqrt(252 / 30)), abs=0.01)
    assert deepest_fall(np.array([0.1, -0.1, -0.1])) == pytest.approx(0.19)
    assert (sharpe_ratio(days, 0.0) > 1.0).mean() == pytest.approx(
        stats.norm.cdf(-math.sqrt(0.5)), abs=0.01
    )


LAWS = {"normal": normal, "Student t(4)": student, "GJR-GARCH": garch, "S&P 500": index}
PROMOTED, DEMOTED = "promotion: e-process", "demotion: e-process"


@pytest.mark.parametrize("law", LAWS)
def test_false_alarms_are_rare_whatever_the_returns_are_like(law):
    """Of 300 paths of ten years; 5 % and three standard errors."""
    rates = alarm_rates([0.0, 0.8], 300, 10, 0, LAWS[law])
    found = {(rate.rule, rate.sharpe): rate.horizon for rate in rates}
    assert found[PROMOTED, 0.0] < 0.09
    assert found[DEMOTED, 0.8] < 0.09
    assert found[PROMOTED, 0.8] > 0.4
    assert found["demotion: < .8 for 30 days", 0.8] == 1.0


@pytest.mark.slow
def test_the_rates_of_the_document_are_those_of_ten_thousand_paths():
    """Minutes. False alarms <= 5 % over forty years; everything else as the document says."""
    text = DOCUMENT.read_text()
    cells: dict[str, list[str]] = {}
    for rate in alarm_rates([0.0, 0.5, 0.8, 1.0, 1.5], 10_000, 40, 0):
        false = {PROMOTED: rate.sharpe <= 0.0, DEMOTED: rate.sharpe >= 0.8}
        assert not false.get(rate.rule) or rate.horizon <= 0.05
        median = f"{rate.median_years:.1f}" if math.isfinite(rate.median_years) else "never"
        shares = f"{100 * rate.year:.1f}, {100 * rate.horizon:.1f}"
        cells.setdefault(rate.rule, []).append(f"{shares}, {median}")
        if rate.rule == PROMOTED and rate.sharpe in MEDIAN_YEARS:
            assert rate.median_years == pytest.approx(MEDIAN_YEARS[rate.sharpe], abs=0.05)
    for rule, row in cells.items():
        assert f"| {rule} | {' | '.join(row)} |" in text
    for law, draw in LAWS.items():
        rates = alarm_rates([0.0, 0.8], 10_000, 10, 0, draw)
        found = {(rate.rule, rate.sharpe): rate.horizon for rate in rates}
        alarms = [found[PROMOTED, 0.0], found[DEMOTED, 0.8]]
        assert max(alarms) <= 0.05
        assert f"| {law} | {' | '.join(f'{100 * rate:.1f} %' for rate in alarms)} |" in text
