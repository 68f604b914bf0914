"""What a trained hedge costs on unseen paths beside the classical ones, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agents.baselines.hedging import HedgeRun, liabilities, run_hedge, whalley_wilmott_width
from agents.policy import Policy, Trader
from conf.types import DateArray, FloatArray, IntArray
from envs.core.batch import Window
from envs.core.features import Scaling
from envs.hedging.env import HedgingKernel, band_edges
from envs.hedging.market import HedgingMarket, HedgingSettings
from experiments.environments.hedging import HedgingSetup
from experiments.evaluation.open_run import TestedRun
from experiments.evaluation.results import FORMAT, plain
from experiments.evaluation.split import AGENT
from experiments.runs.record import load_manifest
from experiments.runs.trials import count_trials
from experiments.statistics.hedging_verdict import HedgeVerdict, compare_hedges

UNSEEN_PATHS = 100_000
MOST_RESAMPLES = 400
BLOCK_LIVES = 3  # liabilities that overlap are drawn in blocks of so many lives
_GRID = 61  # prices of a picture of the no-trade region
_REGION_AT = (0.25, 0.5, 0.75)  # shares of the liability's life; the last trade is shown as well
_REGION_DEVIATIONS = 2.5  # of its whole life
# By the share of liabilities that cost less.
_EXAMPLES = {
    1.0: "worst of {}",
    0.95: "worse than 95 %",
    0.5: "median",
    0.0: "best",
}


@dataclass(frozen=True)
class HedgeRow:
    """One hedge over all unseen liabilities, in prices of the liability."""

    name: str
    mean: float  # of what a liability costs
    deviation: float
    error: float  # deviation of the cost less what was paid to trade
    paid: float  # mean of what trading costs
    objective: float


Edges = tuple[FloatArray, FloatArray]  # lowest and highest holding, shares a unit


@dataclass(frozen=True)
class NoTradeRegion:
    """Where a hedger does not trade, against the price, some sessions before the end."""

    sessions_left: int
    spot_over_start: FloatArray  # (G,)
    delta: FloatArray  # (G,) shares
    learned: Edges  # (G,) each
    whalley_wilmott: Edges


@dataclass(frozen=True)
class HedgedPath:
    """One liability, day by day; holdings are shares a unit, from each close to the next."""

    title: str
    cost: float  # in prices of the liability
    paid: float  # of it to trade
    holding: FloatArray  # (L,)
    delta: FloatArray  # (L,)
    band: Edges | None  # (L,) each, NaN where nothing can be traded; None where there is no band


@dataclass(frozen=True)
class HedgingEvaluation:
    """A learned hedge and the classical ones on the same paths."""

    header: Mapping[str, Any]
    rows: tuple[HedgeRow, ...]  # the agent first
    costs: Mapping[str, FloatArray]  # name -> (N,) what each liability cost
    paid: Mapping[str, FloatArray]  # name -> (N,) of it to trade
    verdict: HedgeVerdict
    num_trials: int
    regions: tuple[NoTradeRegion, ...]  # from early to late; none but for a band of the underlying
    examples: tuple[HedgedPath, ...]  # the agent's, the worst first
    unseen: str  # what the paths are


def evaluate_hedging(
    tested: TestedRun, split: str, *, resamples: int, paths: int | None = None
) -> HedgingEvaluation:
    """On newly simulated paths (UNSEEN_PATHS) or, of real data, on liabilities of a split.

    There one is sold at every session; those that overlap are accounted for (`BLOCK_LIVES`).
    """
    setup = tested.setup
    if not isinstance(setup, HedgingSetup):
        raise TypeError(f"a {type(setup).__name__} is no setup of hedging")
    env, life = setup.settings.env, setup.settings.env.episode.sessions
    count = UNSEEN_PATHS if paths is None else paths
    is_simulated = setup.unseen(count) is not None

    def markets() -> Iterator[tuple[HedgingMarket, Window]]:
        """The same each time."""
        return setup.unseen(count) or setup.sold_daily(split)

    runs: dict[str, list[HedgeRun]] = {}
    sold: list[DateArray] = []
    for market, window in markets():
        sold.append(market.history.dates[liabilities(market, env, window)[0]])
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
    # Blocks are of liabilities that follow each other; simulated ones have no order.
    order: Any = slice(None) if is_simulated else np.argsort(np.concatenate(sold), kind="stable")
    lost = {name: run.lost[:, order] for name, run in whole.items()}
    verdict = compare_hedges(
        lost[AGENT],
        {name: series for name, series in lost.items() if name != AGENT},
        env.objective,
        reps=resamples,
        mean_block=1.0 if is_simulated else float(BLOCK_LIVES * life),
    )
    costs = {name: run.lost.sum(axis=0) for name, run in whole.items()}
    usual = np.append(0.0, lost[AGENT].mean(axis=1).cumsum())
    rows = tuple(_row(name, run, env.objective(run.lost)) for name, run in whole.items())
    return HedgingEvaluation(
        header={**tested.header(), "training": load_manifest(tested.run)["config_hash"]},
        rows=rows,
        costs=costs,
        paid={name: run.paid for name, run in whole.items()},
        verdict=verdict,
        num_trials=max(count_trials(tested.run, setup, split).num_trials, 1),
        regions=_regions(setup, tested.policy, usual) if _has_band(env) else (),
        examples=tuple(_examples(tested.policy, env, markets(), costs[AGENT])),
        unseen="newly simulated" if is_simulated else f"the {split} split",
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
    error = float((cost - run.paid).std())
    return HedgeRow(
        name, float(cost.mean()), float(cost.std()), error, float(run.paid.mean()), objective
    )


def _has_band(options: HedgingSettings) -> bool:
    """Whether an action is one band, of the underlying."""
    return options.action != "holding" and not options.hedges


def _examples(
    policy: Policy,
    options: HedgingSettings,
    markets: Iterator[tuple[HedgingMarket, Window]],
    costs: FloatArray,
) -> Iterator[HedgedPath]:
    """The worst of all liabilities, the median and others, by what they cost."""
    order, first = np.argsort(costs), 0
    chosen = {
        int(order[round(share * (len(costs) - 1))]): title.format(f"{len(costs):,}")
        for share, title in _EXAMPLES.items()
    }
    found: dict[int, HedgedPath] = {}
    for market, window in markets:
        start, path = liabilities(market, options, window)
        own = {at: title for at, title in chosen.items() if first <= at < first + len(start)}
        if own:
            at = np.array([*own]) - first
            followed = _followed(policy, options, market, window, start[at], path[at])
            found |= {
                at: HedgedPath(title, *each)
                for (at, title), each in zip(own.items(), followed, strict=True)
            }
        first += len(start)
    return (found[at] for at in chosen)


def _followed(
    policy: Policy,
    options: HedgingSettings,
    market: HedgingMarket,
    window: Window,
    start: IntArray,
    path: IntArray,
) -> Iterator[tuple[float, float, FloatArray, FloatArray, Edges | None]]:
    """Cost, paid, holding, delta and band of the policy's hedge of each of these liabilities."""
    life = options.episode.sessions
    kernel = HedgingKernel(market, options, window, len(start), random_start=False)
    observation = kernel.place(start, path, start + life)
    state, begins, days = None, np.ones(len(start), np.bool_), []
    cost = np.zeros(len(start))
    for t in range(life):
        action, state = policy.predict(observation, state, begins, deterministic=True)
        delta, edges = market.delta[path, start + t], np.full((2, len(start)), np.nan)
        closed = market.market_closed
        if _has_band(options):
            edges[:] = band_edges(action.astype(np.float64), delta)
            edges[:, np.zeros_like(begins) if closed is None else closed[path, start + t]] = np.nan
        result = kernel.step(action)
        days.append([kernel.exposures()["holding"], delta, *edges])
        cost -= result.reward / options.reward.weights.portfolio_return
        observation, begins = result.observation, np.zeros_like(begins)
    paid = kernel.ledger.costs / market.premium[path, start]
    for k, series in enumerate(np.array(days).transpose(2, 1, 0)):
        holding, delta, low, high = series
        band = (low, high) if _has_band(options) else None
        yield float(cost[k]), float(paid[k]), holding, delta, band


