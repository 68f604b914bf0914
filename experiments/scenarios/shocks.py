"""The crises that were, and the shocks that can be put into any history at any date.

A shock moves prices and the volatility index from a session on and leaves everything else to the
code that always does it: the surface, the tape, costs and accounts are built anew from the moved
history. Where the index falls, the volatility index rises by two points for every per cent, as it
did in the spring of 2020 (34 % and 68 points), to a hundred at most, and what it rose by halves
every 21 sessions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from conf.types import FloatArray
from experiments.evaluation.regimes import Period, period

VOL_PER_FALL = 2.0  # rise of implied volatility for a fall of 1; both decimals
VOL_CEILING = 1.0  # annual, decimal
VOL_FLOOR = 0.05
HALF_LIFE_SESSIONS = 21.0
HORIZON_SESSIONS = 63  # over which a shock is measured
YEAR_SESSIONS = 252

# Names are short: they stand under bars.
CRISES = (
    period("Dot-com", "2000-03-27", "2002-10-09"),
    period("2008-09", "2008-09-02", "2009-03-09"),
    period("May 2010", "2010-05-03", "2010-05-28"),
    period("Aug 2011", "2011-07-25", "2011-10-03"),
    period("Aug 2015", "2015-08-18", "2015-09-30"),
    period("Feb 2018", "2018-01-29", "2018-02-28"),
    period("Q4 2018", "2018-10-01", "2018-12-31"),
    period("Covid", "2020-02-20", "2020-03-23"),
    period("2022", "2022-01-04", "2022-10-12"),
)

CRISIS_TITLES = {
    "Dot-com": "Dot-com crash",
    "2008-09": "Financial crisis",
    "May 2010": "Flash crash of May 2010",
    "Aug 2011": "US downgrade, August 2011",
    "Aug 2015": "China, August 2015",
    "Feb 2018": "Volatility of February 2018",
    "Q4 2018": "Fourth quarter of 2018",
    "Covid": "Covid",
    "2022": "Inflation, 2022",
}

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

# (close (T,), implied volatility (T,), first session) -> what the closes from there on are
# multiplied by, (T,), and the implied volatility (T,). Nothing before the session changes.
Move = Callable[[FloatArray, FloatArray, int], tuple[FloatArray, FloatArray]]


@dataclass(frozen=True)
class Shock:
    """Something that may happen at any close."""

    name: str
    label: str  # short, under a bar
    title: str
    description: str
    move: Move
    sessions: int = HORIZON_SESSIONS  # over which it is measured
    rate_shift: float = 0.0  # of the risk-free rate, continuous annual
    cost_multiple: float = 1.0
    cost_sessions: int = 0  # that trading costs so much
    closed_sessions: int = 0  # in which nothing can be traded; prices and values go on
    about_options: bool = False  # means nothing where no options are traded


def fall(share: float) -> Move:
    """The index opens `share` lower."""

    def move(close: FloatArray, vol: FloatArray, at: int) -> tuple[FloatArray, FloatArray]:
        factor = np.ones_like(close)
        factor[at:] = 1.0 - share
        return factor, _raised(vol, at, VOL_PER_FALL * share)

    return move


def covid(close: FloatArray, vol: FloatArray, at: int) -> tuple[FloatArray, FloatArray]:
    """The 23 sessions of 2020 in the place of the next 23; from there on history as it was."""
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
    """Implied volatility is half of what it was; the index goes its own way."""
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
        then = at + 5 * week
        factor[then:] *= 1.0 + jump
        if jump < 0.0:
            moved = _raised(moved, then, -VOL_PER_FALL * jump)
    return factor, moved.copy()


def nothing(close: FloatArray, vol: FloatArray, at: int) -> tuple[FloatArray, FloatArray]:
    """Prices and volatility are what they were."""
    return np.ones_like(close), vol.copy()


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
        "rates_up", "rates", "Rates +300 bp", "from one day to the next", nothing, rate_shift=0.03
    ),
    Shock(
        "costs_x10",
        "costs",
        "Trading costs × 10",
        "for 63 sessions",
        nothing,
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
        nothing,
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


def crises_within(first: np.datetime64, last: np.datetime64) -> tuple[Period, ...]:
    """The crises that lie wholly behind the close `first` and not behind `last`."""
    return tuple(c for c in CRISES if first < c.first and c.last <= last)


def _raised(vol: FloatArray, at: int, rise: float) -> FloatArray:
    moved = vol.copy()
    higher = vol[at:] + rise * _fading(len(vol) - at)
    moved[at:] = np.minimum(higher, np.maximum(VOL_CEILING, vol[at:]))
    return moved


def _fading(count: int) -> FloatArray:
    faded: FloatArray = 0.5 ** (np.arange(count) / HALF_LIFE_SESSIONS)
    return faded
