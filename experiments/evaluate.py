"""Evaluate a trained policy: `python -m experiments.evaluate run=outputs/production/<date>/<time>`.

Any market can be put in the place of the run's own: data=csv data.path=prices.csv, surface=flat,
costs=flat. The result goes to `evaluation/` in the run folder.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import DictConfig
from pydantic import Field
from rich.console import Console

from agents.managed import RiskManagedPolicy
from agents.policy import Policy
from agents.policy_file import DESCRIPTION, LoadedPolicy, load_policy
from envs.batch import Window
from envs.option_market import OptionMarket
from envs.options.tape import OptionTape
from experiments.backtest import Backtest, cash_equity, index_equity, run_backtest
from experiments.cli import launch
from experiments.plots import equity_figure, png_of
from experiments.risk_report import risk_report, risk_table
from experiments.run_config import config_hash, plain_config
from experiments.run_folder import resolve_run, shown_path
from experiments.runinfo import load_run_config
from experiments.session import Session, open_session
from experiments.settings import market_settings
from experiments.tables import performance_table
from risk.errors import InputError
from risk.files import new_folder, write_json
from risk.performance import Performance, summarise
from risk.settings import build_settings, settings

log = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]

POLICY_NAME, MANAGED_NAME, INDEX_NAME, CASH_NAME = "policy", "managed", "buy_and_hold", "cash"

# Sections that can be put in the place of the run's own, and the key that names the choice.
REPLACEABLE = {"data": "source", "surface": "kind", "costs": "kind", "risk": ""}


@settings
class EvaluateSettings:
    """What to evaluate, where, and which of its policies."""

    run: str = Field(min_length=1)
    split: Literal["train", "validation", "test", "all"] | None = None
    policy: Literal["best", "last"] = "best"


@dataclass(frozen=True)
class SplitResult:
    """One stretch of market: the policy's days and everybody's measures."""

    name: str
    backtest: Backtest
    managed: Backtest | None  # the same under the risk module, where that is on
    performance: dict[str, Performance]  # by name of the book
    equity: dict[str, FloatArray]  # likewise, of the first path, (T + 1,) dollars


def evaluate(config: DictConfig) -> float:
    """Run the policy through whole splits; print and write its metrics beside the benchmarks."""
    plain = plain_config(config)
    own_keys = {name: value for name, value in plain.items() if name not in REPLACEABLE}
    asked: EvaluateSettings = build_settings(EvaluateSettings, own_keys, "evaluate")
    run = resolve_run(asked.run)
    own = load_run_config(run)
    replaced = {k: plain[k] for k in REPLACEABLE if plain.get(k) is not None}
    wanted = market_settings({**own, **replaced})
    loaded_policy = load_chosen(run, asked.policy)
    session = open_session(wanted)
    check_policy_fits(loaded_policy, session.market)
    names = [asked.split] if asked.split else ["validation", "test"]
    results = [evaluate_split(name, loaded_policy.policy, session) for name in names]
    folder = run / _folder_name(asked, own, replaced)
    header = describe(run, asked, session, loaded_policy)
    write_results(folder, header, results, session.market.tape)
    _print(header, results, folder)
    return float(np.mean(results[0].performance[POLICY_NAME].sharpe))


def load_chosen(run: Path, which: str) -> LoadedPolicy:
    """The best or the last policy of a run; InputError if that was not written."""
    folder = run / "best" if which == "best" else run
    if not (folder / DESCRIPTION).is_file():
        other = "last" if which == "best" else "best"
        raise InputError(
            f"{run} has no {which} policy",
            f"Let the run finish (resume={run}) or choose policy={other}",
        )
    return load_policy(folder)


def check_policy_fits(loaded: LoadedPolicy, market: OptionMarket) -> None:
    """InputError where the policy was made for other observations or another book."""
    policy = loaded.policy
    seen, made_for = len(market.observed.features), policy.observation_space.shape
    if made_for != (seen,):
        raise InputError(
            f"the policy was trained on observations of shape {made_for}, this market gives "
            f"({seen},)",
            "Use the run's own env settings, extra blocks included",
        )


def evaluate_split(name: str, policy: Policy, session: Session) -> SplitResult:
    """The policy, buy-and-hold of the index, and cash over one whole split."""
    window, env, risk = session.window(name), session.settings.env, session.settings.risk
    done = run_backtest(policy, session.market, env, window)
    guarded = RiskManagedPolicy(policy, risk)
    managed = run_backtest(guarded, session.market, env, window) if risk.enabled else None
    initial = env.initial_equity_usd
    # A ruined book ends early; the benchmarks run to where it ended.
    ended = Window(window.start, window.start + len(done.dates))
    index = index_equity(session.loaded.history, ended, initial)
    cash = cash_equity(done.risk_free, initial)
    common: dict[str, Any] = {"dates": done.dates, "risk_free": done.risk_free}
    with_module = {} if managed is None else {MANAGED_NAME: managed}
    return SplitResult(
        name,
        done,
        managed,
        {
            POLICY_NAME: done.performance(),
            **{name: book.performance() for name, book in with_module.items()},
            INDEX_NAME: summarise(index, market_returns=done.index_return, **common),
            CASH_NAME: summarise(cash[None], **common),
        },
        {
            POLICY_NAME: done.equity[0],
            **{name: book.equity[0] for name, book in with_module.items()},
            INDEX_NAME: index[0],
            CASH_NAME: cash,
        },
    )


def describe(
    run: Path, asked: EvaluateSettings, session: Session, policy: LoadedPolicy
) -> dict[str, Any]:
    """What was evaluated on what, for the head of `metrics.json`."""
    history, wanted = session.loaded.history, session.settings
    trained_on = policy.metadata.get("fingerprint")
    return {
        "run": "/".join(run.parts[-3:]),
        "policy": asked.policy,
        "policy_step": policy.metadata.get("step"),
        "data": history.name,
        "data_fingerprint": history.fingerprint,
        "same_data_as_training": trained_on == history.fingerprint,
        "surface": wanted.surface.kind,
        "costs": wanted.env.costs.kind,
        "notices": list(session.loaded.notices),
    }


def write_results(
    folder: Path, header: Mapping[str, Any], results: list[SplitResult], tape: OptionTape
) -> None:
    """Write `metrics.json`, and days and picture of each split, all in one step."""
    with new_folder(folder) as temporary:
        for result in results:
            daily = daily_table(result.backtest, tape)
            daily.to_parquet(temporary / f"daily_{result.name}.parquet")
            if result.managed is not None:
                daily = daily_table(result.managed, tape)
                daily.to_parquet(temporary / f"daily_{result.name}_managed.parquet")
            curves = {name.replace("_", " "): curve for name, curve in result.equity.items()}
            title = f"{header['run']}, {result.name} years"
            figure = equity_figure(title, result.backtest.dates, curves)
            (temporary / f"equity_{result.name}.png").write_bytes(png_of(figure))
        write_json(
            temporary / "metrics.json",
            {**header, "splits": {result.name: _numbers(result) for result in results}},
        )


def daily_table(done: Backtest, tape: OptionTape, book: int = 0) -> pd.DataFrame:
    """One book day by day: equity at the close, and what was done at the close before it."""
    columns: dict[str, NDArray[Any]] = {
        "equity": done.equity[book, 1:],
        "risk_free": done.risk_free,
        "index_return": done.index_return[book],
        "cost": done.cost[book],
        "traded": done.traded[book],
        "reward": done.reward[book],
        **{name: values[book] for name, values in done.greeks.items()},
        **{f"taken.{rule}": values[book] for rule, values in done.rules.items()},
        "guard": done.guard[book],
        **{f"quantity.{s.name}": done.quantity[book, :, i] for i, s in enumerate(tape.slots)},
        **{f"position.{s.name}": done.position[book, :, i] for i, s in enumerate(tape.slots)},
    }
    return pd.DataFrame(columns, index=pd.DatetimeIndex(done.dates[1:], name="date"))


def _numbers(result: SplitResult) -> dict[str, Any]:
    """Means over paths; what is undefined is null, never a number."""
    dates = result.backtest.dates
    books = {}
    for name, performance in result.performance.items():
        means = {key: float(np.mean(values)) for key, values in performance._asdict().items()}
        books[name] = {key: x if np.isfinite(x) else None for key, x in means.items()}
    return {
        "first": str(dates[0]),
        "last": str(dates[-1]),
        "paths": int(result.backtest.equity.shape[0]),
        "ruined": int(result.backtest.ruined.sum()),
        "books": books,
        "risk": None if result.managed is None else risk_report(result.managed),
    }


def _folder_name(
    asked: EvaluateSettings, own: Mapping[str, Any], replaced: Mapping[str, Any]
) -> str:
    """`evaluation`, and behind it whatever differs from the plain one, so that both can stay."""
    changed = {
        section: replaced[section]
        for section in REPLACEABLE
        if section in replaced and replaced[section] != own.get(section)
    }
    names = [str(changed[s][REPLACEABLE[s]]) if REPLACEABLE[s] else s for s in changed]
    names += [asked.policy] if asked.policy != "best" else []
    names += [asked.split] if asked.split else []
    if changed:
        names.append(config_hash(changed)[:6])
    return "_".join(["evaluation", *names])


def _print(header: Mapping[str, Any], results: list[SplitResult], folder: Path) -> None:
    console = Console()
    console.print(
        f"{header['run']}: {header['policy']} policy (step {header['policy_step']}) on "
        f"{header['data']}, surface {header['surface']}, costs {header['costs']}"
    )
    for result in results:
        console.print(performance_table(result.name, result.backtest.dates, result.performance))
        if result.managed is not None:
            console.print(risk_table(risk_report(result.managed)))
        if result.backtest.ruined.any():
            console.print(f"{int(result.backtest.ruined.sum())} book(s) were ruined")
    console.print(f"written to {shown_path(folder)}")


def main() -> int:
    """Entry point of the command."""
    return launch(evaluate, "evaluate")


if __name__ == "__main__":
    sys.exit(main())
