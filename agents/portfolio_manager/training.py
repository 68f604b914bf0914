"""Training of the portfolio manager's agent."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from stable_baselines3.common.callbacks import BaseCallback

from agents.factory import PPOSettings, build_agent
from agents.pathwise.objectives import MeanVariance
from agents.pathwise.trainer import PathwiseSettings, PathwiseTrainer, make_twin
from agents.portfolio_manager.files import TrainedWeights, load_moments, moments_of
from agents.ppo.schedules import Schedules, schedules_of, values_of
from conf.errors import InputError
from envs.allocation.market import AllocationSettings, PanelMarket
from envs.core.batch import Window
from envs.core.reward import UTILITY_WEIGHTS, RewardSettings
from envs.kernels import open_kernel
from envs.market.models.panel import PanelModel, RegimeModel
from envs.market.sources.panel import PanelSimulatedData
from envs.sb3_vec_env import KernelVecEnv

CHECKPOINT_EPISODES = 50
# The mean-variance utility of the day, which pathwise training maximises too.
UTILITY = RewardSettings(
    weights=UTILITY_WEIGHTS,
    ruin_penalty=1.0,
)
# Assets are chosen anew at each close and costs are small, so what follows two weeks later teaches
# little but noise. A rate of .01 ends with all weights on one side.
PATHWISE = PathwiseSettings(
    objective=MeanVariance(risk_aversion=5.0),
    cost_multiple=1.0,
    updates=200,
    stretches=128,
    sessions=10,
    unscored=1,
)


def default_data(asset_count: int) -> PanelSimulatedData:
    """A market of calm and stress in which all assets are alike.

    Without a view on the assets the agent should not learn to prefer one; it can learn when to
    hold how much of them.
    """
    calm = PanelModel(drift=0.12, vol_annual=0.15, correlation=0.25)
    stress = PanelModel(drift=-0.15, vol_annual=0.40, correlation=0.6)
    return PanelSimulatedData(
        model="regime_switching",
        assets=asset_count,
        paths=32,
        sessions=1281,
        regime_switching=RegimeModel(states=(calm, stress)),
    )


@dataclass(frozen=True)
class TrainingPlan:
    """How long to train, and with which agent."""

    episodes: int
    update_interval: int  # steps of each parallel episode between two updates
    num_envs: int
    seed: int
    device: str
    agent: PPOSettings
    pathwise: PathwiseSettings | None  # what a new agent is trained by first; None: by PPO alone

    def __post_init__(self) -> None:
        for name, least in (("episodes", 1), ("update_interval", 2), ("num_envs", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"{name} is {value!r}", f"Give a whole number, {least} or more")

    @property
    def parallel_episodes(self) -> int:
        """`num_envs`, or fewer if there are fewer episodes."""
        return min(self.num_envs, self.episodes)

    @property
    def ppo_settings(self) -> PPOSettings:
        """The agent's settings with an update after `update_interval` steps of every episode.

        The batch size is the rollout's divisor nearest to the agent's, by their ratio.
        """
        steps = self.update_interval * self.parallel_episodes
        sizes = [size for size in range(2, steps + 1) if steps % size == 0]
        wanted = values_of(self.agent.batch_size)[0]
        batch = min(sizes, key=lambda size: abs(math.log(size / wanted)))
        return replace(self.agent, rollout_steps=steps, batch_size=batch)


def learn(
    plan: TrainingPlan,
    market: PanelMarket,
    options: AllocationSettings,
    before: TrainedWeights | None,
    save: Callable[[TrainedWeights, int], None],
) -> list[float]:
    """Train by PPO; the reward sum of each episode.

    It starts from the weights `before`, or where there are none from pathwise training.
    `save` is called with the weights and the number of finished episodes, every
    CHECKPOINT_EPISODES of them and at the end, after the last update.
    """
    window = Window(market.first_usable, market.history.num_sessions)
    kernel = open_kernel(market, options, window, plan.parallel_episodes, plan.seed)
    agent = plan.ppo_settings
    env = KernelVecEnv(kernel, agent.reward_scale)
    model = build_agent(agent, env, plan.seed, plan.device)
    policy = model.policy
    if before is not None:
        policy.load_state_dict(before.policy.state_dict())
        load_moments(policy, before.moments)
    elif plan.pathwise is not None:
        twin = make_twin(
            market, options, plan.pathwise.cost_multiple, band=plan.pathwise.no_trade_band
        )
        trainer = PathwiseTrainer(policy, [twin], [window], plan.pathwise, plan.seed)
        while not trainer.finished:
            trainer.update()

    def save_weights(episodes: int) -> None:
        save(TrainedWeights(policy, moments_of(policy)), episodes)

    progress = _Episodes(save_weights)
    rounds = math.ceil(plan.episodes / plan.parallel_episodes)
    steps = rounds * options.episode.sessions * plan.parallel_episodes
    model.learn(steps, callback=[progress, Schedules(schedules_of(agent), steps)])
    save_weights(plan.episodes)
    return progress.rewards[: plan.episodes]


class _Episodes(BaseCallback):
    """Collects the rewards of finished episodes, in the order in which they finish."""

    def __init__(self, save: Callable[[int], None]) -> None:
        super().__init__()
        self.rewards: list[float] = []
        self._save = save
        self._saved = 0  # multiples of CHECKPOINT_EPISODES

    def _on_rollout_start(self) -> None:
        due = len(self.rewards) // CHECKPOINT_EPISODES
        if due > self._saved:
            self._saved = due
            self._save(len(self.rewards))

    def _on_step(self) -> bool:
        self.rewards += [
            float(info["episode"]["r"]) for info in self.locals["infos"] if "episode" in info
        ]
        return True
