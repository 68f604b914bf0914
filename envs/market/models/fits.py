"""Index models fitted to a stretch of real history, and to nothing outside of it."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from conf.errors import InputError
from conf.types import FloatArray
from envs.market.clock import DAYS_PER_YEAR
from envs.market.history import MarketHistory
from envs.market.models.garch import MIN_FIT_SESSIONS
from envs.market.models.gbm import GbmModel
from envs.market.models.heston import VIX_DAYS, HestonModel
from envs.market.models.regimes import IndexRegimes, IndexState
from risk.metrics import SESSIONS_PER_YEAR

_ROUNDS = 200
_TOLERANCE = 1e-5  # gain of the log likelihood at which the rounds end
_FLOOR = 1e-300  # of a density, so that an outlier does not divide by zero


class Moves(NamedTuple):
    """Returns and volatilities of a history, session by session."""

    log_return: FloatArray  # (S,)
    years: FloatArray  # (S,) calendar days / 365
    implied_vol: FloatArray  # (S + 1,) annual decimal
    dividend_yield: float  # mean, continuous annual decimal
    sessions_per_year: float

    @property
    def variance(self) -> float:
        """Annual, on the calendar clock, around the mean."""
        centred = self.log_return - self.growth * self.years
        return float((centred**2).sum() / self.years.sum())

    @property
    def growth(self) -> float:
        """Mean log return a year."""
        return float(self.log_return.sum() / self.years.sum())

    @property
    def drift(self) -> float:
        """Of the index with its dividends, continuous annual: E[S(t)] grows at it."""
        return self.growth + self.variance / 2 + self.dividend_yield


def moves_of(past: MarketHistory) -> Moves:
    """InputError unless the past is one path of two years or more."""
    if past.num_paths != 1 or past.num_sessions < MIN_FIT_SESSIONS:
        raise InputError(
            f"{past.name} has {past.num_paths} path(s) of {past.num_sessions} sessions to fit to",
            f"Give one path of {MIN_FIT_SESSIONS} sessions or more",
        )
    return Moves(
        np.diff(np.log(past.close[0])),
        past.days_to_next[:-1] / DAYS_PER_YEAR,
        past.implied_vol[0],
        float(past.dividend_yield.mean()),
        past.sessions_per_year,
    )


def fit_gbm(past: MarketHistory) -> GbmModel:
    """The volatility of the past, and the mean implied volatility above it."""
    moves = moves_of(past)
    vol = float(np.sqrt(moves.variance))
    return GbmModel(vol_annual=vol, vol_premium=float(moves.implied_vol.mean()) - vol)


def fit_heston(past: MarketHistory) -> HestonModel:
    """Variance as the implied volatility showed it, less a constant premium; by moments.

    (implied vol - premium)² is taken for the expected variance of the next 30 days, which is
    affine in the variance itself; the premium makes its mean the variance of the returns. Mean
    reversion is that of a first autoregression of it, vol of vol and correlation those of what the
    autoregression leaves over.
    """
    moves = moves_of(past)
    theta, vol = moves.variance, moves.implied_vol
    spread = theta - float(vol.var())
    if spread <= 0.0:
        raise InputError(
            f"implied volatility of {past.name} varies more than its returns allow for",
            "Fit to other years, or leave out the model heston",
        )
    premium = float(vol.mean()) - float(np.sqrt(spread))
    excess = (vol - premium) ** 2 - theta
    before, after = excess[:-1], excess[1:]
    step = float(moves.years.mean())
    slope = float(before @ after / (before @ before)) if before.any() else 0.0
    kappa = -np.log(np.clip(slope, 1e-6, 1.0 - 1e-6)) / step
    kappa = float(np.clip(kappa, 0.1, 100.0))
    pull = kappa * VIX_DAYS / DAYS_PER_YEAR
    weight = -np.expm1(-pull) / pull  # of the variance in that of the next 30 days
    surprise = (after - slope * before) / weight
    variance = np.maximum(theta + before / weight, 0.0)
    xi = float(np.sqrt((surprise**2).sum() / (variance * moves.years).sum()))
    correlated = np.corrcoef(moves.log_return, surprise) if surprise.any() else np.zeros((2, 2))
    return HestonModel(
        initial_variance=theta,
        long_run_variance=theta,
        mean_reversion=kappa,
        vol_of_vol=float(np.clip(xi, 0.01, 10.0)),
        correlation=float(np.clip(correlated[0, 1], -1.0, 0.0)),
        vol_premium=premium,
    )


def fit_regimes(past: MarketHistory) -> IndexRegimes:
    """Two regimes by maximum likelihood, and the mean implied volatility above what they expect."""
    moves = moves_of(past)
    fit = fit_two_regimes(moves.log_return)
    variance = fit.variance * moves.sessions_per_year
    drift = fit.mean * moves.sessions_per_year + variance / 2 + moves.dividend_yield
    states = tuple(
        IndexState(drift=float(d), vol_annual=float(np.sqrt(v)))
        for d, v in zip(drift, variance, strict=True)
    )
    model = IndexRegimes(
        states=states, transition=by_calendar_day(fit.transition, moves.sessions_per_year)
    )
    expected = float(model.expected_vol() @ fit.share)
    return replace(model, vol_premium=float(moves.implied_vol.mean()) - expected)


def by_calendar_day(
    transition: FloatArray, sessions_per_year: float = SESSIONS_PER_YEAR
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The chain of two states that does in a calendar day what `transition` does in a session.

    A year of the one takes as long as 365 of the other; the long-run shares stay.
    """
    leave = np.array([transition[0, 1], transition[1, 0]])
    memory = max(1.0 - leave.sum(), 1e-9) ** (sessions_per_year / DAYS_PER_YEAR)
    slower = leave / leave.sum() * (1.0 - memory)
    return ((1.0 - slower[0], slower[0]), (slower[1], 1.0 - slower[1]))


