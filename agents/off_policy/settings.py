"""Settings of TQC and its replay buffer, and a fresh agent built from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from stable_baselines3.common.vec_env import VecEnv

from agents.network import (
    ActivationName,
    LogStd,
    Positive,
    SeenAndHeld,
    Share,
    Width,
    book_of,
    held_by,
    seen_by,
)
from agents.off_policy.hindsight import HindsightReplay
from agents.off_policy.policies import SquashedPolicy
from agents.off_policy.replay import PrioritisedReplay
from agents.off_policy.tqc import BookTQC
from agents.persistence.architecture import ACTIVATIONS
from conf.errors import InputError
from conf.settings import settings, settings_to_json
from envs.allocation.simplex import Simplex
from envs.core.goal import DESIRED

Count = Annotated[int, Field(ge=1)]


@settings
class ReplaySettings:
    """Which transitions are kept, and which are learned from."""

    kind: Literal["uniform", "prioritised", "hindsight"] = "uniform"
    size: Annotated[int, Field(ge=1, le=10**7)] = 100_000  # transitions, over all episodes
    alpha: Share = 0.6  # of prioritised, as are the next two; 0: uniform
    beta: Share = 0.4  # of importance weights at the start; 1 at the end
    epsilon: Positive = 0.01  # added to absolute TD errors, in units of the scaled reward
    n_sampled_goal: Count = 4  # of hindsight: transitions with another goal for each with its own
    # Of hindsight: which of the goals that the episode reached; later ones, the last, or any.
    strategy: Literal["future", "final", "episode"] = "future"


@settings
class TQCSettings(SeenAndHeld):
    """TQC of sb3-contrib, without memory; see `agents.off_policy.tqc`."""

    kind: Literal["tqc"] = "tqc"
    policy: Literal["MlpPolicy"] = "MlpPolicy"
    learning_rate: Positive = 1e-4  # of actor and temperature
    critic_learning_rate: Positive = 1e-3
    reward_scale: Positive = 30.0  # on rewards in training
    rollout_steps: Annotated[int, Field(ge=2)] = 1024  # over all parallel episodes
    gradient_steps: Count = 64  # after each rollout
    learning_starts: Annotated[int, Field(ge=0)] = 4096  # steps before the first update
    batch_size: Annotated[int, Field(ge=2)] = 256
    gamma: Share = 0.99
    tau: Annotated[float, Field(gt=0.0, le=1.0)] = 0.01  # of the critics that targets come from
    n_critics: Count = 2
    n_quantiles: Annotated[int, Field(ge=2)] = 25  # of a critic
    drop_quantiles: Annotated[int, Field(ge=0)] = 2  # the largest of each critic, in targets
    net_arch: tuple[Width, ...] = (64, 64)  # of the actor
    critic_arch: tuple[Width, ...] = (64, 64)
    activation: ActivationName = "relu"
    log_std_init: LogStd = -3.0  # of exploration, held by the temperature
    temperature_init: Positive = 0.03  # price of entropy, in units of the scaled reward
    replay: ReplaySettings = ReplaySettings()

    @model_validator(mode="after")
    def _check_quantiles(self) -> TQCSettings:
        if self.drop_quantiles >= self.n_quantiles:
            raise ValueError(
                f"drop_quantiles = {self.drop_quantiles} leaves none of {self.n_quantiles}"
            )
        return self


def build_tqc(options: TQCSettings, env: VecEnv, seed: int, device: str) -> BookTQC:
    """A fresh agent.

    InputError on a simplex, whose weights a squashed Gaussian does not give, where the rollout does
    not divide among the episodes, and for a buffer that does not hold a rollout.
    """
    if isinstance(env.action_space, Simplex):
        raise InputError(
            "agent=tqc has Gaussian actions, and an allocation's are points of the simplex",
            "Choose agent=ppo or agent=recurrent_ppo_allocation, or env.action=band",
        )
    steps, rest = divmod(options.rollout_steps, env.num_envs)
    if rest:
        raise InputError(
            f"agent.rollout_steps = {options.rollout_steps} does not divide among num_envs = "
            f"{env.num_envs} episodes",
            "Choose num_envs so that each episode gets the same number of steps",
        )
    replay = options.replay
    if replay.size < options.rollout_steps:
        raise InputError(
            f"agent.replay.size = {replay.size} does not hold the {options.rollout_steps} steps "
            "of a rollout",
            "Choose a larger buffer",
        )
    seen = seen_by(options.features, env)
    network: dict[str, Any] = {
        "activation_fn": ACTIVATIONS[options.activation],
        "net_arch": {"pi": list(options.net_arch), "qf": list(options.critic_arch)},
        "n_critics": options.n_critics,
        "n_quantiles": options.n_quantiles,
        "log_std_init": options.log_std_init,
    }
    return BookTQC(
        SquashedPolicy,
        env,
        learning_rate=options.learning_rate,
        critic_learning_rate=options.critic_learning_rate,
        buffer_size=replay.size,
        learning_starts=options.learning_starts,
        batch_size=options.batch_size,
        tau=options.tau,
        gamma=options.gamma,
        train_freq=steps,
        gradient_steps=options.gradient_steps,
        ent_coef=f"auto_{options.temperature_init}",
        top_quantiles_to_drop_per_net=options.drop_quantiles,
        policy_kwargs=network | seen | held_by(options.basis, env),
        beta=replay.beta,
        replay=_said_of(replay),
        seed=seed,
        device=device,
        **_buffer(options, env, seen),
    )


def _said_of(replay: ReplaySettings) -> dict[str, Any]:
    """What a checkpoint says of it; those of other kinds say nothing of hindsight, as earlier."""
    plain = settings_to_json(replay)
    of_hindsight = ("n_sampled_goal", "strategy")
    return {k: v for k, v in plain.items() if replay.kind == "hindsight" or k not in of_hindsight}


def _buffer(options: TQCSettings, env: VecEnv, seen: dict[str, Any]) -> dict[str, Any]:
    """The class of the buffer, and its own options; none for Stable-Baselines3's."""
    replay = options.replay
    if replay.kind == "prioritised":
        return {
            "replay_buffer_class": PrioritisedReplay,
            "replay_buffer_kwargs": {"alpha": replay.alpha, "epsilon": replay.epsilon},
        }
    if replay.kind == "hindsight":
        _check_hindsight(options, env, seen)
        return {
            "replay_buffer_class": HindsightReplay,
            "replay_buffer_kwargs": {
                "n_sampled_goal": replay.n_sampled_goal,
                "goal_selection_strategy": replay.strategy,
            },
        }
    return {}


