from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from agents.policy import PolicyBatch
from conf.errors import InputError
from envs.core.kernel import BookState


class Counting:
    """Acts with its own number, and counts its calls in its state."""

    def __init__(self, number):
        self.number = number

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        assert deterministic
        calls = (0 if state is None else state) + 1
        first = episode_start[:, None]
        return self.number * 100 + calls * 10 + observation[:, :1] + 1000 * first, calls


class Doubling:
    """States twice what is held."""

    def quantities(self, books):
        return 2.0 * books.quantity


class Kernel:
    """Books whose quantity is the action, less one half; what a batch of policies asks for."""

    def __init__(self, held):
        self.held, self.action_space = held, spaces.Box(-1, 1, (1,))

    def books(self):
        number = np.arange(len(self.held))
        cash = self.held[:, 0]
        return BookState(None, number, number, number, self.held, cash, cash)

    def quantity_of(self, action):
        return action - 0.5


def kernel_of(held) -> Any:
    return Kernel(held)


OBSERVATION = np.arange(4, dtype=np.float32)[:, None]


def test_each_policy_sees_its_own_books_starts_and_state():
    batch, kernel = PolicyBatch([Counting(1), Counting(2)]), kernel_of(np.zeros((4, 1)))
    starts = np.array([True, False, False, True])
    quantity, state = batch.quantities(kernel, OBSERVATION, None, starts)
    np.testing.assert_array_equal(quantity[:, 0] + 0.5, [1110, 111, 212, 1213])
    quantity, state = batch.quantities(kernel, OBSERVATION, state, np.zeros(4, bool))
    np.testing.assert_array_equal(quantity[:, 0] + 0.5, [120, 121, 222, 223])


def test_a_strategy_beside_a_policy_states_its_own_books():
    kernel, starts = kernel_of(np.array([[3.0], [5.0], [7.0], [9.0]])), np.zeros(4, bool)
    quantity, _ = PolicyBatch([Counting(1), Doubling()]).quantities(
        kernel, OBSERVATION, None, starts
    )
    np.testing.assert_array_equal(quantity[:, 0], [109.5, 110.5, 14.0, 18.0])
    quantity, _ = PolicyBatch([Doubling()]).quantities(kernel, OBSERVATION, None, starts)
    np.testing.assert_array_equal(quantity[:, 0], [6.0, 10.0, 14.0, 18.0])


def test_books_that_do_not_divide_are_refused():
    batch = PolicyBatch([Counting(1), Counting(2)])
    with pytest.raises(InputError, match="3 books do not divide among 2 policies"):
        batch.quantities(kernel_of(np.zeros((3, 1))), OBSERVATION[:3], None, np.zeros(3, bool))
