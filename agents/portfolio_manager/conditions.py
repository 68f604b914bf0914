"""Positions and market conditions as a user states them, made an observation for the agent."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from conf.errors import InputError, checked_number
from conf.settings import build_settings, settings
from conf.types import FloatArray, ObsArray
from envs.core.features import Feature, Scaling
from risk.manager import CASH
from risk.metrics import SESSIONS_PER_YEAR

Conditions = Mapping[str, float | Mapping[str, float]]

NonNegative = Annotated[float, Field(ge=0.0)]

_CASH_TOLERANCE = 0.01  # between a cash_ratio and the cash among the positions


@settings
class MarketConditions:
    """The market as the agent sees it: one number for all assets, or one for each."""

    volatility: NonNegative | None = None  # annual, of every asset
    volatilities: dict[str, NonNegative] | None = None  # annual, by asset
    trend: float | None = None  # annual; divided by 252 it is the last session's return
    returns: dict[str, Annotated[float, Field(gt=-1.0)]] | None = None  # of the last session
    cash_ratio: Annotated[float, Field(ge=0.0, le=1.0)] | None = None  # of the portfolio
    portfolio_value_ratio: Annotated[float, Field(gt=0.0)] = 1.0  # value over initial value


@dataclass(frozen=True)
class Positions:
    """What the portfolio holds; assets in the agent's order."""

    assets: tuple[str, ...]  # A names
    value: FloatArray  # (A,) in one currency, none negative
    cash: float | None  # in the same currency; None: not given


def read_positions(
    portfolio: Mapping[str, float], count: int, names: Sequence[str] | None
) -> Positions:
    """Check values by asset, possibly with `cash`, and put them in the agent's order.

    With `names`, a missing asset is not held, and others are refused. Without, there must be
    `count` assets, which are sorted alphabetically. InputError for anything else, for a short
    position and for a value that is not a finite number.
    """
    value = {asset: checked_number(f"portfolio: {asset}", x) for asset, x in portfolio.items()}
    for asset, position in value.items():
        if position < 0.0:
            raise InputError(
                f"portfolio: {asset} is {position:g}", "The agent is never short: give 0 or more"
            )
    cash = value.pop(CASH, None)
    if names is not None:
        _refuse_unknown("portfolio", value, names)
        assets = tuple(names)
    else:
        assets = tuple(sorted(value))
        if len(assets) != count:
            raise InputError(
                f"portfolio has {len(assets)} assets, the agent allocates to {count}",
                "Give each of them, with 0 where none is held",
            )
    return Positions(assets, np.array([value.get(asset, 0.0) for asset in assets]), cash)


def observe(positions: Positions, conditions: Conditions, features: Sequence[Feature]) -> ObsArray:
    """The observation (3A + 2,): weights, last returns, volatilities, cash ratio, value ratio.

    Scaled and clipped as `features` say. `conditions` are those of `MarketConditions`; InputError
    if they are unknown, missing or impossible.
    """
    given: MarketConditions = build_settings(MarketConditions, conditions, "market_conditions")
    assets = positions.assets
    cash_ratio = _cash_ratio(positions, given.cash_ratio)
    invested = float(positions.value.sum())
    weights = positions.value / invested * (1.0 - cash_ratio) if invested else positions.value
    daily = None if given.trend is None else given.trend / SESSIONS_PER_YEAR
    returns = _by_asset(assets, "returns", given.returns, "trend", daily)
    volatilities = _by_asset(
        assets, "volatilities", given.volatilities, "volatility", given.volatility
    )
    ratios = [cash_ratio, given.portfolio_value_ratio]
    return Scaling(features).apply(np.concatenate([weights, returns, volatilities, ratios]))


def _cash_ratio(positions: Positions, given: float | None) -> float:
    """Share of cash, as given (default 0) or from the positions' cash; both must agree."""
    invested = float(positions.value.sum())
    if positions.cash is None and invested:
        return given or 0.0
    total = invested + (positions.cash or 0.0)
    actual = 1.0 - invested / total if total else 1.0
    if given is not None and abs(given - actual) > _CASH_TOLERANCE:
        raise InputError(
            f"market_conditions: cash_ratio is {given:g}, but {actual:.4g} of the portfolio is "
            "cash",
            f"Leave cash_ratio out, or {CASH!r} among the positions",
        )
    return actual


def _by_asset(
    assets: tuple[str, ...],
    name: str,
    values: Mapping[str, float] | None,
    common_name: str,
    common: float | None,
) -> FloatArray:
    """(A,) values by asset where they are given, otherwise the common value of all assets."""
    if values is None and common is None:
        raise InputError(
            f"market_conditions has neither {common_name!r} nor {name!r}",
            f"Give one number for all assets as {common_name!r}, or one for each as {name!r}",
        )
    if values is None:
        return np.full(len(assets), common, np.float64)
    _refuse_unknown(f"market_conditions: {name}", values, assets)
    missing = [asset for asset in assets if asset not in values]
    if missing:
        raise InputError(
            f"market_conditions: {name} has {len(values)} of {len(assets)} assets",
            f"Add {', '.join(missing[:5])}",
        )
    return np.array([values[asset] for asset in assets])


def _refuse_unknown(where: str, names: Iterable[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}"
            raise InputError(f"{where} has {name!r}, which is not known", hint)
