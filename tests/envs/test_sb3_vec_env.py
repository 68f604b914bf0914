import numpy as np
import pytest

from envs.sb3_vec_env import KernelVecEnv
from tests.markets import kernel_of, random_walk


def test_rewards_are_scaled_for_the_learner_and_not_for_the_logs():
    history = random_walk(120, seed=1)
    kernels = [kernel_of(history, num_envs=2) for _ in range(2)]
    plain, scaled = KernelVecEnv(kernels[0]), KernelVecEnv(kernels[1], 0.05)
    for kernel in kernels:
        kernel.place(np.array([60, 60]), np.array([0, 0]), np.array([63, 63]))
    action = np.full((2, 20), 0.1, np.float32)
    for _ in range(3):
        _, reward, _, infos = plain.step(action)
        _, smaller, _, same = scaled.step(action)
        np.testing.assert_allclose(smaller, 0.05 * reward, rtol=1e-6)
    assert same[0]["episode"]["r"] == pytest.approx(infos[0]["episode"]["r"])
