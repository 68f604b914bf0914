"""The observation of an option book: rows of the market, and the portfolio block beside them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from pydantic import Field

from conf.errors import InputError
from conf.settings import settings
from conf.types import BoolArray, FloatArray, IntArray, ObsArray
from envs.core.episode_statistics import EpisodeStatistics
from envs.core.features import CLIP, Feature, Scaling
from envs.core.goal import GOAL, Goals, GoalSettings
from envs.core.ledger import Ledger
from envs.core.reward import diversification_of
from envs.market.clock import VarianceClock
from envs.market.history import MarketHistory
from envs.market.indicators import market_features
from envs.option_portfolio.extra_blocks import extra_block
from envs.options.chain import Slot
from envs.options.tape import OptionTape


@settings
class ObservationSettings:
    """Which extra blocks follow the standard 213 features."""

    extra_blocks: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    goal: GoalSettings | None = None  # a block of its own behind them; None: episodes have no goal


@dataclass(frozen=True)
class MarketObservation:
    """The part of the observation that depends on the market alone."""

    features: tuple[Feature, ...]  # every feature, portfolio block included, in order
    before: ObsArray  # (P, T, F1) market and option blocks
    after: ObsArray  # (P, T, F2) extra blocks
    log_price: FloatArray  # (P, T) unscaled, for the feature relative to the episode's start
    first_usable: int  # the first session at which everything is defined

    @property
    def portfolio(self) -> slice:
        """Where the portfolio block stands in the observation."""
        start = self.before.shape[-1]
        return slice(start, start + sum(item.block == "portfolio" for item in self.features))


MARKET = (
    Feature("log_price", "market", 0.25, -CLIP, CLIP, raw="ln(close / close at episode start)"),
    Feature("return", "market", 0.01, -CLIP, CLIP, raw="simple return since the last close"),
    Feature("volatility_20d", "market", 0.20, 0, CLIP, raw="annualised, last 20 returns"),
    Feature("volume_ratio", "market", 1.0, 0, CLIP, raw="volume / its mean of 50 sessions"),
    Feature("high_low_range", "market", 0.01, 0, CLIP, raw="(high - low) / close"),
    Feature("rsi_14", "market", 0.5, -1, 1, center=0.5, raw="Wilder's RSI / 100"),
    Feature("macd_signal", "market", 0.01, -CLIP, CLIP, raw="MACD(12, 26, 9) signal / close"),
)

# The clock of variance (`envs.market.clock`) says what time is and how fast value decays.
OPTION = (
    Feature("price", "option", 0.05, 0, CLIP, raw="price / spot"),
    Feature("moneyness", "option", 0.10, -CLIP, CLIP, center=1.0, raw="strike / spot"),
    Feature("time", "option", 60 / 365, 0, CLIP, raw="years to expiry, {clock} time"),
    Feature("delta", "option", 1.0, -1, 1, raw="delta"),
    Feature("gamma", "option", 0.10, 0, CLIP, raw="change of delta for a 1 % move"),
    Feature("theta", "option", 5e-4, -CLIP, CLIP, raw="theta a {unit} / spot"),
    Feature("intrinsic", "option", 0.05, 0, CLIP, raw="intrinsic value / spot"),
    Feature("time_value", "option", 0.05, -CLIP, CLIP, raw="(price - intrinsic) / spot"),
)


def portfolio_features(slots: tuple[Slot, ...]) -> tuple[Feature, ...]:
    """The portfolio block for these slots: 6 + 2 M features."""

    def feature(name: str, scale: float, low: float, high: float, raw: str) -> Feature:
        return Feature(name, "portfolio", scale, low, high, raw=raw)

    return (
        feature("cash", 1.0, -CLIP, CLIP, "cash / equity"),
        feature("equity", 1.0, -1, CLIP, "equity / initial equity - 1"),
        *(
            feature(f"position.{s.name}", 1.0, -CLIP, CLIP, "quantity x spot / equity")
            for s in slots
        ),
        *(feature(f"value.{s.name}", 0.2, -CLIP, CLIP, "quantity x price / equity") for s in slots),
        feature("exposure", 1.0, 0, CLIP, "sum of absolute position values / equity"),
        feature("diversification", 1.0, 0, 1, "1 - Herfindahl index"),
        feature("drawdown", 1.0, 0, CLIP, "loss from the peak / peak"),
        feature("rolling_sharpe", 5.0, -2, 2, "annualised, last 60 sessions, excess returns"),
    )


def observe_market(
    history: MarketHistory, tape: OptionTape, options: ObservationSettings
) -> MarketObservation:
    """Lay out everything that depends on the market alone.

    Raises InputError for an unknown extra block or one whose data is not in the history.
    """
    raw_market = market_features(history)
    log_price = raw_market[:, :, 0].copy()
    paths, sessions = history.close.shape
    before = np.empty((paths, sessions, len(MARKET) + tape.num_slots * len(OPTION)), np.float32)
    before[:, :, : len(MARKET)] = Scaling(MARKET).apply(raw_market)
    for path in range(paths):
        _write_option_block(before[path, :, len(MARKET) :], history, tape, path)
    before[:, :, 0] = 0.0  # relative to the episode's start: the environment fills it in
    blocks = [extra_block(name, history, tape) for name in options.extra_blocks]
    after = [Scaling(features).apply(values) for features, values in blocks]
    usable = np.all([np.isfinite(part).all(axis=(0, 2)) for part in (before, *after)], axis=0)
    option_features = tuple(
        replace(item, name=f"{slot.name}.{item.name}")
        for slot in tape.slots
        for item in option_features_by(history.clock)
    )
    return MarketObservation(
        features=MARKET
        + option_features
        + portfolio_features(tape.slots)
        + tuple(feature for features, _ in blocks for feature in features)
        + (() if options.goal is None else GOAL),
        before=before,
        after=np.concatenate([np.empty((paths, sessions, 0), np.float32), *after], axis=-1),
        log_price=log_price,
        first_usable=_first_usable(usable, history),
    )


def option_features_by(clock: VarianceClock) -> tuple[Feature, ...]:
    """The features of one contract, their time told by that clock."""
    unit = "calendar day" if clock.name == "calendar" else "session"
    return tuple(replace(item, raw=item.raw.format(clock=clock.name, unit=unit)) for item in OPTION)


def _write_option_block(
    block: ObsArray, history: MarketHistory, tape: OptionTape, path: int
) -> None:
    """Fill in the option block (T, M x 8) of one path; of all at once it would take gigabytes."""
    spot, strike = history.close[path][:, None], tape.strike[path]
    gap = spot - strike
    intrinsic = np.maximum(np.where(tape.is_call, gap, -gap), 0.0) / spot
    price = tape.mark[path] / spot
    columns: tuple[FloatArray, ...] = (
        price,
        strike / spot,
        tape.variance_years,
        tape.delta[path],
        tape.gamma[path] * spot * 0.01,
        tape.theta[path] / spot,
        intrinsic,
        price - intrinsic,
    )
    for index, (raw, item) in enumerate(zip(columns, OPTION, strict=True)):
        scaled = (raw - item.center) / item.scale
        block[:, index :: len(OPTION)] = np.minimum(np.maximum(scaled, item.low), item.high)


def _first_usable(usable: BoolArray, history: MarketHistory) -> int:
    """The session from which on everything is defined; a later hole is an error."""
    first = int(np.argmax(usable))
    if not usable.any() or not usable[first:].all():
        hole = first + int(np.argmax(~usable[first:])) if usable.any() else 0
        raise InputError(
            f"{history.name}: features are undefined at session {hole} ({history.dates[hole]})",
            "Give a longer history, or take the extra block out",
        )
    return first


@dataclass(frozen=True)
class MarketRows:
    """Views of an option market, one row for each (path, session). M slots."""

    mark: FloatArray  # (rows, M)
    spot: FloatArray  # (rows,)
    unit_cost: FloatArray  # (rows, M)
    closing_cost: FloatArray | None  # (rows, M)
    before: ObsArray  # (rows, F1) observation before the portfolio block
    after: ObsArray  # (rows, F2) and after it
    log_price: FloatArray  # (rows,)


class BookObservation:
    """Puts observations (K, D) together."""

    def __init__(
        self, observed: MarketObservation, rows: MarketRows, initial_equity_usd: float
    ) -> None:
        self._rows, self._initial_equity = rows, initial_equity_usd
        self._width, self._block = len(observed.features), observed.portfolio
        self._scaling = Scaling(observed.features[self._block])

    def observe(
        self,
        row: IntArray,
        since_start: IntArray,
        ledger: Ledger,
        statistics: EpisodeStatistics,
        env_indices: slice | IntArray,
        goals: Goals | None,
    ) -> ObsArray:
        """What K episodes see at `row` (K,), `since_start` (K,) sessions into them."""
        rows, block = self._rows, self._block
        obs = np.empty((len(row), self._width), np.float32)
        obs[:, : block.start] = rows.before.take(row, axis=0)
        log_move = rows.log_price.take(row) - rows.log_price.take(row - since_start)
        feature = MARKET[0]
        obs[:, 0] = np.minimum(np.maximum(log_move / feature.scale, feature.low), feature.high)
        after = block.stop + rows.after.shape[-1]
        if after > block.stop:
            obs[:, block.stop : after] = rows.after.take(row, axis=0)
        if goals is not None:
            obs[:, after:] = goals.observe(ledger, statistics, env_indices)

        quantity, equity = ledger.quantity[env_indices], ledger.equity[env_indices]
        worth = np.maximum(equity, 1e-3 * self._initial_equity)
        value = quantity * rows.mark.take(row, axis=0)
        gross = np.abs(value).sum(axis=-1)
        slots = value.shape[1]
        raw = np.empty((len(row), block.stop - block.start))
        raw[:, 0] = ledger.cash[env_indices] / worth
        raw[:, 1] = equity / self._initial_equity - 1.0
        raw[:, 2 : 2 + slots] = quantity * (rows.spot.take(row) / worth)[:, None]
        raw[:, 2 + slots : 2 + 2 * slots] = value / worth[:, None]
        raw[:, -4] = gross / worth
        raw[:, -3] = diversification_of(value, gross)
        raw[:, -2] = ledger.drawdown[env_indices]
        raw[:, -1] = statistics.rolling_sharpe(env_indices)
        obs[:, block] = self._scaling.apply(raw)
        return obs
