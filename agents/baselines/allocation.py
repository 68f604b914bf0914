"""The classical allocations that an agent is measured against: same market, costs, risk module.

Those that estimate anything do it walking forward: at a rebalancing they know the closes up to
that one. All rebalance once a month, so that costs do not decide between them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from agents.baselines.optimisers import FitPlan, optimisers, walk_forward
from agents.baselines.rebalanced import Rebalanced
from agents.baselines.reference import CASH, Baseline
from conf.types import FloatArray
from envs.allocation.market import PanelMarket
from envs.core.batch import Window

REBALANCE_SESSIONS = 21  # a month
LOOKBACK_SESSIONS = 504  # two years
# A fit by skfolio takes 30 to 50 ms, whatever the size of the problem: a few seconds in all.
MAX_FITS = 25  # an optimiser
MAX_FITTED_PATHS = 50


# Name -> title and aim.
OPTIMISED = {
    "minimum_variance": (
        "Minimum variance",
        "Holds the assets in the proportions of the least variance",
    ),
    "risk_parity": (
        "Risk parity",
        "Holds the assets in proportions that contribute alike to the variance",
    ),
    "hrp": (
        "Hierarchical risk parity",
        "Shares the variance out down a tree of clusters of alike assets",
    ),
    "mean_variance": (
        "Mean-variance",
        "Holds the assets in the proportions of the best Sharpe ratio, or cash where that is "
        "better than any of them",
    ),
}


def build_allocation_baselines(
    market: PanelMarket, evaluated: Window, seed: int = 0
) -> tuple[tuple[Baseline, ...], tuple[str, ...]]:
    """Every classical allocation, for episodes over `evaluated`, and notices for people.

    A notice, one line each, says what was left out or could not be fitted. The optimisers need
    skfolio, two assets and no more than MAX_FITTED_PATHS paths; they use all that lies before a
    date, be it in the training years or not. `seed` is that of the random portfolio.
    """
    assets = market.history.num_assets
    equal = np.append(np.full(assets, 1.0 / assets), 0.0)
    monthly = range(evaluated.start, evaluated.stop - 1, REBALANCE_SESSIONS)
    noise = np.random.default_rng(seed).dirichlet(np.ones(assets + 1), size=len(monthly))

    def rebalanced(targets: FloatArray, step: int | None = REBALANCE_SESSIONS) -> Rebalanced:
        return Rebalanced(market, evaluated.start, targets, step)

    often = f"every {REBALANCE_SESSIONS} sessions"
    simple = (
        Baseline(
            "equal_weight",
            "Equal weight",
            f"Holds every asset at the same weight, restored {often}.",
            rebalanced(equal),
        ),
        Baseline(
            "held_equal_weight",
            "Equal weight, held",
            "Buys every asset at the same weight and never trades again.",
            rebalanced(equal, None),
        ),
        CASH,
        Baseline(
            "random",
            "Random",
            f"Draws new weights {often}, all mixtures of the assets and cash being equally likely.",
            rebalanced(noise),
        ),
    )
    fitted, notices = _optimised(market, evaluated, rebalanced)
    return (*simple, *fitted), notices


def _optimised(
    market: PanelMarket, evaluated: Window, rebalanced: Callable[[FloatArray], Rebalanced]
) -> tuple[list[Baseline], tuple[str, ...]]:
    history = market.history
    if history.num_assets < 2:
        return [], ()
    titles = ", ".join(title.lower() for title, _ in OPTIMISED.values())
    estimates = optimisers()
    if estimates is None:
        return [], (f"{titles} are left out: they need skfolio (pip install -e '.[stocks]')",)
    if history.num_paths > MAX_FITTED_PATHS:
        return [], (
            f"{titles} are left out: they are not fitted to more than {MAX_FITTED_PATHS} paths, "
            f"and there are {history.num_paths}",
        )
    plan = _plan(history.num_paths, evaluated)
    baselines, notices = [], []
    for name, (title, aim) in OPTIMISED.items():
        fitted = walk_forward(estimates[name], history, market.cash_return, evaluated, plan)
        description = (
            f"{aim}, fitted by skfolio every {plan.refit_sessions} sessions on the last "
            f"{plan.lookback} and restored every {plan.step}."
        )
        baselines.append(Baseline(name, title, description, rebalanced(fitted.targets)))
        if fitted.short:
            notices.append(
                f"{title}: {fitted.short} of {fitted.targets[:, :, 0].size} rebalancings have "
                f"fewer than {plan.minimum} sessions behind them and use equal weights"
            )
        if fitted.failed:
            notices.append(
                f"{title}: {fitted.failed} of {fitted.fits} fits failed and kept the weights "
                "before, at first equal ones"
            )
    return baselines, tuple(notices)


def _plan(paths: int, evaluated: Window) -> FitPlan:
    """Fits as often as MAX_FITS allows, at rebalancings evenly apart, and once a path at least."""
    dates = len(range(evaluated.start, evaluated.stop - 1, REBALANCE_SESSIONS))
    fits_a_path = max(MAX_FITS // paths, 1)
    return FitPlan(
        step=REBALANCE_SESSIONS,
        lookback=LOOKBACK_SESSIONS,
        refit_every=-(-dates // fits_a_path),
    )
