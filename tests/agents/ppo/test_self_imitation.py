"""Self-imitation: which episodes are kept, what is learned from them, and going on after a kill."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.callbacks import CallbackList

from agents.persistence.checkpoint import read_checkpoint, save_checkpoint
from agents.persistence.resume_state import restore
from agents.ppo.self_imitation import (
    Episode,
    SelfImitation,
    SelfImitationSettings,
    _evaluate,
    imitation_loss,
)
from tests.agents.toy_run import (
    HALF,
    TOTAL,
    Adapting,
    build,
    build_ppo,
    halfway,
    packed,
    same_weights,
    unpacked,
    weights,
)

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = SelfImitationSettings(
    weight=0.5, value_weight=0.1, episodes=12, updates=2, batch_episodes=3
)


def test_the_loss_is_that_of_the_paper():
    log_prob = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True)
    values = torch.tensor([1.0, 0.0, 3.0], requires_grad=True)
    loss = imitation_loss(log_prob, values, torch.tensor([3.0, 0.5, 1.0]), 0.1)
    # By hand: R - V is 2, 0.5 and below 0.
    assert loss.item() == pytest.approx((1.0 * 2.0 + 2.0 * 0.5 + 0.05 * (4.0 + 0.25)) / 3)
    of_log_prob, of_values = torch.autograd.grad(loss, (log_prob, values))
    np.testing.assert_allclose(of_log_prob, [-2 / 3, -0.5 / 3, 0.0])
    np.testing.assert_allclose(of_values, [-0.1 * 2 / 3, -0.1 * 0.5 / 3, 0.0])


def rollout(rewards, ends, before):
    """A finished rollout (steps, episodes) as the callback meets it; the first column of what is
    observed is the reward."""
    rewards, ends = np.array(rewards, np.float32), np.array(ends)
    buffer = SimpleNamespace(
        observations=np.repeat(rewards[:, :, None], 2, axis=2),
        actions=rewards[:, :, None],
        rewards=rewards,
        episode_starts=np.concatenate([[before], ends[:-1]]).astype(np.float32),
    )
    steps, envs = rewards.shape
    return SimpleNamespace(
        rollout_buffer=buffer, n_steps=steps, n_envs=envs, _last_episode_starts=ends[-1], gamma=0.5
    )


def test_whole_episodes_with_the_best_returns_are_kept():
    callback = SelfImitation(SelfImitationSettings(episodes=2))
    nothing, first, second = (
        [[1.0, 9.0], [2.0, 0.0], [3.0, 4.0]],
        [[0, 0], [0, 1], [1, 0]],
        [[4.0, 8.0], [6.0, 0.0], [0.0, 1.0]],
    )
    callback.model = rollout(nothing, first, [1, 1])
    callback._on_rollout_end()
    callback.model = rollout(second, [[0, 0], [1, 0], [0, 1]], [1, 0])
    callback._on_rollout_end()
    # Episodes: 1 2 3 and 4 6 in the first; 9 0, then 4 8 0 1 over both rollouts in the second.
    assert [list(kept.rewards) for kept in callback.kept] == [[4.0, 6.0], [9.0, 0.0]]
    np.testing.assert_allclose(callback.kept[0].returns(0.5), [7.0, 6.0])
    assert [list(kept.observations[:, 0]) for kept in callback.kept] == [[4.0, 6.0], [9.0, 0.0]]
    assert [list(running.rewards) for running in callback._running] == [[0.0], []]
    longer = SelfImitation(SelfImitationSettings(episodes=9))
    longer.load_state_dict(callback.state_dict())
    longer.model = rollout([[4.0, 5.0]], [[1, 0]], [0, 1])
    longer._on_rollout_end()  # the episode that began with 0 in the last rollout
    assert [list(kept.rewards) for kept in longer.kept] == [[4.0, 6.0], [9.0, 0.0], [0.0, 4.0]]


def test_a_recurrent_policy_goes_through_each_episode_from_its_start():
    model = build()
    policy, rng = model.policy, np.random.default_rng(0)
    episodes = [
        Episode(*(rng.normal(size=shape).astype(np.float32) for shape in ((n, 3), (n, 2), (n,))))
        for n in (5, 9, 2)
    ]
    log_prob, values = _evaluate(policy, episodes)
    expected = []
    for episode in episodes:
        state = tuple(torch.zeros(1, 1, 8) for _ in range(2))
        states = RNNStates(state, state)
        for step in range(len(episode.rewards)):
            observation, start = torch.tensor(episode.observations[[step]]), torch.zeros(1)
            action = torch.tensor(episode.actions[[step]])
            value, probability, _ = policy.evaluate_actions(observation, action, states, start)
            expected.append([probability.item(), value.item()])
            _, _, _, states = policy.forward(observation, states, start)
    found = torch.stack([log_prob, values], dim=1).detach()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("make", [build, build_ppo])
def test_what_was_kept_becomes_likelier(make):
    options = replace(SMALL, value_weight=0.0)
    callback, model = SelfImitation(options), make(learning_rate=1e-2)
    model.learn(TOTAL, callback)
    model.policy.optimizer = torch.optim.SGD(model.policy.parameters(), 0.01)
    kept = callback.kept[0]
    callback.kept = [Episode(kept.observations, kept.actions, np.full(len(kept.actions), 100.0))]
    before = _evaluate(model.policy, callback.kept)[0].mean()
    for _ in range(5):
        callback._learn()
    assert _evaluate(model.policy, callback.kept)[0].mean() > before


def resumed(make, state):
    again, imitating, adapting = make(), SelfImitation(SMALL), Adapting()
    restore(state, again, {"adapting": adapting, "imitating": imitating})
    both = CallbackList([imitating, adapting])
    again.learn(TOTAL - HALF, both, reset_num_timesteps=False)
    return weights(again)


class Saving(Adapting):
    """Saves the other callback too."""

    def __init__(self, folder, other):
        super().__init__()
        self._folder, self._other = folder, other

    def _on_rollout_start(self):
        stateful = {"adapting": self, "imitating": self._other}
        save_checkpoint(self.model, stateful, self._folder)
        super()._on_rollout_start()


@pytest.mark.parametrize("make", [build, build_ppo])
def test_a_resumed_run_ends_with_the_same_weights_bit_for_bit(make, tmp_path):
    whole, imitating = make(), SelfImitation(SMALL)
    whole.learn(TOTAL, CallbackList([imitating, Saving(tmp_path, imitating)]))
    assert len(imitating.kept) > 3
    state = read_checkpoint(halfway(tmp_path))
    assert same_weights(resumed(make, state), weights(whole))
    # Each part of its state reaches the weights.
    for part, other in (("kept", []), ("running", []), ("answered", 0)):
        parts = unpacked(state)
        parts["callbacks"]["imitating"][part] = other
        assert not same_weights(resumed(make, packed(parts)), weights(whole)), part
