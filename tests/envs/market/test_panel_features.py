from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from conf.errors import InputError
from envs.market.exchange_calendar import trading_days
from envs.market.indicators import panel_features, panel_warmup
from envs.market.models.panel import (
    PanelModel,
    PanelScenario,
    asset_names,
    simulate_gbm,
)
from envs.market.panel import PanelHistory


def panel(paths: int = 3, sessions: int = 60) -> PanelHistory:
    dates = trading_days(dt.date(2001, 1, 2), sessions)
    scenario = PanelScenario(asset_names(4), dates, paths, 100.0, 0.02)
    return simulate_gbm(PanelModel(), scenario, np.random.default_rng(1))


def test_features_are_those_of_the_plain_formulas() -> None:
    history = panel()
    features = panel_features(history, window=5)
    assert features.returns.shape == features.volatility.shape == (3, 60, 4)
    for path in range(3):
        for asset in range(4):
            price = history.close[path, :, asset]
            returns = price[1:] / price[:-1] - 1
            assert np.array_equal(features.returns[path, 1:, asset], returns)
            for session in (5, 6, 59):
                expected = returns[session - 5 : session].std(ddof=1) * np.sqrt(252)
                measured = features.volatility[path, session, asset]
                assert measured == pytest.approx(expected, rel=1e-12)


def test_everything_is_defined_after_the_warmup_and_not_before() -> None:
    features = panel_features(panel())
    first = panel_warmup() - 1
    assert first == 20
    assert np.isfinite(features.volatility[:, first:]).all()
    assert np.isnan(features.volatility[:, :first]).all()
    assert np.isfinite(features.returns[:, 1:]).all()
    assert np.isnan(features.returns[:, 0]).all()


def test_no_feature_sees_a_later_price() -> None:
    history = panel()
    close = history.close.copy()
    close[:, 41:] *= np.random.default_rng(2).uniform(0.5, 2.0, close[:, 41:].shape)
    changed = PanelHistory("changed", history.assets, history.dates, close, history.rate)
    before, after = panel_features(history), panel_features(changed)
    for name in ("returns", "volatility"):
        one, other = getattr(before, name), getattr(after, name)
        assert np.array_equal(one[:, :41], other[:, :41], equal_nan=True)
        assert not np.array_equal(one[:, 41], other[:, 41])


def test_an_asset_has_the_features_it_has_alone() -> None:
    history = panel()
    alone = PanelHistory(
        "alone", history.assets[2:3], history.dates, history.close[1:2, :, 2:3], history.rate
    )
    both, single = panel_features(history), panel_features(alone)
    assert np.array_equal(both.volatility[1:2, :, 2:3], single.volatility, equal_nan=True)


def test_a_price_that_rests_has_no_volatility_and_a_short_panel_no_features() -> None:
    rest = PanelHistory(
        "rest", ("A",), trading_days(dt.date(2001, 1, 2), 30), np.ones((30, 1)), np.zeros(30)
    )
    assert (panel_features(rest).volatility[:, 20:] == 0).all()
    assert np.isnan(panel_features(panel(sessions=10)).volatility).all()


@pytest.mark.parametrize("window", [1, 0, -3])
def test_a_window_without_a_deviation_is_refused(window: int) -> None:
    with pytest.raises(InputError, match="not defined"):
        panel_features(panel(), window=window)
