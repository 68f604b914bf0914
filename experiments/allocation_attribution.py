"""Where an allocation's money came from: being in the market, choosing among assets, interest.

With x_i dollars in asset i over a session, r_i its return and m the mean return of all assets,

    sum x_i r_i = m sum x_i + sum x_i (r_i - m)

splits what the assets gained into what any portfolio of that size would have gained in the equally
weighted market, and what the choice of assets added to it.

Reference: G. Brinson, L. R. Hood and G. Beebower, Determinants of portfolio performance, Financial
Analysts Journal 42 (1986), with equal weights as the benchmark.
"""

from __future__ import annotations

import numpy as np

from envs.panel_market import PanelMarket
from experiments.attribution import Attribution, first_session, forgiven
from experiments.backtest import Backtest

ALLOCATION_TERMS = ("market", "selection", "carry", "cost", "forgiven", "residual")


def attribute_allocation(done: Backtest, market: PanelMarket) -> Attribution:
    """Split every day's P&L of every portfolio into ALLOCATION_TERMS, (N, T) dollars each.

    `carry` is interest on the cash that was left after the trade; `residual` is rounding. Raises
    InputError where the backtest was not run on this market.
    """
    start, length = first_session(done, market), done.quantity.shape[1]
    now, after = slice(start, start + length), slice(start + 1, start + length + 1)
    path = np.arange(len(done.equity)) % market.history.num_paths
    returns = (market.aged[:, after] / market.mark[:, now] - 1.0)[path]
    held, pnl = done.position, np.diff(done.equity, axis=1)
    gained = (held * returns).sum(axis=-1)
    invested = held.sum(axis=-1)
    in_market = invested * returns.mean(axis=-1)
    cash = done.equity[:, :-1] - done.cost - invested
    carry = np.where(done.alive, cash * market.growth[now], 0.0)
    terms = {
        "market": in_market,
        "selection": gained - in_market,
        "carry": carry,
        "cost": -done.cost,
        "forgiven": forgiven(done, gained + carry),
    }
    terms["residual"] = pnl - sum(terms.values())
    return Attribution({name: terms[name] for name in ALLOCATION_TERMS}, pnl, gained)
