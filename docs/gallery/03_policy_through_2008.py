"""A policy through 2008: trained on the years before 2007, then looked at day by day."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from envs import Window
from experiments.backtests.backtest import index_equity
from experiments.evaluation.open_run import open_run, run_beside
from experiments.reporting.book_figures import position_heatmap
from experiments.reporting.charts import Chart
from experiments.reporting.figures import equity_chart
from experiments.reporting.matplotlib_backend import chart_png

# The quickstart in small: six simulated markets, fitted to 1999-2006, and next to no PPO.
RUN = "outputs/gallery/2008/run"
small = "data.worlds.markets=6 pretrain.updates=150 total_timesteps=256 agent.rollout_steps=256"
splits = "data.splits.train_end=2006-12-31 data.splits.validation_end=2007-12-31"
command = f"-m experiments.train +exp=quickstart {small} num_envs=2 {splits} hydra.run.dir={RUN}"
subprocess.run([sys.executable, *command.split()], check=True, stdout=sys.stderr)

# What a run leaves is opened by name: its best policy, in its own market and at its own costs.
tested = open_run(RUN, "best")
market, settings = tested.setup.market, tested.setup.settings
dates = market.history.dates
begin, end = np.searchsorted(dates, np.array(["2008-01-02", "2009-07-01"], "datetime64[D]"))
window = Window(int(begin), int(end))
baselines, _ = tested.setup.baselines(window)
put_write = {each.name: each.policy for each in baselines if each.name == "put_write"}
# "managed" is the same policy under the risk module.
books = run_beside(tested.policy, put_write, market, settings.env, window, settings.risk)
for name, each in books.items():
    mean = each.performance().mean
    print(
        f"{name:9} return {mean('total_return'):+.1%}, drawdown {mean('max_drawdown'):.1%}, "
        f"costs a year {mean('cost_drag'):.1%}, beta {mean('beta'):+.2f}"
    )
book = books["policy"]
daily = book.equity[0, 1:] / book.equity[0, :-1] - 1.0
worst = int(daily.argmin())
held = book.quantity[0, worst]
print(f"\nworst day {book.dates[worst + 1]}: {daily[worst]:.2%}, held into it:")
for slot in np.flatnonzero(held):
    print(f"  {held[slot]:+8.2f} {market.instruments[slot]}")

curves = {name: each.equity[0] for name, each in books.items()}
curves["buy and hold"] = index_equity(market, window, settings.env.initial_equity_usd)[0]
equity = equity_chart(book.dates, curves)
shares = book.position[0] / book.equity[0, :-1, None]
positions = position_heatmap(book.dates[1:], market.instruments, shares)
held_label = "positions of the policy over its equity: blue long, red short"
chart = Chart(
    "policy_2008",
    "Through the crash: value, drawdown, and what was held",
    (*equity.panels, replace(positions.panels[0], label=held_label, share=2.6)),
    subtitle=equity.subtitle,
    height=850,
    scale_ends=positions.scale_ends,
)
Path("03_policy_through_2008.png").write_bytes(chart_png(chart))
