"""What an evaluation leaves in a run folder: `metrics.json`, days, trades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conf.files import write_json
from conf.types import FloatArray
from experiments.backtests.backtest import Backtest
from experiments.backtests.episodes import Episodes
from experiments.backtests.trade_log import build_trade_log, write_trade_log
from experiments.evaluation.evaluation import Evaluation
from experiments.evaluation.open_run import MANAGED
from experiments.evaluation.sensitivity import FlatVolComparison, Periods
from experiments.evaluation.skill import PAYS, RISK_AVERSION, Skill
from experiments.evaluation.split import AGENT, BenchmarkComparison, SplitEvaluation
from experiments.statistics.performance import Performance
from experiments.statistics.verdict import Outcome, Verdict
from risk.metrics import period_returns

METRICS = "metrics.json"
FORMAT = 2  # of metrics.json and of what lies beside it


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write `metrics.json`, and the days and trades of the agent's books on each split."""
    setup = evaluation.setup
    for result in evaluation.splits:
        books = {AGENT: result.raw.agent}
        if result.managed is not None:
            books[MANAGED] = result.managed.agent
        for book, backtest in books.items():
            daily = daily_table(backtest, setup.market.instruments)
            daily.to_parquet(folder / table_file("daily", result.name, book))
            trades = build_trade_log(backtest, setup.market, setup.settings.env)
            write_trade_log(trades, folder / table_file("trades", result.name, book))
    write_json(folder / METRICS, evaluation_numbers(evaluation))


def table_file(kind: str, split: str, book: str) -> str:
    """Name of the file that holds the days or trades of one book."""
    return f"{kind}_{split}.parquet" if book == AGENT else f"{kind}_{split}_{book}.parquet"


def daily_table(backtest: Backtest, instruments: Sequence[str], book: int = 0) -> pd.DataFrame:
    """One book day by day: equity at the close, and the trade at the close before it."""
    columns: dict[str, NDArray[Any]] = {
        "equity": backtest.equity[book, 1:],
        "risk_free": backtest.risk_free,
        "index_return": backtest.index_return[book],
        "cost": backtest.cost[book],
        "traded": backtest.traded[book],
        "reward": backtest.reward[book],
        **{name: values[book] for name, values in backtest.exposures.items()},
        **{f"clipped.{rule}": values[book] for rule, values in backtest.rules.items()},
        "guard": backtest.guard[book],
        **{f"quantity.{name}": backtest.quantity[book, :, i] for i, name in enumerate(instruments)},
        **{f"position.{name}": backtest.position[book, :, i] for i, name in enumerate(instruments)},
    }
    return pd.DataFrame(columns, index=pd.DatetimeIndex(backtest.dates[1:], name="date"))


def evaluation_numbers(evaluation: Evaluation) -> dict[str, Any]:
    """Everything that was measured, as JSON can hold it: undefined is null, never a number.

    Measures are means over paths.
    """
    manifest, periods, flat_vol = evaluation.manifest, evaluation.periods, evaluation.flat_vol
    return {
        "format": FORMAT,
        **evaluation.header,
        "training": {key: manifest[key] for key in ("seed", "created", "steps", "config_hash")},
        "initial_equity_usd": evaluation.setup.settings.env.initial_equity_usd,
        "settings": evaluation.config,
        "splits": {result.name: split_numbers(result) for result in evaluation.splits},
        "periods": None if periods is None else _period_numbers(periods),
        "cost_sensitivity": [
            {"factor": row.factor, "book": row.book, **means(row.performance)}
            for row in evaluation.costs
        ],
        "flat_vol": None if flat_vol is None else _flat_vol_numbers(flat_vol),
        "skill": None if evaluation.skill is None else skill_numbers(evaluation.skill),
    }


def skill_numbers(skill: Skill) -> dict[str, Any]:
    """Certainty equivalents a year, decimal, and ratios, by world."""
    return {
        "risk_aversion": RISK_AVERSION,
        "pays_from": PAYS,
        "policies": skill.policies,
        "paths": skill.paths,
        "years": skill.years,
        "mean_ratio": plain(skill.mean_ratio),
        "worlds": {world.world: plain(world) for world in skill.worlds},
    }


