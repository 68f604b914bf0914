"""Canaries: no edge is shown where there is none, and one that was planted is found.

Where nothing can be earned but the rate, and trading costs, no trained agent may be judged
OUTPERFORMS. Where every option is sold far above its worth, or one asset rises far more than its
risk, the same small network must learn in a few thousand steps what it did not know before: on
unseen days its Sharpe ratio must be better than that of cash, and it must earn more than the
untrained network, both beyond luck. (The Sharpe ratio of an untrained network, whose positions are
tiny but may happen to be on the right side, proves nothing.)
"""

from __future__ import annotations

from collections.abc import Callable
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
from experiments.certificates.small_environments import SMALL_AGENT
from experiments.environments.opening import open_market
from experiments.environments.setup import MarketSetup
from experiments.evaluation.split import evaluate_split
from experiments.runs.settings import RunSettings, run_settings
from experiments.runs.training import build_model
from experiments.runs.trials import TrialCount
from experiments.statistics.verdict import Outcome, Verdict, compare
from risk.metrics import SESSIONS_PER_YEAR, simple_returns

Kind = Literal["options", "allocation"]
KINDS: tuple[Kind, ...] = ("options", "allocation")

RESAMPLES = 500
LEVEL = 0.95
UNSEEN_SPLIT = "test"  # the years after those that the agent learnt on
EDGE_PATHS = 8
MIN_STANDARD_ERRORS = 3.0  # by which training must have raised returns
TRUE_VOL, OVERPRICED_VOL = 0.20, 0.40
FAIR_DRIFT, PLANTED_DRIFT = 0.025, 2.0
SESSIONS = {"options": 700, "allocation": 600}

Train = Callable[[MarketSetup, RunSettings, int], Policy]


def canary(certification: Certification) -> list[Certificate]:
    """Both canaries of both environments."""
    profile, seed = certification.profile, certification.seed
    with quiet(), torch_threads(1):
        return [
            *(no_edge(kind, seed, profile.canary_seeds, profile.canary_steps) for kind in KINDS),
            *(edge(kind, seed, profile.canary_steps) for kind in KINDS),
        ]


def trained(setup: MarketSetup, settings: RunSettings, steps: int) -> Policy:
    """A fresh agent after so many steps in the training years."""
    model = build_model(setup, settings)
    if steps:
        model.learn(steps)
    policy = model.policy
    policy.set_training_mode(False)
    return policy


def no_edge(
    kind: Kind, first_seed: int, seeds: int, steps: int, train: Train = trained
) -> Certificate:
    """PASS where no agent is judged OUTPERFORMS; each has a market and a seed of its own."""
    verdicts = {
        seed: _verdict_without_edge(kind, seed, steps, train)
        for seed in range(first_seed, first_seed + seeds)
    }
    false = sum(verdict.outcome is Outcome.OUTPERFORMS for verdict in verdicts.values())
    # Clopper and Pearson's upper limit of the share of agents that would be judged so.
    limit = float(beta.ppf(LEVEL, false + 1, seeds - false)) if false < seeds else 1.0
    what = (
        f"of {seeds} agents without an edge were judged {Outcome.OUTPERFORMS}: a rate of "
        f"{false / seeds:.0%}, below {limit:.0%} with {LEVEL:.0%} confidence"
    )
    details: dict[str, Any] = {
        "false_positive_rate": false / seeds,
        "upper_limit": limit,
        "agents": [
            {"seed": seed, "verdict": str(verdict.outcome), "sharpe": verdict.evidence.sharpe}
            for seed, verdict in verdicts.items()
        ],
    }
    return Certificate(f"canary.no_edge_{kind}", false == 0, float(false), what, details)


