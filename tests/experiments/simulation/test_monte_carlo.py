from __future__ import annotations

import io
import json
import shutil
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from agents.baselines.reference import Cash, RandomPolicy
from envs.core.costs import FlatCosts
from envs.market.exchange_calendar import trading_days
from envs.market.models.bootstrap import DayPool
from envs.market.models.gbm import GbmModel, Scenario
from envs.market.models.heston import HestonModel
from envs.market.models.index_models import simulate_index
from envs.market.sources.index import LoadedMarket, Sp500Data, SyntheticData, load_market
from envs.option_portfolio.market import (
    OptionMarketSettings,
    OptionPortfolioSettings,
    build_option_market,
)
from envs.options.surface import FlatSurface, VixSurface
from experiments import monte_carlo
from experiments.reporting.page import render
from experiments.reporting.style import number
from experiments.runs.parallel import Workers
from experiments.simulation import models as monte_carlo_models
from experiments.simulation import statistics as monte_carlo_statistics
from experiments.simulation import years as monte_carlo_years
from experiments.simulation.models import FittedModel, ModelName, fit_models, past_market
from experiments.simulation.page import build_page, terminal_tables
from experiments.simulation.statistics import (
    ModelResult,
    book_risks,
    proportion_interval,
    resampled_means,
)
from experiments.simulation.years import Years, simulate_years
from risk.overlay import RiskSettings

NAMES: tuple[ModelName, ...] = ("gbm", "heston", "garch", "bootstrap", "regime")


@pytest.fixture(scope="module")
def market() -> LoadedMarket:
    return load_market(Sp500Data(), embargo_days=60)


@pytest.fixture(scope="module")
def models(market: LoadedMarket) -> dict[str, FittedModel]:
    return {model.name: model for model in fit_models(market, NAMES)}


def settings(surface: VixSurface | FlatSurface | None = None) -> OptionMarketSettings:
    return OptionMarketSettings(
        data=Sp500Data(),
        surface=surface or VixSurface(),
        env=OptionPortfolioSettings(),
        risk=RiskSettings(),
    )


# --- models ------------------------------------------------------------------------------------


def test_no_model_reads_a_session_of_the_test_split(
    market: LoadedMarket, models: dict[str, FittedModel]
) -> None:
    history, stop = market.history, market.splits.test.start
    noise = np.ones(history.close.shape)
    noise[:, stop:] = np.random.default_rng(1).uniform(0.5, 2.0, noise[:, stop:].shape)
    names = ("open", "high", "low", "close", "implied_vol")
    changed = {name: getattr(history, name) * noise for name in names}
    other = replace(market, history=replace(history, **changed))
    for model in fit_models(other, NAMES):
        assert model.parameters == models[model.name].parameters, model.name
        assert model.last < str(history.dates[stop])
    own, pool = fit_models(other, ["bootstrap"])[0].model, models["bootstrap"].model
    assert isinstance(own, DayPool)
    assert isinstance(pool, DayPool)
    assert np.array_equal(own.close, pool.close)
    for name in NAMES:
        end = market.splits.validation.start if name != "bootstrap" else stop
        assert models[name].last < str(history.dates[end])


def test_a_run_on_simulated_data_is_tested_with_models_of_the_real_index() -> None:
    simulated = load_market(SyntheticData(sessions=700), embargo_days=60)
    assert past_market(simulated).history.name == "sp500"


