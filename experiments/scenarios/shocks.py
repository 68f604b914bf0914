"""Shocks that can be put into any history at any date, and the markets that come of it.

A shock moves prices and the volatility index from a session on and leaves everything else to the
code that always does it: the surface, the tape, costs and accounts are built anew from the moved
history. Where the index falls, the volatility index rises by two points for every per cent, as it
did in the spring of 2020 (34 % and 68 points), to a hundred at most, and that rise halves every
21 sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from conf.types import FloatArray
from envs.core.batch import Window
from envs.core.market import BookMarket
from envs.market.history import MarketHistory
from envs.market.panel import PanelHistory
from experiments.environments.setup import MarketSetup

History = TypeVar("History", MarketHistory, PanelHistory)

VOL_PER_FALL = 2.0  # rise of implied volatility for a fall of 1; both decimals
VOL_CEILING = 1.0  # annual, decimal
VOL_FLOOR = 0.05
HALF_LIFE_SESSIONS = 21.0
HORIZON_SESSIONS = 63  # over which a shock is measured
YEAR_SESSIONS = 252

# Kept of the past: ten half-lives of the slowest average that prices depend on.
LEAD_SESSIONS = 1260

# S&P 500 (Yahoo) and VIX (Cboe), closes of 2020-02-19 to 2020-03-23.
COVID_CLOSE = np.array([
    3386.15, 3373.23, 3337.75, 3225.89, 3128.21, 3116.39, 2978.76, 2954.22, 3090.23, 3003.37,
    3130.12, 3023.94, 2972.37, 2746.56, 2882.23, 2741.38, 2480.64, 2711.02, 2386.13, 2529.19,
    2398.10, 2409.39, 2304.92, 2237.40,
])  # fmt: skip
COVID_VOL = np.array([
    14.38, 15.56, 17.08, 25.03, 27.85, 27.56, 39.16, 40.11, 33.42, 36.82, 31.99, 39.62, 41.94,
    54.46, 47.30, 53.90, 75.47, 57.83, 82.69, 75.91, 76.45, 72.00, 66.04, 61.59,
]) / 100.0  # fmt: skip

# (close (T,), implied volatility (T,), first session) -> factors of the closes (T,) and the moved
# implied volatility (T,). Nothing before the session changes.
Move = Callable[[FloatArray, FloatArray, int], tuple[FloatArray, FloatArray]]


@dataclass(frozen=True)
class Shock:
    """A change of the market that begins at any close."""

    name: str
    label: str  # short, under a bar
    title: str
    description: str
    move: Move
    sessions: int = HORIZON_SESSIONS  # over which it is measured
    rate_shift: float = 0.0  # of the risk-free rate, continuous annual
    cost_multiple: float = 1.0
    cost_sessions: int = 0  # for which costs are multiplied
    closed_sessions: int = 0  # in which nothing can be traded; prices and values go on
    about_options: bool = False  # has no effect where no options are traded


def fall(share: float) -> Move:
    """The index opens `share` lower."""

    def move(close: FloatArray, vol: FloatArray, at: int) -> tuple[FloatArray, FloatArray]:
        factor = np.ones_like(close)
        factor[at:] = 1.0 - share
        return factor, _raised(vol, at, VOL_PER_FALL * share)

    return move


def covid(close: FloatArray, vol: FloatArray, at: int) -> tuple[FloatArray, FloatArray]:
    """The next 23 sessions are those of 2020; after them the history's own returns go on."""
    count = min(len(COVID_CLOSE) - 1, len(close) - at)
    path = close[at - 1] * COVID_CLOSE[1:] / COVID_CLOSE[0]
    risen = COVID_VOL[1:] - COVID_VOL[0]
    factor = np.ones_like(close)
    factor[at : at + count] = path[:count] / close[at : at + count]
    factor[at + count :] = factor[at + count - 1]
    moved = _raised(vol, at + count, float(risen[count - 1]))
    moved[at : at + count] = np.clip(vol[at - 1] + risen[:count], VOL_FLOOR, VOL_CEILING)
    return factor, moved


def crush(close: FloatArray, vol: FloatArray, at: int) -> tuple[FloatArray, FloatArray]:
    """Implied volatility halves; the index is unchanged."""
    moved = vol.copy()
    moved[at:] = np.maximum(0.5 * vol[at:], VOL_FLOOR)
    return np.ones_like(close), moved


def grind(close: FloatArray, vol: FloatArray, at: int) -> tuple[FloatArray, FloatArray]:
    """The index loses 20 % in a year of small moves, at a volatility that stays near 13 %."""
    count = min(YEAR_SESSIONS, len(close) - at)
    own = np.diff(np.log(close[at - 1 : at + count]))
    calm = min(1.0, 0.08 / np.sqrt(YEAR_SESSIONS) / max(float(own.std()), 1e-12))
    steps = (own - own.mean()) * calm + np.log(0.8) / YEAR_SESSIONS
    factor = np.ones_like(close)
    factor[at : at + count] = close[at - 1] * np.exp(np.cumsum(steps)) / close[at : at + count]
    factor[at + count :] = factor[at + count - 1]
    moved = vol.copy()
    moved[at : at + count] = 0.13 + (vol[at - 1] - 0.13) * _fading(count)
    return factor, moved


def gaps(close: FloatArray, vol: FloatArray, at: int) -> tuple[FloatArray, FloatArray]:
    """The index opens 5 % lower, a week later 5 % higher, and the same once more."""
    factor, moved = np.ones_like(close), vol
    for week, jump in enumerate((-0.05, 0.05, -0.05, 0.05)):
        session = at + 5 * week
        factor[session:] *= 1.0 + jump
        if jump < 0.0:
            moved = _raised(moved, session, -VOL_PER_FALL * jump)
    return factor, moved.copy()


