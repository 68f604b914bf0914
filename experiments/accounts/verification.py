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
from experiments.accounts.orders import total_cost
from experiments.accounts.trading_day import reduced_only
from experiments.backtests.backtest import run_backtest

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
    unreported = _unreported_at_close(account)
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
            if recorded["nothing_opened_because"]:
                requested = reduced_only(requested, kernel.ledger.quantity)
            planned = kernel.plan(decoded(recorded["requested"]))
            found = {
                "observation": observation,
                "action": action,
                "requested": requested,
                "target": planned.quantity,
                "price": planned.price,
            }
            odd += _changed(day.session, recorded, found)
        before = float(kernel.ledger.equity[0])
        record = as_done(kernel, planned, day)
        late = unreported.get(day.session, {})
        if day.session in closed and set(late.values()) <= {day.session}:
            equity = float(kernel.ledger.equity[0])
            if late:
                known = [each for each in day.executions or () if each.id not in late]
                equity = before - total_cost(known, planned.price[0], day.places)
            odd += _other_equity(day.session, closed[day.session], equity)
        if day is not days[-1]:
            observation = kernel.settle(record).observation
    compared = 0
    if account.settings.broker.kind == "model" and len(decisions) == len(days) > 1:
        compared = len(days) - 1
        odd += _against_backtest(account, market)
    return Verification(len(days), len(decisions), compared, tuple(odd))


def _unreported_at_close(account: Account) -> dict[str, dict[str, str]]:
    """By session: what was done by then and reported after it closed (id: session of order)."""
    session_of = {e.content["id"]: e.content["session"] for e in account.store.of(ORDER)}
    executed = account.store.of(EXECUTED)
    days = {event.number: session_of[event.content["order"]] for event in executed}
    return {
        (session := closed.content["session"]): {
            event.content["id"]: days[event.number]
            for event in executed
            if event.number > closed.number and days[event.number] <= session
        }
        for closed in account.store.of(CLOSED)
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


def _against_backtest(account: Account, market: BookMarket) -> list[str]:
    """Where the account's book differs from the backtest of the same sessions."""
    options, last = account.market_settings, market.history.num_sessions
    sessions = [event.content["session"] for event in account.sessions]
    policy = account.policy.policy
    managed = RiskManagedPolicy(policy, options.risk) if options.risk.enabled else policy
    window = Window(last - len(sessions), last)
    backtest = run_backtest(managed, market, options.env, window)
    held = [decoded(event.content["quantity"])[0] for event in account.store.of(CLOSED)]
    return [
        f"{session}: the backtest holds another book"
        for session, ours, theirs in zip(sessions, held, backtest.quantity[0], strict=False)
        if not np.array_equal(ours, theirs)
    ]
