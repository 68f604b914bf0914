"""What the agent's book held, as items of the report: another for each environment."""

from __future__ import annotations

from envs.option_market import OptionMarket
from experiments.evaluation import Contest
from experiments.formats import dollars, number, percent
from experiments.report_contents import Item, Table, Text
from experiments.session import Session


def held_items(contest: Contest, session: Session) -> tuple[Item, ...]:
    """Tables of the positions."""
    if isinstance(session.market, OptionMarket):
        return (_strategies_table(contest), *_position_items(contest))
    return (_weights_table(contest),)


def attribution_intro(session: Session) -> str:
    """What the causes of the P&L mean."""
    if isinstance(session.market, OptionMarket):
        return (
            "Each day's P&L, split by a second-order expansion around the close before. The "
            "residual is what that expansion leaves unexplained of the options' P&L, and roll the "
            "same of contracts on the day they expire. Charts show the first path, the table the "
            "mean."
        )
    return (
        "Each day's P&L: market is what the same amount in equal weights would have gained, "
        "selection what the choice of assets added, carry the interest on cash. Charts show the "
        "first path, the table the mean."
    )


def _weights_table(contest: Contest) -> Table:
    mean, last = contest.held["mean_weights"], contest.held["last_book"]
    rows = tuple((name, percent(mean[name]), percent(last["weights"][name])) for name in mean)
    columns = ("asset", "mean weight", f"weight on {last['date']}")
    return Table("Weights", columns, rows, folded=False)


def _strategies_table(contest: Contest) -> Table:
    """How often the first path's book was which strategy."""
    counted = contest.held["strategies"]
    days = sum(counted.values())
    rows = tuple((name, count, percent(count / days)) for name, count in counted.items())
    return Table("Strategies held", ("strategy", "days", "share"), rows)


def _position_items(contest: Contest) -> tuple[Item, ...]:
    """The book after the last trade, as the first path has it."""
    report = contest.held["last_book"]
    held = tuple(
        (p["option"], p["strike"], p["days_to_expiry"], p["quantity"], dollars(p["value"]))
        for p in report["positions"]
    )
    facts = (
        ("Portfolio value", dollars(report["portfolio_value"])),
        ("Cash", dollars(report["cash"])),
        ("Total exposure", dollars(report["total_exposure"])),
        ("Delta", number(report["portfolio_delta"])),
        ("Gamma, for 1 %", number(report["portfolio_gamma"], 3)),
        ("Vega, a point", dollars(report["portfolio_vega"])),
        ("Theta, a day", dollars(report["portfolio_theta"])),
        ("Sharpe, 60 days", number(report["sharpe"])),
        ("Drawdown", percent(report["drawdown"])),
        ("Max drawdown", percent(report["max_drawdown"])),
        ("Strategy", report["strategy"]),
    )
    title = f"The book on {report['date']}"
    if not held:
        return (Table(title, ("measure", "value"), facts), Text("Nothing was held."))
    columns = ("option", "strike", "days left", "quantity", "value")
    return (
        Table(title, ("measure", "value"), facts),
        Table(f"Positions on {report['date']}", columns, held),
    )
