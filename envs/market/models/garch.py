"""Volatility that clusters as it did in real prices: GJR-GARCH of a panel or of an index.

Of each asset the log return above the rate is mean + e,

    e = sqrt(h) z,   h' = omega + (alpha + gamma [e < 0]) e^2 + beta h

L. R. Glosten, R. Jagannathan and D. E. Runkle, On the relation between the expected value and the
volatility of the nominal excess return on stocks, Journal of Finance 48 (1993). The shocks z of a
simulated session are those of one real session, of all assets together, drawn with replacement
(G. Barone-Adesi, K. Giannopoulos and L. Vosper, VaR without correlations for portfolios of
derivative securities, Journal of Futures Markets 19 (1999)): so fat tails and common falls stay.
The mean is the sample's. h never exceeds the highest value it was fitted to have: single stocks
have shocks of ten and more standard deviations and a persistence near 1, so without that bound the
recursion shows volatilities that no market ever had.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from conf.errors import InputError
from conf.types import FloatArray, IntArray
from envs.market.clock import DAYS_PER_YEAR
from envs.market.history import MarketHistory, readonly
from envs.market.models.gbm import Scenario, history_of_steps, shock_scale, with_premium
from envs.market.models.panel import PanelScenario
from envs.market.panel import PanelHistory

# Two years: fewer sessions say little about persistence.
MIN_FIT_SESSIONS = 504
# Sessions simulated before the first that counts, so that paths start with different volatilities.
BURN_IN_SESSIONS = 504
MONTH_SESSIONS = 21  # of 30 calendar days


@dataclass(frozen=True)
class GarchFit:
    """The fitted parameters of A assets, all per session (of an index: a year)."""

    assets: tuple[str, ...]
    mean: FloatArray  # (A,) log return above the rate
    variance: FloatArray  # (A,) of the sample, where every path starts
    omega: FloatArray  # (A,)
    alpha: FloatArray  # (A,)
    gamma: FloatArray  # (A,) what a fall adds to alpha
    beta: FloatArray  # (A,)
    ceiling: FloatArray  # (A,) h is never higher
    shocks: FloatArray  # (S, A) standardised residuals, mean 0 and variance 1

    def __post_init__(self) -> None:
        for name in ("mean", "variance", "omega", "alpha", "gamma", "beta", "ceiling", "shocks"):
            object.__setattr__(self, name, readonly(np.asarray(getattr(self, name), np.float64)))


def fit_garch(history: PanelHistory, stop: int) -> GarchFit:
    """Fit to sessions 0 .. stop-1 of a history of one path, by Gaussian quasi-likelihood.

    Nothing after session `stop` - 1 is read. Raises InputError where the sessions are too few, a
    price never moves or the optimiser finds nothing.
    """
    _check_fit(history, stop)
    excess = _excess_returns(history, stop)
    return _fit_to(history.assets, excess, excess.mean(axis=0))


def _check_fit(history: PanelHistory, stop: int) -> None:
    if history.num_paths != 1:
        raise InputError(f"{history.name} has {history.num_paths} paths", "Fit to a single one")
    if stop < MIN_FIT_SESSIONS:
        raise InputError(
            f"{history.name} has {stop} sessions to fit to; GARCH needs {MIN_FIT_SESSIONS}",
            "Give more data, or move data.garch.fit_to.splits.train_end",
        )
    still = np.ptp(history.close[0, :stop], axis=0) == 0
    if still.any():
        asset = history.assets[int(np.argmax(still))]
        raise InputError(
            f"the price of {asset} in {history.name} never moves",
            "Leave it out: data.garch.fit_to.assets",
        )


def _fit_to(assets: tuple[str, ...], excess: FloatArray, mean: FloatArray) -> GarchFit:
    """The fit to excess returns (S, A), with that mean."""
    fits = [_fit_one(asset, excess[:, at].tobytes()) for at, asset in enumerate(assets)]
    omega, alpha, gamma, beta, ceiling = np.array([parameters for parameters, _ in fits]).T
    variance = excess.var(axis=0)
    return GarchFit(
        assets=assets,
        mean=mean,
        variance=variance,
        omega=omega,
        alpha=alpha,
        gamma=gamma,
        beta=beta,
        ceiling=np.maximum(ceiling, variance),
        shocks=np.stack([residuals for _, residuals in fits], axis=1),
    )


def _excess_returns(history: PanelHistory, stop: int) -> FloatArray:
    """Log returns of the first path above the rate, (stop - 1, A)."""
    interest = history.rate[: stop - 1] * history.days_to_next[: stop - 1] / DAYS_PER_YEAR
    return np.diff(np.log(history.close[0, :stop]), axis=0) - interest[:, None]


def simulate_garch(
    fit: GarchFit, scenario: PanelScenario, rng: np.random.Generator
) -> PanelHistory:
    """P paths of the fitted model, each started at the sample's variance and then burnt in."""
    returns = garch_returns(fit, _drawn_rows(fit, scenario, rng))[:, BURN_IN_SESSIONS:]
    returns += scenario.interest[:, None] + fit.mean
    return scenario.history("simulated garch", returns)


def _drawn_rows(
    fit: GarchFit, scenario: Scenario | PanelScenario, rng: np.random.Generator
) -> IntArray:
    """Which session's shocks each step has, the burn-in first, (P, BURN_IN_SESSIONS + T-1)."""
    shape = (scenario.num_paths, BURN_IN_SESSIONS + len(scenario.dates) - 1)
    return rng.integers(0, len(fit.shocks), shape)


