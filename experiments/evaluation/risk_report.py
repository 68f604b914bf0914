"""What the risk module did to a book: how often each rule bound and what it took."""

from __future__ import annotations

from typing import Any

from conf.types import FloatArray
from experiments.backtests.backtest import Backtest
from risk.guard import GuardState
from risk.metrics import SESSIONS_PER_YEAR


def risk_report(managed: Backtest) -> dict[str, Any]:
    """By rule: share of days on which it bound, and value it took a year over equity.

    `guard_days` gives the share of days spent in each state of the guard. `blocked_pnl_a_year` is
    what everything that the module took would have earned by the next close, a year over equity,
    before costs and interest: above zero the module cost that, below it saved it. A ruined book
    counts up to its ruin.
    """
    alive, equity = managed.alive, managed.equity[:, :-1]

    def a_year(dollars: FloatArray) -> float:
        return float((dollars / equity)[alive].mean() * SESSIONS_PER_YEAR)

    rules = {
        rule: {
            "days_bound": float((clipped > 0.0)[alive].mean()),
            "clipped_a_year": a_year(clipped),
        }
        for rule, clipped in managed.rules.items()
    }
    states = {state.name: float((managed.guard == state)[alive].mean()) for state in GuardState}
    return {"rules": rules, "guard_days": states, "blocked_pnl_a_year": a_year(managed.blocked_pnl)}
