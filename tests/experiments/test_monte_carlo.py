from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from agents.reference_policies import CashPolicy, RandomPolicy
from envs.market.index_models import model_dates, simulate_index
from envs.market.simulate import Scenario
from envs.market.sources import LoadedMarket, Sp500Data, SyntheticData, load_market
from envs.option_market import OptionPortfolioSettings, build_option_market
from envs.options.surface import FlatSurface, VixSurface
from experiments import monte_carlo, monte_carlo_years
from experiments.monte_carlo_models import Law, fit_laws, past_market
from experiments.monte_carlo_statistics import (
    book_risks,
    proportion_interval,
    resampling_weights,
)
from experiments.monte_carlo_years import Years, simulate_years
from experiments.settings import OptionMarketSettings
from risk.overlay import RiskSettings

NAMES = ("gbm", "heston", "garch", "bootstrap", "regime")


@pytest.fixture(scope="module")
def market() -> LoadedMarket:
    return load_market(Sp500Data(), embargo_days=60)


@pytest.fixture(scope="module")
def laws(market: LoadedMarket) -> dict[str, Law]:
    return {law.name: law for law in fit_laws(market, NAMES)}


def wanted(surface: VixSurface | FlatSurface | None = None) -> OptionMarketSettings:
    return OptionMarketSettings(
        data=Sp500Data(),
        surface=surface or VixSurface(),
        env=OptionPortfolioSettings(),
        risk=RiskSettings(),
    )


# --- laws --------------------------------------------------------------------------------------


def test_no_law_reads_a_session_of_the_test_split(
    market: LoadedMarket, laws: dict[str, Law]
) -> None:
    history, stop = market.history, market.splits.test.start
    noise = np.ones(history.close.shape)
    noise[:, stop:] = np.random.default_rng(1).uniform(0.5, 2.0, noise[:, stop:].shape)
    names = ("open", "high", "low", "close", "implied_vol")
    changed = {name: getattr(history, name) * noise for name in names}
    other = replace(market, history=replace(history, **changed))
    for law in fit_laws(other, NAMES):
        assert law.numbers == laws[law.name].numbers, law.name
        assert law.last < str(history.dates[stop])
    assert np.array_equal(
        fit_laws(other, ["bootstrap"])[0].model.close, laws["bootstrap"].model.close
    )
    for name in NAMES:
        end = market.splits.validation.start if name != "bootstrap" else stop
        assert laws[name].last < str(history.dates[end])


def test_a_simulated_run_is_tested_with_laws_of_the_real_index() -> None:
    simulated = load_market(SyntheticData(sessions=700), embargo_days=60)
    assert past_market(simulated).history.name == "sp500"


@pytest.mark.parametrize("name", NAMES)
def test_put_call_parity_holds_on_every_simulated_path(name: str, laws: dict[str, Law]) -> None:
    model = laws[name].model
    scenario = Scenario(
        dates=model_dates(model, monte_carlo_years._START, 130),
        num_paths=4,
        initial_price=1000.0,
        drift=laws[name].drift,
        rate=0.025,
        dividend_yield=0.015,
    )
    history = simulate_index(model, scenario, np.random.default_rng(2))
    tape = build_option_market(history, VixSurface(), OptionPortfolioSettings()).tape
    keys = {(s.maturity_days, s.moneyness, s.is_call): i for i, s in enumerate(tape.slots)}
    for (days, strike, is_call), call in keys.items():
        if not is_call:
            continue
        put = keys[days, strike, False]
        tau = tape.days_to_expiry[:, call] / 365
        forward = history.close * np.exp(-0.015 * tau) - tape.strike[:, :, call] * np.exp(
            -0.025 * tau
        )
        apart = tape.mark[:, :, call] - tape.mark[:, :, put] - forward
        assert np.abs(apart).max() < 1e-9 * history.close.max()


# --- years -------------------------------------------------------------------------------------


def test_years_of_cash_and_index_are_those_of_the_law(laws: dict[str, Law]) -> None:
    law = laws["gbm"]
    years = simulate_years(
        law, CashPolicy(20), (), replace(wanted(), risk=RiskSettings(enabled=False)), 200, 0, 2
    )
    days = model_dates(law.model, monte_carlo_years._START, 302)
    length = float((days[-1] - days[49]).astype(int)) / 365
    np.testing.assert_allclose(years["cash"].total_return, np.expm1(law.rate * length), rtol=1e-9)
    np.testing.assert_allclose(years["policy"].total_return, years["cash"].total_return, rtol=1e-9)
    index = np.log1p(years["buy_and_hold"].total_return)
    sigma = law.model.vol_annual
    mean = (law.drift - sigma**2 / 2) * length
    assert abs(index.mean() - mean) < 4 * sigma * np.sqrt(length / 200)
    assert index.std() == pytest.approx(sigma * np.sqrt(length), rel=0.2)
    assert not years["policy"].ruined.any()


