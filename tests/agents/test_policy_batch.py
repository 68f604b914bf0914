import numpy as np
import pytest

from agents.policy_batch import PolicyBatch
from conf.errors import InputError


class Counting:
    """Acts with its own number, and counts its calls in its state."""

    def __init__(self, number):
        self.number = number

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        calls = (0 if state is None else state) + 1
        first = np.zeros(len(observation)) if episode_start is None else episode_start
        return self.number * 100 + calls * 10 + observation[:, :1] + 1000 * first[:, None], calls


def test_each_policy_sees_its_own_books_starts_and_state():
    policy_batch = PolicyBatch([Counting(1), Counting(2)])
    obs = np.arange(4.0)[:, None]
    starts = np.array([True, False, False, True])
    action, state = policy_batch.predict(obs, None, starts)
    np.testing.assert_array_equal(action[:, 0], [1110, 111, 212, 1213])
    action, state = policy_batch.predict(obs, state, None)
    np.testing.assert_array_equal(action[:, 0], [120, 121, 222, 223])


def test_books_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match="3 books do not divide among 2 policies"):
        PolicyBatch([Counting(1), Counting(2)]).predict(np.zeros((3, 1)))
