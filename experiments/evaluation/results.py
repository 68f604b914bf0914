"""What an evaluation leaves in a run folder, written and read: `metrics.json`, days, trades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from agents.persistence.strict_json import read_json
from conf.errors import InputError
from conf.files import write_json
from conf.types import DateArray, FloatArray
from experiments.backtests.backtest import Backtest
from experiments.backtests.episodes import Episodes
from experiments.backtests.trade_log import build_trade_log, write_trade_log
from experiments.evaluation.evaluation import Evaluation
from experiments.evaluation.regimes import PeriodRow
from experiments.evaluation.sensitivity import Periods
from experiments.evaluation.split import AGENT, BenchmarkComparison, SplitEvaluation
from experiments.runs.config import config_hash
from experiments.runs.folder import MANIFEST, resolve_run, shown_path
from experiments.runs.record import load_manifest, load_run_config
from experiments.statistics.comparison import Outcome, Verdict
from experiments.statistics.performance import Performance
from risk.metrics import period_returns


def daily_table(backtest: Backtest, instruments: Sequence[str], book: int = 0) -> pd.DataFrame:
    """One book day by day: equity at the close, and what was done at the close before it."""
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


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write `metrics.json`, and the days and trades of the agent's books on each split."""
    setup = evaluation.setup
    for result in evaluation.splits:
        for suffix, backtest in recorded_books(result).items():
            daily = daily_table(backtest, setup.market.instruments)
            daily.to_parquet(folder / f"daily_{result.name}{suffix}.parquet")
            trades = build_trade_log(backtest, setup.market, setup.settings.env)
            write_trade_log(trades, folder / f"trades_{result.name}{suffix}.parquet")
    write_json(folder / METRICS, evaluation_numbers(evaluation))


def evaluation_numbers(evaluation: Evaluation) -> dict[str, Any]:
    """Everything that was measured, as JSON can hold it: undefined is null, never a number.

    Measures are means over paths.
    """
    flat_vol = evaluation.flat_vol
    return {
        "format": FORMAT,
        **evaluation.header,
        "training": {
            key: evaluation.manifest[key] for key in ("seed", "created", "steps", "config_hash")
        },
        "initial_equity_usd": evaluation.setup.settings.env.initial_equity_usd,
        "settings": evaluation.config,
        "splits": {result.name: split_numbers(result) for result in evaluation.splits},
        "periods": None if evaluation.periods is None else _period_numbers(evaluation.periods),
        "cost_sensitivity": [
            {"factor": row.factor, "book": row.book, **means(row.performance)}
            for row in evaluation.costs
        ],
        "flat_vol": flat_vol
        and {
            "surface": flat_vol.surface,
            "other": flat_vol.other,
            "sharpe": {
                book: {
                    "here": plain(here),
                    "other": plain(other),
                    "difference": plain(other - here),
                }
                for book, (here, other) in flat_vol.sharpe.items()
            },
        },
    }


def split_numbers(result: SplitEvaluation) -> dict[str, Any]:
    """Everything measured on a split; `books` has the raw ones and the agent's managed one."""
    raw, managed = result.raw, result.managed
    books = {name: means(performance) for name, performance in raw.performance.items()}
    if managed is not None:
        books["managed"] = means(managed.performance[AGENT])
    backtest = raw.agent
    return {
        "first": str(backtest.dates[0]),
        "last": str(backtest.dates[-1]),
        "initial_equity_usd": float(backtest.equity[0, 0]),
        "paths": int(backtest.equity.shape[0]),
        "ruined": int(backtest.ruined.sum()),
        "books": books,
        "comparison": comparison_numbers(raw),
        "managed_comparison": None if managed is None else comparison_numbers(managed),
        "managed_books": None
        if managed is None
        else {name: means(performance) for name, performance in managed.performance.items()},
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
        "scorecard": [line.plain() for line in comparison.scorecard],
    }


def episode_numbers(episodes: Episodes) -> dict[str, float | None]:
    """Means over episodes, and the shares of what they won and lost."""
    return {
        "episodes": len(episodes.total_return),
        "average_return": plain(float(episodes.total_return.mean())),
        "average_max_drawdown": plain(float(episodes.max_drawdown.mean())),
        "average_sharpe": plain(float(np.nanmean(episodes.sharpe))),
        "win_rate": plain(episodes.win_rate),
        "profit_factor": plain(episodes.profit_factor),
    }


def _period_numbers(periods: Periods) -> dict[str, Any]:
    def rows(periods: Sequence[PeriodRow]) -> list[dict[str, Any]]:
        return [
            {
                "name": row.name,
                "first": str(row.first),
                "last": str(row.last),
                "seen": row.seen,
                "books": {
                    book: {name: plain(x) for name, x in asdict(result).items()}
                    for book, result in row.books.items()
                },
            }
            for row in periods
        ]

    years, _ = period_returns(periods.returns[AGENT], periods.dates, "year")
    return {
        "regimes": rows(periods.regimes),
        "years": rows(periods.years),
        "returns_by_year": {
            book: dict(
                zip(
                    years.astype("datetime64[Y]").astype(str).tolist(),
                    period_returns(returns, periods.dates, "year")[1].tolist(),
                    strict=True,
                )
            )
            for book, returns in periods.returns.items()
        },
    }


