"""TQC begins near an empty book, learns as sb3-contrib's, and goes on bit for bit."""

import numpy as np
import pytest
import torch
from sb3_contrib import TQC
from sb3_contrib.common.utils import quantile_huber_loss

from agents.factory import build_agent
from agents.off_policy.replay import Draw, PrioritisedReplay
from agents.off_policy.settings import TQCSettings
from agents.off_policy.tqc import quantile_huber
from agents.persistence.checkpoint import restore_checkpoint
from conf.errors import InputError
from conf.settings import build_settings
from envs.sb3_vec_env import KernelVecEnv
from tests.agents.toy_run import (
    Adapting,
    DriftEnv,
    SimplexDriftEnv,
    same_weights,
    weights,
    weights_without,
)
from tests.markets import kernel_of, random_walk

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {
    "kind": "tqc",
    "rollout_steps": 48,
    "gradient_steps": 3,
    "learning_starts": 48,
    "batch_size": 16,
    "net_arch": [8],
    "critic_arch": [8],
    "n_quantiles": 5,
}
KINDS = ("uniform", "prioritised")


def build(replay="uniform", env=None, **changes):
    replay = {"kind": replay, "size": 144, **changes.pop("buffer", {})}
    options = build_settings(TQCSettings, {**SMALL, "replay": replay, **changes}, "agent")
    return build_agent(options, env or DriftEnv(), 5, "cpu")


@pytest.fixture(scope="module", params=KINDS)
def uninterrupted(request, tmp_path_factory):
    """The kind of replay, the final weights of a run left alone, and its checkpoints' folder.

    288 steps; the buffer of 144 has wrapped around by then.
    """
    folder = tmp_path_factory.mktemp("whole")
    model = build(request.param)
    model.learn(288, Adapting(folder))
    return request.param, weights(model), folder


@pytest.mark.parametrize("step", [48, 144, 240])
def test_a_resumed_run_ends_with_the_same_weights_bit_for_bit(uninterrupted, step):
    kind, expected, folder = uninterrupted
    model, callback = build(kind), Adapting()
    restore_checkpoint(model, {"adapting": callback}, folder / f"step_{step:09d}")
    model.learn(288 - step, callback, reset_num_timesteps=False)
    assert same_weights(weights(model), expected)


OPTIMISERS = [f"optimizers.{name}" for name in ("actor", "critic", "temperature")]


@pytest.mark.parametrize(
    "part", [*OPTIMISERS, "algorithm.log_temperature", "algorithm.replay", "random.numpy", "env"]
)
def test_leaving_out_any_part_changes_the_weights(uninterrupted, part):
    kind, expected, folder = uninterrupted
    changed = weights_without(part, folder, lambda: build(kind))
    assert not same_weights(changed, expected)


def test_the_priorities_are_part_of_the_state(tmp_path):
    model, again, callback = build("prioritised"), build("prioritised"), Adapting()
    model.learn(288, Adapting(tmp_path))
    restore_checkpoint(again, {"adapting": callback}, tmp_path / "step_000000144")
    again.replay_buffer.tree.set(np.arange(144), np.ones(144))
    again.learn(144, callback, reset_num_timesteps=False)
    assert not same_weights(weights(again), weights(model))


def test_other_settings_of_the_replay_are_refused(uninterrupted):
    kind, _, folder = uninterrupted
    other = build("uniform" if kind == "prioritised" else "prioritised")
    with pytest.raises(InputError, match=r"replay: .*kind.* -> "):
        restore_checkpoint(other, {"adapting": Adapting()}, folder / "step_000000144")


def test_with_weights_of_1_an_update_is_that_of_sb3_contrib():
    """Of the same minibatches, with the same noise."""
    ours, stock = build("prioritised", learning_starts=10**6), build(learning_starts=10**6)
    for model in (ours, stock):
        model.learn(96)
    batches = [np.random.default_rng(i).integers(0, 96, 16) for i in range(3)]
    replay = ours.replay_buffer
    draws = [Draw(replay._rows(items), torch.ones(16), items) for items in batches]
    replay.draw = lambda *_: draws.pop(0)
    samples = [replay._rows(items) for items in batches]
    stock.replay_buffer.sample = lambda *_, **__: samples.pop(0)
    for model, train in ((ours, ours.train), (stock, lambda *a: TQC.train(stock, *a))):
        torch.manual_seed(3)
        train(3, 16)
        assert model._n_updates == 3
    for name, weight in weights(stock).items():
        np.testing.assert_allclose(weights(ours)[name], weight, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(ours.log_ent_coef, stock.log_ent_coef)


def test_importance_weights_weigh_the_losses_of_transitions():
    current, target = torch.randn(6, 2, 5), torch.randn(6, 8)
    losses = quantile_huber(current, target)
    for i in range(6):
        one = quantile_huber_loss(current[i : i + 1], target[i : i + 1, None], None, False)
        torch.testing.assert_close(losses[i], one)


def test_beta_rises_to_1_over_the_training():
    model, seen = build("prioritised"), []
    draw = model.replay_buffer.draw

    def noted(size, beta):
        seen.append(beta)
        return draw(size, beta)

    model.replay_buffer.draw = noted
    model.learn(240)
    np.testing.assert_allclose(seen[::3], 0.4 + 0.6 * np.array([0.4, 0.6, 0.8, 1.0]))


def test_exploration_is_small_from_the_first_step_on():
    model = build(env=DriftEnv(64), rollout_steps=128, learning_starts=10**6)
    model.learn(128)
    actions = model.replay_buffer.actions[: model.replay_buffer.size()]
    assert 0.04 < actions.std() < 0.06
    assert np.abs(actions).max() < 0.4


def test_the_temperature_holds_the_entropy_that_exploration_starts_with():
    model = build()
    _, log_prob = model.actor.action_log_prob(torch.randn(20_000, 3))
    assert -log_prob.mean().item() == pytest.approx(model.target_entropy, abs=0.02)


def test_books_are_held_whole():
    env = KernelVecEnv(kernel_of(random_walk(200), 4))
    model = build(env=env, basis=["short_straddle"], rollout_steps=8, learning_starts=8)
    model.learn(32)
    actions = model.predict(env.reset())[0]
    books = model.actor.books.numpy()
    assert actions.shape == (4, books.shape[1])
    amounts = actions @ np.linalg.pinv(books)
    np.testing.assert_allclose(amounts @ books, actions, atol=1e-6)
    assert np.abs(amounts).min() > 0


REFUSED = [
    ({"env": SimplexDriftEnv()}, "points of the simplex"),
    ({"rollout_steps": 49}, "does not divide among num_envs = 3"),
    ({"buffer": {"size": 47}}, "does not hold the 48 steps"),
    ({"drop_quantiles": 5}, "leaves none of 5"),
    ({"basis": "short_straddle"}, "agent.basis was given for a DriftEnv"),
]


@pytest.mark.parametrize(("changes", "complaint"), REFUSED)
def test_what_does_not_go_is_one_error(changes, complaint):
    with pytest.raises(InputError, match=complaint):
        build(**changes)


def test_the_buffer_is_a_ring_of_whole_steps():
    model = build("prioritised")
    assert isinstance(model.replay_buffer, PrioritisedReplay)
    assert model.replay_buffer.buffer_size * model.n_envs == 144
