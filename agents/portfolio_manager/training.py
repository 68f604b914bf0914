"""Training of the portfolio manager's agent on a market of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy

from agents.factory import PPOSettings, build_agent
from agents.portfolio_manager.files import TrainedWeights, give_moments, moments_of
from conf.errors import InputError
from envs.allocation.market import AllocationSettings, PanelMarket
from envs.core.batch import Window
from envs.kernels import open_kernel
from envs.market.models.panel import PanelModel, RegimeModel
from envs.market.sources.panel import PanelSimulatedData
from envs.sb3_vec_env import KernelVecEnv

CHECKPOINT_EPISODES = 50


def default_data(asset_count: int) -> PanelSimulatedData:
    """A market of calm and stress, in which no asset is by law better than another.

    Whoever has no view on the assets should not be taught one; what can be learned is when to
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
    """How much is to be trained, and on what."""

    episodes: int
    update_interval: int  # steps of each parallel episode between two updates
    num_envs: int
    seed: int
    device: str
    agent: PPOSettings

    def __post_init__(self) -> None:
        for name, least in (("episodes", 1), ("update_interval", 2), ("num_envs", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"{name} is {value!r}", f"Give a whole number, {least} or more")

    @property
    def together(self) -> int:
        """Episodes side by side."""
        return min(self.num_envs, self.episodes)

    @property
    def rollouts(self) -> PPOSettings:
        """The agent's settings with an update after `update_interval` steps of every episode.

        Minibatches are as near as the rollout divides to the size that was asked for.
        """
        steps = self.update_interval * self.together
        sizes = [size for size in range(2, steps + 1) if steps % size == 0]
        batch = min(sizes, key=lambda size: abs(math.log(size / self.agent.batch_size)))
        return replace(self.agent, rollout_steps=steps, batch_size=batch)


def learn(
    plan: TrainingPlan,
    market: PanelMarket,
    options: AllocationSettings,
    before: TrainedWeights | None,
    keep: Callable[[TrainedWeights, int], None],
) -> list[float]:
    """Train, from what was learned before where there is anything; the episodes' reward sums.

    `keep` is handed what has been learned and the number of finished episodes, every
    CHECKPOINT_EPISODES of them and at the end, after the last update.
    """
    kernel = open_kernel(
        market,
        options,
        Window(market.first_usable, market.history.num_sessions),
        plan.together,
        plan.seed,
    )
    agent = plan.rollouts
    env = KernelVecEnv(kernel, agent.reward_scale)
    model = build_agent(agent, env, plan.seed, plan.device)
    policy = model.policy
    if before is not None:
        policy.load_state_dict(before.policy.state_dict())
        give_moments(policy, before.moments)
    watch = _Episodes(lambda done: keep(_learned(policy), done))
    rounds = -(-plan.episodes // plan.together)
    steps = rounds * options.episode.sessions * plan.together
    model.learn(steps, callback=watch)
    keep(_learned(policy), plan.episodes)
    return watch.rewards[: plan.episodes]


class _Episodes(BaseCallback):
    """Collects the rewards of finished episodes, in the order in which they finish."""

    def __init__(self, checkpoint: Callable[[int], None]) -> None:
        super().__init__()
        self.rewards: list[float] = []
        self._checkpoint = checkpoint
        self._kept = 0

    def _on_rollout_start(self) -> None:
        done = len(self.rewards) // CHECKPOINT_EPISODES
        if done > self._kept:
            self._kept = done
            self._checkpoint(len(self.rewards))

    def _on_step(self) -> bool:
        self.rewards += [
            float(info["episode"]["r"]) for info in self.locals["infos"] if "episode" in info
        ]
        return True


def _learned(policy: ActorCriticPolicy) -> TrainedWeights:
    return TrainedWeights(policy, moments_of(policy))
