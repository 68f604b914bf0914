"""Four classical portfolio optimisers of skfolio, fitted walking forward.

At a date they see the last sessions up to and including its close, and nothing later. All are long
only and fully invested, except for the best Sharpe ratio if no asset earned more than cash.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from conf.types import FloatArray
from envs.core.batch import Window
from envs.market.panel import PanelHistory

# Weights (A,) from simple returns (n, A) and the mean simple return of cash, both of a session.
Estimate = Callable[[FloatArray, float], FloatArray]

_TOLERANCE = 1e-4  # by which a solver may miss the bounds and the budget


@dataclass(frozen=True)
class FitPlan:
    """When weights are fitted, and on how much past."""

    step: int  # sessions from one rebalancing to the next
    lookback: int = 504  # sessions of history at most
    minimum: int = 63  # with fewer sessions of history weights are equal
    refit_every: int = 1  # rebalancings; in between the last fit's weights are the target

    @property
    def refit_sessions(self) -> int:
        """Sessions from one fit to the next."""
        return self.step * self.refit_every


@dataclass(frozen=True)
class Fitted:
    """Weights of every path at every rebalancing, and counts of fits."""

    targets: FloatArray  # (P, R, A + 1), cash last
    fits: int  # attempted
    failed: int  # of them; the previous weights were kept
    short: int  # rebalancings without enough history, of P x R; weights equal


def optimisers() -> dict[str, Estimate] | None:
    """The optimisers by name; None if skfolio cannot be imported.

    minimum_variance: the least variance under the sample covariance. risk_parity: every asset
    contributes the same to the variance (S. Maillard, T. Roncalli and J. Teïletche, The properties
    of equally weighted risk contribution portfolios, Journal of Portfolio Management 36, 2010).
    hrp: variance split down a tree of clusters of similar assets by Ward's linkage (M. López de
    Prado, Building diversified portfolios that outperform out of sample, Journal of Portfolio
    Management 42, 2016). mean_variance: the best ratio of mean excess return to volatility in
    sample; zeros, all cash, if no asset earned more than cash.
    """
    try:
        from skfolio.optimization import (
            HierarchicalRiskParity,
            MeanRisk,
            ObjectiveFunction,
            RiskBudgeting,
        )
    except ImportError:
        return None

    def weights(model: Any, returns: FloatArray) -> FloatArray:
        return np.asarray(model.fit(returns).weights_, dtype=np.float64)

    def best_sharpe(returns: FloatArray, cash_return: float) -> FloatArray:
        if not (returns.mean(axis=0) > cash_return).any():
            return np.zeros(returns.shape[1])
        ratio = ObjectiveFunction.MAXIMIZE_RATIO
        return weights(MeanRisk(objective_function=ratio, risk_free_rate=cash_return), returns)

    return {
        "minimum_variance": lambda returns, _: weights(MeanRisk(), returns),
        "risk_parity": lambda returns, _: weights(RiskBudgeting(), returns),
        "hrp": lambda returns, _: weights(HierarchicalRiskParity(), returns),
        "mean_variance": best_sharpe,
    }


def walk_forward(
    estimate: Estimate,
    history: PanelHistory,
    cash_returns: FloatArray,
    evaluated: Window,
    plan: FitPlan,
) -> Fitted:
    """Fit at the rebalancing dates of the window that begins with its first session.

    `cash_returns` (T,) is the simple return of cash from each session to the next. A fit that fails
    keeps the path's previous weights, equal ones at first. Raises nothing.
    """
    dates = np.arange(evaluated.start, evaluated.stop - 1, plan.step)
    paths, assets = history.num_paths, history.num_assets
    targets = np.zeros((paths, len(dates), assets + 1))
    equal = np.full(assets, 1.0 / assets)
    fits = failed = short = 0
    for path in range(paths):
        weights, due = equal, 0
        for k, date in enumerate(dates):
            first = max(int(date) - plan.lookback, 0)
            if date - first < plan.minimum:
                short += 1
            elif k >= due:
                close = history.close[path, first : date + 1]
                fit = _fit(estimate, close, float(cash_returns[first:date].mean()))
                fits, failed = fits + 1, failed + (fit is None)
                weights, due = weights if fit is None else fit, k + plan.refit_every
            targets[path, k, :assets] = weights
    targets[:, :, assets] = np.maximum(1.0 - targets[:, :, :assets].sum(axis=-1), 0.0)
    return Fitted(targets, fits, failed, short)


def _fit(estimate: Estimate, close: FloatArray, cash_return: float) -> FloatArray | None:
    """Weights (A,) that sum to 1, or are all 0; None if the fit failed."""
    returns = close[1:] / close[:-1] - 1.0
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            fit = estimate(returns, cash_return)
    # Solvers, skfolio and scikit-learn each raise errors of their own for a market that they
    # cannot fit, and none of them is a reason to abort an evaluation.
    except Exception:
        return None
    if fit.shape != returns.shape[1:] or not np.isfinite(fit).all():
        return None
    total = float(fit.sum())
    if fit.min() < -_TOLERANCE or (total != 0.0 and abs(total - 1.0) > _TOLERANCE):
        return None
    weights: FloatArray = np.maximum(fit, 0.0)
    return weights / weights.sum() if total else weights
