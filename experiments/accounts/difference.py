"""Why an account's equity is not that of the backtest of its sessions, in dollars by cause.

The backtest decides and trades at every close, as the kernel does, by the policies that decided for
the account then. From it to the account one thing after the other is put in the place of its own;
the differences add up exactly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from conf.types import ObsArray
from envs.core.kernel import BookKernel
from envs.core.market import BookHistory
from experiments.accounts.account import Account, Day, taken_through
from experiments.accounts.deliveries import Beside
from experiments.accounts.recorded import session_row, with_sessions
from experiments.accounts.verification import succession_of
from experiments.backtests.backtest import rollout

# In this order they take the place of the backtest's. decision: another one than at the close
# itself, or none; price, volatility: the day was seen before its end; missed: orders not done, or
# in part; fill: at other prices; fee: commissions.
CAUSES = ("decision", "price", "volatility", "missed", "fill", "fee")
_VOLATILITY = ("implied_vol", "implied_vol_source")


@dataclass(frozen=True)
class Difference:
    """Equity at the newest session before it trades, dollars, and what parts the two."""

    backtest_usd: float
    account_usd: float
    causes_usd: Mapping[str, float]  # by CAUSES; their sum is account - backtest


def difference(account: Account, final: BookHistory) -> Difference:
    """Split the account's difference from the backtest of its sessions.

    final: the source's last word on the account's sessions.
    """
    days = account.days()
    seen: list[Mapping[str, Any]] = [event.content["row"] for event in account.sessions]
    ended = [_last_word(row, final) for row in seen]
    mixed: list[Mapping[str, Any]] = [
        {**row, **{name: last[name] for name in _VOLATILITY if name in row}}
        for row, last in zip(seen, ended, strict=True)
    ]
    as_asked = [replace(day, executions=None, beside=Beside()) for day in days]
    without_fees = [
        replace(day, executions=[replace(each, commission_usd=0.0) for each in day.executions])
        if day.executions is not None
        else day
        for day in days
    ]
    values = [_backtest(account, ended)] + [
        _equity(account, rows, traded, through)
        for rows, traded, through in (
            (ended, as_asked, taken_through),
            (mixed, as_asked, taken_through),
            (seen, as_asked, taken_through),
            (seen, days, _at_usual_cost),
            (seen, without_fees, taken_through),
            (seen, days, taken_through),
        )
    ]
    causes = dict(zip(CAUSES, np.diff(values).tolist(), strict=True))
    return Difference(values[0], values[-1], causes)


def _last_word(row: Mapping[str, Any], final: BookHistory) -> Mapping[str, Any]:
    """The source's row of that session; the recorded one where it has none."""
    day = np.array(row["dates"]).astype("datetime64[D]")
    at = np.flatnonzero(final.dates == day)
    return session_row(final, int(at[0])) if at.size else row


def _opening(account: Account, rows: list[Mapping[str, Any]]) -> tuple[BookKernel, ObsArray]:
    kernel, observation, _ = account.kernel_at_opening(with_sessions(account.opening(), rows))
    return kernel, observation


def _backtest(account: Account, rows: list[Mapping[str, Any]]) -> float:
    """Equity of the account's policies where they decide and trade at every close."""
    kernel, observation = _opening(account, rows)
    steps = rollout(succession_of(account), kernel, observation, len(rows) - 1)
    deque(steps, maxlen=0)
    return float(kernel.ledger.equity[0])


def _equity(
    account: Account,
    rows: list[Mapping[str, Any]],
    days: list[Day],
    through: Callable[[BookKernel, Day], ObsArray],
) -> float:
    """Equity of the recorded decisions on a market of these rows."""
    kernel, _ = _opening(account, rows)
    for day in days[:-1]:
        through(kernel, day)
    return float(kernel.ledger.equity[0])


def _at_usual_cost(kernel: BookKernel, day: Day) -> ObsArray:
    """Trade what was done on that day at what the kernel says that it costs."""
    if day.executions is None or day.requested is None:
        return taken_through(kernel, day)
    planned, held = kernel.plan(day.requested), kernel.ledger.quantity
    done = day.quantity_done(held)
    cost = kernel.trading_cost(done - held, planned.price, planned.row)
    executed = kernel.execute(planned._replace(quantity=done, cost=cost))
    if kernel.overlay is not None:
        kernel.overlay.correct_trade(executed.traded)
    return kernel.settle(executed).observation
