"""Your own CSV: what is wrong is said, what is missing is estimated, the rest is a market."""

from pathlib import Path

import numpy as np
import pandas as pd

from agents import build_baselines
from conf.errors import InputError
from envs import FileData, load_market, make_option_portfolio
from experiments.backtests.backtest import run_backtests
from experiments.reporting.charts import Chart, Line, Mark, Panel
from experiments.reporting.matplotlib_backend import chart_png
from experiments.reporting.style import BOOKS, OTHERS

# Ten years of an index whose volatility wanders, under a vendor's names.
rng, sessions = np.random.default_rng(8), 2600
log_vol = np.zeros(sessions)
for t in range(1, sessions):
    log_vol[t] = 0.985 * log_vol[t - 1] + 0.09 * rng.standard_normal()
vol_annual = 0.15 * np.exp(log_vol)
day = vol_annual / np.sqrt(252.0)
close = 100.0 * np.exp(np.cumsum(0.0003 + day * rng.standard_normal(sessions)))
prices = pd.DataFrame(
    {
        "Date": pd.bdate_range("2010-01-04", periods=sessions).strftime("%m/%d/%Y"),
        "Open": close * (1.0 + 0.2 * day),
        "High": close * (1.0 + 0.9 * day),
        "Low": close * (1.0 - 0.9 * day),
        "Close/Last": close,
        "Volume": 1_000_000,
    }
)

# A typing error is found, with its row, before anything runs.
prices.assign(Low=prices["Low"].where(prices.index != 41, 1e4)).to_csv("bad.csv", index=False)
try:
    load_market(FileData(path="bad.csv"), embargo_days=60)
except InputError as error:
    print(error)

prices.to_csv("prices.csv", index=False)
loaded = load_market(FileData(path="prices.csv"), embargo_days=60)
history = loaded.history
print(*loaded.notices, sep="\n")
splits = {name: loaded.split(name) for name in ("train", "validation", "test")}
for name, split in splits.items():
    print(f"{name:10} {history.dates[split.start]} to {history.dates[split.stop - 1]}")

# The same environment, costs and benchmarks as on any other market.
kernel = make_option_portfolio(split="test", data={"source": "csv", "path": "prices.csv"}).kernel
market, options = kernel.market, kernel.options
policies = {each.name: each.policy for each in build_baselines(market, options, train=None)}
books = run_backtests(policies, market, options, kernel.window)
sharpes = {name: book.performance().mean("sharpe") for name, book in books.items()}
for name in sorted(sharpes, key=lambda name: -sharpes[name])[:3]:
    print(f"{name:16} Sharpe ratio of the test years {sharpes[name]:.2f}")

marks = [Mark("x", history.dates[each.start], "splits", OTHERS[4]) for each in splits.values()]
true = Line("true", history.dates, 100.0 * vol_annual, OTHERS[0], width=1.2)
estimated = Line("estimated", history.dates, 100.0 * history.implied_vol[0], BOOKS["policy"])
chart = Chart(
    "own_csv",
    "A file of one's own",
    (
        Panel("close", (Line("close", history.dates, close, BOOKS["policy"]),), marks=marks),
        Panel("volatility, annual", (estimated, true), "percent", marks=marks),
    ),
    subtitle="Options need a volatility; the file has none, so it is estimated from its past.",
    height=430,
)
Path("04_own_csv.png").write_bytes(chart_png(chart))
