"""Step an environment: one book by hand, then a thousand at once, which trade by chance."""

import time
from pathlib import Path

import gymnasium
import numpy as np

import envs  # noqa: F401  registers the environments
from experiments.reporting.charts import Chart, Histogram, Mark, Panel
from experiments.reporting.matplotlib_backend import chart_png
from experiments.reporting.style import OTHERS

# One episode is a year from a random start. An action is a number for each contract of the chain,
# from -1 (sold) to 1 (bought).
env = gymnasium.make("PolyHedge/OptionPortfolio-v0", render_mode="ansi")
observation, info = env.reset(seed=0)
straddle = np.zeros(env.action_space.shape, np.float32)
straddle[[2, 7]] = -0.5  # the 30-day call and put at the money: a short straddle
for _ in range(5):
    observation, reward, terminated, truncated, info = env.step(straddle)
print(env.render())

# The same kernel with a batch axis: no processes, one array operation a step.
chance = np.random.default_rng(0)
books, years, steps, seconds = 1000, {}, 0, 0.0
for name in ("straddle", "random"):
    many = gymnasium.make_vec("PolyHedge/OptionPortfolio-v0", num_envs=books)
    many.reset(seed=1)
    returns, done = np.full(books, np.nan), np.zeros(books, np.bool_)
    began = time.perf_counter()
    while not done.all():
        random = chance.uniform(-0.1, 0.1, (books, 20))
        action = random if name == "random" else np.tile(straddle, (books, 1))
        _, _, terminated, truncated, infos = many.step(action.astype(np.float32))
        for book in np.flatnonzero((terminated | truncated) & ~done):
            returns[book] = infos["final_info"]["episode"]["total_return"][book]
        done |= terminated | truncated
        steps += books
    seconds += time.perf_counter() - began
    years[name] = 100.0 * returns
    print(f"{name:8}: mean {years[name].mean():6.1f} %, worst year {years[name].min():6.1f} %")
print(f"{steps:,} steps of a book, {steps / seconds:,.0f} a second")

edges = np.arange(-100.0, 41.0, 2.5)
chart = Chart(
    "years",
    "A year of a short straddle, and a year of chance",
    (
        Panel(
            "books of 1,000",
            tuple(
                Histogram(name, edges, np.histogram(values, edges)[0] * 1.0, colour)
                for (name, values), colour in zip(years.items(), OTHERS, strict=False)
            ),
            marks=(Mark("x", 0.0),),
        ),
    ),
    subtitle="Random books trade every contract every day, and what they lose is costs.",
    x_label="return of the year",
    x_unit="percent",
)
Path("02_step_an_environment.png").write_bytes(chart_png(chart))