def split_numbers(result: SplitEvaluation) -> dict[str, Any]:
    """Everything measured on a split; `books` has the raw ones and the agent's managed one."""
    raw, managed, backtest = result.raw, result.managed, result.raw.agent
    books, managed_books = _book_numbers(raw), None
    if managed is not None:
        managed_books = _book_numbers(managed)
        books[MANAGED] = managed_books[AGENT]
    return {
        "first": str(backtest.dates[0]),
        "last": str(backtest.dates[-1]),
        "initial_equity_usd": float(backtest.equity[0, 0]),
        "paths": int(backtest.equity.shape[0]),
        "ruined": int(backtest.ruined.sum()),
        "books": books,
        "comparison": comparison_numbers(raw),
        "managed_comparison": None if managed is None else comparison_numbers(managed),
        "managed_books": managed_books,
        "risk": result.overlay,
    }


def comparison_numbers(comparison: BenchmarkComparison) -> dict[str, Any]:
    """Verdict, attribution, what was held, and scorecard of one comparison."""
    attribution, start = comparison.attribution, comparison.agent.equity[:, :1]
    shares = attribution.residual_share[np.isfinite(attribution.residual_share)]
    causes = {**attribution.terms, "total": attribution.pnl}
    return {
        "verdict": verdict_numbers(comparison.verdict),
        "attribution_usd": {k: float(x.sum(axis=-1).mean()) for k, x in causes.items()},
        "attribution_share": {k: float((x / start).sum(-1).mean()) for k, x in causes.items()},
        "attribution_residual_share": float(shares.mean()) if shares.size else None,
        **comparison.held,
        "episodes": {name: episode_numbers(e) for name, e in comparison.episodes.items()},
        "scorecard": plain(comparison.scorecard),
    }


def episode_numbers(episodes: Episodes) -> dict[str, float | None]:
    """Means over episodes, and the shares of what they won and lost."""
    numbers: dict[str, float | None] = plain(
        {
            "episodes": len(episodes.total_return),
            "average_return": episodes.total_return.mean(),
            "average_max_drawdown": episodes.max_drawdown.mean(),
            "average_sharpe": np.nanmean(episodes.sharpe),
            "win_rate": episodes.win_rate,
            "profit_factor": episodes.profit_factor,
        }
    )
    return numbers


def verdict_numbers(verdict: Verdict) -> dict[str, Any]:
    """The verdict with everything that it rests on."""
    outcomes = [difference.outcome for difference in verdict.differences]
    return {
        "outcome": str(verdict.outcome),
        "reason": verdict.reason,
        **{f"benchmarks_{outcome.lower()}": outcomes.count(outcome) for outcome in Outcome},
        "level": verdict.level,
        "spa_p_value": plain(verdict.spa_p_value),
        "overfitting_probability": plain(verdict.overfitting_probability),
        "evidence": plain(verdict.evidence),
        "differences": plain(verdict.differences),
    }


def means(performance: Performance) -> dict[str, float | None]:
    """Each measure's mean over paths; None where it is undefined."""
    return {name: plain(performance.mean(name)) for name in performance._fields}


def plain(value: Any) -> Any:
    """As JSON can hold it: records are mappings, undefined numbers null, days and outcomes text."""
    if is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    elif hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return str(value) if isinstance(value, str | np.datetime64) else value


def _book_numbers(comparison: BenchmarkComparison) -> dict[str, Any]:
    return {name: means(performance) for name, performance in comparison.performance.items()}


def _period_numbers(periods: Periods) -> dict[str, Any]:
    def by_year(returns: FloatArray) -> dict[str, float]:
        years, compounded = period_returns(returns, periods.dates, "year")
        names = years.astype("datetime64[Y]").astype(str).tolist()
        return dict(zip(names, compounded.tolist(), strict=True))

    return {
        "regimes": plain(periods.regimes),
        "years": plain(periods.years),
        "returns_by_year": {book: by_year(returns) for book, returns in periods.returns.items()},
    }


def _flat_vol_numbers(comparison: FlatVolComparison) -> dict[str, Any]:
    sharpe = {
        book: plain({"here": own, "other": other, "difference": other - own})
        for book, (own, other) in comparison.sharpe.items()
    }
    return {"surface": comparison.surface, "other": comparison.other, "sharpe": sharpe}
