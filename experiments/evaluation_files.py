"""What an evaluation leaves behind: `metrics.json` and the days of each book."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.backtest import Backtest
from experiments.episodes import Episodes
from experiments.evaluation import Contest, SplitResult
from experiments.risk_report import risk_report
from risk.comparison import Verdict
from risk.performance import Performance


def daily_table(done: Backtest, instruments: Sequence[str], book: int = 0) -> pd.DataFrame:
    """One book day by day: equity at the close, and what was done at the close before it."""
    columns: dict[str, NDArray[Any]] = {
        "equity": done.equity[book, 1:],
        "risk_free": done.risk_free,
        "index_return": done.index_return[book],
        "cost": done.cost[book],
        "traded": done.traded[book],
        "reward": done.reward[book],
        **{name: values[book] for name, values in done.exposures.items()},
        **{f"taken.{rule}": values[book] for rule, values in done.rules.items()},
        "guard": done.guard[book],
        **{f"quantity.{name}": done.quantity[book, :, i] for i, name in enumerate(instruments)},
        **{f"position.{name}": done.position[book, :, i] for i, name in enumerate(instruments)},
    }
    return pd.DataFrame(columns, index=pd.DatetimeIndex(done.dates[1:], name="date"))


def split_numbers(result: SplitResult) -> dict[str, Any]:
    """Everything measured on a split, as JSON can hold it: undefined is null, never a number.

    Measures are means over paths.
    """
    raw, managed = result.raw, result.managed
    books = {name: means(performance) for name, performance in raw.performance.items()}
    if managed is not None:
        books["managed"] = means(managed.performance["policy"])
    done = raw.agent
    return {
        "first": str(done.dates[0]),
        "last": str(done.dates[-1]),
        "initial_equity_usd": float(done.equity[0, 0]),
        "paths": int(done.equity.shape[0]),
        "ruined": int(done.ruined.sum()),
        "books": books,
        "contest": contest_numbers(raw),
        "managed_contest": None if managed is None else contest_numbers(managed),
        "managed_books": None
        if managed is None
        else {name: means(performance) for name, performance in managed.performance.items()},
        "risk": None if managed is None else risk_report(managed.agent),
    }


def contest_numbers(contest: Contest) -> dict[str, Any]:
    """Verdict, attribution, what was held, and scorecard of one contest."""
    found = contest.attribution
    shares = found.residual_share[np.isfinite(found.residual_share)]
    return {
        "verdict": verdict_numbers(contest.verdict),
        "attribution_usd": {k: float(x.sum(axis=-1).mean()) for k, x in found.terms.items()},
        "attribution_residual_share": float(shares.mean()) if shares.size else None,
        **contest.held,
        "episodes": {name: episode_numbers(found) for name, found in contest.episodes.items()},
        "scorecard": [line.plain() for line in contest.scorecard],
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


def verdict_numbers(verdict: Verdict) -> dict[str, Any]:
    """The verdict with everything that it rests on."""
    return {
        "word": str(verdict.word),
        "reason": verdict.reason,
        "level": verdict.level,
        "spa_p_value": plain(verdict.spa_p_value),
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


def recorded_books(result: SplitResult) -> Mapping[str, Backtest]:
    """File name suffix -> book, of those whose days are kept."""
    books = {"": result.raw.agent}
    return books if result.managed is None else {**books, "_managed": result.managed.agent}