def _check_hindsight(options: TQCSettings, env: VecEnv, seen: dict[str, Any]) -> None:
    """InputError without a goal that is seen and paid for, or where no episode would be whole."""
    setting = "agent.replay.kind=hindsight"
    book = book_of(env, setting)
    if book.options.goal is None:
        raise InputError(
            f"{setting} learns from other goals, and there is none",
            "Set env.observation.goal={sessions: 21} in an option book",
        )
    weights = book.options.reward.weights
    if not (weights.goal_return or weights.goal_drawdown):
        raise InputError(
            f"{setting} would change no reward: the weights of goals are 0",
            "Choose reward=goal",
        )
    names = [feature.name for feature in book.market.features]
    columns = seen.get("features_extractor_kwargs", {}).get("columns", range(len(names)))
    hidden = [goal.name for goal in DESIRED if names.index(goal.name) not in columns]
    if hidden:
        raise InputError(
            f"agent.features does not show {hidden[0]}, which {setting} changes",
            'Add "goal.*" and "reached.*" to agent.features',
        )
    whole = book.options.episode.sessions * env.num_envs
    if options.learning_starts < whole:
        raise InputError(
            f"agent.learning_starts = {options.learning_starts} comes before the end of the first "
            f"episodes, from which {setting} learns",
            f"Choose agent.learning_starts={whole} or more",
        )
    if options.replay.size < 2 * whole:
        raise InputError(
            f"agent.replay.size = {options.replay.size} does not always hold a whole episode",
            f"Choose agent.replay.size={2 * whole} or more",
        )
