"""What there is to see of an account: read from its events and a replay of its book, once.

Checks, pages and metrics all draw on the one `AccountView`. Reading changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from conf.types import DateArray, FloatArray
from envs.core.batch import StepRecord, Window
from envs.core.kernel import BookKernel
from envs.core.market import BookMarket, as_rows
from envs.hedging.market import HedgingMarket
from envs.option_portfolio.market import OptionMarket
from envs.option_portfolio.risk_view import scan_market
from experiments.accounts.account import (
    ALERT,
    CLOSED,
    DECISION,
    ENDED,
    EXECUTED,
    ORDER,
    Account,
    Day,
    executed,
    settled,
)
from experiments.accounts.events import Event, decoded
from experiments.accounts.halts import halted
from experiments.accounts.policies import appointed
from experiments.accounts.verification import backtest_of
from experiments.brokers.orders import symbols_at
from risk import metrics
from risk.book import Book
from risk.bounds import usage_of
from risk.guard import REASONS, GuardState
from risk.overlay import OVERLAY_RULES, RiskOverlay, RiskSettings

ORDER_SESSIONS = 5  # of which orders are shown
_YEAR = 253  # closes of a year of index returns
_NOTHING = 1e-9  # units that are none
NO_GUARD, MODEL = "no risk module", "model"  # a guard's state; the end of a trade by the kernel


@dataclass(frozen=True)
class Position:
    """A position after the newest trade; Greeks of the whole position in dollars."""

    symbol: str
    quantity: float  # units
    price_usd: float
    value_usd: float
    delta_usd: float  # q x delta x S
    gamma_usd: float  # change of that for a 1 % move
    vega_usd: float  # a volatility point


@dataclass(frozen=True)
class Use:
    """How much of a limit, or of a circuit breaker, is used: both as decimal shares."""

    name: str
    used: float
    limit: float

    @property
    def share(self) -> float:
        """Of the limit; above 1 it is broken. A limit of 0 is broken by anything."""
        if self.limit > 0.0:
            return max(self.used, 0.0) / self.limit
        return 0.0 if self.used <= 0.0 else float("inf")


@dataclass(frozen=True)
class SentOrder:
    """An order of the last sessions; of a book without a broker, what the kernel traded."""

    session: str
    symbol: str
    quantity: float  # units, negative where sold
    done: float  # units of it
    price_usd: float  # a unit, mean of its executions; NaN where nothing was done
    end: str  # filled, cancelled, rejected, ...; "open" where that is not known


@dataclass(frozen=True)
class AccountView:
    """An account over its n sessions. Money in dollars, at each close before its trades."""

    name: str
    about: Mapping[str, Any]  # the event that opened it
    initial_usd: float
    sessions_per_year: float
    dates: DateArray  # (n,)
    equity: FloatArray  # (n,)
    backtest: FloatArray  # (n,) the same sessions decided and traded at each close, by the kernel
    risk_free: FloatArray  # (n - 1,)
    index_return: FloatArray  # (n - 1,)
    index_year: FloatArray  # (<= 252,) returns of the index up to the newest close
    exposures: Mapping[str, FloatArray]  # (n - 1,) of the book held into each close
    traded: FloatArray  # (n,)
    cost: FloatArray  # (n,)
    planned_cost: float  # of the newest decision; NaN before one
    equity_after: float  # after the newest trade
    cash: float
    positions: tuple[Position, ...]
    greeks: Mapping[str, float]  # of the whole book
    scan_loss: float  # worst loss in the margin scan over equity; NaN without options
    limits: tuple[Use, ...]
    breakers: tuple[Use, ...]
    guard: str  # state of the risk module's guard, NO_GUARD without one
    guard_reason: str
    rules_bound: tuple[str, ...]  # at the newest decision
    held_back: tuple[str, ...]  # why nothing was opened there
    halt: Mapping[str, Any] | None  # the event that halted it
    decided: tuple[str, ...]  # sessions that were decided and closed
    missed: int  # sessions that were not
    orders: tuple[SentOrder, ...]  # newest first
    actions: FloatArray  # (decisions, A)
    alerts: tuple[Mapping[str, str], ...]  # session, kind, text; newest first
    deciding: Mapping[str, float]  # policy -> share
    trained_until: str | None  # last day of the training years
    retrained: str | None  # session up to which the policy of most capital was retrained, if it was

    @property
    def session(self) -> str:
        """The newest session."""
        return str(self.dates[-1])

    @property
    def returns(self) -> FloatArray:
        """From close to close, (n - 1,)."""
        return self.equity[1:] / self.equity[:-1] - 1.0

    @property
    def day_pnl(self) -> float:
        """From the close before to this one, before today's trades; 0 on the first session."""
        return float(self.equity[-1] - self.equity[-2]) if len(self.equity) > 1 else 0.0

    @property
    def drift(self) -> float:
        """Equity less that of the backtest."""
        return float(self.equity[-1] - self.backtest[-1])

    @property
    def drift_share(self) -> float:
        """The same over equity."""
        return self.drift / float(self.equity[-1])

    @property
    def drawdown(self) -> float:
        """Loss from the peak as a share of it."""
        peak = max(self.initial_usd, float(self.equity.max()))
        return 1.0 - float(self.equity[-1]) / peak


