"""The published hedging table: what a sold call costs its hedger, then and here."""

from pathlib import Path

import numpy as np
from hydra import initialize_config_module

from agents import run_hedge
from experiments.benchmarks.hedging import hedging_run, learn
from experiments.environments.opening import open_market
from experiments.reporting.charts import Bars, Chart, Panel
from experiments.reporting.matplotlib_backend import chart_png
from experiments.reporting.style import BOOKS, MUTED, OTHERS, shown_name

# J. Cao, J. Chen, J. Hull and Z. Poulos, Deep hedging of derivatives using reinforcement learning
# (2021): mean cost plus 1.5 deviations in % of the price, at 1 % of every dollar traded.
THREE_MONTHS = ("env.episode.sessions=60", "data.sessions=630")
WEEKLY = ("env.rebalance_every=5",)
PUBLISHED = {  # overrides: delta, reinforcement learning
    "1 month, weekly": (WEEKLY, 143.3, 141.0),
    "1 month, daily": ((), 164.6, 137.6),
    "3 months, weekly": ((*THREE_MONTHS, *WEEKLY), 101.3, 100.9),
    "3 months, daily": (THREE_MONTHS, 134.5, 95.4),
}
SHOWN = ("delta", "leland", "zakamouline")

here = {name: [] for name in SHOWN}
print(f"{'':17}{'delta, published':>17}" + "".join(f"{shown_name(name):>13}" for name in SHOWN))
for title, (overrides, delta, _) in PUBLISHED.items():
    with initialize_config_module("conf", version_base="1.3"):
        settings = hedging_run("data.paths=500", *overrides)  # to fit the bands on
    setup = open_market(settings.market)
    env, (market, window) = setup.settings.env, next(setup.unseen(10_000))
    hedges = {each.name: each.policy for each in setup.hedges_on(market)}  # fitted in training
    for name in SHOWN:
        lost = run_hedge(hedges[name], market, env, window).lost
        here[name].append(100.0 * env.objective(lost))
    row = "".join(f"{here[name][-1]:13.1f}" for name in SHOWN)
    print(f"{title:17}{delta:17.1f}{row}")

# And a network, by the gradient through the ledger: a tenth of the updates of `+exp=hedging`.
with initialize_config_module("conf", version_base="1.3"):
    settings = hedging_run()
learnt = learn(settings, effort=0.1, paths=10_000)
print(f"1 month, daily, a network of {learnt.spent:.0f} CPU seconds: {learnt.objective:.1f}")

titles = tuple(PUBLISHED)
of_network = np.where(np.array(titles) == "1 month, daily", learnt.objective, np.nan)
columns = {
    "delta, published": (np.array([row[1] for row in PUBLISHED.values()]), MUTED),
    "delta, here": (np.array(here["delta"]), BOOKS["policy"]),
    "reinforcement learning, published": (np.array([r[2] for r in PUBLISHED.values()]), OTHERS[3]),
    "Zakamouline, here": (np.array(here["zakamouline"]), OTHERS[2]),
    "pathwise, here": (of_network, OTHERS[0]),
}
bars = tuple(Bars(name, titles, values, colour) for name, (values, colour) in columns.items())
chart = Chart(
    "hedging_table",
    "What a sold call costs its hedger",
    (Panel("mean + 1.5 deviations, % of the price", bars, "percent", from_zero=True),),
    subtitle="At 1 % of every dollar traded; 10,000 unseen paths. The network learned one column.",
)
Path("06_published_hedging_table.png").write_bytes(chart_png(chart))
