"""Curiosity: what is added to rewards, what it is paid for, and where it fades."""

import numpy as np
import pytest

from agents.factory import PPOSettings, build_agent
from agents.persistence.packing import pack, unpack
from agents.persistence.resume_state import capture
from agents.ppo.curiosity import (
    CuriositySettings,
    CuriousVecEnv,
    Distillation,
    Foresight,
    looked_at,
)
from conf.errors import InputError
from envs.sb3_vec_env import KernelVecEnv
from tests.markets import kernel_of, options_of, random_walk

pytestmark = pytest.mark.usefixtures("one_thread")
WORTH = CuriositySettings(weight=0.5, hidden=16, outputs=4)


def episodes(scale=1.0, sessions=30):
    options = options_of(episode={"sessions": sessions})
    kernel = kernel_of(random_walk(200, seed=1), 4, options, random_start=True, seed=3)
    return KernelVecEnv(kernel, scale)


def played(env, steps=40, seed=0):
    rng = np.random.default_rng(seed)
    first = env.reset()
    return first, [
        env.step(rng.uniform(-0.1, 0.1, (4, 20)).astype(np.float32)) for _ in range(steps)
    ]


def test_it_adds_the_surprise_at_the_state_that_was_reached_and_nothing_else():
    curious = CuriousVecEnv(episodes(0.1), WORTH, seed=7)
    plain, (first, steps) = played(episodes(0.1)), played(curious)
    np.testing.assert_array_equal(first, plain[0])
    columns = list(looked_at(curious.kernel.market.features, None))
    twin = Distillation(len(columns), WORTH, seed=7)
    ended = 0
    for (seen, reward, done, infos), (same, less, also, told) in zip(steps, plain[1], strict=True):
        np.testing.assert_array_equal(seen, same)
        np.testing.assert_array_equal(done, also)
        assert [info.get("episode") for info in infos] == [info.get("episode") for info in told]
        reached = seen.copy()
        for i in np.flatnonzero(done):
            reached[i], ended = infos[i]["terminal_observation"], ended + 1
        bonus = 0.1 * 0.5 * twin.surprise(reached[:, columns])
        assert (bonus > 0.0).all()
        np.testing.assert_allclose(reward - less, bonus, atol=1e-6)
    assert ended == 4
    np.testing.assert_allclose(curious.bonus, bonus, rtol=1e-6)


def test_it_looks_at_the_books_own_features_unless_told_otherwise():
    features = episodes().kernel.market.features
    own = [features[i].name for i in looked_at(features, None)]
    assert own[:3] == ["cash", "equity", "position.30D_Call_0.90"]
    assert own[-1] == "rolling_sharpe"
    assert len(own) == 6 + 2 * 20
    assert [features[i].name for i in looked_at(features, ["rsi*"])] == ["rsi_14"]
    with pytest.raises(InputError, match="no feature of the observation is named 'rsj'"):
        looked_at(features, ["rsj"])


def shares(find, rows=600):
    """The error at first and at last, means of a twentieth of the steps."""
    errors = [find().mean() for _ in range(rows)]
    return np.mean(errors[: rows // 20]), np.mean(errors[-rows // 20 :])


def test_noise_pays_forever_for_foreseeing_it_and_a_random_network_is_learned():
    """A market's returns are news each day. A network that must foresee the next state never gets
    better than its variance; a random network of the state that was reached can be learned."""
    options, rng = CuriositySettings(), np.random.default_rng(0)
    foresight = Foresight(3, 3, options)
    state = rng.normal(size=(16, 3))

    def next_state():
        nonlocal state
        before, state = state, rng.normal(size=(16, 3))
        return foresight.error(foresight.whitened("inputs", before), state)

    _, last = shares(next_state)
    assert last > 0.95
    distillation = Distillation(3, options, seed=0)
    first, last = shares(lambda: distillation.surprise(rng.normal(size=(16, 3)).astype(np.float32)))
    assert last < 0.1 * first


def test_in_a_book_it_fades_and_comes_back_for_books_that_were_never_held():
    env = CuriousVecEnv(episodes(), CuriositySettings(weight=1.0), seed=0)
    env.reset()
    rng = np.random.default_rng(0)

    def bonus(low, high):
        env.step(rng.uniform(low, high, (4, 1)).repeat(20, axis=1).astype(np.float32))
        return env.bonus

    first, last = shares(lambda: bonus(0.0, 0.02))
    assert last < 0.35 * first
    other = np.mean([bonus(-0.1, -0.08).mean() for _ in range(20)])
    assert other > 3.0 * last


def test_its_state_goes_through_a_checkpoint_bit_for_bit():
    below = [episodes(), episodes()]
    one, two = (CuriousVecEnv(env, WORTH, seed) for env, seed in zip(below, (1, 2), strict=True))
    played(one)
    packed, arrays = pack(one.get_state(), "curious")
    two.set_state(unpack(packed, arrays))
    below[1].set_state(below[0].get_state())
    action = np.full((4, 20), 0.05, np.float32)
    for _ in range(3):
        np.testing.assert_array_equal(one.step(action)[1], two.step(action)[1])


def test_a_checkpoint_holds_it_beside_the_environment():
    settings = PPOSettings(rollout_steps=16, batch_size=8, net_arch=(4,), features=("cash",))
    model = build_agent(settings, CuriousVecEnv(episodes(), WORTH, 0), 0, "cpu")
    model._setup_learn(16)
    curious, kernel = capture(model, {}).values["env"]
    assert set(curious) == {"target", "learner"}
    assert "rng" in kernel
