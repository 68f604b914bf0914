"""Martingale: where nothing can be earned above the rate, no policy earns anything.

In the markets of `fair_markets`, without costs, the discounted P&L of every policy has mean zero.
Interest is discounted by the calendar days and the rate alone, not by what the market says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from agents.policy import PolicyBatch
from conf.types import FloatArray
from envs.core.kernel import BookKernel
from experiments.backtests.backtest import rollout
from experiments.certificates.certificate import Certificate, Certification
from experiments.certificates.fair_markets import RATE, FairMarket, Roll, fair_markets
from experiments.certificates.small_environments import whole_window
from experiments.environments.setup import open_books

MAX_STANDARD_ERRORS = 3.0
EXACT = 1e-9  # share of equity: the largest gain of a policy that never risks anything


@dataclass(frozen=True)
class FairGain:
    """The gain of a policy in a fair market, as shares of the initial equity."""

    mean: float  # discounted
    error: float  # of the mean
    paths: int

    @property
    def standard_errors(self) -> float:
        """How far from zero; a policy that risks nothing has to gain nothing."""
        if self.error > EXACT:
            return self.mean / self.error
        return 0.0 if abs(self.mean) <= EXACT else math.copysign(math.inf, self.mean)


def martingale(certification: Certification) -> list[Certificate]:
    """One certificate for each fair market."""
    profile, seed = certification.profile, certification.seed
    rolls: tuple[Roll, ...] = ("expiry", "daily") if profile.everything else ("expiry",)
    return [
        certificate_of(
            f"martingale.{market.name}",
            fair_gains(market, profile.paths, profile.policy_paths, seed),
        )
        for market in fair_markets(certification.tested, rolls, seed)
    ]


def certificate_of(name: str, gains: Mapping[str, FairGain]) -> Certificate:
    """PASS where every mean lies within three standard errors of zero."""
    worst = max(gains, key=lambda policy: abs(gains[policy].standard_errors))
    gain = gains[worst]
    number = abs(gain.standard_errors)
    return Certificate(
        name,
        number <= MAX_STANDARD_ERRORS,
        number,
        f"standard errors from zero ({MAX_STANDARD_ERRORS:g} allowed): {worst}, the furthest of "
        f"{len(gains)} policies, gained {gain.mean:+.4%} ± {gain.error:.4%} of equity on "
        f"{gain.paths:,} paths",
        {
            policy: {
                "mean": each.mean,
                "standard_error": each.error,
                "standard_errors_from_zero": each.standard_errors
                if math.isfinite(each.standard_errors)
                else None,
                "paths": each.paths,
            }
            for policy, each in gains.items()
        },
    )


def fair_gains(market: FairMarket, paths: int, at_once: int, seed: int) -> dict[str, FairGain]:
    """Every policy over all paths, a block of them at a time to bound memory."""
    rng = np.random.default_rng([seed, *market.name.encode()])
    gains: dict[str, list[FloatArray]] = {}
    for first in range(0, paths, at_once):
        block = min(at_once, paths - first)
        priced = market.settings.build(market.draw(block, rng))
        window = whole_window(priced)
        policies = market.policies(priced, window)
        kernel = open_books(market.settings, priced, window, block * len(policies))
        gained = discounted_gain(kernel, PolicyBatch(list(policies.values())))
        for name, each in zip(policies, gained.reshape(len(policies), block), strict=True):
            gains.setdefault(name, []).append(each)
    return {name: _measured(np.concatenate(each)) for name, each in gains.items()}


def discounted_gain(kernel: BookKernel, policies: PolicyBatch) -> FloatArray:
    """P&L (N,) of the whole window as a share of the initial equity, discounted at the rate."""
    window, dates = kernel.window, kernel.market.history.dates.astype("datetime64[D]")
    for _ in rollout(policies, kernel, kernel.reset(), window.stop - window.start - 1):
        pass
    days = (dates[window.stop - 1] - dates[window.start]).astype(np.int64)
    discount = math.exp(-RATE * float(days) / 365.0)
    gain: FloatArray = kernel.ledger.equity * discount / kernel.options.initial_equity_usd - 1.0
    return gain


def _measured(gain: FloatArray) -> FairGain:
    error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
    return FairGain(float(gain.mean()), error, len(gain))