def _regions(setup: HedgingSetup, policy: Policy, usual: FloatArray) -> tuple[NoTradeRegion, ...]:
    """Of a hedger who held delta and lost so far what is `usual` (L + 1,)."""
    env, history = setup.settings.env, setup.market.history
    life, every = env.episode.sessions, env.rebalance_every
    shown = sorted({round(share * life) // every * every for share in _REGION_AT} | {life - every})
    cut = history.sessions(0, life + 1).first_paths(1)
    vol = float(cut.implied_vol[0, 0]) * np.sqrt(life / history.sessions_per_year)
    ratio = np.exp(np.linspace(-_REGION_DEVIATIONS, _REGION_DEVIATIONS, _GRID) * vol)
    # At an even pace to the session that is looked at, on a path for each price and session.
    close = np.full((len(shown) * _GRID, life + 1), float(cut.close[0, 0]))
    for number, session in enumerate(shown):
        passed = np.minimum(np.arange(life + 1) / max(session, 1), 1.0)
        close[number * _GRID : (number + 1) * _GRID] *= ratio[:, None] ** passed
    market = setup.settings.build(
        replace(
            cut,
            open=close,
            high=close,
            low=close,
            close=close,
            volume=np.zeros_like(close),
            implied_vol=np.broadcast_to(cut.implied_vol, close.shape),
            extras={},
        )
    )
    width = whalley_wilmott_width(market, env, setup.fitted.whalley_wilmott)
    regions, scaling = [], Scaling(market.own_features)
    for number, session in enumerate(shown):
        rows = slice(number * _GRID, (number + 1) * _GRID)
        state, begins = None, np.ones(_GRID, np.bool_)
        for now in range(session + 1):
            delta = market.delta[rows, now]
            own = scaling.apply(np.column_stack([delta, np.full(_GRID, usual[now])]))
            seen = np.concatenate([market.observed[rows, now], own], axis=-1)
            action, state = policy.predict(seen, state, begins, deterministic=True)
            begins = np.zeros_like(begins)
        learned = band_edges(action.astype(np.float64), delta)
        classical = delta - width[rows, session], delta + width[rows, session]
        regions.append(NoTradeRegion(life - session, ratio, delta, learned, classical))
    return tuple(regions)
