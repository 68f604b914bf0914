"""Other goals: what they would have paid, whose episodes they are of, and bit-for-bit resume."""

import numpy as np
import pytest

from agents.factory import build_agent
from agents.off_policy.hindsight import HindsightReplay
from agents.off_policy.replay import load_replay_state, replay_state
from agents.off_policy.settings import TQCSettings
from agents.persistence.checkpoint import restore_checkpoint
from agents.persistence.packing import pack, unpack
from agents.persistence.policy_file import load_policy, save_policy
from conf.errors import InputError
from conf.settings import build_settings
from envs.sb3_vec_env import KernelVecEnv
from tests.agents.off_policy.test_tqc import SMALL
from tests.agents.toy_run import Adapting, DriftEnv, same_weights, weights, weights_without
from tests.markets import kernel_of, options_of, random_walk

pytestmark = pytest.mark.usefixtures("one_thread")

ENVS, SESSIONS, SCALE = 3, 10, 30.0
PAID = {"goal_return": 5.0, "goal_drawdown": 2.0}


def episodes(weights=PAID, ruin_share=0.2, **goal):
    """Episodes of ten sessions; some end in ruin where `ruin_share` is high."""
    options = options_of(
        observation={"goal": {"sessions": 5, **goal}},
        reward={"weights": weights},
        episode={"sessions": SESSIONS, "ruin_share": ruin_share},
        costs={"kind": "flat", "rate_bps": 5.0},
    )
    kernel = kernel_of(random_walk(150), ENVS, options, random_start=True, seed=3)
    return KernelVecEnv(kernel, SCALE)


def build(env=None, **changes):
    replay = {"kind": "hindsight", "size": 144, **changes.pop("buffer", {})}
    options = build_settings(TQCSettings, {**SMALL, "replay": replay, **changes}, "agent")
    return build_agent(options, env or episodes(), 5, "cpu")


def played(steps, **book):
    """A buffer filled by random actions, always the same ones."""
    np.random.seed(0)  # where Stable-Baselines3 draws from
    env = episodes(**book)
    size = 144
    spaces = env.observation_space, env.action_space
    buffer = HindsightReplay(size, *spaces, env, n_envs=ENVS, device="cpu", n_sampled_goal=4)
    rng, seen = np.random.default_rng(1), env.reset()
    for _ in range(steps):
        action = rng.uniform(-0.5, 0.5, (ENVS, 20)).astype(np.float32)
        following, reward, done, infos = env.step(action)
        last = following.copy()
        for i in np.flatnonzero(done):
            last[i] = infos[i]["terminal_observation"]
        buffer.add(seen, last, action, reward, done, infos)
        seen = following
    return buffer


def test_another_goal_pays_what_it_would_have_paid_from_the_start():
    """Ruin and all that is paid besides goals included: the episodes are played again with it."""
    other = {"excess_return": 0.015, "drawdown": 0.01}
    fixed = {"excess_return_range": [0.015] * 2, "drawdown_range": [0.01] * 2}
    everything = {**PAID, "portfolio_return": 100.0, "sharpe": 0.3, "cost": 1.0}
    buffer = played(45, weights=everything, ruin_share=0.95)
    again = played(45, weights=everything, ruin_share=0.95, **fixed)
    assert (buffer.dones * (1 - buffer.timeouts)).sum() > 2  # ruins
    rows, envs = np.nonzero(buffer.ep_length)
    goal = again.observations["desired_goal"][0, 0]
    np.testing.assert_allclose(goal * [0.02, 0.1], list(other.values()), rtol=1e-6)
    buffer._sample_goals = lambda rows, _: np.tile(goal, (len(rows), 1))
    data = buffer._get_virtual_samples(rows, envs)
    assert np.abs(again.rewards[rows, envs] - buffer.rewards[rows, envs]).max() > 1.0
    np.testing.assert_allclose(data.rewards[:, 0], again.rewards[rows, envs], rtol=1e-4, atol=1e-4)
    for seen, played_again in (
        (data.observations, again.observations),
        (data.next_observations, again.next_observations),
    ):
        for name, values in seen.items():
            np.testing.assert_array_equal(values, played_again[name][rows, envs])