def edge(kind: Kind, seed: int, steps: int, train: Train = trained) -> Certificate:
    """PASS where the trained network beats cash and earns more than it did untrained."""
    setup, settings = _opened(kind, seed, planted=True)
    before = setup.judge(trained(setup, settings, 0), UNSEEN_SPLIT)
    after = setup.judge(train(setup, settings, steps), UNSEEN_SPLIT)
    returns = simple_returns(after.equity)
    verdict = compare(
        returns,
        {"cash": np.broadcast_to(after.risk_free, returns.shape)},
        after.risk_free,
        reps=RESAMPLES,
        ruined=bool(after.ruined.any()),
    )
    (to_cash,) = verdict.differences
    yearly, standard_errors = _mean_gain(returns - simple_returns(before.equity))
    what = (
        f"annual Sharpe ratio on unseen days after {steps:,} steps, at least {to_cash.low:.2f} "
        f"with {LEVEL:.0%} confidence; earns {yearly:+.0%} of equity a year more than untrained, "
        f"{standard_errors:.1f} standard errors ({MIN_STANDARD_ERRORS:g} required)"
    )
    details = {
        "verdict": str(verdict.outcome),
        "reason": verdict.reason,
        "at_least": to_cash.low,
        "return_above_untrained": yearly,
        "standard_errors": standard_errors,
    }
    passed = verdict.outcome is Outcome.OUTPERFORMS and standard_errors >= MIN_STANDARD_ERRORS
    return Certificate(f"canary.edge_{kind}", passed, verdict.evidence.sharpe, what, details)


def _mean_gain(daily: FloatArray) -> tuple[float, float]:
    """Mean of differences of daily returns (P, T), a year and in standard errors."""
    # Days of markets without memory: their errors are independent.
    error = float(daily.std(ddof=1) / np.sqrt(daily.size))
    mean = float(daily.mean())
    return SESSIONS_PER_YEAR * mean, mean / error if error > 0.0 else 0.0


def _verdict_without_edge(kind: Kind, seed: int, steps: int, train: Train) -> Verdict:
    setup, settings = _opened(kind, seed, planted=False)
    policy = train(setup, settings, steps)
    result = evaluate_split(UNSEEN_SPLIT, policy, setup, lambda _: TrialCount(1, None), RESAMPLES)
    return result.raw.verdict


def _opened(kind: Kind, seed: int, *, planted: bool) -> tuple[MarketSetup, RunSettings]:
    """A run in a market that is fair, or in one with an edge that is hard to overlook."""
    sections = _options_config(planted) if kind == "options" else _allocation_config(planted)
    paths = EDGE_PATHS if planted else 1
    sections["data"] |= {"seed": seed, "paths": paths, "sessions": SESSIONS[kind]}
    # Of softmax_gaussian: wide enough to try other weights, of the Gaussian: narrow enough.
    spread = SMALL_AGENT["log_std_init"] if kind == "options" else 0.0
    settings = run_settings(
        {
            "experiment": "certify",
            "seed": seed,
            "num_envs": 8,
            "threads": 1,
            **sections,
            "risk": {"enabled": False},
            "agent": {"kind": "recurrent_ppo", **SMALL_AGENT, "log_std_init": spread},
            "callbacks": {"progress_bar": False},
        }
    )
    return open_market(settings.market), settings


def _options_config(planted: bool) -> dict[str, Any]:
    return {
        "data": {"source": "synthetic", "model": "gbm", "gbm": {"vol_annual": TRUE_VOL}},
        "surface": {"kind": "flat", "vol_annual": OVERPRICED_VOL if planted else TRUE_VOL},
        "env": {"kind": "options", "episode": {"sessions": 30}},
        "costs": {"kind": "realistic"},
        "reward": {},
    }


def _allocation_config(planted: bool) -> dict[str, Any]:
    drift = [PLANTED_DRIFT if planted else FAIR_DRIFT, *[FAIR_DRIFT] * 3]
    gbm = {"drift": drift, "vol_annual": 0.15, "correlation": 0.3}
    # Of returns alone: over thirty days the other terms are mostly luck.
    reward = settings_to_json(ALLOCATION_REWARD)
    reward["weights"] = dict.fromkeys(reward["weights"], 0.0) | {"portfolio_return": 100.0}
    return {
        "data": {"source": "panel_simulated", "model": "gbm", "assets": 4, "gbm": gbm},
        "surface": {"kind": "none"},
        "env": {"kind": "allocation", "episode": {"sessions": 30}},
        "costs": {"kind": "flat", "rate_bps": 10.0},
        "reward": reward,
    }
