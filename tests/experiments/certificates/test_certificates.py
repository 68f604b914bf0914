"""Every certificate in its short form passes, and fails once its bug is planted."""

import math
from dataclasses import replace

import numpy as np
import pytest

from envs.core.batch import BatchKernel
from envs.hedging import market as hedging_market
from envs.market.clock import CALENDAR, CLOSED_DAY_WEIGHT
from experiments.certificates import canary, determinism
from experiments.certificates.certificate import PROFILES, Certificate, Certification
from experiments.certificates.determinism import (
    COMPARED,
    sha256_of,
    tiny_config,
    tiny_hedging_config,
    train_once,
)
from experiments.certificates.martingale import (
    FairGain,
    FairMarket,
    TrendForward,
    fair_gains,
    fair_markets,
)
from experiments.certificates.suite import PARTS
from tests.experiments.certificates.planted_bugs import with_double_interest

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = Certification(replace(PROFILES["short"], moments=1), 0, None)


@pytest.mark.parametrize("part", PARTS)
def test_the_framework_is_certified(part):
    certificates = PARTS[part](SHORT)
    assert certificates
    assert [(item.name, item.what) for item in certificates if not item.passed] == []


# --- martingale ----------------------------------------------------------------------------------


@pytest.mark.parametrize("market", ["gbm_expiry", "assets"])
def test_cash_that_earns_a_double_day_count_is_no_martingale(monkeypatch, market):
    with_double_interest(monkeypatch)
    fair = next(m for m in fair_markets(None, ("expiry",), 0) if m.name == market)
    gains = fair_gains(fair, 60, 60, seed=0)
    # Earned twice and discounted once, over nine weeks or more.
    assert gains["cash"].mean > math.exp(0.025 * 63 / 365) - 1
    assert gains["cash"].standard_errors > 3


@pytest.mark.parametrize(
    ("simulated", "priced"), [(CLOSED_DAY_WEIGHT, CALENDAR), (CALENDAR, CLOSED_DAY_WEIGHT)]
)
def test_two_clocks_are_no_martingale(monkeypatch, simulated, priced):
    name, (fair, *_) = "weekend_seller", fair_markets(None, ("expiry",), 0, (simulated,))
    draw = FairMarket.draw
    monkeypatch.setattr(
        FairMarket, "draw", lambda m, n, r: replace(draw(m, n, r), closed_day_weight=priced)
    )
    seller = replace(fair, policies=lambda *given: {name: fair.policies(*given)[name]})
    assert abs(fair_gains(seller, 300, 300, seed=0)[name].standard_errors) > 3
    monkeypatch.undo()
    assert abs(fair_gains(seller, 300, 300, seed=0)[name].standard_errors) < 3


def test_a_share_that_loses_its_dividends_is_no_martingale(monkeypatch):
    right = hedging_market.build_hedging_market

    def of_prices(history, *others):
        market = right(history, *others)
        prices = {name: getattr(market, name).copy() for name in ("mark", "aged")}
        for each in prices.values():
            each[..., 0] = history.close
        return replace(market, **prices)

    (fair,) = [m for m in fair_markets(None, ("expiry",), 0) if m.name == "hedges"]
    assert abs(fair_gains(fair, 600, 600, seed=0)["delta"].standard_errors) < 3
    monkeypatch.setattr(hedging_market, "build_hedging_market", of_prices)
    assert abs(fair_gains(fair, 600, 600, seed=0)["delta"].standard_errors) > 3


def test_standard_errors_by_hand():
    assert FairGain(0.03, 0.01, 100).standard_errors == pytest.approx(3.0)
    assert FairGain(1e-12, 0.0, 100).standard_errors == 0.0
    assert FairGain(-1e-6, 0.0, 100).standard_errors == -math.inf


# --- canaries ------------------------------------------------------------------------------------


class TomorrowForward(TrendForward):
    """Holds a forward in the direction of the next close."""

    def direction(self, books):
        close = self.market.history.close
        return np.sign(close[books.path, books.session + 1] - close[books.path, books.session])


def test_an_agent_that_sees_the_next_close_fails_the_canary():
    def train(setup, settings, steps):
        return TomorrowForward(setup.market)

    certificate = canary.no_edge("options", 0, 1, 0, train=train)
    assert (certificate.passed, certificate.number) == (False, 1.0)
    assert certificate.details["agents"][0]["verdict"] == "OUTPERFORMS"


@pytest.mark.parametrize("kind", canary.KINDS)
def test_an_agent_that_does_not_learn_fails_the_edge_canary(kind):
    def untrained(setup, settings, steps):
        return canary.trained(setup, settings, 0)

    assert not canary.edge(kind, 0, 0, train=untrained).passed


# --- determinism ---------------------------------------------------------------------------------


@pytest.mark.parametrize("config_of", [tiny_config, tiny_hedging_config])
def test_a_generator_that_ignores_its_seed_is_found(monkeypatch, tmp_path, config_of):
    monkeypatch.setattr(
        BatchKernel, "seed", lambda self, seed: setattr(self, "rng", np.random.default_rng())
    )
    config = config_of(0, 128)
    folders = [tmp_path / "outputs" / name for name in ("one", "two")]
    for folder in folders:
        train_once(config, folder)
    certificate = determinism.certificate_of(folders[0], {"a second run": folders[1]})
    assert not certificate.passed
    assert "policy.safetensors of a second run" in certificate.what
    assert certificate.number <= len(COMPARED)
    assert sha256_of(folders[0] / COMPARED[0]) != sha256_of(folders[1] / COMPARED[0])


def test_a_certificate_as_plain_data():
    certificate = Certificate("a.b", False, math.inf, "what", {"x": 1})
    assert certificate.as_json() == {
        "name": "a.b",
        "outcome": "FAIL",
        "number": None,
        "what": "what",
        "details": {"x": 1},
    }
