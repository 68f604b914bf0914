from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from conf.errors import InputError
from conf.settings import build_settings, settings_to_json
from envs.market.sources import index as sources
from envs.market.sources.bundled import cash_rates, data_folder
from envs.market.sources.index import (
    DataSettings,
    FileData,
    LoadedMarket,
    Sp500Data,
    SyntheticData,
    YahooData,
    load_market,
    simulate_market,
)


def composed(choice: str, *overrides: str) -> dict[str, Any]:
    """The plain data that `data=<choice>` on a command line gives."""
    with initialize_config_module("conf", version_base="1.3"):
        config = compose(overrides=[f"+data={choice}", *overrides])
    plain = OmegaConf.to_container(config.data, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


@pytest.mark.parametrize(
    ("choice", "kind"),
    [("sp500", Sp500Data), ("yahoo", YahooData), ("synthetic", SyntheticData)],
)
def test_config_files_hold_every_key_at_its_default(choice: str, kind: Any) -> None:
    values = composed(choice)
    assert build_settings(DataSettings, values, "data") == kind()
    assert set(values) == set(settings_to_json(kind()))


def test_csv_needs_its_path() -> None:
    values = composed("csv", "data.path=prices.csv")
    assert build_settings(DataSettings, values, "data") == FileData(path="prices.csv")
    with pytest.raises(InputError, match=r"data\.path is missing"):
        build_settings(DataSettings, {"source": "csv"}, "data")


@pytest.mark.parametrize(
    "data",
    [
        Sp500Data(rate=0.01),
        YahooData(fallback="sp500", cache_dir="somewhere"),
        FileData(path="a.csv"),
        SyntheticData(model="heston", drift=0.07),
    ],
)
def test_settings_survive_a_trip_through_json(data: Any) -> None:
    text = json.dumps(settings_to_json(data), allow_nan=False)
    assert build_settings(DataSettings, json.loads(text), "data") == data


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"source": "sp500", "raet": 0.1}, "Did you mean 'rate'"),
        ({"source": "bloomberg"}, "sp500"),
        ({"source": "yahoo", "start": "2020-01-01", "end": "2019-01-01"}, "must come before"),
        ({"source": "yahoo", "fallback": "csv"}, "fallback"),
        ({"source": "yahoo", "start": "0001-01-01"}, "0001-01-01 is not between 1900 and 2050"),
        ({"source": "synthetic", "start": "0001-01-01"}, "not between 1900 and 2050"),
        ({"source": "synthetic", "start": "9999-12-31"}, "not between 1900 and 2050"),
        ({"source": "synthetic", "paths": 0}, "paths"),
        ({"source": "synthetic", "gbm": {"vol_annual": -1}}, "vol_annual"),
        ({"source": "synthetic", "heston": {"correlation": 0.5}}, "correlation"),
        ({"source": "sp500", "rate": 2.5}, "rate"),
    ],
)
def test_bad_settings_are_refused_with_their_name(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        build_settings(DataSettings, values, "data")


def test_the_embedded_market_is_split_as_documented() -> None:
    market = load_market(Sp500Data(), embargo_days=60)
    dates = market.history.dates.astype(str)
    assert market.splits.train.start == 49
    assert dates[market.splits.validation.start] == "2014-01-02"
    assert dates[market.splits.test.start] == "2016-01-04"
    assert market.settings == Sp500Data()


def test_a_fair_simulated_market_drifts_at_the_rate() -> None:
    data = SyntheticData(paths=4000, sessions=66, rate=0.06, dividend_yield=0.02)
    history = simulate_market(data, np.random.default_rng(1))
    years = float((history.dates[-1] - history.dates[0]).astype(int)) / 365
    last = history.close[:, -1]
    error = last.mean() - 1000 * np.exp((0.06 - 0.02) * years)
    assert abs(error) < 4 * last.std() / np.sqrt(4000)


def test_synthetic_data_follow_their_own_seed() -> None:
    data = SyntheticData(sessions=400)
    first = load_market(data, embargo_days=0).history.fingerprint
    assert load_market(data, embargo_days=0).history.fingerprint == first
    other = load_market(replace(data, seed=1), embargo_days=0).history.fingerprint
    assert other != first


def test_simulated_paths_can_be_asked_for_in_numbers() -> None:
    data = SyntheticData(sessions=60, model="heston")
    assert simulate_market(data, np.random.default_rng(0), paths=7).close.shape == (7, 60)


def test_a_file_is_remembered_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = simulate_market(SyntheticData(sessions=300), np.random.default_rng(0))
    columns = ["date,open,high,low,close,volume,vix"]
    for t in range(300):
        prices = [getattr(history, name)[0, t] for name in ("open", "high", "low", "close")]
        columns.append(f"{history.dates[t]}," + ",".join(map(repr, map(float, prices))) + ",0,20")
    (tmp_path / "mine.csv").write_text("\n".join(columns))
    monkeypatch.chdir(tmp_path)
    market = load_market(FileData(path="mine.csv"), embargo_days=20)
    assert isinstance(market.settings, FileData)
    assert market.settings.path == str(tmp_path / "mine.csv")
    assert np.array_equal(market.history.close, history.close)


def without_yahoo(*_: Any) -> Any:
    raise InputError("Yahoo Finance gave no data: connection refused", "use data=sp500")


def test_fallback_says_loudly_what_was_used_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "load_yahoo", without_yahoo)
    data = YahooData(fallback="sp500", rate=0.03)
    market: LoadedMarket = load_market(data, embargo_days=60)
    assert market.settings == Sp500Data(rate=0.03)
    assert market.history.name == "sp500"
    assert market.notices[0].startswith("FALLBACK")
    assert "connection refused" in market.notices[0]
    assert "1999-01-04 to 2018-12-31" in market.notices[0]


