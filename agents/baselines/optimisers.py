"""The four classical optimisers of a portfolio, by skfolio, fitted walking forward.

At a date they are given the last sessions up to and including its close, and nothing later. All
are long only and fully invested, but for the best Sharpe ratio where cash is better than anything.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

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
    lookback: int = 504  # sessions of past at most
    minimum: int = 63  # with fewer sessions of past weights are equal
    refit_every: int = 1  # rebalancings; in between the last fit is rebalanced to

    @property
    def refit_sessions(self) -> int:
        """Sessions from one fit to the next."""
        return self.step * self.refit_every


@dataclass(frozen=True)
class Fitted:
    """Weights of every path at every rebalancing, and how fitting went."""

    targets: FloatArray  # (P, R, A + 1), cash last
    fits: int  # tried
    failed: int  # of them; the weights before were kept
    short: int  # rebalancings without enough past, of P x R; weights equal


def optimisers() -> dict[str, Estimate] | None:
    """The four of them by name; None where skfolio cannot be imported."""
    try:
        import skfolio.optimization  # noqa: F401
    except ImportError:
        return None
    return {
        "minimum_variance": minimum_variance,
        "risk_parity": risk_parity,
        "hrp": hierarchical_risk_parity,
        "mean_variance": best_sharpe,
    }


def minimum_variance(returns: FloatArray, cash_return: float) -> FloatArray:
    """The least variance under the sample covariance."""
    from skfolio.optimization import MeanRisk

    return _weights(MeanRisk(), returns)


def risk_parity(returns: FloatArray, cash_return: float) -> FloatArray:
    """The same contribution to the variance from every asset.

    S. Maillard, T. Roncalli and J. Teïletche, The properties of equally weighted risk contribution
    portfolios, Journal of Portfolio Management 36 (2010).
    """
    from skfolio.optimization import RiskBudgeting

    return _weights(RiskBudgeting(), returns)


def hierarchical_risk_parity(returns: FloatArray, cash_return: float) -> FloatArray:
    """Variance shared out down a tree of clusters of alike assets (Ward's linkage).

    M. López de Prado, Building diversified portfolios that outperform out of sample, Journal of
    Portfolio Management 42 (2016).
    """
    from skfolio.optimization import HierarchicalRiskParity

    return _weights(HierarchicalRiskParity(), returns)


def best_sharpe(returns: FloatArray, cash_return: float) -> FloatArray:
    """The best ratio of mean excess return to volatility, in sample.

    No asset at all (zeros) where none earned more than cash.
    """
    from skfolio.optimization import MeanRisk, ObjectiveFunction

    if not (returns.mean(axis=0) > cash_return).any():
        return np.zeros(returns.shape[1])
    model = MeanRisk(
        objective_function=ObjectiveFunction.MAXIMIZE_RATIO, risk_free_rate=cash_return
    )
    return _weights(model, returns)


def walk_forward(
    estimate: Estimate,
    history: PanelHistory,
    cash_returns: FloatArray,
    evaluated: Window,
    plan: FitPlan,
) -> Fitted:
    """Fit at the rebalancing dates of the window that begins with its first session.

    `cash_returns` (T,) is the simple return of cash from each session to the next. A fit that fails
    keeps the path's weights of the fit before, equal ones at first. Raises nothing.
    """
    dates = np.arange(evaluated.start, evaluated.stop - 1, plan.step)
    paths, assets = history.num_paths, history.num_assets
    targets = np.zeros((paths, len(dates), assets + 1))
    equal = np.full(assets, 1.0 / assets)
    fits = failed = short = 0
    for path in range(paths):
        held, due = equal, 0
        for k, date in enumerate(dates):
            first = max(int(date) - plan.lookback, 0)
            if date - first < plan.minimum:
                short += 1
            elif k >= due:
                close = history.close[path, first : date + 1]
                found = _fit(estimate, close, float(cash_returns[first:date].mean()))
                fits, failed = fits + 1, failed + (found is None)
                held, due = held if found is None else found, k + plan.refit_every
            targets[path, k, :assets] = held
    targets[:, :, assets] = np.maximum(1.0 - targets[:, :, :assets].sum(axis=-1), 0.0)
    return Fitted(targets, fits, failed, short)


def _fit(estimate: Estimate, close: FloatArray, cash_return: float) -> FloatArray | None:
    """Weights (A,) that sum to 1, or are all 0; None where there are none to be had."""
    returns = close[1:] / close[:-1] - 1.0
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            found = estimate(returns, cash_return)
    # Solvers, skfolio and scikit-learn each have errors of their own for a market that they
    # cannot fit to, and none of them is a reason to give up an evaluation.
    except Exception:
        return None
    if found.shape != returns.shape[1:] or not np.isfinite(found).all():
        return None
    total = float(found.sum())
    if found.min() < -_TOLERANCE or (total != 0.0 and abs(total - 1.0) > _TOLERANCE):
        return None
    weights: FloatArray = np.maximum(found, 0.0)
    return weights / weights.sum() if total else weights


def _weights(model: object, returns: FloatArray) -> FloatArray:
    fitted = model.fit(returns)  # type: ignore[attr-defined]
    return np.asarray(fitted.weights_, dtype=np.float64)
