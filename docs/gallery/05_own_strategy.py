"""Your own strategy as a benchmark: sell puts only while they look dear."""

from pathlib import Path

import numpy as np
import pandas as pd

from agents import build_baselines
from envs import BookState, make_option_portfolio
from experiments.backtests.backtest import index_equity, run_backtests
from experiments.reporting.figures import equity_chart
from experiments.reporting.matplotlib_backend import chart_png
from experiments.statistics.verdict import compare
from risk import simple_returns

REALISED_SESSIONS = 21


class DearPutWrite:
    """Sells the 30-day put at the money where implied volatility is above what was realised."""

    def __init__(self, market):
        self.market = market
        names = [slot.name for slot in market.tape.slots]
        self.slot = names.index("30D_Put_1.00")
        squared = np.square(np.diff(np.log(market.history.close), axis=1, prepend=np.nan))
        # Row t uses closes up to t only.
        variance = 252.0 * pd.DataFrame(squared.T).rolling(REALISED_SESSIONS).mean().to_numpy().T
        self.is_dear = market.history.implied_vol > np.sqrt(variance)

    def quantities(self, books: BookState):
        """Units (N, M): what is listed today is sold or left alone, the rest is held to expiry."""
        at = books.path, books.session
        listed = self.market.tape.rolled[books.session, self.slot] | (books.session == books.start)
        whole_equity = -books.equity / self.market.history.close[at]
        quantity = books.quantity.copy()
        opened = np.where(self.is_dear[at], whole_equity, 0.0)
        quantity[:, self.slot] = np.where(listed, opened, quantity[:, self.slot])
        return quantity


# The training years: a rule that nobody fitted may be looked at wherever there are data, and the
# test years are left alone.
kernel = make_option_portfolio(split="train").kernel
market, options, window = kernel.market, kernel.options, kernel.window
known = {each.name: each.policy for each in build_baselines(market, options, train=None)}
policies = {"dear_put_write": DearPutWrite(market)}
policies |= {name: known[name] for name in ("put_write", "collar")}
books = run_backtests(policies, market, options, window)

for name, book in books.items():
    mean = book.performance().mean
    print(
        f"{name:14} Sharpe ratio {mean('sharpe'):.2f}, return a year {mean('annual_return'):.1%}, "
        f"drawdown {mean('max_drawdown'):.1%}, costs a year {mean('cost_drag'):.2%}"
    )

returns = {name: simple_returns(book.equity[0]) for name, book in books.items()}
own = returns.pop("dear_put_write")
verdict = compare(own, returns, books["put_write"].risk_free)
for row in verdict.differences:
    interval = f"{row.difference:+.2f} ({row.low:+.2f} to {row.high:+.2f})"
    print(f"less {row.benchmark}: {interval}, {row.outcome}")

curves = {name: book.equity[0] for name, book in books.items()}
curves["buy and hold"] = index_equity(market, window, options.initial_equity_usd)[0]
title = "A strategy of one's own, beside two that everybody has"
chart = equity_chart(books["put_write"].dates, curves, title=title)
Path("05_own_strategy.png").write_bytes(chart_png(chart))