@pytest.mark.parametrize("steps", [30, 60])  # of 48 rows
def test_a_minibatch_is_flat_and_a_fifth_of_it_keeps_its_goal(steps):
    buffer = played(steps)
    data = buffer.sample(500)
    assert data.observations.shape == data.next_observations.shape == (500, 217)
    assert data.rewards.shape == data.dones.shape == (500, 1)
    stored = {
        row.tobytes(): i for i, row in enumerate(buffer.flat["observations"].reshape(-1, 217))
    }
    known = np.array([row.tobytes() in stored for row in data.observations.numpy()])
    assert known[:100].all()
    assert known[100:].sum() < 5
    np.testing.assert_array_equal(data.observations[:, -2:], data.next_observations[:, -2:])
    reached = buffer.next_observations["achieved_goal"].reshape(-1, 2)
    assert {tuple(goal) for goal in data.observations[100:, -2:].numpy()} <= set(
        map(tuple, reached)
    )


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The final weights of a run left alone, and its checkpoints' folder.

    288 steps; the buffer of 144 has wrapped around by then.
    """
    folder = tmp_path_factory.mktemp("whole")
    model = build()
    model.learn(288, Adapting(folder))
    return weights(model), folder


@pytest.mark.parametrize("step", [48, 144, 240])
def test_a_resumed_run_ends_with_the_same_weights_bit_for_bit(uninterrupted, step):
    expected, folder = uninterrupted
    model, callback = build(), Adapting()
    restore_checkpoint(model, {"adapting": callback}, folder / f"step_{step:09d}")
    model.learn(288 - step, callback, reset_num_timesteps=False)
    assert same_weights(weights(model), expected)


@pytest.mark.parametrize("part", ["random.numpy", "env", "algorithm.replay"])
def test_leaving_out_any_part_changes_the_weights(uninterrupted, part):
    expected, folder = uninterrupted
    assert not same_weights(weights_without(part, folder, build), expected)


@pytest.mark.parametrize("steps", [1, 12, 48, 60])  # of 48 rows; the ring is full from 48 on
def test_a_buffer_comes_back_as_it_was(steps):
    buffer, again = played(steps), played(0)
    packed, arrays = pack(replay_state(buffer), "replay")
    load_replay_state(again, unpack(packed, arrays))
    assert (again.pos, again.full) == (buffer.pos, buffer.full)
    for name in ("actions", "rewards", "dones", "timeouts", "ep_start", "ep_length"):
        np.testing.assert_array_equal(getattr(again, name), getattr(buffer, name))
    np.testing.assert_array_equal(again._current_ep_start, buffer._current_ep_start)
    for name, rows in buffer.flat.items():
        np.testing.assert_array_equal(again.flat[name], rows)
        assert all(
            np.shares_memory(part, again.flat[name]) for part in getattr(again, name).values()
        )


def test_the_policy_file_is_the_usual_one(tmp_path):
    model = build()
    save_policy(model.policy, tmp_path, {})
    seen = model.get_env().reset()
    ours, theirs = (
        p.predict(seen, deterministic=True)[0] for p in (model, load_policy(tmp_path).policy)
    )
    np.testing.assert_array_equal(ours, theirs)


def test_a_checkpoint_of_another_kind_of_replay_says_nothing_of_hindsight():
    """So that those of earlier versions go on."""
    assert build(buffer={"kind": "uniform"}).replay.keys() == {
        *("kind", "size", "alpha", "beta", "epsilon")
    }
    assert build().replay["strategy"] == "future"


def no_goal():
    return KernelVecEnv(kernel_of(random_walk(150), ENVS))


REFUSED = [
    ({"env": no_goal}, "learns from other goals, and there is none"),
    ({"env": DriftEnv}, "kind=hindsight was given for a DriftEnv"),
    ({"env": lambda: episodes(weights={})}, "the weights of goals are 0"),
    ({"features": ["drawdown", "reached.*"]}, "agent.features does not show goal.return"),
    ({"learning_starts": 29}, "learning_starts = 29 comes before .* first episodes"),
    ({"buffer": {"size": 59}}, "size = 59 does not always hold a whole episode"),
    ({"buffer": {"strategy": "random"}}, "agent.replay.strategy = 'random' is not valid"),
]


@pytest.mark.parametrize(("changes", "complaint"), REFUSED)
def test_what_does_not_go_is_one_error(changes, complaint):
    changes = {name: value() if name == "env" else value for name, value in changes.items()}
    with pytest.raises(InputError, match=complaint):
        build(**changes)
