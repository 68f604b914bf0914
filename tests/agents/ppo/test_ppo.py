"""PPO and recurrent PPO on the simplex: policies, factory, learning."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from omegaconf import OmegaConf
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger

from agents.factory import (
    AgentSettings,
    PPOSettings,
    RecurrentPPOSettings,
    build_agent,
    num_parameters,
)
from agents.ppo.policies import MaskedMlpLstmPolicy
from agents.ppo.recurrent_ppo import SequenceRecurrentPPO
from agents.ppo.simplex_policies import (
    SharedMlpPolicy,
    SimplexLstmPolicy,
    SimplexPolicy,
    StockSimplexLstmPolicy,
)
from callbacks.checkpointing import Checkpointing
from callbacks.divergence import DivergenceCallback
from conf.errors import InputError
from conf.settings import build_settings
from envs.allocation.simplex import Simplex
from envs.core.batch import BatchKernel, StepResult
from envs.sb3_vec_env import KernelVecEnv
from tests.agents.toy_run import ROLLOUT, DriftEnv, SimplexDriftEnv, same_weights, weights

pytestmark = pytest.mark.usefixtures("one_thread")

DISTRIBUTIONS = ["dirichlet", "softmax_gaussian"]
CONF = Path(__file__).parents[3] / "conf" / "agent"


class BestAsset(BatchKernel):
    """Three weights; the first observation names the asset that pays. Episodes of 4 steps."""

    def __init__(self, num_envs, seed):
        super().__init__(num_envs, seed)
        self.observation_space = spaces.Box(-1.0, 1.0, (2,))
        self.action_space = Simplex(3)
        self.age = np.zeros(num_envs, np.int64)
        self.signal = np.zeros(num_envs)

    def reset(self, mask=None):
        mask = np.ones(self.num_envs, bool) if mask is None else mask
        self.age[mask] = 0
        self.signal[mask] = self.rng.choice([-1.0, 1.0], mask.sum())
        return self._observe()

    def step(self, action):
        weights = self.checked_action(action)
        assert np.allclose(weights.sum(axis=1), 1.0, atol=1e-6)
        best = np.where(self.signal > 0, weights[:, 0], weights[:, 2])
        reward = best + 0.1 * self.rng.normal(size=self.num_envs)
        self.age += 1
        self.signal = self.rng.choice([-1.0, 1.0], self.num_envs)
        never = np.zeros(self.num_envs, bool)
        return StepResult(self._observe(), reward, never, self.age >= 4, None)  # type: ignore[arg-type]

    def episode_summary(self, index):
        return {"r": 0.0, "l": float(self.age[index])}

    def _observe(self):
        return np.stack([self.signal, self.age / 4 - 0.5], axis=1).astype(np.float32)

    def _get_arrays(self):
        return {"age": self.age.copy(), "signal": self.signal.copy()}

    def _set_arrays(self, arrays):
        self.age, self.signal = arrays["age"].copy(), arrays["signal"].copy()


def small(kind, **changes):
    if kind == "ppo":
        defaults = {"learning_rate": 3e-3, "rollout_steps": 512, "batch_size": 128}
        return PPOSettings(**{**defaults, "net_arch": (32, 32), **changes})
    defaults = {"learning_rate": 3e-3, "rollout_steps": 512, "batch_size": 128, "n_epochs": 4}
    network = {"lstm_hidden_size": 16, "n_lstm_layers": 1, "net_arch": (16,), "log_std_init": -1.0}
    return RecurrentPPOSettings(
        kind=kind, **{**defaults, "sequence_length": 4, **network, **changes}
    )


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize(("kind", "reached"), [("ppo", 0.75), ("recurrent_ppo", 0.6)])
def test_it_learns_which_asset_pays(kind, reached, distribution):
    spread = {"log_std_init": 0.5, "concentration_init": 4.0}
    options = small(kind, distribution=distribution, learning_rate=1e-2, n_epochs=8, **spread)
    model = build_agent(options, KernelVecEnv(BestAsset(32, seed=1)), seed=0, device="cpu")
    observation = np.array([[1.0, 0.0], [-1.0, 0.0]], np.float32)
    before, _ = model.policy.predict(observation, deterministic=True)
    np.testing.assert_allclose(before, np.full((2, 3), 1 / 3), atol=0.05)
    model.learn(8 * 512)
    after, _ = model.policy.predict(observation, deterministic=True)
    assert after[0, 0] > reached
    assert after[1, 2] > reached


def agent(kind, distribution="softmax_gaussian", env=None, **changes):
    options = small(
        kind, rollout_steps=ROLLOUT, batch_size=16, distribution=distribution, **changes
    )
    return build_agent(options, env or SimplexDriftEnv(), seed=0, device="cpu")


KINDS = {
    "ppo": (PPO, SimplexPolicy),
    "recurrent_ppo": (SequenceRecurrentPPO, SimplexLstmPolicy),
    "recurrent_ppo_stock": (RecurrentPPO, StockSimplexLstmPolicy),
}


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_predict_gives_points_of_the_simplex_that_begin_near_equal_weights(kind, distribution):
    model = agent(kind, distribution)
    algorithm, policy = KINDS[kind]
    assert type(model) is algorithm
    assert type(model.policy) is policy
    observation = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    start = np.ones(50, bool)
    for deterministic in (True, False):
        actions, state = model.policy.predict(observation, None, start, deterministic)
        assert actions.shape == (50, 3)
        assert actions.dtype == np.float32
        assert all(model.action_space.contains(action) for action in actions)
        assert (state is None) == (kind == "ppo")
    equal, _ = model.policy.predict(observation, None, start, deterministic=True)
    np.testing.assert_allclose(equal, np.full((50, 3), 1 / 3), atol=0.03)
    single, _ = model.policy.predict(observation[0], deterministic=True)
    np.testing.assert_allclose(single, equal[0], atol=1e-6)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("kind", ["ppo", "recurrent_ppo_stock"])
def test_the_first_update_finds_the_log_probabilities_of_the_rollout(kind, distribution):
    """Probability ratios of one: what was stored is the density of what was stored."""
    model = agent(kind, distribution, n_epochs=1, learning_rate=1e-12)
    model.learn(ROLLOUT)
    assert abs(model.logger.name_to_value["train/approx_kl"]) < 1e-6
    assert model.logger.name_to_value["train/clip_fraction"] == 0.0
    actions = model.rollout_buffer.actions
    assert np.abs(actions.sum(axis=-1) - 1).max() < 1e-6


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_the_spread_is_learned_and_logged(distribution):
    model = agent("ppo", distribution, ent_coef=1.0)
    before = model.policy.spread.detach().clone()
    model.learn(2 * ROLLOUT)
    assert torch.all(model.policy.spread != before)
    expected = float(model.policy.log_std.detach().exp().mean())
    assert model.logger.name_to_value["train/std"] == pytest.approx(expected)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_an_entropy_bonus_widens_the_distribution(distribution):
    """The gradient of the bonus alone: a policy far from the centre comes back to it."""
    model = agent("ppo", distribution)
    policy = model.policy
    with torch.no_grad():
        policy.action_net.bias[0] = 3.0
    observation = torch.zeros(256, 3)
    entropies = []
    for _ in range(50):
        entropy = policy.get_distribution(observation).entropy().mean()
        policy.optimizer.zero_grad()
        (-entropy).backward()
        policy.optimizer.step()
        entropies.append(float(entropy.detach()))
    assert np.mean(entropies[-10:]) > np.mean(entropies[:10]) + 0.1
    assert float(policy.action_net.bias.detach()[0]) < 3.0


def test_actor_and_critic_share_their_hidden_layers():
    policy = agent("ppo", net_arch=(7, 5)).policy
    names = {name: tuple(weight.shape) for name, weight in policy.state_dict().items()}
    assert names == {
        "spread": (2,),
        "mlp_extractor.layers.0.weight": (7, 3),
        "mlp_extractor.layers.0.bias": (7,),
        "mlp_extractor.layers.2.weight": (5, 7),
        "mlp_extractor.layers.2.bias": (5,),
        "action_net.weight": (2, 5),
        "action_net.bias": (2,),
        "value_net.weight": (1, 5),
        "value_net.bias": (1,),
    }
    for head in (policy.action_net, policy.value_net):
        assert torch.count_nonzero(head.bias) == 0
    observation = torch.randn(4, 3)
    values, _, _ = policy.evaluate_actions(observation, torch.full((4, 3), 1 / 3))
    assert torch.equal(values, policy.predict_values(observation))
    assert torch.equal(values, policy(observation)[1])


def test_on_a_plain_box_ppo_has_the_same_network_and_gaussian_actions():
    model = agent("ppo", env=DriftEnv())
    assert type(model.policy) is SharedMlpPolicy
    assert model.policy.log_std.shape == (2,)
    before = weights(model)
    model.learn(ROLLOUT)
    assert not same_weights(weights(model), before)
    assert num_parameters(model) == sum(weight.size for weight in before.values())
    recurrent = agent("recurrent_ppo", env=DriftEnv())
    assert type(recurrent.policy) is MaskedMlpLstmPolicy


@pytest.mark.parametrize("kind", ["ppo", "recurrent_ppo"])
def test_sb3s_own_save_and_load_give_the_same_agent(tmp_path, kind):
    model = agent(kind, "dirichlet")
    model.learn(ROLLOUT)
    model.save(tmp_path / "model.zip")
    loaded = type(model).load(tmp_path / "model.zip", env=SimplexDriftEnv(), device="cpu")
    assert type(loaded.policy) is type(model.policy)
    assert loaded.policy.distribution == "dirichlet"
    observation = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    acted = [m.predict(observation, deterministic=True)[0] for m in (model, loaded)]
    np.testing.assert_array_equal(*acted)
    loaded.learn(ROLLOUT)


def test_a_policy_is_saved_and_loaded_by_its_class(tmp_path):
    policy = agent("ppo", "dirichlet").policy
    policy.save(tmp_path / "policy.pt")
    again = SimplexPolicy.load(tmp_path / "policy.pt")
    assert again.distribution == "dirichlet"
    observation = np.zeros((2, 3), np.float32)
    acted = [p.predict(observation, deterministic=True)[0] for p in (policy, again)]
    np.testing.assert_array_equal(acted[0], acted[1])


def test_the_callbacks_accept_it(tmp_path):
    model = agent("ppo")
    model.set_logger(Logger(None, []))
    checkpointing = Checkpointing(tmp_path, ROLLOUT, {})
    model.learn(2 * ROLLOUT, [DivergenceCallback(tmp_path), checkpointing])
    checkpointing.finish()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"step_{step:09d}" for step in (0, ROLLOUT, 2 * ROLLOUT)
    ]


def test_the_settings_are_told_apart_by_their_kind():
    assert build_settings(AgentSettings, {"kind": "ppo"}, "agent") == PPOSettings()
    built = build_settings(AgentSettings, {"kind": "recurrent_ppo_stock"}, "agent")
    assert built == RecurrentPPOSettings(kind="recurrent_ppo_stock")
    for wrong, complaint in (
        ({"kind": "a2c"}, "a2c"),
        ({}, "kind"),
        ({"kind": "ppo", "lstm_hidden_size": 8}, "unknown setting agent.lstm_hidden_size"),
        ({"kind": "ppo", "gamma": 2.0}, "agent.gamma = 2.0"),
        ({"kind": "ppo", "distribution": "beta"}, "agent.distribution = 'beta'"),
        ({"kind": "ppo", "batch_size": 100}, "100 does not divide the 2048 steps"),
    ):
        with pytest.raises(InputError, match=complaint):
            build_settings(AgentSettings, wrong, "agent")


def test_ppo_has_the_documented_hyperparameters():
    options = PPOSettings(rollout_steps=960, batch_size=96)
    model: Any = build_agent(options, DriftEnv(), 0, "cpu")
    assert (model.learning_rate, model.gamma, model.n_epochs) == (3e-4, 0.99, 4)
    assert (model.gae_lambda, model.vf_coef, model.ent_coef) == (0.95, 0.5, 0.01)
    assert (model.max_grad_norm, model.clip_range(1.0)) == (0.5, 0.2)
    assert model.policy.net_arch == [256, 256]
    assert model.policy.optimizer.param_groups[0]["fused"]
    assert model.policy.optimizer.param_groups[0]["eps"] == 1e-5
    falling = build_agent(
        PPOSettings(rollout_steps=960, batch_size=96, learning_rate_end=1e-4), DriftEnv(), 0, "cpu"
    )
    assert falling.lr_schedule(1.0) == pytest.approx(3e-4)
    assert falling.lr_schedule(0.0) == pytest.approx(1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_reaches_the_agent(kind):
    numbers = {
        "learning_rate": 1e-5,
        "n_epochs": 3,
        "gamma": 0.91,
        "gae_lambda": 0.83,
        "clip_range": 0.37,
        "ent_coef": 0.02,
        "vf_coef": 0.6,
        "max_grad_norm": 0.7,
        "target_kl": 0.04,
        "batch_size": 24,
    }
    options = small(kind, rollout_steps=ROLLOUT, activation="relu", log_std_init=-0.3, **numbers)
    model = build_agent(options, SimplexDriftEnv(), seed=7, device="cpu")
    assert model.clip_range(1.0) == numbers.pop("clip_range")
    assert {name: getattr(model, name) for name in numbers} == numbers
    assert (model.n_steps, model.seed) == (ROLLOUT // 3, 7)
    assert model.policy.activation_fn is torch.nn.ReLU
    np.testing.assert_allclose(model.policy.spread.detach(), -0.3)


@pytest.mark.parametrize("name", ["ppo", "recurrent_ppo_allocation"])
def test_the_files_name_every_setting(name):
    plain: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    built = build_settings(AgentSettings, plain, "agent")
    assert plain.keys() == {field.name for field in dataclasses.fields(built)}
    if name == "ppo":
        assert built == PPOSettings(reward_scale=0.05)
    else:
        assert built == RecurrentPPOSettings(log_std_init=-1.0, reward_scale=0.05)


def test_impossible_arguments_are_refused():
    observation, simplex = spaces.Box(-1.0, 1.0, (2,)), Simplex(3)
    with pytest.raises(InputError, match="acts on a Simplex"):
        SimplexPolicy(observation, spaces.Box(0.0, 1.0, (3,)), lambda _: 1e-3)
    with pytest.raises(InputError, match="use_sde"):
        SimplexPolicy(observation, simplex, lambda _: 1e-3, use_sde=True)
    wrong: Any = "beta"
    with pytest.raises(InputError, match="distribution is 'beta'"):
        SimplexPolicy(observation, simplex, lambda _: 1e-3, distribution=wrong, net_arch=[])
    with pytest.raises(InputError, match="does not divide among num_envs = 3"):
        build_agent(PPOSettings(rollout_steps=64, batch_size=64), DriftEnv(), 0, "cpu")
