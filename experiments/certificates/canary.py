"""Canaries: no edge is shown where there is none, and one that was planted is found.

Where nothing can be earned but the rate, and trading costs, a trained agent must not be told that
it OUTPERFORMS: in as many markets and with as many agents as asked for. Where every option is sold
far above its worth, or one asset rises far more than its risk, the same small network must
learn in a few thousand steps what it did not know before: on days that it has not seen its Sharpe
ratio must be better than that of cash, and it must earn more than the untrained network, both
beyond luck. (The Sharpe ratio of an untrained network, whose positions are tiny but may happen to
lie on the right side, says nothing.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import beta

from agents.policy import Policy
from agents.ppo.parallel import torch_threads
from conf.settings import settings_to_json
from conf.types import FloatArray
from envs.allocation.market import ALLOCATION_REWARD
from experiments.certificates.certificate import Certificate, Certification
from experiments.certificates.determinism import quiet
from experiments.certificates.setups import SMALL_AGENT
from experiments.environments.opening import open_market
from experiments.environments.setup import MarketSetup
from experiments.evaluation.split import evaluate_split
from experiments.runs.settings import RunSettings, run_settings
from experiments.runs.training import build_model
from experiments.runs.trials import TrialCount
from experiments.statistics.comparison import Outcome, Verdict, compare
from risk.metrics import SESSIONS_PER_YEAR, simple_returns

Kind = Literal["options", "allocation"]
KINDS: tuple[Kind, ...] = ("options", "allocation")

RESAMPLES = 500
LEVEL = 0.95
SEEN_ON = "test"  # the years after those that the agent learnt on
EDGE_PATHS = 8
LEARNT_ERRORS = 3.0
TRUE_VOL, OVERPRICED_VOL = 0.20, 0.40
FAIR_DRIFT, LOUD_DRIFT = 0.025, 2.0
SESSIONS = {"options": 700, "allocation": 600}

Train = Callable[[MarketSetup, RunSettings, int], Policy]


@dataclass(frozen=True)
class Trained:
    """An agent that was trained where there is no edge, and what was said of it."""

    seed: int
    outcome: Outcome
    sharpe: float


def canary(wanted: Certification) -> list[Certificate]:
    """Both canaries of both environments."""
    profile, seed = wanted.profile, wanted.seed
    with quiet(), torch_threads(1):
        return [
            *(no_edge(kind, seed, profile.canary_seeds, profile.canary_steps) for kind in KINDS),
            *(edge(kind, seed, profile.canary_steps) for kind in KINDS),
        ]


def no_edge(
    kind: Kind, first_seed: int, seeds: int, steps: int, train: Train | None = None
) -> Certificate:
    """PASS where no agent is said to beat everybody; each has a market and a seed of its own."""
    found = [_without_edge(kind, first_seed + k, steps, train or trained) for k in range(seeds)]
    beats = sum(one.outcome is Outcome.OUTPERFORMS for one in found)
    # Clopper and Pearson's upper limit of the share of agents that would be told so.
    limit = float(beta.ppf(LEVEL, beats + 1, seeds - beats)) if beats < seeds else 1.0
    what = (
        f"of {seeds} agents without an edge were told that they beat everybody: a rate of "
        f"{beats / seeds:.0%}, below {limit:.0%} with {LEVEL:.0%} confidence"
    )
    details: dict[str, Any] = {
        "false_positive_rate": beats / seeds,
        "upper_limit": limit,
        "agents": [
            {"seed": one.seed, "verdict": str(one.outcome), "sharpe": one.sharpe} for one in found
        ],
    }
    return Certificate(f"canary.no_edge_{kind}", beats == 0, float(beats), what, details)


def edge(kind: Kind, seed: int, steps: int, train: Train | None = None) -> Certificate:
    """PASS where the trained network beats cash and earns more than it did untrained."""
    setup, settings = _opened(_config(kind, seed, planted=True))
    before = setup.judge(trained(setup, settings, 0), SEEN_ON)
    after = setup.judge((train or trained)(setup, settings, steps), SEEN_ON)
    returns = simple_returns(after.equity)
    cash = np.broadcast_to(after.risk_free, returns.shape)
    verdict = compare(
        returns,
        {"cash": cash},
        after.risk_free,
        reps=RESAMPLES,
        ruined=bool(after.ruined.any()),
    )
    sharpe = verdict.evidence.sharpe
    (to_cash,) = verdict.differences
    yearly, learnt = _earned_more(returns - simple_returns(before.equity))
    what = (
        f"annual Sharpe ratio on unseen days after {steps:,} steps, at least {to_cash.low:.2f} "
        f"with {LEVEL:.0%} confidence; earns {yearly:+.0%} of equity a year more than untrained, "
        f"{learnt:.1f} standard errors ({LEARNT_ERRORS:g} asked for)"
    )
    details = {
        "verdict": str(verdict.outcome),
        "reason": verdict.reason,
        "at_least": to_cash.low,
        "return_above_untrained": yearly,
        "standard_errors": learnt,
    }
    passed = verdict.outcome is Outcome.OUTPERFORMS and learnt >= LEARNT_ERRORS
    return Certificate(f"canary.edge_{kind}", passed, sharpe, what, details)


def _earned_more(daily: FloatArray) -> tuple[float, float]:
    """Mean of differences of daily returns (P, T), a year and in standard errors."""
    # Days of markets without memory: their errors are independent.
    error = float(daily.std(ddof=1) / np.sqrt(daily.size))
    mean = float(daily.mean())
    return SESSIONS_PER_YEAR * mean, mean / error if error > 0.0 else 0.0


def trained(setup: MarketSetup, settings: RunSettings, steps: int) -> Policy:
    """A fresh agent after so many steps in the training years."""
    model = build_model(setup, settings)
    if steps:
        model.learn(steps)
    policy = model.policy
    policy.set_training_mode(False)
    return policy


def _without_edge(kind: Kind, seed: int, steps: int, train: Train) -> Trained:
    setup, settings = _opened(_config(kind, seed, planted=False))
    policy = train(setup, settings, steps)
    comparison = evaluate_split(
        SEEN_ON, policy, setup, lambda done: TrialCount(1, None), RESAMPLES
    ).raw
    verdict: Verdict = comparison.verdict
    return Trained(seed, verdict.outcome, verdict.evidence.sharpe)


def _opened(config: dict[str, Any]) -> tuple[MarketSetup, RunSettings]:
    settings = run_settings(config)
    return open_market(settings.market), settings


def _config(kind: Kind, seed: int, *, planted: bool) -> dict[str, Any]:
    """A run in a market that is fair, or in one with an edge that nobody can overlook."""
    sections = _options_config(planted) if kind == "options" else _allocation_config(planted)
    data = {"seed": seed, "paths": EDGE_PATHS if planted else 1, "sessions": SESSIONS[kind]}
    sections["data"] |= data
    # Of softmax_gaussian: wide enough to try other weights, of the Gaussian: narrow enough.
    spread = SMALL_AGENT["log_std_init"] if kind == "options" else 0.0
    return {
        "experiment": "certify",
        "seed": seed,
        "num_envs": 8,
        "threads": 1,
        **sections,
        "risk": {"enabled": False},
        "agent": {"kind": "recurrent_ppo", **SMALL_AGENT, "log_std_init": spread},
        "callbacks": {"progress_bar": False},
    }


def _options_config(planted: bool) -> dict[str, Any]:
    return {
        "data": {"source": "synthetic", "model": "gbm", "gbm": {"vol_annual": TRUE_VOL}},
        "surface": {"kind": "flat", "vol_annual": OVERPRICED_VOL if planted else TRUE_VOL},
        "env": {"kind": "options", "episode": {"sessions": 30}},
        "costs": {"kind": "realistic"},
        "reward": {},
    }


def _allocation_config(planted: bool) -> dict[str, Any]:
    others = [FAIR_DRIFT] * 3
    drift = [LOUD_DRIFT, *others] if planted else [FAIR_DRIFT, *others]
    law = {"drift": drift, "vol_annual": 0.15, "correlation": 0.3}
    # Of returns alone: over thirty days the other terms are mostly luck.
    reward = settings_to_json(ALLOCATION_REWARD)
    reward["weights"] = dict.fromkeys(reward["weights"], 0.0) | {"portfolio_return": 100.0}
    return {
        "data": {"source": "panel_simulated", "model": "gbm", "assets": 4, "gbm": law},
        "surface": {"kind": "none"},
        "env": {"kind": "allocation", "episode": {"sessions": 30}},
        "costs": {"kind": "flat", "rate_bps": 10.0},
        "reward": reward,
    }