def read_account(account: Account) -> AccountView:
    """Take a fresh kernel through all sessions and read everything off."""
    kernel, _, market = account.kernel_at_opening()
    days, store, last = account.days(), account.store, market.history.num_sessions - 1
    played = _Played([], [], [], [], [])
    for day in days:
        before = kernel.risk_book() if not isinstance(market, HedgingMarket) else None
        played.equity.append(float(kernel.ledger.equity[0]))
        recent, held = kernel.ledger, kernel.ledger.quantity
        record = executed(kernel, day)
        played.traded.append(float(record.traded[0]))
        played.costs.append(float(recent.costs[0]))
        if len(days) - len(played.equity) < ORDER_SESSIONS and day.executions is None:
            played.orders[:0] = _model_trades(account, market, day, held, record)
        if day is not days[-1]:
            settled(kernel, record, day)
            played.exposures.append({k: float(v[0]) for k, v in kernel.exposures().items()})
    n, quantity, options = len(days), kernel.ledger.quantity, account.market_settings
    window = Window(last + 1 - n, last + 1) if n > 1 else None
    equity = np.array(played.equity)
    year = Window(max(last + 1 - _YEAR, 0), last + 1)
    decisions = store.of(DECISION)
    newest = decisions[-1].content if days[-1].requested is not None else {}
    overlay, halt, closed = kernel.overlay, halted(store), store.of(CLOSED)
    shares = appointed(store).shares
    name = max(shares, key=shares.__getitem__)
    leading = account.policies[name].metadata
    return AccountView(
        name=account.name,
        about=account.opened,
        initial_usd=options.env.initial_equity_usd,
        sessions_per_year=market.history.sessions_per_year,
        dates=market.history.dates[last + 1 - n :],
        equity=equity,
        backtest=equity if window is None else backtest_of(account, market).equity[0],
        risk_free=market.cash_return[last + 1 - n : last],
        index_return=np.zeros(0) if window is None else market.index_returns(window)[0],
        index_year=market.index_returns(year)[0],
        exposures={
            name: np.array([each[name] for each in played.exposures])
            for name in (played.exposures[0] if played.exposures else ())
        },
        traded=np.array(played.traded),
        cost=np.diff(played.costs, prepend=0.0),
        planned_cost=newest.get("cost_usd", float("nan")),
        equity_after=float(kernel.ledger.equity[0]),
        cash=float(kernel.ledger.cash[0]),
        positions=_positions(account, market, last, quantity, before),
        greeks={} if before is None else _greeks(market, last, quantity, before),
        scan_loss=_scan_loss(market, last, quantity, equity[-1], options.risk),
        limits=() if overlay is None or before is None else _limits(overlay, quantity, before),
        breakers=() if overlay is None else _breakers(overlay, kernel),
        guard=NO_GUARD if overlay is None else GuardState(int(overlay.guard.state[0])).name,
        guard_reason="" if overlay is None else REASONS[int(overlay.guard.reason[0])],
        rules_bound=tuple(OVERLAY_RULES[i] for i in np.flatnonzero(newest.get("rules_bound", []))),
        held_back=tuple(newest.get("nothing_opened_because", ())),
        halt=None if halt is None else halt.content,
        decided=tuple(event.content["session"] for event in closed),
        missed=sum(day.requested is None for day in days[:-1]),
        orders=tuple(played.orders) if days[-1].executions is None else tuple(_orders(account)),
        actions=np.array([_action(event.content) for event in decisions]),
        alerts=tuple(event.content for event in reversed(store.of(ALERT))),
        deciding=shares,
        trained_until=leading.get("splits", {}).get("train", (None, None))[1],
        retrained=account.retrained(name),
    )


def _action(decision: Mapping[str, Any]) -> FloatArray:
    """The mean action (A,) of the policies that decided."""
    actions, shares = decision["actions"], decision["shares"].items()
    return sum((share * decoded(actions[name])[0] for name, share in shares), np.zeros(1))


@dataclass(frozen=True)
class _Played:
    """What the replay leaves, session by session."""

    equity: list[float]
    traded: list[float]
    costs: list[float]  # since the opening
    exposures: list[dict[str, float]]
    orders: list[SentOrder]


def _model_trades(
    account: Account, market: BookMarket, day: Day, held: FloatArray, record: StepRecord
) -> Iterator[SentOrder]:
    change = record.quantity[0] - held[0]
    names = symbols_at(market, int(record.row[0]), account.root)
    for i in np.flatnonzero(np.abs(change) > _NOTHING).tolist():
        size, price = float(change[i]), float(record.price[0, i])
        yield SentOrder(day.session, names[i], size, size, price, MODEL)