def garch_returns(fit: GarchFit, drawn: IntArray) -> FloatArray:
    """e of every step, (P, T, A), from the rows `drawn` (P, T) of the shocks."""
    paths, steps = drawn.shape
    returns = np.empty((paths, steps, len(fit.assets)))
    for step, (shock, _) in enumerate(garch_steps(fit, drawn)):
        returns[:, step] = shock
    return returns


def garch_steps(fit: GarchFit, drawn: IntArray) -> Iterator[tuple[FloatArray, FloatArray]]:
    """e of each step and h of the one that follows, both (P, A), for rows `drawn` (P, T)."""
    variance = np.broadcast_to(fit.variance, (len(drawn), len(fit.assets)))
    for row in drawn.T:
        shock = np.sqrt(variance) * fit.shocks[row]
        variance = following_variance(fit, shock, variance)
        yield shock, variance


def following_variance(fit: GarchFit, shock: FloatArray, variance: FloatArray) -> FloatArray:
    """h of the next step from e and h of this one, all (..., A)."""
    reaction = fit.alpha + fit.gamma * (shock < 0)
    following: FloatArray = np.minimum(
        fit.omega + reaction * shock**2 + fit.beta * variance, fit.ceiling
    )
    return following


@lru_cache(maxsize=64)  # worlds are drawn again and again after the same years
def _fit_one(asset: str, content: bytes) -> tuple[tuple[float, ...], FloatArray]:
    """(omega, alpha, gamma, beta, highest h) and the standardised residuals (S,) of returns."""
    from arch import arch_model  # brings statsmodels along, which other sources do not need

    excess = np.frombuffer(content)
    spread = excess.std()
    # The optimiser needs numbers near 1; alpha, gamma and beta do not depend on the scale.
    model = arch_model(excess / spread, mean="Constant", vol="GARCH", p=1, o=1, q=1, rescale=False)
    result = model.fit(disp="off", show_warning=False)
    if result.convergence_flag != 0 or not np.isfinite(result.params.to_numpy()).all():
        raise InputError(
            f"no GJR-GARCH model could be fitted to {asset}",
            "Leave it out or fit to other years: data.garch.fit_to",
        )
    residuals = np.asarray(result.std_resid, np.float64)
    residuals = residuals - residuals.mean()
    scale = spread**2
    highest = float(np.asarray(result.conditional_volatility).max()) ** 2 * scale
    alpha, gamma, beta = (float(result.params[f"{name}[1]"]) for name in ("alpha", "gamma", "beta"))
    parameters = (float(result.params["omega"]) * scale, alpha, gamma, beta, highest)
    return parameters, readonly(residuals / residuals.std())


@dataclass(frozen=True)
class IndexGarch:
    """The fitted model of one index; h is annual, the mean a calendar year's log return."""

    fit: GarchFit  # of one asset
    vol_premium: float  # implied volatility less what the model expects, decimal

    def expected_vol(self, following: FloatArray) -> FloatArray:
        """Root of the mean variance of the next 21 sessions, annual, where the next has h."""
        fit = self.fit
        falls = (fit.shocks[:, 0] ** 2 * (fit.shocks[:, 0] < 0)).mean()
        persistence = float(fit.alpha[0] + fit.gamma[0] * falls + fit.beta[0])
        # h ahead is affine in the next h: constant + slope h.
        constant, slope, constants, slopes = 0.0, 1.0, 0.0, 0.0
        for _ in range(MONTH_SESSIONS):
            constants, slopes = constants + constant, slopes + slope
            constant, slope = float(fit.omega[0]) + persistence * constant, persistence * slope
        mean = (constants + slopes * following) / MONTH_SESSIONS
        expected: FloatArray = np.sqrt(np.minimum(mean, fit.ceiling[0]))
        return expected


def fit_index_garch(past: MarketHistory) -> IndexGarch:
    """Fit to a history of one path, all of it; InputError where that is too short.

    Returns less their drift are scaled to a year of the clock first.
    """
    prices = past.close[:, :, None]
    panel = PanelHistory(past.name, ("the index",), past.dates, prices, past.rate)
    _check_fit(panel, past.num_sessions)
    excess = _excess_returns(panel, past.num_sessions)
    years = past.days_to_next[:-1, None] / DAYS_PER_YEAR
    mean = excess.sum(axis=0) / years.sum()
    surprises = (excess - mean * years) / shock_scale(past)[:, None]
    fit = _fit_to(panel.assets, surprises, mean)
    variances = [fit.variance]
    for surprise in surprises:
        variances.append(following_variance(fit, surprise, variances[-1]))
    expected = IndexGarch(fit, 0.0).expected_vol(np.array(variances)[1:, 0])
    return IndexGarch(fit, float((past.implied_vol[0, 1:] - expected).mean()))


def simulate_index_garch(
    model: IndexGarch, scenario: Scenario, rng: np.random.Generator
) -> MarketHistory:
    """P paths after a burn-in; the drift is that of the past, `scenario.drift` is not read."""
    fit = model.fit
    simulated = list(garch_steps(fit, _drawn_rows(fit, scenario, rng)))
    shock = np.stack([shock[:, 0] for shock, _ in simulated[BURN_IN_SESSIONS:]], axis=1)
    # h at each close is that of the session to come.
    ahead = np.stack([h[:, 0] for _, h in simulated[BURN_IN_SESSIONS - 1 :]], axis=1)
    drift = (scenario.rate + fit.mean[0]) * scenario.days / DAYS_PER_YEAR
    vol = with_premium(model.expected_vol(ahead), model.vol_premium)
    moves = shock * np.sqrt(scenario.variance_years) + drift
    variance = ahead[:, :-1] * scenario.variance_years
    return history_of_steps("synthetic garch", scenario, moves, variance, vol, rng)
