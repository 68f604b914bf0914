"""Checks of a whole series once it is read: what is odd gets a notice, what cannot be is refused.

Real prices jump, stop and are mistyped. Each check looks at one property and gives at most one
notice, with the place and size of its worst case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from conf.errors import InputError
from conf.types import BoolArray, DateArray, FloatArray
from envs.market.history import VOL_OBSERVED, MarketHistory, PricePaths
from envs.market.panel import PanelHistory

# Where the price of an asset ("" for an index) on a day stands: "prices.csv, line 17".
Place = Callable[[np.datetime64, str], str]

MAX_PRICE, MAX_VIX = 1e12, 200.0  # dollars and points: beyond any price, above any index

# Log moves of a day: a 3:2 split is above the first, an index's worst days are below.
_ODD_MOVE, _MAX_RISE, _MAX_FALL = 0.35, np.log(50.0), np.log(10_000.0)
_SPIKE, _SPIKE_ROWS = np.log(5.0), 3  # a move that is undone within so many rows
_DOUBLING, _MAX_DOUBLINGS = np.log(2.0), 0.1  # share of one asset's moves that prices may reach
_ODD_RANGE, _MAX_RANGE = 1.5, 5.0  # high or low over the nearer of open and close
_ROUNDING, _MAX_OUTSIDE = 1e-6, 0.2  # how far close or open may lie outside high and low
_MAX_CLOSES_OUTSIDE = 0.1  # share of the rows
_ODD_VOL = (0.03, 1.0)  # annual decimals
_ODD_RATE = 0.2
_FEW_ROWS, _MANY_ROWS = 20, 100  # of which no shares are taken, and correlations are
_MAX_STILL = 20  # moves of zero in a row
_MIN_CORRELATION = -0.4  # of a move with the next; changes of returns have -0.5
_ROWS_OF_A_HABIT = 5


def check_daily(name: str, dates: DateArray) -> None:
    """InputError where rising dates (T,) skip weekdays several times in a row: weekly, monthly."""
    skipping = _skipping(dates)
    if skipping.any():
        first = int(np.argmax(skipping))
        days = int((dates[first + 1] - dates[first]).astype(int))
        raise InputError(
            f"{name}: the rows are not daily: from {dates[first]} on they are {days} days apart",
            "Options need a row for every trading day; weekly prices suit data=panel_csv",
        )


def index_notices(history: MarketHistory, place: Place) -> tuple[str, ...]:
    """Notices about the bars of one real index; InputError for what cannot be."""
    extra = history.extras.get("adj_close")
    adjusted = None if extra is None else extra[0]
    notices = _range_notices(history, place)
    notices += _move_notices(history.dates, history.close[0][:, None], ("",), place, adjusted)
    vol = history.implied_vol[0]
    odd = (history.implied_vol_source == VOL_OBSERVED) & ((vol < _ODD_VOL[0]) | (vol > _ODD_VOL[1]))
    for session in np.flatnonzero(odd)[:1].tolist():
        day = history.dates[session]
        notices.append(
            f"{place(day, '')}: implied volatility of {day} is {vol[session]:.1%}"
            f"{_of_several(odd)}: check it"
        )
    close = history.close[0][:, None]
    return (*notices, *_habit_notices(history.name, history.dates, close, ("close",)))


def panel_notices(history: PanelHistory, place: Place) -> tuple[str, ...]:
    """Notices about the real prices of many assets; InputError for what cannot be."""
    counting = np.all(np.diff(history.close[0], axis=0) == 1.0, axis=0)
    for column in np.flatnonzero(counting & (len(history.dates) >= _FEW_ROWS))[:1].tolist():
        raise InputError(
            f"{place(history.dates[0], history.assets[column])}: {history.assets[column]} counts "
            "the rows: not prices",
            "Leave that column out",
        )
    notices = _move_notices(history.dates, history.close[0], history.assets, place, None)
    skipping = _skipping(history.dates)
    if skipping.any() and not skipping.all():
        first = int(np.argmax(skipping != skipping[0])) + _ROWS_OF_A_HABIT
        notices.append(
            f"{history.name}: the rows are not evenly spaced: the step changes near "
            f"{history.dates[first]}"
        )
    assets, close = history.assets, history.close[0]
    return (*notices, *_habit_notices(history.name, history.dates, close, assets))


def rate_notices(history: PricePaths) -> tuple[str, ...]:
    """A notice for each of `rate` and `dividend_yield` that is higher than rates are."""
    notices = []
    for name in ("rate", "dividend_yield"):
        values = np.abs(getattr(history, name, np.zeros(1)))
        if (largest := float(values.max())) > _ODD_RATE:
            day = history.dates[int(values.argmax())]
            notices.append(
                f"{name} is {largest:g} in absolute value on {day}, which means "
                f"{largest:.0%} a year (0.025 is 2.5 %)"
            )
    return tuple(notices)


def _skipping(dates: DateArray) -> BoolArray:
    """Of each row whether it and the next ones all skip weekdays; empty for a few rows."""
    steps = np.busday_count(dates[:-1], dates[1:])
    if len(steps) < _ROWS_OF_A_HABIT:
        return np.zeros(0, bool)
    windows = np.lib.stride_tricks.sliding_window_view(steps, _ROWS_OF_A_HABIT)
    return np.asarray(windows.min(axis=1) > 1)


def _of_several(odd: BoolArray) -> str:
    return f", the first of {count:,} such rows" if (count := int(odd.sum())) > 1 else ""


def _range_notices(history: MarketHistory, place: Place) -> list[str]:
    """Order and width of low, open, close and high."""
    high, low = history.high[0], history.low[0]
    opening, close = history.open[0], history.close[0]
    notices = []
    outside = {
        name: np.maximum(values / high, low / values) - 1.0
        for name, values in (("close", close), ("open", opening))
    }
    for name, excess in outside.items():
        price, odd = getattr(history, name)[0], excess > _ROUNDING
        for row in np.flatnonzero(excess > _MAX_OUTSIDE)[:1].tolist():
            raise InputError(
                f"{_at(history, row, place)}: {name} {price[row]:g} lies far outside low "
                f"{low[row]:g} to high {high[row]:g}",
                "Correct or remove that row, or see whether columns are swapped",
            )
        if name == "close" and len(odd) >= _FEW_ROWS and odd.mean() > _MAX_CLOSES_OUTSIDE:
            row = int(np.argmax(odd))
            raise InputError(
                f"{_at(history, row, place)}: close {price[row]:g} lies outside low {low[row]:g} "
                f"to high {high[row]:g}, the first of {odd.sum():,} such rows",
                "Give open, high, low and close of one kind: all adjusted or none",
            )
    odd = (outside["close"] > _ROUNDING) | (outside["open"] > _ROUNDING)
    for row in np.flatnonzero(odd)[:1].tolist():
        notices.append(
            f"{_at(history, row, place)}: open {opening[row]:g} or close {close[row]:g} lies "
            f"outside low {low[row]:g} to high {high[row]:g}{_of_several(odd)}"
        )
    width = np.maximum(high / np.maximum(opening, close), np.minimum(opening, close) / low)
    row = int(np.argmax(width))
    if width[row] > _ODD_RANGE:
        text = (
            f"{_at(history, row, place)}: low {low[row]:g} and high {high[row]:g} are far from "
            f"open {opening[row]:g} and close {close[row]:g}"
        )
        if width[row] > _MAX_RANGE:
            raise InputError(text, "Correct or remove that row")
        notices.append(text)
    return notices


def _at(history: MarketHistory, row: int, place: Place) -> str:
    return place(history.dates[row], "")


def _move_notices(
    dates: DateArray,
    close: FloatArray,  # (T, A)
    assets: Sequence[str],
    place: Place,
    adjusted: FloatArray | None,  # (T,) the index's adjusted closes
) -> list[str]:
    """Size of the moves from one row to the next; longer steps may move further."""
    moves = np.diff(np.log(close), axis=0)

    def described(row: int, column: int) -> str:
        """The move into that row of moves, with its place."""
        name, day = assets[column] or "close", dates[row + 1]
        before, after = close[row, column], close[row + 1, column]
        at, size = place(day, assets[column]), _percent(moves[row, column])
        return f"{at}: {name} moves by {size} on {day} ({before:g} to {after:g})"

    _refuse_impossible_moves(dates, moves, described)
    weekdays = np.maximum(np.busday_count(dates[:-1], dates[1:]), 1)
    odd = np.abs(moves) > _ODD_MOVE * np.sqrt(weekdays)[:, None]
    if not odd.any():
        return []
    row, column = divmod(int(np.argmax(np.where(odd, np.abs(moves), 0.0))), moves.shape[1])
    text = described(row, column)
    if (count := int(odd.sum())) > 1:
        text += f", the largest of {count:,} such moves"
    text += ": splits have to be in the prices"
    if adjusted is not None and adjusted.min() > 0:
        change = _percent(np.log(adjusted[row + 1] / adjusted[row]))
        text += f"; adj_close, which is in the file and not used, moves by {change} that day"
    return [text]


def _refuse_impossible_moves(
    dates: DateArray, moves: FloatArray, described: Callable[[int, int], str]
) -> None:
    """InputError for log moves (T - 1, A) that no price makes."""
    doublings = np.abs(moves) > _DOUBLING
    often = doublings.mean(axis=0) > _MAX_DOUBLINGS if len(moves) >= _FEW_ROWS else np.zeros(0)
    for column in np.flatnonzero(often)[:1].tolist():
        row, count = int(np.argmax(doublings[:, column])), int(doublings[:, column].sum())
        raise InputError(
            f"{described(row, column)}, the first of {count:,} such moves: not prices",
            "Give a column of prices: neither volumes nor returns",
        )
    remedy = "Correct or remove that price; splits have to be in the prices"
    log_price = np.cumsum(moves, axis=0)
    for rows in range(1, min(_SPIKE_ROWS, len(moves) - 1) + 1):
        first = moves[:-rows]
        left = first + log_price[rows:] - log_price[:-rows]  # of the move after so many rows
        spikes = (np.abs(first) > _SPIKE) & (np.abs(left) < 0.25 * np.abs(first))
        for row, column in np.argwhere(spikes)[:1].tolist():
            back = dates[row + 1 + rows]
            raise InputError(f"{described(row, column)} and is back on {back}", remedy)
    for row, column in np.argwhere((moves > _MAX_RISE) | (moves < -_MAX_FALL))[:1].tolist():
        raise InputError(f"{described(row, column)}, which no price does in a day", remedy)


def _percent(log_move: float) -> str:
    return f"{100 * np.expm1(log_move):+,.1f} %"


def _habit_notices(
    name: str, dates: DateArray, close: FloatArray, assets: Sequence[str]
) -> list[str]:
    """Rows on weekends unless the market never closes, prices that stand still, and returns."""
    notices = _weekend_notices(name, dates, close)
    moves = np.diff(np.log(close), axis=0)
    still, undone = [], []
    for column, asset in enumerate(assets):
        steps = np.concatenate([[-1], np.flatnonzero(moves[:, column]), [len(moves)]])
        rows = np.diff(steps) - 1
        if rows.max() >= _MAX_STILL:
            first = dates[steps[int(np.argmax(rows))] + 1]
            still.append(f"{asset} stands still for {rows.max():,} rows from {first} on")
        earlier, later = moves[:-1, column], moves[1:, column]
        if len(moves) < _MANY_ROWS or min(np.ptp(earlier), np.ptp(later)) == 0:
            continue
        if np.corrcoef(earlier, later)[0, 1] < _MIN_CORRELATION:
            undone.append(f"{asset} undoes each move with the next: are these prices?")
    for cases in filter(None, (still, undone)):
        others = f" ({len(cases) - 1:,} others do so)" if len(cases) > 1 else ""
        notices.append(f"{name}: {cases[0]}{others}")
    return notices


def _weekend_notices(name: str, dates: DateArray, close: FloatArray) -> list[str]:
    weekday = (dates.astype(int) + 3) % 7  # 0 is Monday
    count = np.bincount(weekday, minlength=7)
    on_weekend = weekday >= 5
    total = int(on_weekend.sum())
    if total >= 2 * _ROWS_OF_A_HABIT and not np.diff(close, axis=0)[on_weekend[1:]].any():
        return [f"{name}: {total:,} rows on weekends repeat the price before: leave them out"]
    if not total or count.min() * 14 > len(dates):
        return []
    first = dates[int(np.argmax(on_weekend))]
    text = f"{name}: {total:,} rows lie on a Saturday or Sunday, the first on {first}"
    if len(dates) >= _FEW_ROWS and count[[0, 4]].min() * 50 < len(dates):
        missing = "Monday" if count[0] < count[4] else "Friday"
        text += f", and hardly any on a {missing}: midnight in the east is the day before in UTC"
    return [text]