def unchanged(close: FloatArray, vol: FloatArray, at: int) -> tuple[FloatArray, FloatArray]:
    """Prices and volatility stay as they are."""
    return np.ones_like(close), vol.copy()


def _raised(vol: FloatArray, at: int, rise: float) -> FloatArray:
    moved = vol.copy()
    higher = vol[at:] + rise * _fading(len(vol) - at)
    moved[at:] = np.minimum(higher, np.maximum(VOL_CEILING, vol[at:]))
    return moved


def _fading(count: int) -> FloatArray:
    faded: FloatArray = 0.5 ** (np.arange(count) / HALF_LIFE_SESSIONS)
    return faded


SHOCKS = (
    Shock("fall_10", "−10 %", "Index −10 % overnight", "volatility index up 20 points", fall(0.10)),
    Shock("fall_20", "−20 %", "Index −20 % overnight", "volatility index up 40 points", fall(0.20)),
    Shock("fall_35", "−35 %", "Index −35 % overnight", "volatility index up 70 points", fall(0.35)),
    Shock(
        "covid",
        "Covid",
        "Covid again",
        "−34 % in 23 sessions, volatility index up 68 points",
        covid,
    ),
    Shock(
        "vol_crush",
        "crush",
        "Volatility crush",
        "implied volatility halves at once and stays there",
        crush,
        about_options=True,
    ),
    Shock(
        "grind",
        "grind",
        "Slow grind",
        "−20 % over a year in small moves, volatility index near 13",
        grind,
        sessions=YEAR_SESSIONS,
    ),
    Shock(
        "rates_up", "rates", "Rates +300 bp", "from one day to the next", unchanged, rate_shift=0.03
    ),
    Shock(
        "costs_x10",
        "costs",
        "Trading costs × 10",
        "for 63 sessions",
        unchanged,
        cost_multiple=10.0,
        cost_sessions=HORIZON_SESSIONS,
        about_options=True,
    ),
    Shock("gaps", "gaps", "Gaps at the open", "−5, +5, −5 and +5 % overnight, a week apart", gaps),
    Shock(
        "frozen",
        "frozen",
        "Trading frozen",
        "for 5 sessions nothing can be traded; prices go on, books are valued at them, and what "
        "expires is paid out",
        unchanged,
        closed_sessions=5,
    ),
    Shock(
        "liquidity_gone",
        "liquidity",
        "Liquidity gone",
        "those gaps, the first into 5 sessions without trading, costs × 10 for 21",
        gaps,
        cost_multiple=10.0,
        cost_sessions=21,
        closed_sessions=5,
    ),
)


@dataclass(frozen=True)
class ShockedMarket:
    """Shock k strikes on path k; sessions are numbered anew from the first that is kept."""

    market: BookMarket
    window: Window
    shocks: tuple[Shock, ...]
    at: int  # the first session that a shock changes


def shocked_markets(
    setup: MarketSetup, shocks: Sequence[Shock], at: int, window: Window
) -> list[ShockedMarket]:
    """The run's market with shocks at session `at`, to be traded over a window of its sessions.

    One for each shift of the rate, which all paths of a history share. InputError where the moved
    prices or volatilities allow no market.
    """
    first = max(0, window.start - LEAD_SESSIONS)
    history: Any = setup.history
    kept = history.sessions(first, window.stop)
    at -= first
    markets = []
    for shift in dict.fromkeys(shock.rate_shift for shock in shocks):
        alike = tuple(shock for shock in shocks if shock.rate_shift == shift)
        shape = (len(alike), kept.num_sessions)
        market_closed, cost_multiple = np.zeros(shape, np.bool_), np.ones((*shape, 1))
        for path, shock in enumerate(alike):
            market_closed[path, at : at + shock.closed_sessions] = True
            cost_multiple[path, at : at + shock.cost_sessions] *= shock.cost_multiple
        built: Any = setup.settings.build(shocked_history(kept, alike, at))
        market = replace(built.with_costs(cost_multiple), market_closed=market_closed)
        begin = max(window.start - first, market.first_usable)
        markets.append(ShockedMarket(market, Window(begin, window.stop - first), alike, at))
    return markets


def shocked_history(history: History, shocks: Sequence[Shock], at: int) -> History:
    """The first path of a history with shock k at session `at` on path k; earlier rows untouched.

    All must have the same shift of the rate, which holds from the close of session `at` on.
    Assets all move alike, as their index does.
    """
    name, rate, count = f"{history.name}, shocked", history.rate.copy(), len(shocks)
    rate[at:] += shocks[0].rate_shift
    if isinstance(history, PanelHistory):
        close = history.close[0]
        returns = (close[1:] / close[:-1] - 1.0).mean(axis=-1)
        index = np.concatenate([[1.0], np.cumprod(1.0 + returns)])
        factor = np.stack([shock.move(index, np.full_like(index, 0.2), at)[0] for shock in shocks])
        return replace(history, name=name, close=close * factor[:, :, None], rate=rate)
    moves = [shock.move(history.close[0], history.implied_vol[0], at) for shock in shocks]
    factor = np.stack([factor for factor, _ in moves])
    bars = {bar: getattr(history, bar)[:1] * factor for bar in ("open", "high", "low", "close")}
    return replace(
        history,
        name=name,
        volume=np.repeat(history.volume[:1], count, axis=0),
        implied_vol=np.stack([vol for _, vol in moves]),
        rate=rate,
        extras={key: np.repeat(v[:1], count, axis=0) for key, v in history.extras.items()},
        **bars,
    )
