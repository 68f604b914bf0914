"""Hedging: market, classical hedges, causes of P&L, holdings, and unseen paths to judge on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from agents.baselines.hedging import (
    FittedHedges,
    build_hedging_baselines,
    fit_hedges,
    hedging_costs,
)
from agents.baselines.reference import Baseline
from agents.policy import Policy
from callbacks.criterion import Criterion
from callbacks.validation import Score
from conf.errors import InputError
from envs.core.batch import Window
from envs.hedging.market import HedgingMarket, HedgingMarketSettings
from envs.hedging.worlds import build_hedging_worlds
from envs.market.history import MarketHistory
from envs.market.models.worlds import WorldSettings
from envs.market.sources.index import LoadedMarket, SyntheticData, simulate_market
from experiments.backtests.backtest import Backtest, first_session
from experiments.environments.attribution import Attribution, write_off
from experiments.environments.worlds import WorldsSetup, whole

PATHS_AT_ONCE = 10_000
_UNSEEN_SEED = 2**40  # that of no data: seeds of data are taken as they are


@dataclass(frozen=True)
class HedgingSetup(WorldsSetup[HedgingMarket]):
    """A liability and the shares against it."""

    loaded: LoadedMarket
    market: HedgingMarket
    settings: HedgingMarketSettings

    index_title: ClassVar[str] = "the underlying"
    trades_options: ClassVar[bool] = False
    conditions: ClassVar[tuple[str, ...]] = (
        *("liability", "action", "rebalance_every", "objective", "notional_share", "hedges"),
        *("hedge_costs", "initial_equity_usd", "volatility"),
    )

    def baselines(self, evaluated: Window) -> tuple[tuple[Baseline, ...], tuple[str, ...]]:
        """The classical hedges, fitted to the training paths."""
        return self.hedges_on(self.market), ()

    def hedges_on(self, market: HedgingMarket) -> tuple[Baseline, ...]:
        """The same on another market."""
        return build_hedging_baselines(market, self.settings.env, self.fitted)

    @cached_property
    def fitted(self) -> FittedHedges:
        """Their parameters; InputError where there is nothing to fit them to."""
        window = self.training_window
        if window is None:
            raise InputError(
                f"{self.history.name} is too short for training years to fit the hedges to",
                "Give more sessions",
            )
        return fit_hedges(self.market, self.settings.env, window)

    def build_worlds(
        self, worlds: WorldSettings, past: MarketHistory, *, unseen: bool = False, draw: int = 0
    ) -> HedgingMarket:
        """Priced at each world's surface."""
        return build_hedging_worlds(self.settings, worlds, past, unseen=unseen, draw=draw)

    def sold_daily(self, split: str) -> Iterator[tuple[HedgingMarket, Window]]:
        """Markets in which together a liability is sold at every session of a split.

        In each of them one follows another, and each begins a session after the one before.
        """
        window, history = self.window(split), self.market.history
        for later in range(self.settings.env.episode.sessions):
            cut = history.sessions(later, history.num_sessions)
            begin = max(window.start - later, 0)
            yield self.settings.build(cut), Window(begin, window.stop - later)

    def unseen(self, paths: int) -> Iterator[tuple[HedgingMarket, Window]] | None:
        """Markets of liabilities that nothing was trained or chosen on; None for real data."""
        data = self.settings.data
        if not isinstance(data, SyntheticData):
            return None
        life = self.settings.env.episode.sessions
        short = replace(data, sessions=life + 1)
        rng = np.random.default_rng([data.seed, _UNSEEN_SEED])
        counts = [PATHS_AT_ONCE] * (paths // PATHS_AT_ONCE) + [paths % PATHS_AT_ONCE]
        return (
            (self.settings.build(simulate_market(short, rng, paths=count)), Window(0, life + 1))
            for count in counts
            if count
        )

    @property
    def criterion(self) -> Criterion:
        """The objective of what liabilities cost."""
        return Criterion(
            "cost_objective_percent",
            self.settings.env.objective.title,
            " % of the price",
            decimals=1,
            lower_is_better=True,
            beside=("cost_mean_percent", "cost_deviation_percent"),
        )

    def scorer(self, split: str) -> Score:
        """What the split's liabilities cost, in percent of their prices.

        With `data.worlds` the liabilities to validate on are those of unseen worlds.
        """
        window, env, market = self.window(split), self.settings.env, self.market
        unseen = self.unseen_worlds
        if unseen is not None and split == "validation":
            market, window = unseen, whole(unseen)

        def score(policy: Policy) -> Mapping[str, float]:
            lost = hedging_costs(policy, market, env, window)
            cost = lost.sum(axis=0)
            return {
                "cost_objective_percent": 100.0 * env.objective(lost),
                "cost_mean_percent": 100.0 * float(cost.mean()),
                "cost_deviation_percent": 100.0 * float(cost.std()),
            }

        return score

    def attribute(self, backtest: Backtest) -> Attribution:
        """By what the hedge and the liability gained."""
        market = self.market
        start, length = first_session(backtest, market), backtest.quantity.shape[1]
        now, after = slice(start, start + length), slice(start + 1, start + length + 1)
        path = np.arange(len(backtest.equity)) % market.history.num_paths
        gain = backtest.quantity * (market.aged[:, after] - market.mark[:, now])[path]
        invested, pnl = backtest.position.sum(axis=-1), np.diff(backtest.equity, axis=1)
        own = slice(0, market.num_traded)
        at_end = np.abs(backtest.quantity[..., own]) * market.closing_cost[:, after][path]
        at_end = at_end.sum(axis=-1)
        cash = backtest.equity[:, :-1] - (backtest.cost - at_end) - invested
        carry = np.where(backtest.alive, cash * market.cash_return[now], 0.0)
        held = gain.sum(axis=-1)
        terms = {
            "hedge": gain[..., own].sum(axis=-1),
            "liability": gain[..., market.num_traded :].sum(axis=-1),
            "carry": carry,
            "cost": -backtest.cost,
            "write_off": write_off(backtest, held + carry),
        }
        terms["residual"] = pnl - sum(terms.values())
        return Attribution(terms, pnl, held)

    def holdings(self, backtest: Backtest) -> dict[str, Any]:
        """How far the holding was from delta, in shares a unit."""
        apart = backtest.exposures["holding"] - backtest.exposures["delta"]
        return {"mean_distance_from_delta": float(np.abs(apart[backtest.alive]).mean())}
