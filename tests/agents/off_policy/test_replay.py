"""Prioritised draws and their weights against the formulas, and what a checkpoint holds."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from scipy import stats
from stable_baselines3.common.buffers import ReplayBuffer

from agents.off_policy.replay import PrioritisedReplay, load_replay_state, replay_state
from agents.persistence.packing import pack, unpack
from conf.errors import InputError

OBS, ACTION = spaces.Box(-np.inf, np.inf, (2,)), spaces.Box(-1.0, 1.0, (1,))
ENVS = 3


@pytest.fixture(autouse=True)
def seeded():
    np.random.seed(0)  # where Stable-Baselines3 draws from


def filled(steps, size=36, kind=PrioritisedReplay, **options):
    """Episodes of five steps; the second one's ends are cut-offs; rewards count the transitions."""
    if kind is PrioritisedReplay:
        options = {"alpha": 0.7, "epsilon": 0.01, **options}
    buffer = kind(size, OBS, ACTION, n_envs=ENVS, device="cpu", **options)
    rng = np.random.default_rng(3)
    seen = rng.normal(size=(ENVS, 2)).astype(np.float32)
    for step in range(steps):
        following = rng.normal(size=(ENVS, 2)).astype(np.float32)
        done = np.full(ENVS, step % 5 == 4)
        infos = [{"TimeLimit.truncated": bool(done[i]) and i == 1} for i in range(ENVS)]
        number = ENVS * step + np.arange(ENVS)
        buffer.add(seen, following, rng.random((ENVS, 1)), number.astype(np.float32), done, infos)
        seen = rng.normal(size=(ENVS, 2)).astype(np.float32) if done[0] else following
    return buffer


def errors_of(number):
    return np.random.default_rng(4).normal(size=number) * np.linspace(0.1, 2.0, number)


def test_draws_and_weights_are_those_of_the_formula():
    buffer, errors = filled(10), errors_of(30)
    buffer.learned(np.arange(30), errors)
    priority = (np.abs(errors) + 0.01) ** 0.7
    share = priority / priority.sum()
    count = np.zeros(30)
    for _ in range(500):
        draw = buffer.draw(64, beta=0.5)
        count += np.bincount(draw.items, minlength=30)
        weights = (30 * share[draw.items]) ** -0.5
        np.testing.assert_allclose(draw.weights, weights / weights.max(), rtol=1e-6)
        np.testing.assert_array_equal(draw.data.rewards[:, 0], draw.items)  # the right transitions
    # Of equal parts one each: frequencies vary less than independent draws, never more.
    assert stats.chisquare(count, 500 * 64 * share).pvalue > 1e-3


def test_with_alpha_0_draws_are_uniform_and_weigh_1():
    buffer = filled(10, alpha=0.0)
    buffer.learned(np.arange(30), errors_of(30))
    count = np.zeros(30)
    for _ in range(300):
        draw = buffer.draw(30, beta=0.4)
        assert torch.equal(draw.weights, torch.ones(30))
        count += np.bincount(draw.items, minlength=30)
    assert stats.chisquare(count, np.full(30, 300.0)).pvalue > 1e-3


def test_what_was_never_learned_from_has_the_largest_priority_so_far():
    buffer = filled(10)
    buffer.learned(np.array([4]), np.array([-5.0]))
    buffer.learned(np.array([4]), np.array([0.1]))
    seen, flat = np.zeros((ENVS, 2)), np.zeros(ENVS)
    buffer.add(seen, seen, flat[:, None], flat, flat, [{}] * ENVS)
    np.testing.assert_allclose(buffer.tree.weights[30:33], 5.01**0.7)


def test_an_end_counts_and_a_cut_off_does_not():
    buffer = filled(10)
    data = buffer._rows(np.arange(30))
    ended = (np.arange(30) // ENVS % 5 == 4) & (np.arange(30) % ENVS != 1)
    np.testing.assert_array_equal(data.dones[:, 0], ended)


@pytest.mark.parametrize("kind", [ReplayBuffer, PrioritisedReplay])
@pytest.mark.parametrize("steps", [1, 10, 12, 31])  # of 12 rows; the ring is full from 12 on
def test_a_buffer_comes_back_as_it_was(kind, steps):
    buffer, again = filled(steps, kind=kind), filled(0, kind=kind)
    if kind is PrioritisedReplay:
        buffer.learned(np.arange(3), errors_of(3))
    packed, arrays = pack(replay_state(buffer), "replay")
    load_replay_state(again, unpack(packed, arrays))
    assert (again.pos, again.full, again.size()) == (buffer.pos, buffer.full, buffer.size())
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        size = buffer.size()
        np.testing.assert_array_equal(getattr(again, name)[:size], getattr(buffer, name)[:size])
    if kind is PrioritisedReplay:
        assert again.largest == buffer.largest
        np.testing.assert_array_equal(again.tree._sums, buffer.tree._sums)


def test_only_next_observations_that_are_no_other_row_are_stored():
    state = replay_state(filled(11))
    assert state["differs"].sum() == 3 * ENVS  # two ends, and the last row
    assert len(state["next_observations"]) == 3 * ENVS


@pytest.mark.parametrize("change", [{"pos": 4}, {"full": True}, {"rewards": np.zeros((10, 2))}])
def test_a_state_of_another_buffer_is_refused(change):
    state = {**replay_state(filled(10)), **change}
    with pytest.raises(InputError, match="10 rows of replay do not fit 12"):
        load_replay_state(filled(0), state)
