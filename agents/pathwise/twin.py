"""A torch twin of the ledger: what B books earn over L days, differentiable in what they hold.

Between two closes a book of quantities q earns in excess of cash

    sum(q x (aged - (1 + cash return) x mark)) - (1 + cash return) x costs - closing costs

dollars, which is linear in q but for the costs. Everything is read from the rows of the market that
the kernel reads (`envs.core.kernel`), and tests hold the two together.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from conf.types import BoolArray, FloatArray, IntArray, ObsArray
from envs.core.batch import Window
from envs.core.episode_statistics import ROLLING_SESSIONS
from envs.core.features import Feature
from envs.core.market import BookMarket, BookOptions, as_rows
from envs.core.reward import MIN_RETURNS_FOR_SHARPE, SHARPE_STD_FLOOR

# Where returns deviate less than this a day, the slope of a Sharpe ratio leads nowhere: not taken.
_LEAST_DEVIATION = 1e-4
_LEAST_WORTH = 1e-3  # of the initial equity: returns are measured on no less


@dataclass(frozen=True)
class Days:
    """The market of B stretches, over L days or on one of them; M instruments, dollars a unit."""

    mark: Tensor  # (L, B, M) at the close that is traded at
    aged: Tensor  # (L, B, M) of what is held, at the next close
    stays: Tensor  # (L, B, M) whether what is held lives on after the next close
    unit_cost: Tensor  # (L, B, M) of trading at `mark`
    closing_cost: Tensor  # (L, B, M) of closing at the next close, where that is a trade
    cash: Tensor  # (L, B) what a dollar of cash grows to by the next close
    spot: Tensor  # (L, B) of the index
    closed: Tensor  # (L, B) whether nothing can be traded
    observed: Tensor  # (L, B, D) observations but for the portfolio's entries, float32

    def __len__(self) -> int:
        return len(self.mark)

    def day(self, index: int) -> Self:
        """One of the days: the same without the first axis."""
        own = {field.name: getattr(self, field.name)[index] for field in fields(self)}
        return type(self)(**own)

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The stretches of several markets side by side."""
        names = [field.name for field in fields(cls)]
        return cls(**{n: torch.cat([getattr(part, n) for part in parts], dim=1) for n in names})


class Books(NamedTuple):
    """B books at a close, before they trade."""

    quantity: Tensor  # (B, M) units
    equity: Tensor  # (B,) dollars
    cash: Tensor  # (B,) dollars
    peak: Tensor  # (B,) dollars
    excess: tuple[Tensor, ...] = ()  # returns so far, (B,) each


class Earned(NamedTuple):
    """What B books earned over L days."""

    excess: Tensor  # (L, B) return after costs less that of cash
    equity: Tensor  # (L, B) dollars at the close after each day
    cost: Tensor  # (L, B) costs over the equity before; carries no gradient


