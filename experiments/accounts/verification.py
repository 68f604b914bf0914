"""Whether what an account did is what its policy, its market and its code make of it.

The whole account is played again from its events. Decisions have to be equal to the last bit, and
equity to 1e-9 of it. An account without a broker has to be the backtest of its sessions: what is
tested is what trades.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.policy import RiskManagedPolicy
from envs.core.batch import Window
from envs.core.market import BookMarket
from experiments.accounts.account import CLOSED, DECISION, EXECUTED, ORDER, Account, as_done
from experiments.accounts.events import decoded
from experiments.accounts.halts import RESUMED, as_halted, reset_guard
from experiments.accounts.trading_day import reduced_only
from experiments.backtests.backtest import Backtest, run_backtest

EQUITY_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Verification:
    """What was compared, and where it differed."""

    sessions: int
    decisions: int
    backtest_sessions: int  # compared with a backtest; 0 where there was a broker or a gap
    differences: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing differed."""
        return not self.differences


def verify(account: Account) -> Verification:
    """Play the account again and compare everything that was recorded."""
    decisions = {e.content["session"]: e.content for e in account.store.of(DECISION)}
    closed = {e.content["session"]: e.content for e in account.store.of(CLOSED)}
    late = _closed_too_early(account)
    kernel, observation, market = account.kernel_at_opening()
    policy = account.policy.policy
    state, begins, odd = None, np.ones(1, np.bool_), []
    days = account.days()
    for day in days:
        action, after = policy.predict(observation, state, begins, deterministic=True)
        recorded = decisions.get(day.session)
        if recorded is not None or day is not days[-1]:
            state, begins = after, np.zeros(1, np.bool_)
        if recorded is None:
            planned = kernel.plan(kernel.ledger.quantity)
        else:
            requested = kernel.quantity_of(action)
            reasons = recorded["nothing_opened_because"]
            if reasons:
                requested = reduced_only(as_halted(requested, reasons), kernel.ledger.quantity)
            planned = kernel.plan(decoded(recorded["requested"]))
            found = {
                "observation": observation,
                "action": action,
                "requested": requested,
                "target": planned.quantity,
                "price": planned.price,
            }
            odd += _changed(day.session, recorded, found)
        record = as_done(kernel, planned, day)
        if day.session in closed and day.session not in late:
            odd += _other_equity(day.session, closed[day.session], float(kernel.ledger.equity[0]))
        if day is not days[-1]:
            observation = kernel.settle(record).observation
            reset_guard(kernel, account.store, day.session)
    compared = 0
    if account.settings.broker.kind == "model" and len(decisions) == len(days) > 1:
        # What was held back, or released by a person, is no longer the backtest from there on.
        resumed = {event.content["session"] for event in account.store.of(RESUMED)}
        apart = [i for i, d in enumerate(days) if decisions[d.session]["nothing_opened_because"]]
        apart += [i + 1 for i, d in enumerate(days) if d.session in resumed]
        compared = min([*apart, len(days) - 1])
        odd += _against_backtest(account, market, compared)
    return Verification(len(days), len(decisions), compared, tuple(odd))


def _closed_too_early(account: Account) -> set[str]:
    """Sessions that were closed before all that was done up to them was reported."""
    session_of = {e.content["id"]: e.content["session"] for e in account.store.of(ORDER)}
    executed = [(e.number, session_of[e.content["order"]]) for e in account.store.of(EXECUTED)]
    return {
        closed.content["session"]
        for closed in account.store.of(CLOSED)
        if any(n > closed.number and day <= closed.content["session"] for n, day in executed)
    }


def _changed(session: str, recorded: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    return [
        f"{session}: {name} is not what was recorded"
        for name, value in found.items()
        if not np.array_equal(decoded(recorded[name]), value)
    ]


def _other_equity(session: str, closed: Mapping[str, Any], equity: float) -> list[str]:
    was = float(closed["equity_usd"])
    if abs(equity - was) <= EQUITY_TOLERANCE * max(abs(was), 1.0):
        return []
    return [f"{session}: equity is {equity:.9f}, recorded was {was:.9f}"]


def backtest_of(account: Account, market: BookMarket) -> Backtest:
    """The backtest of the account's sessions, two or more: what it would hold without a broker."""
    options, last = account.market_settings, market.history.num_sessions
    policy = account.policy.policy
    managed = RiskManagedPolicy(policy, options.risk) if options.risk.enabled else policy
    window = Window(last - len(account.sessions), last)
    return run_backtest(managed, market, options.env, window)


def _against_backtest(account: Account, market: BookMarket, compared: int) -> list[str]:
    """Where the account's book differs from the backtest of the same first sessions."""
    sessions = [event.content["session"] for event in account.sessions[:compared]]
    backtest = backtest_of(account, market)
    held = [decoded(event.content["quantity"])[0] for event in account.store.of(CLOSED)]
    return [
        f"{session}: the backtest holds another book"
        for session, ours, theirs in zip(sessions, held, backtest.quantity[0], strict=False)
        if not np.array_equal(ours, theirs)
    ]
