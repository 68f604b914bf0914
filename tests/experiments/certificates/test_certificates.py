"""Every certificate in its short form passes, and fails once its bug is put in."""

import dataclasses
import math

import numpy as np
import pytest

from envs.core.batch import BatchKernel
from experiments.certificates import canary, determinism
from experiments.certificates.certificate import PROFILES, Certificate, Certification
from experiments.certificates.determinism import COMPARED, hash_of, tiny_config, train_once
from experiments.certificates.fair_markets import TrendForward, fair_markets
from experiments.certificates.martingale import FairGain, fair_gains
from experiments.certify import PARTS
from tests.experiments.certificates.planted_bugs import with_double_interest

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = Certification(PROFILES["short"], 0, None)


@pytest.mark.parametrize("part", PARTS)
def test_the_framework_is_certified(part):
    made = PARTS[part](SHORT)
    assert made
    assert [(one.name, one.what) for one in made if not one.passed] == []


# --- martingale ----------------------------------------------------------------------------------


@pytest.mark.parametrize("market", ["gbm_expiry", "assets"])
def test_cash_that_earns_a_double_day_count_is_no_martingale(monkeypatch, market):
    with_double_interest(monkeypatch)
    fair = next(m for m in fair_markets(None, ("expiry",), 0) if m.name == market)
    gains = fair_gains(fair, 60, 60, seed=0)
    # Earned twice and discounted once, over nine weeks or more.
    assert gains["cash"].mean > math.exp(0.025 * 63 / 365) - 1
    assert gains["cash"].standard_errors > 3


def test_standard_errors_by_hand():
    assert FairGain(0.03, 0.01, 100).standard_errors == pytest.approx(3.0)
    assert FairGain(1e-12, 0.0, 100).standard_errors == 0.0
    assert FairGain(-1e-6, 0.0, 100).standard_errors == -math.inf


# --- canaries ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Seer:
    """Holds a forward in the direction of tomorrow's close, for one path from session `start`."""

    pair: np.ndarray
    close: np.ndarray
    start: int

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        now = self.start + (0 if state is None else state[0])
        move = np.sign(self.close[now + 1] - self.close[now])
        return np.tile(move * self.pair, (len(observation), 1)), (now + 1 - self.start,)


def test_an_agent_that_sees_tomorrow_makes_the_canary_fall():
    def seer(setup, settings, steps):
        pair = TrendForward.of(setup.market).pair
        return Seer(pair, setup.market.history.close[0], setup.window(canary.SEEN_ON).start)

    found = canary.no_edge("options", 0, 1, 0, train=seer)
    assert (found.passed, found.number) == (False, 1.0)
    assert found.details["agents"][0]["verdict"] == "OUTPERFORMS"


@pytest.mark.parametrize("kind", canary.KINDS)
def test_an_agent_that_does_not_learn_finds_no_edge(kind):
    def idle(setup, settings, steps):
        return canary.trained(setup, settings, 0)

    assert not canary.edge(kind, 0, 0, train=idle).passed


# --- determinism ---------------------------------------------------------------------------------


def test_a_generator_that_ignores_its_seed_is_found(monkeypatch, tmp_path):
    monkeypatch.setattr(
        BatchKernel, "seed", lambda self, seed: setattr(self, "rng", np.random.default_rng())
    )
    config = tiny_config(0, 128)
    folders = [tmp_path / "outputs" / name for name in ("one", "two")]
    for folder in folders:
        train_once(config, folder)
    found = determinism.certificate_of(folders[0], {"a second run": folders[1]})
    assert not found.passed
    assert "policy.safetensors of a second run" in found.what
    assert found.number <= len(COMPARED)
    assert hash_of(folders[0] / COMPARED[0]) != hash_of(folders[1] / COMPARED[0])


def test_a_certificate_as_plain_data():
    one = Certificate("a.b", False, math.inf, "what", {"x": 1})
    assert one.as_json() == {
        "name": "a.b",
        "outcome": "FAIL",
        "number": None,
        "what": "what",
        "details": {"x": 1},
    }