class Twin(ABC):
    """The books of one environment on one market; a subclass says how they trade and what they see.

    Trading costs `cost_multiple` times what it costs in the environment. A book holds nothing as
    long as it is worth less than what counts as ruin there.
    """

    def __init__(
        self, market: BookMarket, options: BookOptions, cost_multiple: float = 1.0
    ) -> None:
        self.market, self.options, self.cost_multiple = market, options, cost_multiple
        self.initial = options.initial_equity_usd
        self.ruin = options.episode.ruin_share * self.initial
        self.num_paths = len(market.mark)
        # Entries (D,) of the observation that depend on the book.
        self.own: BoolArray = np.array([item.block == "portfolio" for item in market.features])
        self._annual = math.sqrt(market.history.sessions_per_year)
        self._mark, self._aged = as_rows(market.mark), as_rows(market.aged)

    # --- what a subclass has to say --------------------------------------------------------------

    @property
    @abstractmethod
    def rules(self) -> Any:
        """The settings of trading that stretches of several markets must share."""

    @abstractmethod
    def _costs(self, now: IntArray, mark: FloatArray) -> tuple[FloatArray, FloatArray | None]:
        """Of trading a unit at rows `now` (L, B), and of closing one at the rows after them."""

    @abstractmethod
    def _leaves(self, session: IntArray) -> BoolArray:
        """Whether a slot is emptied at these sessions (L, B); broadcasts to (L, B, M)."""

    @abstractmethod
    def _spot(self, now: IntArray) -> FloatArray:
        """Of the index at rows `now` (L, B)."""

    @abstractmethod
    def _observed(self, now: IntArray) -> ObsArray:
        """Observations (L, B, D) at rows `now`, episodes beginning with the first of them."""

    @abstractmethod
    def wanted(self, action: Tensor, days: Days) -> Tensor:
        """What actions (..., A) ask for: units (..., M) for a dollar of equity, before any band."""

    @abstractmethod
    def trade(self, wanted: Tensor, books: Books, day: Days) -> tuple[Tensor, Tensor]:
        """Quantities (B, M) after the trade, and what it costs (B,)."""

    @abstractmethod
    def _own_features(self, books: Books, day: Days) -> Tensor:
        """The portfolio's entries of the observation (B, own), scaled and cut, in order."""

    # --- the same for all, unless a subclass says otherwise ---------------------------------------

    @property
    def reported(self) -> tuple[float, str]:
        """What an objective, the mean of a session, is multiplied by to be read, and its unit."""
        return self.market.history.sessions_per_year, "a year"

    def starts(self, window: Window, length: int) -> IntArray:
        """Sessions at which stretches of `length` days within a window can begin."""
        return np.arange(window.start, window.stop - length)

    def days(
        self,
        path: IntArray,
        session: IntArray,
        length: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> Days:
        """`length` days of B stretches that begin at these paths and sessions (B,)."""
        sessions = session + np.arange(length)[:, None]
        now = path * self.market.history.num_sessions + sessions
        mark = self._mark.take(now, axis=0)
        unit_cost, closing_cost = self._costs(now, mark)
        closed = self.market.market_closed

        def tensor(values: NDArray[Any], kind: torch.dtype = dtype) -> Tensor:
            full = np.broadcast_to(values, mark.shape) if values.ndim == 3 else values
            return torch.tensor(full, dtype=kind, device=device)

        nothing = np.zeros((1, 1, 1))
        return Days(
            mark=tensor(mark),
            aged=tensor(self._aged.take(now + 1, axis=0)),
            stays=tensor(~self._leaves(sessions + 1)),
            unit_cost=self.cost_multiple * tensor(unit_cost),
            closing_cost=self.cost_multiple
            * tensor(nothing if closing_cost is None else closing_cost),
            cash=1.0 + tensor(self.market.cash_return.take(sessions)),
            spot=tensor(self._spot(now)),
            closed=tensor(
                np.zeros(now.shape, np.bool_) if closed is None else as_rows(closed).take(now),
                torch.bool,
            ),
            observed=torch.from_numpy(self._observed(now)).to(device),
        )

    def open(self, days: Days) -> Books:
        """Books with nothing but cash."""
        empty = torch.zeros_like(days.mark[0])
        start = torch.full_like(empty[:, 0], self.initial)
        return Books(empty, start, start, start)

    def observe(self, books: Books, day: Days) -> Tensor:
        """What the books see, (B, D), float32."""
        seen = day.observed.clone()
        seen[:, torch.from_numpy(self.own).to(seen.device)] = self._own_features(books, day).to(
            seen.dtype
        )
        return seen

    def advance(self, wanted: Tensor, books: Books, day: Days) -> tuple[Books, Tensor, Tensor]:
        """Trade and go to the next close: the books there, excess return and cost share (B,)."""
        quantity, cost = self.trade(wanted, books, day)
        flow = ((quantity - books.quantity) * day.mark).sum(dim=-1)
        value = quantity * day.aged
        closing = (quantity.abs() * day.closing_cost).sum(dim=-1)
        gain = (quantity * (day.aged - day.cash[:, None] * day.mark)).sum(dim=-1)
        earned = gain - day.cash * cost - closing
        equity = books.equity * day.cash + earned
        worth = self.worth(books.equity)
        excess, cost_share = earned / worth, ((cost + closing) / worth).detach()
        cash = (books.cash - flow - cost) * day.cash - closing + (value * (1 - day.stays)).sum(-1)
        after = Books(
            quantity * day.stays,
            equity,
            cash,
            torch.maximum(books.peak, equity),
            (*books.excess, excess)[-ROLLING_SESSIONS:],
        )
        return after, excess, cost_share

    def steer(self, days: Days, wants: Callable[[int, Books, Days], Tensor]) -> Earned:
        """Day by day, from new books on, hold what is wanted (B, M) of each day and its books."""
        books, earned = self.open(days), []
        for t in range(len(days)):
            day = days.day(t)
            books, excess, cost = self.advance(wants(t, books, day), books, day)
            earned.append((excess, books.equity, cost))
        return Earned(*(torch.stack(column) for column in zip(*earned, strict=True)))

    def earn(self, wanted: Tensor, days: Days) -> Earned:
        """Hold what is wanted (L, B, M) from new books on."""
        each = wanted.unbind(0)  # the gradient of wanted[t] would be as long as all days, every day
        return self.steer(days, lambda t, _books, _day: each[t])

    def worth(self, equity: Tensor) -> Tensor:
        """What returns and shares are measured on, (B,)."""
        return equity.clamp_min(_LEAST_WORTH * self.initial)

    def budget(self, equity: Tensor) -> Tensor:
        """The equity (..., 1) that can be invested: none where the book is ruined."""
        return torch.where(equity >= self.ruin, equity.clamp_min(0.0), 0.0)[..., None]

    def rolling_sharpe(self, books: Books) -> Tensor:
        """Annual, of the last 60 excess returns, (B,); 0 in the first five sessions."""
        count = len(books.excess)
        if count <= MIN_RETURNS_FOR_SHARPE:
            return torch.zeros_like(books.equity)
        recent = torch.stack(books.excess)
        variance = recent.var(dim=0)
        steady = variance < _LEAST_DEVIATION**2
        deviation = torch.where(steady, 1.0, variance).sqrt()
        exact = variance.detach().sqrt()
        mean = recent.mean(dim=0)
        ratio = torch.where(
            steady,
            mean.detach() / (exact + SHARPE_STD_FLOOR),
            mean / (deviation + SHARPE_STD_FLOOR),
        )
        return self._annual * ratio


def scaled(raw: Tensor, features: Sequence[Feature]) -> Tensor:
    """(raw - center) / scale, cut to each feature's range, as `envs.core.features.Scaling` does."""
    center, scale, low, high = (
        torch.tensor([getattr(item, name) for item in features]).to(raw)
        for name in ("center", "scale", "low", "high")
    )
    return torch.minimum(torch.maximum((raw - center) / scale, low), high)
