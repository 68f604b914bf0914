"""Extra blocks of features, switched on by name; all depend on the market alone.

A block is a function of the history and the tape that gives its features and their unscaled
values, (P, T, F). Row t may use sessions up to t only.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from conf.errors import InputError
from conf.types import BoolArray, DateArray, FloatArray
from envs.core.features import CLIP, Feature
from envs.market.history import MarketHistory
from envs.market.scheduled_events import days_to_next
from envs.options.tape import OptionTape

Block = tuple[tuple[Feature, ...], FloatArray]

YEAR_SESSIONS = 252


def extra_block(name: str, history: MarketHistory, tape: OptionTape) -> Block:
    """The extra block of that name; `extra:<column>` shows a column of the user's own data."""
    if name.startswith("extra:"):
        return _column_block(name.removeprefix("extra:"), history)
    if name not in EXTRA_BLOCKS:
        known = ", ".join([*EXTRA_BLOCKS, "extra:<column of your data>"])
        raise InputError(f"unknown observation block {name!r}", f"Known blocks: {known}")
    return EXTRA_BLOCKS[name](history, tape)


def volatility_block(history: MarketHistory, _: OptionTape) -> Block:
    """Level of implied volatility, its rank over a year, and its change in five sessions."""
    level = history.implied_vol
    features = (
        Feature("vix_level", "volatility", 0.2, 0, CLIP, raw="implied volatility, annual"),
        Feature("vix_rank", "volatility", 0.5, -1, 1, center=0.5, raw="0..1 of a year's range"),
        Feature("vix_change", "volatility", 0.05, -CLIP, CLIP, raw="change over five sessions"),
    )
    change = np.full_like(level, np.nan)
    change[:, 5:] = level[:, 5:] - level[:, :-5]
    return features, np.stack([level, rank(level), change], axis=-1)


def term_structure_block(_: MarketHistory, tape: OptionTape) -> Block:
    """Slope and skew: longest less shortest maturity, and low less high strike."""
    maturities = np.array([slot.maturity_days for slot in tape.slots])
    moneyness = np.array([slot.moneyness for slot in tape.slots])
    features = (
        Feature("term_slope", "term_structure", 0.05, -CLIP, CLIP, raw="vol, long - short"),
        Feature("skew", "term_structure", 0.10, -CLIP, CLIP, raw="vol, low - high strike"),
    )

    def mean_vol(chosen: BoolArray) -> FloatArray:
        vols: FloatArray = tape.vol[:, :, chosen].mean(axis=-1)
        return vols

    slope = mean_vol(maturities == maturities.max()) - mean_vol(maturities == maturities.min())
    skew = mean_vol(moneyness == moneyness.min()) - mean_vol(moneyness == moneyness.max())
    return features, np.stack([slope, skew], axis=-1)


def rates_block(history: MarketHistory, _: OptionTape) -> Block:
    """The risk-free rate and the dividend yield."""
    features = (
        Feature("rate", "rates", 0.05, -CLIP, CLIP, raw="continuous annual rate"),
        Feature("dividend_yield", "rates", 0.05, -CLIP, CLIP, raw="continuous annual yield"),
    )
    values = np.stack([history.rate, history.dividend_yield], axis=-1)
    return features, np.broadcast_to(values, (history.num_paths, *values.shape)).copy()


def calendar_block(history: MarketHistory, _: OptionTape) -> Block:
    """Calendar days to the next monthly expiry (third Friday) and payroll report (first Friday).

    Both follow from the calendar alone and are known years ahead.
    """
    features = (
        Feature("days_to_expiry_friday", "calendar", 30.0, 0, 2, raw="days to the third Friday"),
        Feature("days_to_payrolls", "calendar", 30.0, 0, 2, raw="days to the first Friday"),
    )
    columns = [_days_to_friday(history.dates, week) for week in (2, 0)]
    values = np.stack(columns, axis=-1)
    return features, np.broadcast_to(values, (history.num_paths, *values.shape)).copy()


def events_block(history: MarketHistory, _: OptionTape) -> Block:
    """Calendar days to the Federal Reserve's next decision and the next consumer prices.

    As scheduled: see `envs.market.scheduled_events`, which knows consumer prices from 2007 on. What
    is not known is as far away as the feature can say.
    """
    features = (
        Feature("days_to_fomc", "events", 30.0, 0, 2, raw="days to the scheduled decision"),
        Feature("days_to_cpi", "events", 30.0, 0, 2, raw="days to the scheduled report"),
    )
    values = np.stack([days_to_next(event, history.dates) for event in ("fomc", "cpi")], axis=-1)
    known = np.minimum(values, 2 * 30.0)
    return features, np.broadcast_to(known, (history.num_paths, *known.shape)).copy()


def _days_to_friday(dates: DateArray, week: int) -> FloatArray:
    month = dates.astype("datetime64[M]")
    days = np.full(len(dates), -1.0)
    for months_ahead in (1, 0):
        first = (month + months_ahead).astype("datetime64[D]")
        friday = np.busday_offset(first, week, roll="forward", weekmask="Fri")
        ahead = (friday - dates.astype("datetime64[D]")).astype(np.float64)
        days = np.where(ahead >= 0, ahead, days)
    return days


def _column_block(column: str, history: MarketHistory) -> Block:
    if column not in history.extras:
        known = ", ".join(history.extras) or "none"
        raise InputError(
            f"observation block 'extra:{column}': {history.name} has no such column",
            f"Its extra columns: {known}",
        )
    raw = f"rank of {column} over the last year, 0..1"
    feature = Feature(column, "extra", 0.5, -1, 1, center=0.5, raw=raw)
    return (feature,), rank(history.extras[column])[:, :, None]


def rank(values: FloatArray) -> FloatArray:
    """Where a value stands between the least and the greatest of the last year, 0..1, (P, T).

    One half where nothing has moved yet.
    """
    ranks = np.full_like(values, 0.5)
    for t in range(1, values.shape[1]):
        window = values[:, max(0, t + 1 - YEAR_SESSIONS) : t + 1]
        low, high = window.min(axis=1), window.max(axis=1)
        spread = high - low
        moved = spread > 0
        ranks[moved, t] = (values[moved, t] - low[moved]) / spread[moved]
    return ranks


EXTRA_BLOCKS: dict[str, Callable[[MarketHistory, OptionTape], Block]] = {
    "volatility": volatility_block,
    "term_structure": term_structure_block,
    "rates": rates_block,
    "calendar": calendar_block,
    "events": events_block,
}
