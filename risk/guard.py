"""The guard over a book's losses: ACTIVE, REDUCING, HALTED.

After each close it looks at the account and says what the next trade may be:

    ACTIVE     anything, within the limits
    REDUCING   positions may shrink, nothing may be opened
    HALTED     everything is closed and stays so until a person calls `reset`

A loss of 3 % in a day leads to REDUCING for the next trade, one of 5 % closes the book at it, one
of 20 % from the peak halts. A book more volatile than its target is scaled down; a beta to the
index above its bound closes it. NaN, infinity and an equity of 0 or less halt.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from conf.errors import InputError
from conf.settings import settings
from conf.types import BoolArray, FloatArray
from risk.book import reduced
from risk.metrics import SESSIONS_PER_YEAR, slope

Fraction = Annotated[float, Field(gt=0.0, le=1.0)] | None
Window = Annotated[int, Field(ge=2, le=2520)]


class GuardState(IntEnum):
    """What a book may do."""

    ACTIVE = 0
    REDUCING = 1
    HALTED = 2


@settings
class GuardSettings:
    """Triggers as shares of equity; null switches one off."""

    reduce_at_daily_loss: Fraction = 0.03
    close_at_daily_loss: Fraction = 0.05
    halt_at_drawdown: Fraction = 0.20
    max_volatility: Annotated[float, Field(gt=0.0)] | None = 0.30  # annual; scaled down above
    volatility_window: Window = 20  # sessions
    max_beta: Annotated[float, Field(gt=0.0)] | None = 0.50  # to the index; closed above
    beta_window: Window = 60  # sessions
    cooldown_sessions: Annotated[int, Field(ge=1, le=252)] = 1  # that REDUCING lasts


# Why a book is restricted; later ones outrank earlier ones.
REASONS = ("", "day_loss", "beta", "day_crash", "drawdown", "not_finite", "killed")


class Restrictions(NamedTuple):
    """What the guard allows in the next trade of N books."""

    state: NDArray[np.int8]  # (N,) a GuardState
    close: BoolArray  # (N,) everything has to go
    scale: FloatArray  # (N,) 0..1, by which requested positions are multiplied
    reason: NDArray[np.str_]  # (N,) the trigger at the last close, "" where there was none

    @property
    def may_open(self) -> BoolArray:
        """Whether positions may do more than shrink, (N,)."""
        return np.asarray(self.state == GuardState.ACTIVE)

    def scaled(self, requested: FloatArray) -> FloatArray:
        """The requested quantities (N, M), scaled or closed."""
        if not self.close.any() and (self.scale == 1.0).all():
            return requested
        return np.where(self.close[:, None], 0.0, requested * self.scale[:, None])

    def applied(self, requested: FloatArray, held: FloatArray) -> FloatArray:
        """What is left of the requested quantities (N, M), position by position.

        Closing one leg of a hedge passes here; `risk.limits` keeps hedges together.
        """
        scaled = self.scaled(requested)
        if self.may_open.all():
            return scaled
        return np.where(self.may_open[:, None], scaled, reduced(held, scaled))


class Guard:
    """Watches N books. Call `observe` after each close; `restrictions` hold for the next trade.

    `kill` and `reset` change them at once.
    """

    FIELDS = (
        *("state", "close", "scale", "reason", "peak", "equity", "cooldown"),
        *("returns", "index_returns", "sessions"),
    )

    def __init__(
        self,
        num_books: int,
        options: GuardSettings | None = None,
        sessions_per_year: float = SESSIONS_PER_YEAR,
    ) -> None:
        self.options = options or GuardSettings()
        self._annual = math.sqrt(sessions_per_year)
        length = max(self.options.volatility_window, self.options.beta_window)
        self.state: NDArray[np.int8] = np.zeros(num_books, np.int8)
        self.close: BoolArray = np.zeros(num_books, np.bool_)  # by what happened at the last close
        self.scale: FloatArray = np.ones(num_books)
        self.reason: NDArray[np.int8] = np.zeros(num_books, np.int8)  # number in REASONS
        self.peak: FloatArray = np.zeros(num_books)
        self.equity: FloatArray = np.zeros(num_books)
        self.cooldown: FloatArray = np.zeros(num_books)  # sessions of REDUCING left
        self.returns: FloatArray = np.zeros((num_books, length))  # the newest last
        self.index_returns: FloatArray = np.zeros((num_books, length))
        self.sessions: FloatArray = np.zeros(num_books)

    def open(self, books: BoolArray, equity: float) -> None:
        """Begin to watch the masked books (N,) afresh; a halted one is released too."""
        for name in self.FIELDS:
            getattr(self, name)[books] = 0
        self.scale[books] = 1.0
        self.peak[books] = equity
        self.equity[books] = equity

    def reset(self, books: BoolArray) -> None:
        """Release halted books, as a person decided: the drawdown is counted from here."""
        self.state[books] = GuardState.ACTIVE
        self.close[books] = False
        self.reason[books] = 0
        self.cooldown[books] = 0.0
        self.peak[books] = self.equity[books]

    def kill(self, books: BoolArray, reason: str = "killed") -> None:
        """The kill switch: halt the masked books now."""
        self.state[books] = GuardState.HALTED
        self.reason[books] = REASONS.index(reason)

    @property
    def restrictions(self) -> Restrictions:
        """What holds for the next trade."""
        close = self.close | (self.state == GuardState.HALTED)
        reason = np.array(REASONS)[self.reason]
        return Restrictions(self.state.copy(), close, self.scale.copy(), reason)

    def observe(self, equity: FloatArray, index_return: FloatArray) -> Restrictions:
        """Take in a close: equity (N,) dollars and the index's return (N,) since the last one."""
        known = np.isfinite(equity) & (equity > 0.0)
        now = np.where(known, equity, self.equity)
        opened = self.equity > 0.0
        returned = np.where(opened, now / np.where(opened, self.equity, 1.0) - 1.0, 0.0)
        sound = known & np.isfinite(index_return)
        self.returns = appended(self.returns, returned)
        self.index_returns = appended(self.index_returns, np.where(sound, index_return, 0.0))
        self.sessions = self.sessions + 1.0
        self.equity = now
        self.peak = np.maximum(self.peak, now)

        options = self.options
        hits = {
            "day_loss": _at_least(-returned, options.reduce_at_daily_loss),
            "beta": self._beta_breached(),
            "day_crash": _at_least(-returned, options.close_at_daily_loss),
            "drawdown": _at_least(1.0 - now / self.peak, options.halt_at_drawdown),
            "not_finite": ~sound,
        }
        self.reason = np.zeros(len(now), np.int8)
        for reason, hit in hits.items():
            self.reason[hit] = REASONS.index(reason)
        loss = hits["day_loss"] | hits["day_crash"]
        reducing = loss | hits["beta"] | (self.cooldown > 0.0)
        halted = hits["drawdown"] | hits["not_finite"] | (self.state == GuardState.HALTED)
        state = np.where(halted, GuardState.HALTED, np.where(reducing, GuardState.REDUCING, 0))
        self.state = state.astype(np.int8)
        self.close = hits["beta"] | hits["day_crash"]
        shorter = np.maximum(self.cooldown - 1.0, 0.0)
        self.cooldown = np.where(loss, options.cooldown_sessions - 1.0, shorter)
        self.scale = self._scale()
        return self.restrictions

    def _scale(self) -> FloatArray:
        """Target over realised volatility, at most 1; 1 until the window is full."""
        options, window = self.options, self.options.volatility_window
        if options.max_volatility is None:
            return np.ones(len(self.state))
        volatility = self.returns[:, -window:].std(axis=-1, ddof=1) * self._annual
        too_much = (self.sessions >= window) & (volatility > options.max_volatility)
        return np.where(too_much, options.max_volatility / np.where(too_much, volatility, 1.0), 1.0)

    def _beta_breached(self) -> BoolArray:
        options, window = self.options, self.options.beta_window
        if options.max_beta is None or self.sessions.max() < window:
            return np.zeros(len(self.state), np.bool_)
        beta = slope(self.returns[:, -window:], self.index_returns[:, -window:])
        return np.asarray((self.sessions >= window) & (beta > options.max_beta))  # NaN is not

    def get_state(self) -> dict[str, Any]:
        """Every field as an array of its own."""
        return {name: getattr(self, name).copy() for name in self.FIELDS}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_state` gave; InputError where the number of books differs."""
        for name in self.FIELDS:
            setattr(self, name, restored("guard", name, state, getattr(self, name)))


def restored(part: str, name: str, state: dict[str, Any], current: NDArray[Any]) -> NDArray[Any]:
    """The array that replaces `current`; InputError where `state` lacks it or its shape differs."""
    shape = np.shape(state[name]) if name in state else None
    if shape != current.shape:
        raise InputError(
            f"saved state of the {part}: {name} has shape {shape}, {current.shape} is needed",
            "Restore it for the same number of books and the same windows",
        )
    return np.array(state[name], dtype=current.dtype)


def appended(series: FloatArray, newest: FloatArray) -> FloatArray:
    """Series (N, T) without its first column and with `newest` (N,) as its last."""
    return np.concatenate([series[:, 1:], newest[:, None]], axis=1)


def _at_least(loss: FloatArray, trigger: float | None) -> BoolArray:
    if trigger is None:
        return np.zeros(len(loss), np.bool_)
    # A loss of exactly the trigger counts although its arithmetic may end a bit below.
    return loss >= trigger - 1e-12
