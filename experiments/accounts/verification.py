"""Whether what an account did is what its policy, its market and its code make of it.

The whole account is played again from its events. Decisions have to be equal to the last bit, and
equity to 1e-9 of it. An account without a broker has to be the backtest of its sessions, with the
policies that decided at each: what is tested is what trades.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.policy import PolicyState, RiskManagedPolicy
from conf.types import ObsArray
from envs.core.batch import Window
from envs.core.kernel import BookKernel
from envs.core.market import BookMarket
from experiments.accounts.account import (
    CLOSED,
    DECISION,
    EXECUTED,
    ORDER,
    Account,
    Day,
    as_done,
    done_of,
    settled,
    taken_through,
)
from experiments.accounts.deliveries import DELIVERED
from experiments.accounts.events import Event, decoded
from experiments.accounts.halts import as_halted
from experiments.accounts.policies import FIRST, Succession, appointed, asked_together
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


class _Reports:
    """When it was reported what was done of orders."""

    def __init__(self, account: Account) -> None:
        session_of = {e.content["id"]: e.content["session"] for e in account.store.of(ORDER)}
        self._events = [
            (event.number, session_of[event.content["order"]])
            for event in account.store.of(EXECUTED)
        ]
        delivered = account.store.of(DELIVERED)
        self._events += [(event.number, event.content["session"]) for event in delivered]

    def later(self, number: int, session: str, inclusive: bool = False) -> bool:
        """Whether after an event something was reported of the sessions before that one.

        `inclusive`: or of that one.
        """
        return any(
            n > number and (day < session or (inclusive and day == session))
            for n, day in self._events
        )


def verify(account: Account) -> Verification:
    """Play the account again and compare everything that was recorded."""
    decisions = {e.content["session"]: e for e in account.store.of(DECISION)}
    closed = {e.content["session"]: e for e in account.store.of(CLOSED)}
    reported = _Reports(account)
    kernel, observation, market = account.kernel_at_opening()
    memories: dict[str, PolicyState] = dict.fromkeys(account.policies)
    begins, odd = np.ones(1, np.bool_), []
    days = account.days()
    for place, day in enumerate(days):
        decision, seen, at = decisions.get(day.session), observation, kernel
        if decision is not None and reported.later(decision.number, day.session):
            at, seen = _as_it_was_known(account, place, decision.number)
        acted = {
            name: loaded.policy.predict(seen, memories[name], begins, deterministic=True)
            for name, loaded in account.policies.items()
        }
        memories = {name: after for name, (_, after) in acted.items()}
        begins = np.zeros(1, np.bool_)
        held = kernel.ledger.quantity
        planned = kernel.plan(held if day.requested is None else day.requested)
        if decision is not None and day.requested is not None:
            allowed = planned if at is kernel else at.plan(day.requested)
            actions = {name: acted[name][0] for name in decision.content["shares"]}
            asked = asked_together(at, actions, decision.content["shares"])
            if reasons := decision.content["nothing_opened_because"]:
                asked = reduced_only(as_halted(asked, reasons), at.ledger.quantity)
            odd += _others(account, decision)
            prices = {"target": allowed.quantity, "price": allowed.price}
            found = {"observation": seen, "requested": asked, **prices}
            odd += _changed(day.session, decision.content, found)
            odd += _changed(day.session, decision.content["actions"], actions)
        close, before = closed.get(day.session), float(kernel.ledger.equity[0])
        known = day
        if close is not None and reported.later(close.number, day.session, inclusive=True):
            known = account.days(close.number)[place]
        cost = float(done_of(kernel, planned, known).cost[0])
        record = as_done(kernel, planned, day)
        # What was reported later was not in the equity of that evening.
        if close is not None and not reported.later(close.number, day.session):
            odd += _other_equity(day.session, close.content, before - cost)
        if day is not days[-1]:
            observation = settled(kernel, record, day)
    compared = _sessions_as_in_a_backtest(account, days)
    if compared:
        odd += _against_backtest(account, market, compared)
    return Verification(len(days), len(decisions), compared, tuple(odd))


def _sessions_as_in_a_backtest(account: Account, days: Sequence[Day]) -> int:
    """How many sessions have to be a backtest's: up to the first that was held back or resumed."""
    reasons = {
        e.content["session"]: e.content["nothing_opened_because"]
        for e in account.store.of(DECISION)
    }
    if account.settings.broker.kind != "model" or len(reasons) < len(days):
        return 0
    apart = [i for i, day in enumerate(days) if reasons[day.session]]
    apart += [i + 1 for i, day in enumerate(days) if day.resumed]
    return min([*apart, len(days) - 1])


def _as_it_was_known(account: Account, place: int, number: int) -> tuple[BookKernel, ObsArray]:
    """The book at a session, and what was seen there, from what was reported up to an event."""
    kernel, observation, _ = account.kernel_at_opening()
    for day in account.days(number)[:place]:
        observation = taken_through(kernel, day)
    return kernel, observation


def _changed(session: str, recorded: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    return [
        f"{session}: {name} is not what was recorded"
        for name, value in found.items()
        if not np.array_equal(decoded(recorded[name]), value)
    ]


def _others(account: Account, decision: Event) -> list[str]:
    if decision.content["shares"] == appointed(account.store, decision.number).shares:
        return []
    return [f"{decision.content['session']}: others decided than were appointed"]


def _other_equity(session: str, closed: Mapping[str, Any], equity: float) -> list[str]:
    was = float(closed["equity_usd"])
    if abs(equity - was) <= EQUITY_TOLERANCE * max(abs(was), 1.0):
        return []
    return [f"{session}: equity is {equity:.9f}, recorded was {was:.9f}"]


def succession_of(account: Account) -> Succession:
    """The account's policies, each with its share at each session."""
    decided = {e.content["session"]: e.content["shares"] for e in account.store.of(DECISION)}
    policies, shares, present = account.policies, [], {FIRST: 1.0}
    for event in account.sessions:
        present = decided.get(event.content["session"], present)
        shares.append([present.get(name, 0.0) for name in sorted(policies)])
    return Succession([policies[name].policy for name in sorted(policies)], np.array(shares))


def backtest_of(account: Account, market: BookMarket) -> Backtest:
    """The backtest of the account's sessions, two or more: what it would hold without a broker."""
    options, last = account.market_settings, market.history.num_sessions
    policy = succession_of(account)
    managed = RiskManagedPolicy(policy, options.risk) if options.risk.enabled else policy
    window = Window(last - len(account.sessions), last)
    return run_backtest(managed, market, options.env, window)


def _against_backtest(account: Account, market: BookMarket, compared: int) -> list[str]:
    """Where the account's book differs from the backtest of the same first sessions."""
    sessions = [event.content["session"] for event in account.sessions[:compared]]
    backtest = backtest_of(account, market)
    held = {e.content["session"]: e.content["quantity"] for e in account.store.of(CLOSED)}
    return [
        f"{session}: the backtest holds another book"
        for session, theirs in zip(sessions, backtest.quantity[0], strict=False)
        if session in held and not np.array_equal(decoded(held[session])[0], theirs)
    ]
