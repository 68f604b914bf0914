from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conf.errors import InputError
from conf.settings import build_settings, settings_to_json
from envs.market.sources import panel as panel_sources
from envs.market.sources.panel import (
    GarchModel,
    PanelFileData,
    PanelSettings,
    PanelSimulatedData,
    PanelStocksData,
    PanelYahooData,
    load_panel,
    simulate_panel,
)
from tests.envs.market.sources.test_index import composed


@pytest.mark.parametrize(
    ("choice", "kind"),
    [
        ("panel_simulated", PanelSimulatedData),
        ("panel_stocks", PanelStocksData),
        ("panel_yahoo", PanelYahooData),
    ],
)
def test_config_files_hold_every_key_at_its_default(choice: str, kind: Any) -> None:
    values = composed(choice)
    assert build_settings(PanelSettings, values, "data") == kind()
    assert set(values) == set(settings_to_json(kind()))


def test_a_file_needs_its_path() -> None:
    values = composed("panel_csv", "data.path=prices.csv")
    assert build_settings(PanelSettings, values, "data") == PanelFileData(path="prices.csv")
    assert set(values) == set(settings_to_json(PanelFileData(path="prices.csv")))


def test_parameters_can_be_overridden_in_every_style() -> None:
    values = composed(
        "panel_simulated",
        "data.assets=2",
        "data.gbm.drift=0.08",
        "data.gbm.vol_annual=[0.1,0.2]",
        "data.gbm.correlation=[[1,0.5],[0.5,1]]",
    )
    model = build_settings(PanelSettings, values, "data").gbm
    assert (model.drift, model.vol_annual) == (0.08, (0.1, 0.2))
    assert model.correlation == ((1.0, 0.5), (0.5, 1.0))
    spread = composed("panel_simulated", "data.gbm.drift=0.05..-0.02")
    assert build_settings(PanelSettings, spread, "data").gbm.drift == "0.05..-0.02"