def test_no_book_beats_cash_where_the_market_is_fair(laws: dict[str, Law]) -> None:
    fair = replace(laws["gbm"], drift=0.025, rate=0.025)
    fair = replace(fair, model=replace(fair.model, vol_annual=0.2, vol_premium=0.0))
    free = replace(OptionPortfolioSettings(), costs={"kind": "flat", "rate_bps": 0.0})
    settings = replace(wanted(FlatSurface()), env=free, risk=RiskSettings(enabled=False))
    years = simulate_years(fair, RandomPolicy(20, 1), ("put_write",), settings, 250, 3, 2)
    for name in ("policy", "put_write", "buy_and_hold"):
        excess = years[name].total_return - years["cash"].total_return
        assert abs(excess.mean()) < 4 * excess.std() / np.sqrt(250), name


def test_years_do_not_depend_on_the_number_of_threads(
    laws: dict[str, Law], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monte_carlo_years, "CHUNK", 5)
    found = [
        simulate_years(laws["bootstrap"], CashPolicy(20), ("put_write",), wanted(), 12, 5, threads)
        for threads in (1, 3)
    ]
    assert list(found[0]) == ["policy", "managed", "put_write", "buy_and_hold", "cash"]
    for name, years in found[0].items():
        assert len(years.sharpe) == 12
        assert np.array_equal(years.sharpe, found[1][name].sharpe), name
    other = simulate_years(laws["bootstrap"], CashPolicy(20), (), wanted(), 12, 6, 1)
    assert not np.array_equal(other["buy_and_hold"].sharpe, found[0]["buy_and_hold"].sharpe)


# --- intervals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("hits", "trials"), [(0, 50), (1, 50), (17, 40), (50, 50)])
def test_intervals_of_chances_are_exact(hits: int, trials: int) -> None:
    found = proportion_interval(hits, trials, 0.9)
    expected = stats.binomtest(hits, trials).proportion_ci(0.9, method="exact")
    assert found == pytest.approx((hits / trials, expected.low, expected.high))


def test_intervals_of_means_are_those_of_the_central_limit() -> None:
    values = np.random.default_rng(4).normal(1.0, 2.0, 900)
    weights = resampling_weights(900, 4000, np.random.default_rng(5))
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    none = np.zeros(900, np.bool_)
    years = Years(values, values / 10, np.abs(values) / 10, none, none)
    found = book_risks({"policy": years}, 0.95, 4000, 5)["policy"]
    half = 1.96 * values.std() / 30
    assert found.mean["sharpe"] == pytest.approx(
        (values.mean(), values.mean() - half, values.mean() + half), abs=0.015
    )
    assert found.large_loss.value == (values < -2.0).mean()
    assert found.quantile["sharpe"] == tuple(np.quantile(values, [0.05, 0.5, 0.95]))
    assert found.ruin.value == 0.0
    assert 0.0 < found.ruin.high < 0.01


# --- the command -------------------------------------------------------------------------------


def test_monte_carlo_of_a_run(command, finished_run, tmp_path) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    arguments = (f"run={run}", "paths=6", "models=[bootstrap,gbm]")
    code, out, err = command(monte_carlo, *arguments)
    assert code == 0, err
    found = json.loads((run / "monte_carlo" / "monte_carlo.json").read_text())
    assert list(found["models"]) == ["bootstrap", "gbm"]
    assert found["models"]["bootstrap"]["fitted_to"]["last"] < "2016"
    books = found["models"]["gbm"]["books"]
    assert list(books) == ["policy", "managed", "buy_and_hold", "put_write", "cash"]
    sharpe = books["policy"]["sharpe"]["mean"]
    assert sharpe["low"] <= sharpe["value"] <= sharpe["high"]
    assert books["policy"]["probability_of_ruin"]["high"] > 0.0
    assert (run / "monte_carlo" / "returns_gbm.png").stat().st_size > 1000
    assert "Real days in blocks" in (run / "monte_carlo" / "report.html").read_text()
    assert "6 years" in out
    again = command(monte_carlo, *arguments, "report=false", "threads=1")
    assert again[0] == 0
    second = json.loads((run / "monte_carlo" / "monte_carlo.json").read_text())
    assert second["models"]["gbm"]["books"] == books


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ("models=[gbm,gbm]", "a model is named twice"),
        ("models=[sabr]", "monte_carlo.models"),
        ("paths=1", "monte_carlo.paths"),
        ("run=nowhere", "was not found"),
    ],
)
def test_what_cannot_be_simulated_is_one_line(command, finished_run, argument, complaint) -> None:
    arguments = [] if argument.startswith("run=") else [f"run={finished_run}"]
    code, _, err = command(monte_carlo, *arguments, argument)
    assert code == 2
    assert complaint in err
    assert len(err.strip().splitlines()) == 1
