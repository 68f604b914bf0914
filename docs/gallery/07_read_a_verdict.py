"""Read a verdict: the best of all benchmarks on the validation years meets the test years."""

from pathlib import Path

from agents import build_baselines
from envs import make_option_portfolio
from experiments.backtests.backtest import run_backtests
from experiments.reporting.charts import Chart
from experiments.reporting.figures import sharpe_difference_chart
from experiments.reporting.matplotlib_backend import chart_png
from experiments.statistics.verdict import compare
from risk import simple_returns


def books_of(split):
    """Daily returns of every benchmark in a split, and those of cash."""
    kernel = make_option_portfolio(split=split).kernel
    market, options = kernel.market, kernel.options
    policies = {each.name: each.policy for each in build_baselines(market, options, train=None)}
    books = run_backtests(policies, market, options, kernel.window)
    sharpes = {name: book.performance().mean("sharpe") for name, book in books.items()}
    returns = {name: simple_returns(book.equity[0]) for name, book in books.items()}
    return sharpes, returns, books["cash"].risk_free


# Whoever picks the best of many has been lucky as well as right.
chosen_by, _, _ = books_of("validation")
sharpes, returns, risk_free = books_of("test")
best = max(chosen_by, key=lambda name: chosen_by[name])
print(f"best of {len(chosen_by)} on 2014-2015: {best}, Sharpe ratio {chosen_by[best]:.2f}")
print(f"the same book on 2016-2018: {sharpes[best]:.2f}\n")

# Once as if it had been the only try, and once with all tries counted, as a run's ledger does.
picked = returns.pop(best)
for trials in (1, len(chosen_by)):
    verdict = compare(picked, returns, risk_free, num_trials=trials)
    evidence = verdict.evidence
    print(
        f"{trials:2} tries: deflated Sharpe ratio {evidence.dsr:.2f}, for the best of them without "
        f"skill is expected to show {evidence.benchmark_sharpe:.2f}"
    )
print(f"years until a ratio above 0 is shown at 95 %: {evidence.min_track_record_years:.1f}")
print(f"\n{verdict.outcome}. {verdict.reason}")

differences = sharpe_difference_chart(verdict.differences)
chart = Chart(
    "verdict",
    f"{best.replace('_', ' ').capitalize()} against every other book: {verdict.outcome}",
    differences.panels,
    subtitle="Annual Sharpe ratios of 2016-2018, with 95 % bootstrap intervals of the differences.",
    x_label=differences.x_label,
    height=differences.height,
)
Path("07_read_a_verdict.png").write_bytes(chart_png(chart))