@pytest.mark.parametrize("name", NAMES)
def test_put_call_parity_holds_on_every_simulated_path(
    name: str, models: dict[str, FittedModel]
) -> None:
    model = models[name].model
    scenario = Scenario(
        dates=trading_days(monte_carlo_years._START, 130),
        num_paths=4,
        initial_price=1000.0,
        drift=models[name].drift,
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


def test_a_degenerate_heston_fit_is_warned_of_in_log_and_page(
    market: LoadedMarket,
    models: dict[str, FittedModel],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sound = models["heston"]
    assert sound.parameters["feller_ratio"] == pytest.approx(0.528, abs=0.001)
    assert not any(model.notices for model in models.values())
    assert isinstance(sound.model, HestonModel)
    wild = replace(sound.model, vol_of_vol=2.2)
    monkeypatch.setattr(monte_carlo_models, "fit_heston", lambda past: wild)
    model = fit_models(market, ["heston"])[0]
    (notice,) = model.notices
    assert notice.startswith("heston: 2 kappa theta / xi^2 is 0.066 as fitted to sp500")
    assert notice in caplog.messages
    zero, never = np.zeros(4), np.zeros(4, np.bool_)
    years = Years(zero, zero, zero, never, never)
    books = {"policy": years, "buy_and_hold": years}
    result = ModelResult(model, books, book_risks(books, 0.95, 100, 0), 1.0)
    header = dict.fromkeys(("run", "surface", "costs", "policy", "policy_step"), "x")
    page = build_page({**header, "paths": 4, "level": 0.95}, [result])
    assert notice.replace("&", "&amp;") in render(page)


# --- years -------------------------------------------------------------------------------------


def test_years_of_cash_and_index_are_those_of_the_model(models: dict[str, FittedModel]) -> None:
    model = models["gbm"]
    off = replace(settings(), risk=RiskSettings(enabled=False))
    years = simulate_years([model], Cash(), (), off, 200, 0, Workers())[0].books
    length = 1.0  # to the day, for 252 sessions
    np.testing.assert_allclose(years["cash"].total_return, np.expm1(model.rate * length), rtol=1e-9)
    np.testing.assert_allclose(years["policy"].total_return, years["cash"].total_return, rtol=1e-9)
    index = np.log1p(years["buy_and_hold"].total_return)
    assert isinstance(model.model, GbmModel)
    sigma = model.model.vol_annual
    mean = (model.drift - sigma**2 / 2) * length
    assert abs(index.mean() - mean) < 4 * sigma * np.sqrt(length / 200)
    assert index.std() == pytest.approx(sigma * np.sqrt(length), rel=0.2)
    assert not years["policy"].ruined.any()


@pytest.mark.parametrize("name", NAMES)
def test_252_sessions_are_a_year_under_every_model(
    name: str, models: dict[str, FittedModel]
) -> None:
    off = replace(settings(), risk=RiskSettings(enabled=False))
    cash = simulate_years([models[name]], Cash(), (), off, 2, 0, Workers())[0].books["cash"]
    years = np.log1p(cash.total_return) / models[name].rate
    np.testing.assert_allclose(years, 1.0, atol=2 / 365)


def test_no_book_beats_cash_where_the_market_is_fair(models: dict[str, FittedModel]) -> None:
    fair = replace(models["gbm"], drift=0.025, rate=0.025)
    assert isinstance(fair.model, GbmModel)
    fair = replace(fair, model=replace(fair.model, vol_annual=0.2, vol_premium=0.0))
    free = replace(OptionPortfolioSettings(), costs=FlatCosts(rate_bps=0.0))
    fair_settings = replace(settings(FlatSurface()), env=free, risk=RiskSettings(enabled=False))
    policy, beside = RandomPolicy(20, 1), ("put_write",)
    years = simulate_years([fair], policy, beside, fair_settings, 120, 3, Workers())[0].books
    for name in ("policy", "put_write", "buy_and_hold"):
        excess = years[name].total_return - years["cash"].total_return
        assert abs(excess.mean()) < 4 * excess.std() / np.sqrt(120), name


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_years_do_not_depend_on_the_number_of_processes_nor_on_the_other_models(
    models: dict[str, FittedModel], processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monte_carlo_years, "CHUNK", 5)
    bootstrap, gbm = models["bootstrap"], models["gbm"]
    (alone,) = simulate_years([bootstrap], Cash(), ("put_write",), settings(), 12, 5, Workers())
    workers = Workers(processes)
    _, beside = simulate_years([gbm, bootstrap], Cash(), ("put_write",), settings(), 12, 5, workers)
    assert list(alone.books) == ["policy", "managed", "put_write", "buy_and_hold", "cash"]
    for name, years in alone.books.items():
        assert len(years.sharpe) == 12
        assert np.array_equal(years.sharpe, beside.books[name].sharpe), name
    (other,) = simulate_years([bootstrap], Cash(), (), settings(), 12, 6, Workers())
    index = "buy_and_hold"
    assert not np.array_equal(other.books[index].sharpe, alone.books[index].sharpe)


# --- intervals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("hits", "trials"), [(0, 50), (1, 50), (17, 40), (50, 50)])
def test_intervals_of_probabilities_are_exact(hits: int, trials: int) -> None:
    interval = proportion_interval(hits, trials, 0.9)
    expected = stats.binomtest(hits, trials).proportion_ci(0.9, method="exact")
    assert interval == pytest.approx((hits / trials, expected.low, expected.high))


def test_intervals_of_means_are_those_of_the_central_limit() -> None:
    values = np.random.default_rng(4).normal(1.0, 2.0, 900)
    none = np.zeros(900, np.bool_)
    years = Years(values, values / 10, np.abs(values) / 10, none, none)
    risk = book_risks({"policy": years}, 0.95, 4000, 5)["policy"]
    half = 1.96 * values.std() / 30
    assert risk.mean["sharpe"] == pytest.approx(
        (values.mean(), values.mean() - half, values.mean() + half), abs=0.015
    )
    assert risk.large_loss.value == (values < -2.0).mean()
    assert risk.quantile["sharpe"] == tuple(np.quantile(values, [0.05, 0.5, 0.95]))
    assert risk.ruin.value == 0.0
    assert 0.0 < risk.ruin.high < 0.01


def test_resampling_in_parts_draws_the_same_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(6).normal(size=(3, 50))
    counts = np.random.default_rng(7).multinomial(50, np.full(50, 0.02), size=200)
    for cells in (10, 50 * 33, 10**6):  # a sample at a time, 33, all
        monkeypatch.setattr(monte_carlo_statistics, "_CELLS_AT_ONCE", cells)
        means = resampled_means(values, 200, np.random.default_rng(7))
        np.testing.assert_allclose(means, values @ counts.T / 50, rtol=1e-12, atol=1e-15)


def test_memory_for_intervals_does_not_grow_with_their_samples() -> None:
    values = np.random.default_rng(6).normal(size=(2, 20_000))
    tracemalloc.start()
    resampled_means(values, 800, np.random.default_rng(7))  # 256 MB if held at once
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


# --- tables ------------------------------------------------------------------------------------


def test_no_number_is_cut_off_at_80_columns(models: dict[str, FittedModel]) -> None:
    rng, books = np.random.default_rng(8), {}
    for name in ("policy", "managed", "buy_and_hold", "equal_weight_premium", "cash"):
        sharpe, hit = rng.normal(-12.0, 2.0, 30), rng.random(30) < 0.5
        books[name] = Years(sharpe, sharpe / 14, -sharpe / 14, hit, hit)
    risks = book_risks(books, 0.95, 200, 0)
    result = ModelResult(models["heston"], books, risks, 1234.5)
    console = Console(width=80, record=True, file=io.StringIO())
    for table in terminal_tables(result, 0.95):
        console.print(table)
    text = console.export_text()
    assert "…" not in text
    for risk in risks.values():
        for cell in (
            *(number(x) for x in risk.mean["sharpe"]),
            *(number(100 * x, 1) for x in (*risk.large_loss, *risk.ruin)),
            number(100 * risk.quantile["total_return"][0], 1),
            number(100 * risk.mean["max_drawdown"].value, 1),
        ):
            assert cell in text


# --- the command -------------------------------------------------------------------------------


def test_monte_carlo_of_a_run(command, finished_run, tmp_path) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    arguments = (f"run={run}", "paths=6", "models=[bootstrap,gbm]", "jobs=1")
    code, out, err = command(monte_carlo, *arguments)
    assert code == 0, err
    result = json.loads((run / "monte_carlo" / "monte_carlo.json").read_text())
    assert result["format"] == 2
    assert list(result["models"]) == ["bootstrap", "gbm"]
    assert "vol_annual" in result["models"]["gbm"]["parameters"]
    assert result["models"]["bootstrap"]["fitted_to"]["last"] < "2016"
    books = result["models"]["gbm"]["books"]
    assert list(books) == ["policy", "managed", "buy_and_hold", "put_write", "cash"]
    sharpe = books["policy"]["sharpe"]["mean"]
    assert sharpe["low"] <= sharpe["value"] <= sharpe["high"]
    assert books["policy"]["probability_of_ruin"]["high"] > 0.0
    assert (run / "monte_carlo" / "returns_gbm.png").stat().st_size > 1000
    assert "Real days in blocks" in (run / "monte_carlo" / "report.html").read_text()
    assert "6 years" in out


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ("models=[gbm,gbm]", "a model is named twice"),
        ("models=[sabr]", "setting models"),
        ("paths=1", "setting paths = 1"),
        ("run=nowhere", "was not found"),
    ],
)
def test_what_cannot_be_simulated_is_one_line(command, finished_run, argument, complaint) -> None:
    arguments = [] if argument.startswith("run=") else [f"run={finished_run}"]
    code, _, err = command(monte_carlo, *arguments, argument)
    assert code == 2
    assert complaint in err
    assert len(err.strip().splitlines()) == 1
