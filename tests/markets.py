"""Small markets that tests compute by hand or by an independent way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

import conf
from conf.settings import build_settings
from envs.core.batch import Window
from envs.market.clock import CALENDAR
from envs.market.history import MarketHistory
from envs.option_portfolio.env import OptionPortfolioKernel
from envs.option_portfolio.market import (
    OptionMarket,
    OptionPortfolioSettings,
    build_option_market,
)
from envs.options.surface import FlatSurface, SurfaceSettings, VixSurface


def weekdays(count: int, first: str = "2001-01-01") -> np.ndarray:
    return np.busday_offset(np.datetime64(first), np.arange(count), roll="forward")


def history_of(
    close: Sequence[float] | np.ndarray,
    vol: float | np.ndarray = 0.2,
    rate: float = 0.025,
    dividend_yield: float = 0.015,
    **changes: Any,
) -> MarketHistory:
    """A history with these closes (T,) or (P, T), a high and low around them, constant volume.

    On the calendar clock, so that years are days / 365.
    """
    closes = np.atleast_2d(np.asarray(close, np.float64))
    sessions = closes.shape[1]
    values: dict[str, Any] = {
        "name": "toy",
        "dates": weekdays(sessions),
        "open": closes,
        "high": closes * 1.01,
        "low": closes * 0.99,
        "close": closes,
        "volume": np.full_like(closes, 1e6),
        "implied_vol": np.broadcast_to(vol, closes.shape),
        "implied_vol_source": np.ones(sessions),
        "rate": np.full(sessions, rate),
        "dividend_yield": np.full(sessions, dividend_yield),
        "closed_day_weight": CALENDAR,
    }
    return MarketHistory(**{**values, **changes})


def random_walk(
    sessions: int,
    paths: int = 1,
    vol: float = 0.2,
    rate: float = 0.025,
    dividend_yield: float = 0.015,
    seed: int = 0,
    **changes: Any,
) -> MarketHistory:
    """Geometric Brownian motion under the pricing measure, on calendar days over 365."""
    rng = np.random.default_rng(seed)
    dates = weekdays(sessions)
    tau = np.diff(dates).astype(float) / 365.0
    noise = rng.standard_normal((paths, sessions - 1))
    steps = (rate - dividend_yield - 0.5 * vol**2) * tau + vol * np.sqrt(tau) * noise
    log_price = np.concatenate([np.zeros((paths, 1)), np.cumsum(steps, axis=1)], axis=1)
    return history_of(1000.0 * np.exp(log_price), vol, rate, dividend_yield, **changes)


def wandering_vol(sessions: int, seed: int = 0) -> np.ndarray:
    """A volatility series (1, T) that moves between about 10 and 40 %."""
    rng = np.random.default_rng(seed)
    log_vol = np.zeros(sessions)
    for t in range(1, sessions):
        log_vol[t] = 0.97 * log_vol[t - 1] + 0.05 * rng.standard_normal()
    return 0.2 * np.exp(np.clip(log_vol, -0.7, 0.7))[None, :]


def monthly_surface() -> VixSurface:
    """`surface=vix_monthly`: the earlier fit, of maturities from a month on."""
    file = Path(conf.__file__).parent / "surface" / "vix_monthly.yaml"
    values: Any = OmegaConf.to_container(OmegaConf.load(file))
    built: VixSurface = build_settings(SurfaceSettings, values, "surface")
    return built


def options_of(**changes: Any) -> OptionPortfolioSettings:
    """Environment settings with zero cost unless told otherwise."""
    values = {"costs": {"kind": "flat", "rate_bps": 0.0}, **changes}
    built: OptionPortfolioSettings = build_settings(OptionPortfolioSettings, values, "env")
    return built


def market_of(
    history: MarketHistory,
    options: OptionPortfolioSettings | None = None,
    surface: FlatSurface | VixSurface | None = None,
) -> OptionMarket:
    return build_option_market(history, surface or FlatSurface(), options or options_of())


def kernel_of(
    history: MarketHistory,
    num_envs: int = 1,
    options: OptionPortfolioSettings | None = None,
    surface: FlatSurface | VixSurface | None = None,
    *,
    random_start: bool = False,
    seed: int = 0,
) -> OptionPortfolioKernel:
    """Episodes over everything after the warm-up."""
    options = options or options_of()
    market = market_of(history, options, surface)
    window = Window(market.first_usable, history.num_sessions)
    return OptionPortfolioKernel(market, options, window, num_envs, seed, random_start=random_start)


def perturbed_after(history: MarketHistory, session: int, seed: int = 1) -> MarketHistory:
    """The same history up to `session`, everything later replaced by something else."""
    rng = np.random.default_rng(seed)
    change: Callable[[np.ndarray], np.ndarray] = lambda x: x * rng.uniform(0.7, 1.4, x.shape)  # noqa: E731
    values = {
        name: np.array(getattr(history, name))
        for name in ("open", "high", "low", "close", "volume", "implied_vol")
    }
    for name in values:
        values[name][:, session + 1 :] = change(values[name][:, session + 1 :])
    values["high"] = np.maximum.reduce([values[n] for n in ("open", "high", "low", "close")])
    values["low"] = np.minimum.reduce([values[n] for n in ("open", "low", "close")])
    values["high"][:, : session + 1] = history.high[:, : session + 1]
    values["low"][:, : session + 1] = history.low[:, : session + 1]
    rate, dividend_yield = np.array(history.rate), np.array(history.dividend_yield)
    rate[session + 1 :] = 0.07
    dividend_yield[session + 1 :] = 0.03
    return MarketHistory(
        name=history.name,
        dates=history.dates,
        implied_vol_source=history.implied_vol_source,
        rate=rate,
        dividend_yield=dividend_yield,
        closed_day_weight=history.closed_day_weight,
        extras={name: np.array(x) for name, x in history.extras.items()},
        **values,
    )