def verdict_numbers(verdict: Verdict) -> dict[str, Any]:
    """The verdict with everything that it rests on."""
    return {
        "outcome": str(verdict.outcome),
        "reason": verdict.reason,
        **{
            f"benchmarks_{outcome.lower()}": sum(d.outcome is outcome for d in verdict.differences)
            for outcome in Outcome
        },
        "level": verdict.level,
        "spa_p_value": plain(verdict.spa_p_value),
        "overfitting_probability": plain(verdict.overfitting_probability),
        "evidence": {name: plain(x) for name, x in verdict.evidence._asdict().items()},
        "differences": [
            {name: plain(x) for name, x in asdict(difference).items()}
            for difference in verdict.differences
        ],
    }


def means(performance: Performance) -> dict[str, float | None]:
    """Each measure's mean over paths; None where it is undefined."""
    return {name: plain(float(np.mean(x))) for name, x in performance._asdict().items()}


def plain(value: Any) -> Any:
    """A number as JSON can hold it."""
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return str(value) if isinstance(value, str) else value


def recorded_books(result: SplitEvaluation) -> Mapping[str, Backtest]:
    """File name suffix -> book, of those whose days are kept."""
    books = {"": result.raw.agent}
    return books if result.managed is None else {**books, "_managed": result.managed.agent}


METRICS = "metrics.json"
FORMAT = 2  # of metrics.json and of what lies beside it


@dataclass(frozen=True)
class Evaluated:
    """One book of one run on one split."""

    name: str  # the run's folder
    conditions: str  # what the books were subject to: data, surface, costs, risk, contracts
    seed: int
    recipe: str  # what the run was configured to be, but for its seed
    first: np.datetime64  # the close that the first return starts from is before it
    dates: DateArray  # (T,)
    equity: FloatArray  # (T + 1,) dollars
    risk_free: FloatArray  # (T,)
    metrics: Mapping[str, float | None]


def daily_file(split: str, book: str) -> str:
    """Name of the table of one book's days."""
    return f"daily_{split}.parquet" if book == "policy" else f"daily_{split}_{book}.parquet"


def expand_runs(text: str) -> list[Path]:
    """Run folders named in a comma-separated list; the folder of a multirun stands for its runs."""
    runs: list[Path] = []
    for name in (part.strip() for part in text.split(",")):
        sweep = [path for path in (Path(name), Path("outputs") / name) if path.is_dir()]
        inside = (
            sorted((found.parent for found in sweep[0].glob(f"*/{MANIFEST}")), key=_by_job_number)
            if sweep and not (sweep[0] / MANIFEST).exists()
            else []
        )
        runs += [path.resolve() for path in inside] or [resolve_run(name)]
    twice = [path for path in runs if runs.count(path) > 1]
    if twice:
        raise InputError(f"run {shown_path(twice[0])} was named twice", "Name each run once")
    return runs


def _by_job_number(path: Path) -> tuple[int, str]:
    return (int(path.name), "") if path.name.isdigit() else (1 << 30, path.name)


def load_evaluated(run: Path, evaluation: str, split: str, book: str) -> Evaluated:
    """InputError where the run was not evaluated so."""
    folder = run / evaluation
    if not (folder / METRICS).is_file():
        raise InputError(
            f"{shown_path(run)} has no {evaluation}/{METRICS}",
            _how_to_evaluate(run),
        )
    written = read_json(folder / METRICS)
    if written.get("format") != FORMAT:
        raise InputError(
            f"{shown_path(folder / METRICS)} has format {written.get('format', 1)}, this version "
            f"reads {FORMAT}",
            f"Evaluate again: python -m experiments.evaluate run={shown_path(run)}",
        )
    try:
        metrics = written["splits"][split]["books"][book]
        equity_start = float(written["splits"][split]["initial_equity_usd"])
        paths = int(written["splits"][split]["paths"])
    except (KeyError, TypeError):
        raise InputError(
            f"{shown_path(folder)} has no book {book!r} on the {split} split",
            "Evaluate that split, or choose another split= or book=",
        ) from None
    if paths > 1:
        raise InputError(
            f"{shown_path(folder)} holds {paths} simulated paths",
            "Runs are compared on one history; give data= when evaluating",
        )
    path = folder / daily_file(split, book)
    try:
        daily = pd.read_parquet(path, columns=["equity", "risk_free"])
    except Exception as error:
        raise InputError(f"{shown_path(path)} cannot be read ({error})", "Evaluate again") from None
    config = {name: value for name, value in load_run_config(run).items() if name != "seed"}
    return Evaluated(
        name=shown_path(run).removeprefix("outputs/"),
        conditions=str(written["conditions"]),
        seed=int(load_manifest(run)["seed"]),
        recipe=config_hash(config),
        first=np.datetime64(written["splits"][split]["first"]),
        dates=daily.index.to_numpy().astype("datetime64[D]"),
        equity=np.concatenate([[equity_start], daily["equity"].to_numpy(np.float64)]),
        risk_free=daily["risk_free"].to_numpy(np.float64),
        metrics=metrics,
    )


def has_book(run: Path, evaluation: str, split: str, book: str) -> bool:
    """Was this book of the run evaluated?"""
    return (run / evaluation / daily_file(split, book)).is_file()


def _how_to_evaluate(run: Path) -> str:
    others = sorted(path.parent.name for path in run.glob(f"evaluation*/{METRICS}"))
    if others:
        return f"Choose what is there: evaluation={others[0]}"
    return f"Evaluate it first: python -m experiments.evaluate run={shown_path(run)}"