def test_without_a_fallback_the_failure_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "load_yahoo", without_yahoo)
    with pytest.raises(InputError, match="connection refused"):
        load_market(YahooData(), embargo_days=60)


# --- what cash earns -----------------------------------------------------------------------------


def test_bills_pay_the_monthly_return_of_the_month_that_a_session_lies_in() -> None:
    dates = np.array(
        ["1926-07-31", "2007-09-28", "2007-10-01", "2018-11-30", "2018-12-03", "2025-01-02"]
    )
    rates = cash_rates("bills", dates.astype("datetime64[D]"))
    published = np.array([0.22, 0.32, 0.32, 0.18, 0.18, 0.18]) / 100  # K. French, RF
    np.testing.assert_allclose(np.exp(rates / 12) - 1, published, rtol=1e-12)


def test_bills_are_known_from_a_day_on() -> None:
    with pytest.raises(InputError, match=r"known from 1926-07 on.*begins on 1926-06-30"):
        cash_rates("bills", np.array(["1926-06-30"], "datetime64[D]"))


def test_the_embedded_data_pay_bills_unless_told_otherwise() -> None:
    history = load_market(Sp500Data(), embargo_days=60).history
    assert history.rate.max() == pytest.approx(12 * np.log(1.0056))  # of 2000
    assert (history.rate[np.searchsorted(history.dates, np.datetime64("2014-01-02"))]) == 0.0
    constant = load_market(Sp500Data(rate=0.025), embargo_days=60).history
    assert (constant.rate == 0.025).all()


def test_cash_compounds_to_the_bill_returns_of_the_years() -> None:
    history = load_market(Sp500Data(), embargo_days=60).history
    earned = (history.rate * history.days_to_next).sum() / 365
    table = pd.read_csv(data_folder() / "frenchdata" / "frenchdata.csv.gz", dtype={"Date": str})
    inside = table[table["Date"].between("199901", "201812")]["RF"]
    # A month has a twelfth of a year here; December 2018 is that of November.
    assert earned == pytest.approx(np.log1p(inside / 100).sum() + np.log1p(0.0018), rel=2e-3)