@pytest.mark.parametrize(
    "data",
    [
        PanelSimulatedData(model="garch", garch=GarchModel(fit_to=PanelFileData(path="a.csv"))),
        PanelStocksData(assets=("AAPL", "JPM")),
        PanelFileData(path="a.csv", incomplete="start_later"),
        PanelYahooData(tickers=("SPY",), fallback="panel_stocks"),
    ],
)
def test_settings_survive_a_trip_through_json(data: Any) -> None:
    text = json.dumps(settings_to_json(data), allow_nan=False)
    assert build_settings(PanelSettings, json.loads(text), "data") == data


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"source": "sp500"}, "panel_stocks"),
        ({"source": "panel_simulated", "asets": 3}, "Did you mean 'assets'"),
        ({"source": "panel_simulated", "assets": 0}, "assets"),
        ({"source": "panel_simulated", "model": "heston"}, "model"),
        ({"source": "panel_simulated", "start": "1700-01-01"}, "between 1900 and 2050"),
        ({"source": "panel_simulated", "garch": {"fit_to": {"source": "sp500"}}}, "fit_to"),
        ({"source": "panel_yahoo", "tickers": []}, "tickers"),
        ({"source": "panel_yahoo", "tickers": ["SPY", "spy"]}, "tickers"),
        ({"source": "panel_yahoo", "tickers": ["SPY", "SPY"]}, "named twice"),
        ({"source": "panel_yahoo", "start": "2020-01-01", "end": "2019-01-01"}, "must come before"),
        ({"source": "panel_yahoo", "fallback": "sp500"}, "fallback"),
        ({"source": "panel_csv", "path": "a", "incomplete": "fill"}, "incomplete"),
        ({"source": "panel_stocks", "rate": 2.5}, "rate"),
    ],
)
def test_bad_settings_are_refused_with_their_name(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        build_settings(PanelSettings, values, "data")


def test_ten_assets_by_default_split_without_an_embargo_after_the_warmup() -> None:
    panel = load_panel(PanelSimulatedData(sessions=520))
    assert panel.history.close.shape == (1, 520, 10)
    assert panel.history.assets[0] == "asset_01"
    assert panel.splits.train.start == 20
    assert panel.splits.train.stop == panel.splits.validation.start == 320
    assert panel.splits.validation.stop == panel.splits.test.start == 420
    assert panel.splits.test.stop == 520
    assert panel.split("all").start == 20
    apart = load_panel(PanelSimulatedData(sessions=520), embargo_days=30, warmup_sessions=50)
    assert apart.splits.train.start == 49
    assert apart.splits.train.stop < apart.splits.validation.start


@pytest.mark.parametrize("model", ["gbm", "regime_switching"])
def test_simulated_panels_follow_their_own_seed(model: Any) -> None:
    data = PanelSimulatedData(model=model, sessions=80, paths=2, assets=3)
    first = load_panel(data).history.fingerprint
    assert load_panel(data).history.fingerprint == first
    assert load_panel(replace(data, seed=1)).history.fingerprint != first
    assert simulate_panel(data, np.random.default_rng(0), paths=7).close.shape == (7, 80, 3)
    assert simulate_panel(data, np.random.default_rng(0)).fingerprint == first


def write_panel(path: Path, shift: float = 0.0) -> None:
    """Prices of 1,100 sessions; `shift` moves those after the first 700."""
    prices = load_panel(PanelSimulatedData(sessions=1100, assets=3, seed=5)).history
    close = prices.close[0].copy()
    close[700:] *= 1.0 + shift
    lines = ["date,A,B,C"]
    for day, row in zip(prices.dates, close, strict=True):
        lines.append(f"{day}," + ",".join(repr(float(price)) for price in row))
    path.write_text("\n".join(lines))


def test_garch_reads_the_training_years_of_its_prices_alone(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    write_panel(path)
    dates = load_panel(PanelFileData(path=str(path))).history.dates
    splits = {"train_end": str(dates[699]), "validation_end": str(dates[900])}
    values: dict[str, Any] = {
        "source": "panel_simulated",
        "model": "garch",
        "sessions": 60,
        "garch": {"fit_to": {"source": "panel_csv", "path": str(path), "splits": splits}},
    }
    data = build_settings(PanelSettings, values, "data")
    before = load_panel(data).history
    assert before.assets == ("A", "B", "C")
    write_panel(path, shift=0.05)
    assert load_panel(data).history.fingerprint == before.fingerprint
    values["garch"]["fit_to"]["splits"] = splits | {"train_end": str(dates[700])}
    later = build_settings(PanelSettings, values, "data")
    assert load_panel(later).history.fingerprint != before.fingerprint
    with pytest.raises(InputError, match=r"data\.assets = 10, but file prices\.csv has 3"):
        load_panel(replace(data, assets=10))


def test_a_file_is_remembered_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_panel(tmp_path / "mine.csv")
    monkeypatch.chdir(tmp_path)
    panel = load_panel(PanelFileData(path="mine.csv", assets=("C", "A")))
    assert isinstance(panel.settings, PanelFileData)
    assert panel.settings.path == str(tmp_path / "mine.csv")
    assert panel.history.assets == ("C", "A")


def test_the_stocks_are_twenty_and_split_as_documented() -> None:
    pytest.importorskip("skfolio")
    panel = load_panel(PanelStocksData())
    dates = panel.history.dates.astype(str)
    assert panel.history.close.shape == (1, 8313, 20)
    assert (dates[0], dates[-1]) == ("1990-01-02", "2022-12-28")
    assert dates[panel.splits.validation.start] == "2013-01-02"
    assert dates[panel.splits.test.start] == "2017-01-03"
    assert "hindsight" in panel.notices[0]
    few = load_panel(PanelStocksData(assets=("XOM", "AAPL")))
    assert few.history.assets == ("XOM", "AAPL")
    with pytest.raises(InputError, match="stocks has no asset 'APPL'"):
        load_panel(PanelStocksData(assets=("APPL",)))


def test_without_skfolio_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skfolio.datasets", None)
    monkeypatch.setitem(sys.modules, "skfolio", None)
    for data in (PanelStocksData(), PanelSimulatedData(model="garch")):
        with pytest.raises(InputError) as caught:
            load_panel(data)
        assert "pip install -e '.[stocks]'" in caught.value.remedy
        assert "\n" not in str(caught.value)


def without_yahoo(*_: Any) -> Any:
    raise InputError("Yahoo Finance gave no data: connection refused", "try later")


def test_fallback_says_loudly_what_was_used_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skfolio")
    monkeypatch.setattr(panel_sources, "load_yahoo_panel", without_yahoo)
    with pytest.raises(InputError, match="connection refused"):
        load_panel(PanelYahooData())
    panel = load_panel(PanelYahooData(fallback="panel_stocks", rate=0.03))
    assert panel.settings == PanelStocksData(rate=0.03)
    assert panel.notices[0].startswith("FALLBACK")
    assert "connection refused" in panel.notices[0]
    assert "20 stocks of 1990-01-02 to 2022-12-28" in panel.notices[0]