def _orders(account: Account) -> Iterator[SentOrder]:
    store = account.store
    shown = {event.content["session"] for event in account.sessions[-ORDER_SESSIONS:]}
    ends = {event.content["order"]: event.content["status"] for event in store.of(ENDED)}
    done: dict[str, list[Event]] = {}
    for event in store.of(EXECUTED):
        done.setdefault(event.content["order"], []).append(event)
    for event in reversed(store.of(ORDER)):
        order = event.content
        if order["session"] not in shown:
            continue
        parts = [(e.content["quantity"], e.content["price"]) for e in done.get(order["id"], ())]
        units = sum(quantity for quantity, _ in parts)
        price = sum(q * p for q, p in parts) / units if units else float("nan")
        end = ends.get(order["id"], "open")
        yield SentOrder(order["session"], order["symbol"], order["quantity"], units, price, end)


def _positions(
    account: Account, market: BookMarket, session: int, quantity: FloatArray, book: Book | None
) -> tuple[Position, ...]:
    names, price = symbols_at(market, session, account.root), market.mark[0, session]
    nothing = np.zeros_like(price)
    greeks = (nothing,) * 3 if book is None else (book.delta[0], book.gamma[0], book.vega[0])
    return tuple(
        Position(
            names[i], q, float(price[i]), q * float(price[i]), *(q * float(g[i]) for g in greeks)
        )
        for i, q in enumerate(quantity[0].tolist())
        if abs(q) > _NOTHING
    )


def _greeks(market: BookMarket, session: int, quantity: FloatArray, book: Book) -> dict[str, float]:
    """Sums over the positions, in dollars; theta a session, of options alone."""
    if not isinstance(market, OptionMarket):
        return {"delta": float((quantity * book.delta).sum())}
    units = {name: getattr(book, name)[0] for name in ("delta", "gamma", "vega")}
    units["theta"] = as_rows(market.tape.theta)[session]
    return {name: float((quantity[0] * unit).sum()) for name, unit in units.items()}


def _scan_loss(
    market: BookMarket, session: int, quantity: FloatArray, equity: float, risk: RiskSettings
) -> float:
    if not isinstance(market, OptionMarket):
        return float("nan")
    gains = scan_market(market, risk.scan, slice(session, session + 1))[0, 0]  # (M, 16)
    return max(-float((quantity[0] @ gains).min()), 0.0) / equity


def _limits(overlay: RiskOverlay, quantity: FloatArray, before: Book) -> tuple[Use, ...]:
    """Of equity before the trade, as the overlay measures them."""
    limits = overlay.options.limits
    used = {name: float(x[0]) for name, x in usage_of(quantity, before, limits).items()}
    used["turnover"] = float(overlay.recent_trades.sum() / before.equity[0])
    bounds = {
        "position": ("largest position", limits.max_position),
        "gross": ("gross value", limits.max_gross),
        "cash": ("invested", None if limits.min_cash is None else 1.0 - limits.min_cash),
        "delta": ("delta", limits.max_delta),
        "gamma": ("gamma, 1 %", limits.max_gamma),
        "vega": ("vega, a point", limits.max_vega),
        "margin": ("margin", limits.max_margin),
        "turnover": ("turnover, month", limits.max_monthly_turnover),
    }
    return tuple(
        Use(title, used[name], bound)
        for name, (title, bound) in bounds.items()
        if bound is not None
    )


def _breakers(overlay: RiskOverlay, kernel: BookKernel) -> tuple[Use, ...]:
    """The guard's triggers, with what it has seen of the account."""
    guard, options, history = overlay.guard, overlay.guard.options, kernel.market.history
    seen, vol_window, beta_window = (
        guard.sessions[0],
        options.volatility_window,
        options.beta_window,
    )
    loss = max(-float(guard.returns[0, -1]), 0.0) if seen else 0.0
    fall = 1.0 - float(guard.equity[0] / guard.peak[0])
    volatility = beta = 0.0
    if seen >= vol_window:
        recent = guard.returns[0, -vol_window:]
        volatility = float(metrics.annual_volatility(recent, history.sessions_per_year))
    if seen >= beta_window:
        series = (guard.returns[0, -beta_window:], guard.index_returns[0, -beta_window:])
        beta = float(np.nan_to_num(metrics.slope(*series)))
    bounds = (
        ("loss, reduces", loss, options.reduce_at_daily_loss),
        ("loss, closes", loss, options.close_at_daily_loss),
        ("drawdown, halts", fall, options.halt_at_drawdown),
        ("volatility, scales", volatility, options.max_volatility),
        ("beta, closes", beta, options.max_beta),
    )
    return tuple(Use(name, used, bound) for name, used, bound in bounds if bound is not None)
