"""Positions and market conditions as a user states them, made an observation for the agent."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from conf.errors import InputError
from conf.numbers import checked_number, checked_positive
from conf.types import FloatArray, ObsArray
from envs.core.features import Feature, Scaling
from risk.manager import CASH
from risk.metrics import SESSIONS_PER_YEAR

Conditions = Mapping[str, float | Mapping[str, float]]

CONDITIONS = (
    "volatility",
    "trend",
    "cash_ratio",
    "portfolio_value_ratio",
    "returns",
    "volatilities",
)
_CASH_TOLERANCE = 0.01  # between a cash_ratio and the cash among the positions


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

    Scaled and clipped as `features` say. InputError for conditions that are unknown, missing or
    impossible.
    """
    _refuse_unknown("market_conditions", conditions, CONDITIONS)
    assets = positions.assets
    cash_ratio = _cash_ratio(positions, conditions)
    invested = float(positions.value.sum())
    weights = positions.value / invested * (1.0 - cash_ratio) if invested else positions.value
    value_ratio = _number(conditions, "portfolio_value_ratio", 1.0, positive=True)
    returns, volatilities = _returns(assets, conditions), _volatilities(assets, conditions)
    raw = np.concatenate([weights, returns, volatilities, [cash_ratio, value_ratio]])
    return Scaling(features).apply(raw)


def _cash_ratio(positions: Positions, conditions: Conditions) -> float:
    """Share of cash, as given or from the positions' cash; both must agree."""
    given = _number(conditions, "cash_ratio", 0.0)
    if not 0.0 <= given <= 1.0:
        raise InputError(f"market_conditions: cash_ratio is {given}", "Give a share from 0 to 1")
    invested = float(positions.value.sum())
    if positions.cash is None and invested:
        return given
    total = invested + (positions.cash or 0.0)
    actual = 1.0 - invested / total if total else 1.0
    if "cash_ratio" in conditions and abs(given - actual) > _CASH_TOLERANCE:
        raise InputError(
            f"market_conditions: cash_ratio is {given:g}, but {actual:.4g} of the portfolio is "
            "cash",
            f"Leave cash_ratio out, or {CASH!r} among the positions",
        )
    return actual


def _returns(assets: tuple[str, ...], conditions: Conditions) -> FloatArray:
    """Last simple returns (A,) of a session."""
    if "returns" not in conditions:
        if "trend" not in conditions:
            raise _missing("trend", "returns")
        daily = _number(conditions, "trend", 0.0) / SESSIONS_PER_YEAR
        return np.full(len(assets), daily)
    returns = _by_asset(assets, conditions, "returns")
    if returns.min() <= -1.0:
        asset = assets[int(returns.argmin())]
        raise InputError(
            f"market_conditions: returns: {asset} is {returns.min():g}",
            "Give simple returns, above -1",
        )
    return returns


def _volatilities(assets: tuple[str, ...], conditions: Conditions) -> FloatArray:
    """Annual volatilities (A,)."""
    if "volatilities" in conditions:
        annual, name = _by_asset(assets, conditions, "volatilities"), "volatilities"
    elif "volatility" in conditions:
        annual, name = np.full(len(assets), _number(conditions, "volatility", 0.0)), "volatility"
    else:
        raise _missing("volatility", "volatilities")
    if annual.min() < 0.0:
        raise InputError(
            f"market_conditions: {name} of {annual.min():g}", "Give annual decimals, 0 or more"
        )
    return annual


def _by_asset(assets: tuple[str, ...], conditions: Conditions, name: str) -> FloatArray:
    values = conditions[name]
    if not isinstance(values, Mapping):
        raise InputError(
            f"market_conditions: {name} is a {type(values).__name__}",
            f"Give a number by asset: {{{assets[0]!r}: ...}}",
        )
    _refuse_unknown(f"market_conditions: {name}", values, assets)
    missing = [asset for asset in assets if asset not in values]
    if missing:
        raise InputError(
            f"market_conditions: {name} has {len(values)} of {len(assets)} assets",
            f"Add {', '.join(missing[:5])}",
        )
    return np.array(
        [checked_number(f"market_conditions: {name}: {asset}", values[asset]) for asset in assets]
    )


def _number(conditions: Conditions, name: str, default: float, *, positive: bool = False) -> float:
    check = checked_positive if positive else checked_number
    return check(f"market_conditions: {name}", conditions.get(name, default))


def _missing(name: str, by_asset: str) -> InputError:
    return InputError(
        f"market_conditions has neither {name!r} nor {by_asset!r}",
        f"Give one number for all assets as {name!r}, or one for each as {by_asset!r}",
    )


def _refuse_unknown(where: str, names: Iterable[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}"
            raise InputError(f"{where} has {name!r}, which is not known", hint)
