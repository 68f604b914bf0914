"""Simulated panels of correlated assets, with constant or switching parameters.

Two clocks that agree with the ledger. Cash earns its rate over the calendar days to the next
session (days / 365), and so does every asset; what an asset earns above the rate, and all of its
risk, comes by the session, 252 of them a year, as risk figures are annualised. The log return from
one session to the next is

    rate days / 365 + (drift - rate - vol^2 / 2) / 252 + vol / sqrt(252) z,   z ~ N(0, correlation)

so with drift = rate each price, discounted at the rate, is a martingale session by session; and
premium over variance is the same on Fridays as on other days, hence so is Merton's weight
(drift - rate) / (risk aversion vol^2). Sessions are weekdays without the exchange's regular
holidays, 252 in a year to within one, so both clocks run equally fast.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from conf.errors import InputError
from conf.settings import settings
from conf.types import DateArray, FloatArray, IntArray
from envs.market.clock import DAYS_PER_YEAR
from envs.market.models.regimes import MarkovRegimes
from envs.market.panel import PanelHistory
from risk.metrics import SESSIONS_PER_YEAR

_MAX_VOL = 5.0
_MAX_DRIFT = 5.0
_TOLERANCE = 1e-8  # rounding of a matrix as it is written down, and of its eigenvalues
# An even spread, from the first asset's number to the last's: "0.1..0.3".
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_SPREAD = re.compile(rf"\s*({_NUMBER})\s*\.\.\s*({_NUMBER})\s*")


def _one_message(value: Any, build: ValidatorFunctionWrapHandler) -> Any:
    # Of a union, pydantic complains once a member and names it in the path.
    try:
        if not isinstance(value, str) or _SPREAD.fullmatch(value):
            return build(value)
    except ValidationError:
        pass
    raise ValueError("write one number, a list with one number an asset, or a spread: 0.1..0.3")


def _square(value: Any, build: ValidatorFunctionWrapHandler) -> Any:
    try:
        return build(value)
    except ValidationError:
        raise ValueError("write one number or a square matrix as a list of its rows") from None


PerAsset = Annotated[float | tuple[float, ...] | str, WrapValidator(_one_message)]
Correlation = Annotated[float | tuple[tuple[float, ...], ...], WrapValidator(_square)]


@settings
class PanelModel:
    """Drift, volatility and correlation of the assets: of a market, or of one of its regimes."""

    drift: PerAsset = "0.04..0.10"  # continuous, annual, dividends included
    vol_annual: PerAsset = "0.10..0.30"  # decimal
    correlation: Correlation = 0.3  # of each pair, or a matrix


@settings
class RegimeModel(MarkovRegimes):
    """A market that switches between hidden regimes, all assets at once (Hamilton 1989)."""

    states: Annotated[tuple[PanelModel, ...], Field(min_length=2)] = (
        PanelModel(drift="0.05..0.15", vol_annual="0.08..0.24", correlation=0.25),
        PanelModel(drift="0.0..-0.20", vol_annual="0.18..0.54", correlation=0.6),
    )
    # With the next session.
    transition: tuple[tuple[float, ...], ...] = ((0.99, 0.01), (0.04, 0.96))
    _key: ClassVar[str] = "data.regime_switching"


@dataclass(frozen=True)
class PanelScenario:
    """The assets, dates, paths and constants that every model simulates with."""

    assets: tuple[str, ...]  # A names
    dates: DateArray  # (T,) sessions, strictly increasing
    num_paths: int  # P
    initial_price: float  # dollars, of every asset at the first session
    rate: float  # continuous annual decimal

    @property
    def interest(self) -> FloatArray:
        """What cash earns from each session to the next, as a logarithm, (T-1,)."""
        earned: FloatArray = self.rate * np.diff(self.dates).astype(np.float64) / DAYS_PER_YEAR
        return earned

    def history(self, name: str, log_returns: FloatArray) -> PanelHistory:
        """The panel whose prices move by `log_returns` (P, T-1, A)."""
        paths, steps, count = log_returns.shape
        close = np.zeros((paths, steps + 1, count))
        np.cumsum(log_returns, axis=1, out=close[:, 1:])
        with np.errstate(over="ignore"):  # PanelHistory refuses what cannot be held in a number
            close = self.initial_price * np.exp(close)
        rate = np.full(steps + 1, self.rate)
        return PanelHistory(name=name, assets=self.assets, dates=self.dates, close=close, rate=rate)


def asset_names(count: int) -> tuple[str, ...]:
    """asset_01, asset_02, ... with enough digits to sort in order."""
    digits = max(len(str(count)), 2)
    return tuple(f"asset_{number:0{digits}d}" for number in range(1, count + 1))


def simulate_gbm(
    model: PanelModel, scenario: PanelScenario, rng: np.random.Generator
) -> PanelHistory:
    """P paths of correlated geometric Brownian motions."""
    premium, scale = _session_parameters(model, scenario, "data.gbm")
    shocks = _shocks(scenario, rng) @ scale
    steps = scenario.interest[:, None] + premium + shocks
    return scenario.history("simulated gbm", steps)


def simulate_regimes(
    model: RegimeModel, scenario: PanelScenario, rng: np.random.Generator
) -> tuple[PanelHistory, IntArray]:
    """P paths of a market that switches regimes, and the regime of each step, (P, T-1)."""
    states = model.state_paths(scenario.num_paths, len(scenario.dates) - 1, rng)
    shocks = _shocks(scenario, rng)
    steps = np.empty_like(shocks)
    for number, state in enumerate(model.states):
        inside = states == number
        name = f"data.regime_switching.states.{number}"
        premium, scale = _session_parameters(state, scenario, name)
        steps[inside] = premium + shocks[inside] @ scale
    steps += scenario.interest[:, None]
    return scenario.history("simulated regime_switching", steps), states


def _session_parameters(
    model: PanelModel, scenario: PanelScenario, name: str
) -> tuple[FloatArray, FloatArray]:
    """Mean log return above the rate (A,), and what turns independent shocks (A,) into returns."""
    count = len(scenario.assets)
    drift = each_asset(model.drift, count, f"{name}.drift")
    vol = each_asset(model.vol_annual, count, f"{name}.vol_annual")
    for key, values, low, high in (
        ("drift", drift, -_MAX_DRIFT, _MAX_DRIFT),
        ("vol_annual", vol, 0.0, _MAX_VOL),
    ):
        wrong = (values < low) | (values > high)
        if wrong.any():
            raise InputError(
                f"{name}.{key} of {scenario.assets[int(np.argmax(wrong))]} is {values[wrong][0]:g}",
                f"Give an annual decimal from {low:g} to {high:g}: 0.2 is 20 %",
            )
    root = correlation_root(model.correlation, count, f"{name}.correlation")
    premium = (drift - scenario.rate - vol**2 / 2) / SESSIONS_PER_YEAR
    return premium, root * vol / np.sqrt(SESSIONS_PER_YEAR)


def _shocks(scenario: PanelScenario, rng: np.random.Generator) -> FloatArray:
    """Independent standard normal numbers, (P, T-1, A)."""
    return rng.standard_normal((scenario.num_paths, len(scenario.dates) - 1, len(scenario.assets)))


def each_asset(value: PerAsset, assets: int, name: str) -> FloatArray:
    """The number of every asset, (A,); InputError where a list has another length."""
    if isinstance(value, str):
        ends = _SPREAD.fullmatch(value)
        if ends is None:
            raise InputError(f"{name} = {value!r} is no spread", "Write it as 0.1..0.3")
        return np.linspace(float(ends[1]), float(ends[2]), assets)
    if isinstance(value, tuple):
        if len(value) != assets:
            raise InputError(
                f"{name} has {len(value)} numbers for {assets} assets",
                "Give one number an asset, or set data.assets",
            )
        return np.array(value, np.float64)
    return np.full(assets, float(value))


def correlation_root(value: Correlation, assets: int, name: str) -> FloatArray:
    """The symmetric square root of the correlation matrix, (A, A).

    A single number is the correlation of each pair. Raises InputError unless the matrix is
    symmetric with ones on its diagonal and no negative eigenvalue.
    """
    matrix = _matrix(value, assets, name)
    eigenvalues, vectors = np.linalg.eigh(matrix)
    if eigenvalues[0] < -_TOLERANCE:
        lowest = f"; {assets} assets allow {-1 / (assets - 1):.4f} or more" if assets > 1 else ""
        raise InputError(
            f"{name} is no correlation matrix: its smallest eigenvalue is {eigenvalues[0]:.4g}",
            "Correlations must agree with each other"
            + (lowest if not isinstance(value, tuple) else ""),
        )
    # Unlike the vectors' own signs, this root is the same whatever the library returns.
    root: FloatArray = (vectors * np.sqrt(np.maximum(eigenvalues, 0.0))) @ vectors.T
    return root


def _matrix(value: Correlation, assets: int, name: str) -> FloatArray:
    if not isinstance(value, tuple):
        matrix = np.full((assets, assets), float(value))
        np.fill_diagonal(matrix, 1.0)
    else:
        if len(value) != assets or any(len(row) != assets for row in value):
            lengths = sorted({len(row) for row in value})
            raise InputError(
                f"{name} has {len(value)} rows of {lengths} numbers for {assets} assets",
                "Give a square matrix with a row an asset, or one number for all pairs",
            )
        matrix = np.array(value, np.float64)
    asymmetric = np.abs(matrix - matrix.T) > _TOLERANCE
    if asymmetric.any():
        i, j = (int(k) for k in np.argwhere(asymmetric)[0])
        raise InputError(
            f"{name}[{i}][{j}] is {matrix[i, j]:g} but [{j}][{i}] is {matrix[j, i]:g}",
            "Give a symmetric matrix",
        )
    if (np.abs(np.diag(matrix) - 1.0) > _TOLERANCE).any() or np.abs(matrix).max() > 1 + _TOLERANCE:
        raise InputError(
            f"{name} has a diagonal that is not 1 or an entry outside -1 to 1",
            "Give correlations, not covariances",
        )
    return matrix