class TwoRegimes(NamedTuple):
    """Distribution of the returns of a session; the calmer regime first."""

    mean: FloatArray  # (2,)
    variance: FloatArray  # (2,)
    transition: FloatArray  # (2, 2) row: from this regime
    share: FloatArray  # (2,) of the sessions of the sample
    log_likelihood: float


def fit_two_regimes(returns: FloatArray) -> TwoRegimes:
    """Two regimes of normal returns (S,) by maximum likelihood; InputError if there are no two.

    Expectation maximisation for a hidden Markov chain: L. Baum, T. Petrie, G. Soules and N. Weiss,
    Annals of Mathematical Statistics 41 (1970); with the forward filter of J. D. Hamilton,
    Econometrica 57 (1989).
    """
    # statsmodels' MarkovRegression sets the first probabilities to the stationary shares instead of
    # estimating them, and fails in its linear algebra where there is only one regime.
    spread = float(returns.std())
    if not spread > 0.0:
        raise InputError("the returns never differ", "Fit to other years, or leave regime out")
    size = np.abs(returns - returns.mean())
    large = size > np.quantile(size, 0.75)
    mean = np.full(2, returns.mean())
    variance = np.array([returns[~large].var(), returns[large].var()])
    transition = np.array([[0.98, 0.02], [0.05, 0.95]])
    first = np.array([0.5, 0.5])
    best = -np.inf
    for _ in range(_ROUNDS):
        density = _densities(returns, mean, variance)
        smoothed, pairs, likelihood = smooth(density, transition, first)
        weight = smoothed.sum(axis=0)
        mean = smoothed.T @ returns / weight
        variance = (smoothed * (returns[:, None] - mean) ** 2).sum(axis=0) / weight
        transition = pairs / pairs.sum(axis=1, keepdims=True)
        first = smoothed[0]
        if not (variance > 1e-12 * spread**2).all() or not np.isfinite(transition).all():
            raise InputError(
                "there are no two regimes in the returns",
                "Fit to other years, or leave regime out",
            )
        if likelihood - best < _TOLERANCE:
            break
        best = likelihood
    order = np.argsort(variance)
    return TwoRegimes(
        mean[order],
        variance[order],
        transition[np.ix_(order, order)],
        (weight / weight.sum())[order],
        likelihood,
    )


def smooth(
    density: FloatArray, transition: FloatArray, first: FloatArray
) -> tuple[FloatArray, FloatArray, float]:
    """Probabilities of the regimes given all returns (S, 2), expected moves (2, 2), log likelihood.

    `density` (S, 2) is that of each return in each regime, `first` (2,) the probabilities of the
    regimes at the first return.
    """
    (stay, leave), (enter, remain) = transition.tolist()
    calm, storm = first.tolist()
    forward: list[tuple[float, float]] = []
    scales: list[float] = []
    # Plain numbers: two states are too few for an array to pay.
    for in_calm, in_storm in density.tolist():
        if forward:
            calm, storm = calm * stay + storm * enter, calm * leave + storm * remain
        calm, storm = calm * in_calm, storm * in_storm
        scale = calm + storm
        calm, storm = calm / scale, storm / scale
        forward.append((calm, storm))
        scales.append(scale)
    backward: list[tuple[float, float]] = [(1.0, 1.0)]
    for (in_calm, in_storm), scale in zip(density[:0:-1].tolist(), scales[:0:-1], strict=True):
        calm, storm = backward[-1]
        calm, storm = calm * in_calm / scale, storm * in_storm / scale
        backward.append((stay * calm + leave * storm, enter * calm + remain * storm))
    ahead, back = np.array(forward), np.array(backward[::-1])
    scaled = density[1:] * back[1:] / np.array(scales)[1:, None]
    pairs = transition * (ahead[:-1].T @ scaled)
    return ahead * back, pairs, float(np.log(scales).sum())


def _densities(returns: FloatArray, mean: FloatArray, variance: FloatArray) -> FloatArray:
    distance = (returns[:, None] - mean) ** 2 / variance
    return np.maximum(np.exp(-distance / 2) / np.sqrt(2 * np.pi * variance), _FLOOR)
