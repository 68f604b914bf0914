"""What a trained hedge costs on unseen paths beside the classical ones, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agents.baselines.hedging import HedgeRun, run_hedge, whalley_wilmott_width
from agents.policy import Policy, Trader
from conf.types import FloatArray
from envs.core.batch import Window
from envs.core.features import Scaling
from envs.hedging.env import band_edges
from envs.hedging.market import HedgingMarket
from experiments.environments.hedging import HedgingSetup
from experiments.evaluation.open_run import TestedRun
from experiments.evaluation.results import FORMAT, plain
from experiments.evaluation.split import AGENT
from experiments.runs.record import load_manifest
from experiments.runs.trials import count_trials
from experiments.statistics.hedging_verdict import HedgeVerdict, compare_hedges

UNSEEN_PATHS = 100_000
MOST_RESAMPLES = 400
_GRID = 61


@dataclass(frozen=True)
class HedgeRow:
    """One hedge over all unseen liabilities, in prices of the liability."""

    name: str
    mean: float  # of what a liability costs
    deviation: float
    paid: float  # mean of what trading costs
    objective: float


@dataclass(frozen=True)
class NoTradeRegion:
    """Where a hedger does not trade, in the middle of the liability's life, against the price."""

    spot_over_start: FloatArray  # (G,)
    delta: FloatArray  # (G,) shares
    learned: tuple[FloatArray, FloatArray]  # lowest and highest holding
    whalley_wilmott: tuple[FloatArray, FloatArray]


@dataclass(frozen=True)
class HedgingEvaluation:
    """A learned hedge and the classical ones on the same paths."""

    header: Mapping[str, Any]
    rows: tuple[HedgeRow, ...]  # the agent first
    costs: Mapping[str, FloatArray]  # name -> (N,) what each liability cost
    verdict: HedgeVerdict
    num_trials: int
    region: NoTradeRegion | None  # None where the action is no band
    unseen: str  # what the paths are


def evaluate_hedging(
    tested: TestedRun, split: str, *, resamples: int, paths: int | None = None
) -> HedgingEvaluation:
    """On newly simulated paths (UNSEEN_PATHS) or, of real data, on the split's liabilities."""
    setup = tested.setup
    if not isinstance(setup, HedgingSetup):
        raise TypeError(f"a {type(setup).__name__} is no setup of hedging")
    env = setup.settings.env
    simulated = setup.unseen(UNSEEN_PATHS if paths is None else paths)
    markets: Iterator[tuple[HedgingMarket, Window]]
    markets = iter([(setup.market, setup.window(split))]) if simulated is None else simulated
    runs: dict[str, list[HedgeRun]] = {}
    for market, window in markets:
        traders: dict[str, Trader] = {AGENT: tested.policy}
        traders |= {hedge.name: hedge.policy for hedge in setup.hedges_on(market)}
        for name, trader in traders.items():
            runs.setdefault(name, []).append(run_hedge(trader, market, env, window))
    whole = {
        name: HedgeRun(
            np.concatenate([run.lost for run in parts], axis=1),
            np.concatenate([run.paid for run in parts]),
        )
        for name, parts in runs.items()
    }
    lost = {name: run.lost for name, run in whole.items()}
    verdict = compare_hedges(
        lost[AGENT],
        {name: series for name, series in lost.items() if name != AGENT},
        env.objective,
        reps=resamples,
    )
    rows = tuple(_row(name, run, env.objective(run.lost)) for name, run in whole.items())
    return HedgingEvaluation(
        header={**tested.header(), "training": load_manifest(tested.run)["config_hash"]},
        rows=rows,
        costs={name: series.sum(axis=0) for name, series in lost.items()},
        verdict=verdict,
        num_trials=max(count_trials(tested.run, setup, split).num_trials, 1),
        region=_region(setup, tested.policy) if env.action == "band" else None,
        unseen=f"the {split} split" if simulated is None else "newly simulated",
    )


def hedging_numbers(evaluation: HedgingEvaluation) -> dict[str, Any]:
    """Everything that was measured, as JSON can hold it."""
    return {
        "format": FORMAT,
        **evaluation.header,
        "unseen": evaluation.unseen,
        "paths": evaluation.verdict.paths,
        "trials": evaluation.num_trials,
        "hedges": plain(evaluation.rows),
        "verdict": plain(evaluation.verdict),
    }


def _row(name: str, run: HedgeRun, objective: float) -> HedgeRow:
    cost = run.lost.sum(axis=0)
    return HedgeRow(name, float(cost.mean()), float(cost.std()), float(run.paid.mean()), objective)


def _region(setup: HedgingSetup, policy: Policy) -> NoTradeRegion:
    """Of a hedger who held delta and lost nothing, the index having moved at an even pace."""
    env, history = setup.settings.env, setup.market.history
    life = env.episode.sessions
    middle = life // 2 - (life // 2) % env.rebalance_every
    cut = history.sessions(0, life + 1)
    vol = float(history.implied_vol[0, 0]) * np.sqrt(life / 2 / history.sessions_per_year)
    ratio = np.exp(np.linspace(-3.0, 3.0, _GRID) * vol)
    passed = np.minimum(np.arange(life + 1) / max(middle, 1), 1.0)
    close = float(cut.close[0, 0]) * ratio[:, None] ** passed
    grid = replace(
        cut,
        open=close,
        high=close,
        low=close,
        close=close,
        volume=np.zeros_like(close),
        implied_vol=np.broadcast_to(cut.implied_vol[:1], close.shape),
        extras={},
    )
    market = setup.settings.build(grid)
    scaling, state, begins = Scaling(market.features[-2:]), None, np.ones(_GRID, np.bool_)
    for session in range(middle + 1):
        delta = market.delta[:, session]
        own = scaling.apply(np.column_stack([delta, np.zeros(_GRID)]))
        seen = np.concatenate([market.observed[:, session], own], axis=-1)
        action, state = policy.predict(seen, state, begins, deterministic=True)
        begins = np.zeros_like(begins)
    width = whalley_wilmott_width(market, env, setup.fitted.whalley_wilmott)[:, middle]
    return NoTradeRegion(
        ratio, delta, band_edges(action.astype(np.float64), delta), (delta - width, delta + width)
    )
