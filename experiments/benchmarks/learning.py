"""Benchmark of learning: CPU seconds until an agent is worth the best static book of a world.

The world is the GARCH of `experiments.evaluation.skill`. Every agent learns on its training paths,
with the utility that skill is measured by and at the costs that there are, and is measured on the
unseen ones now and then, at times a quarter apart; what measuring takes is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from stable_baselines3.common.logger import Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from agents.factory import PathwiseAgentSettings, RecurrentPPOSettings, build_agent
from agents.pathwise.objectives import MeanVariance
from agents.pathwise.trainer import PathwiseTrainer, make_twin
from agents.policy import Trader
from agents.ppo.parallel import torch_threads
from envs.core.batch import Window
from envs.core.reward import UTILITY_WEIGHTS, RewardSettings
from envs.kernels import open_kernel
from envs.market.sources.index import past_of
from envs.option_portfolio.market import OptionMarket, OptionMarketSettings
from envs.option_portfolio.observation import ObservationSettings
from envs.sb3_vec_env import KernelVecEnv
from experiments.benchmarks.rows import Row
from experiments.benchmarks.settings import Bench
from experiments.evaluation.skill import (
    NAMES,
    RISK_AVERSION,
    TRAINING,
    SkillWorld,
    build_paths,
    certainty_equivalent,
    fixed_worlds,
    skill_worlds,
)

WORLD = "garch"
FIRST_CHECK, CHECKS_APART = 0.25, 1.25  # seconds, and the factor between one time and the next
# The eight that tell an agent where volatility stands and how long its contracts have to live.
FEATURES = (
    "volatility_20d",
    *(f"{days}D_Call_1.00.{what}" for days in (30, 60) for what in ("moneyness", "time")),
    *("vix_level", "term_slope", "skew"),
)
NETWORK = {"lstm_hidden_size": 32, "n_lstm_layers": 1, "net_arch": (32,), "activation": "tanh"}
PPO = RecurrentPPOSettings(
    gamma=0.5,  # tomorrow's book is chosen anew: what lies further off is noise
    gae_lambda=0.9,
    learning_rate=3e-4,
    reward_scale=100.0,
    n_epochs=5,
    ent_coef=0.0,
    features=FEATURES,
    **NETWORK,  # type: ignore[arg-type]
)
PATHWISE = PathwiseAgentSettings(
    objective=MeanVariance(risk_aversion=RISK_AVERSION),
    cost_multiple=1.0,
    features=FEATURES,
    **NETWORK,  # type: ignore[arg-type]
)
NUM_ENVS = 16
SIZING: dict[str, Literal["premium", "notional"]] = {"pathwise": "notional"}
TITLES = {
    "pathwise": "pathwise",
    "ours": "PPO of ours, from a cold start",
    "stock": "PPO of sb3-contrib, likewise",
}


@dataclass(frozen=True)
class Learner:
    """An agent that learns a little at each call, until it says that there is no more."""

    policy: Trader
    learn: Callable[[], bool]
    settings: OptionMarketSettings  # of the books that it trades


@dataclass(frozen=True)
class Reached:
    """When an agent was worth the static book, or how far it came."""

    seconds: float  # of the CPU, spent on learning
    ratio: float  # of certainty equivalents, at that time
    within: bool


def learning_rows(bench: Bench) -> list[Row]:
    """Each agent's seconds, and how many times faster than stock it is."""
    request, setup = bench.request, bench.setup
    past = past_of(setup.loaded, "train")
    settings = learning_settings(setup.settings)
    paths = request.skill_paths
    (world,) = skill_worlds(settings, past, (WORLD,), paths=paths, training_paths=paths)
    law, seed = fixed_worlds(past)[WORLD], (TRAINING, NAMES.index(WORLD))
    training = build_paths(law, settings, past, seed, paths)
    reached = {}
    with torch_threads(1):  # seconds of one core
        for name in TITLES:
            learner = open_learner(name, settings, *training)
            reached[name] = seconds_to_static_book(learner, world, request.learning_seconds)
    return reached_rows(reached)


def learning_settings(settings: OptionMarketSettings) -> OptionMarketSettings:
    """The same market where the reward is the utility."""
    env = replace(
        settings.env,
        observation=ObservationSettings(extra_blocks=("volatility", "term_structure")),
        reward=RewardSettings(
            weights=UTILITY_WEIGHTS,
            risk_aversion=RISK_AVERSION,
        ),
    )
    return replace(settings, env=env)


def open_learner(
    name: str, settings: OptionMarketSettings, market: OptionMarket, window: Window
) -> Learner:
    """A fresh agent of that name, whose action is a share of the unit that suits it."""
    sizing = replace(settings.env.sizing, unit=SIZING.get(name, "premium"))
    settings = replace(settings, env=replace(settings.env, sizing=sizing))
    environment = KernelVecEnv(open_kernel(market, settings.env, window, NUM_ENVS, seed=0))
    if name == "pathwise":
        policy = build_agent(PATHWISE, environment, 0, "cpu").policy
        twin = make_twin(market, settings.env, PATHWISE.cost_multiple, band=PATHWISE.no_trade_band)
        trainer = PathwiseTrainer(policy, [twin], [window], PATHWISE, 0)

        def update() -> bool:
            trainer.update()
            return not trainer.finished

        return Learner(policy, update, settings)
    options = PPO if name == "ours" else replace(PPO, kind="recurrent_ppo_stock")
    model: OnPolicyAlgorithm = build_agent(options, environment, 0, "cpu")
    model.set_logger(Logger(folder=None, output_formats=[]))

    def learn() -> bool:
        model.learn(1, reset_num_timesteps=False)
        return True

    return Learner(model.policy, learn, settings)


def seconds_to_static_book(learner: Learner, world: SkillWorld, budget: float) -> Reached:
    """Learn until the policy is worth the static book, or the seconds are spent."""
    annual = world.market.history.sessions_per_year
    static = certainty_equivalent(world.live(world.static_book), annual)
    own = replace(world, settings=learner.settings)  # the same paths, sized as the agent trades
    spent, due, more = 0.0, FIRST_CHECK, True
    while True:
        begin = time.process_time()
        more = learner.learn()
        spent += time.process_time() - begin
        over = spent >= budget or not more
        if spent < due and not over:
            continue
        due = max(due, spent) * CHECKS_APART
        value = certainty_equivalent(own.live(learner.policy), annual)
        if value >= static or over:
            return Reached(spent, float(value / static), bool(value >= static))


def reached_rows(reached: dict[str, Reached]) -> list[Row]:
    """A row for each agent, and two that compare them with stock."""
    rows = []
    for name, each in reached.items():
        what = f"GARCH, to the worth of its best static book: {TITLES[name]}"
        if not each.within:
            what += f", not within {each.seconds:.0f} s"
        details = {"reached": each.within, "ratio": each.ratio}
        rows.append(Row(f"learning.{name}", what, each.seconds, "CPU s", details=details))
    stock = reached["stock"]
    for name in ("pathwise", "ours"):
        bound = "" if stock.within else ", at least"
        if reached[name].within:
            what = f"GARCH: stock's seconds over those of {TITLES[name]}{bound}"
            value = stock.seconds / reached[name].seconds
            rows.append(Row(f"learning.{name}_speedup", what, value, "x"))
    return rows
