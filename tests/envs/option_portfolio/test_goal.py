"""Goals: seen, paid for by a function of what is seen, drawn in training and fixed otherwise."""

import numpy as np
import pytest

from conf.errors import InputError
from conf.settings import build_settings
from envs.allocation.market import AllocationSettings
from envs.core.goal import GOAL, GoalSettings, goal_gaps
from tests.markets import kernel_of, options_of, random_walk

WEIGHTS = {"goal_return": 5.0, "goal_drawdown": 2.0}
SCALE = np.array([feature.scale for feature in GOAL])
SESSIONS = 7


def books(count=3, goal=(), random_start=True, **changes):
    reward = {"weights": WEIGHTS} if goal is not None else {}
    goal = None if goal is None else {"sessions": SESSIONS, **dict(goal)}
    blocks = changes.pop("extra_blocks", [])
    options = options_of(
        observation={"extra_blocks": blocks, "goal": goal},
        reward=reward,
        episode={"sessions": 30},
        **changes,
    )
    return kernel_of(random_walk(400, paths=3), count, options, random_start=random_start, seed=4)


def actions(steps, count=3, size=0.3):
    return np.random.default_rng(5).uniform(-size, size, (steps, count, 20))


def test_rewards_are_those_of_a_plain_recomputation_and_of_what_is_seen():
    kernel = books()
    kernel.reset()
    goal = kernel.goals.desired.copy()
    excess, equity = [], [kernel.ledger.equity]
    columns = [kernel.reward.term_names.index(name) for name in WEIGHTS]
    for action in actions(30):
        cash = kernel.market.cash_return[kernel.session]
        observation = kernel.step(action).observation
        equity.append(kernel.ledger.equity)
        excess.append(equity[-1] / equity[-2] - 1 - cash)
        drawdown = 1 - equity[-1] / np.max(equity, axis=0)
        shortfall = np.maximum(goal[:, 0] - np.sum(excess[-SESSIONS:], axis=0), 0)
        beyond = np.maximum(drawdown - goal[:, 1], 0)
        paid = kernel.reward_terms[:, columns]
        np.testing.assert_allclose(paid, np.stack([-5 * shortfall, -2 * beyond], 1), atol=1e-12)
        reached = kernel.goals.reached(kernel.ledger, kernel.statistics, slice(None))
        exact = kernel.compute_reward(reached / SCALE[:2], goal / SCALE[:2], [])
        np.testing.assert_allclose(exact, paid.sum(axis=1), atol=1e-12)
        np.testing.assert_allclose(observation[:, -4:] * SCALE, np.hstack([reached, goal]), 1e-5)
        seen = kernel.compute_reward(observation[:, -4:-2], observation[:, -2:], [])
        np.testing.assert_allclose(seen, exact, atol=1e-7)


def test_a_gap_is_what_lacks_of_the_return_and_what_the_drawdown_is_too_much():
    reached = np.array([[0.01, 0.02], [0.03, 0.2]])
    desired = np.array([[0.02, 0.1], [0.02, 0.1]])
    np.testing.assert_allclose(goal_gaps(reached, desired), [[0.01, 0.0], [0.0, 0.1]])


@pytest.mark.parametrize("blocks", [[], ["rates"]])
def test_all_else_is_seen_as_without_a_goal(blocks):
    kernels = [books(goal=goal, random_start=False, extra_blocks=blocks) for goal in ((), None)]
    seen, plain = (kernel.reset() for kernel in kernels)
    for action in actions(12):
        np.testing.assert_array_equal(seen[:, :-4], plain)
        seen, plain = (kernel.step(action).observation for kernel in kernels)
    assert [feature.block for feature in kernels[0].market.features[-5:]].count("goal") == 4
    assert kernels[0].market.observed.portfolio == kernels[1].market.observed.portfolio


def test_in_training_each_episode_has_a_goal_of_its_own_out_of_the_ranges():
    ranges = {"excess_return_range": [-0.01, 0.03], "drawdown_range": [0.2, 0.2]}
    kernel = books(200, ranges)
    kernel.reset()
    first = kernel.goals.desired.copy()
    low, high = first.min(axis=0), first.max(axis=0)
    np.testing.assert_allclose([*low, *high], [-0.01, 0.2, 0.03, 0.2], atol=1e-3)
    mask = np.arange(200) < 50
    assert (kernel.restart(mask)[:, -4:-2] == 0).all()  # nothing is reached yet
    assert (kernel.goals.desired[~mask] == first[~mask]).all()
    assert (kernel.goals.desired[mask, 0] != first[mask, 0]).all()


def test_elsewhere_the_goal_is_the_configured_one():
    kernel = books(2, {"excess_return": 0.004, "drawdown": 0.03}, random_start=False)
    kernel.reset()
    np.testing.assert_array_equal(kernel.goals.desired, [[0.004, 0.03]] * 2)


def test_a_goal_is_part_of_the_saved_state():
    kernel, again = books(), books()
    kernel.reset()
    kernel.step(actions(1)[0])
    again.set_state(kernel.get_state())
    for action in actions(8):
        one, two = kernel.step(action), again.step(action)
        np.testing.assert_array_equal(one.observation, two.observation)
        np.testing.assert_array_equal(one.reward, two.reward)


def test_recent_returns_of_some_episodes_are_theirs():
    kernel = books()
    kernel.reset()
    for action in actions(25):
        kernel.step(action)
    everyone = kernel.statistics.recent_return(SESSIONS)
    assert (kernel.statistics.recent_return(SESSIONS, np.array([2, 0])) == everyone[[2, 0]]).all()


@pytest.mark.parametrize(
    ("kind", "env", "complaint"),
    [
        ("options", {"reward": {"weights": WEIGHTS}}, "there is no goal: set env.observation.goal"),
        ("assets", {"reward": {"weights": WEIGHTS}}, "there is no goal: set env.observation.goal"),
        ("goal", {"drawdown_range": [0.2, 0.1]}, "drawdown_range goes from 0.2 down to 0.1"),
        ("goal", {"sessions": 61}, "less than or equal to 60"),
        ("goal", {"excess_return": 0.3}, "less than or equal to 0.2"),
    ],
)
def test_a_goal_that_makes_no_sense_is_one_error(kind, env, complaint):
    built = {"goal": GoalSettings, "assets": AllocationSettings}.get(kind, type(options_of()))
    with pytest.raises(InputError, match=complaint):
        build_settings(built, env, "env")
