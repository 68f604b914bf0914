"""A kernel as the `VecEnv` that Stable-Baselines3 trains on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from conf.errors import InputError
from conf.types import BoolArray, ObsArray
from envs.core.batch import BatchKernel, StepResult


class KernelVecEnv(VecEnv):
    """A kernel as the VecEnv that Stable-Baselines3 trains on.

    Infos are empty but at the end of an episode, where they hold `terminal_observation`,
    `TimeLimit.truncated` and `episode` (reward `r`, length `l` and the summary's other numbers).
    Rewards are handed out times `reward_scale`; the infos hold them as they are.
    """

    def __init__(self, kernel: BatchKernel, reward_scale: float = 1.0) -> None:
        self.kernel, self.reward_scale = kernel, reward_scale
        self._actions: NDArray[Any] | None = None
        super().__init__(kernel.num_envs, kernel.observation_space, kernel.action_space)

    def reset(self) -> ObsArray:
        """Begin all episodes; after `seed(...)` from a fresh generator."""
        if self._seeds[0] is not None:
            self.kernel.seed(self._seeds[0])
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = [{} for _ in range(self.num_envs)]
        return self.kernel.reset()

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take the actions (N, A) of the next step."""
        self._actions = actions

    def step_wait(self) -> tuple[ObsArray, NDArray[Any], BoolArray, list[dict[str, Any]]]:
        """Act in every episode; finished ones begin anew in the same step."""
        if self._actions is None:
            raise InputError("step_wait was called before step_async", "Call step(actions)")
        result: StepResult = self.kernel.step(self._actions)
        self._actions = None
        done = result.terminated | result.truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        observation = result.observation
        if done.any():
            finished = np.nonzero(done)[0]
            for index, last in zip(finished, observation[finished], strict=True):
                infos[index] = {
                    "terminal_observation": last,
                    "TimeLimit.truncated": bool(result.truncated[index]),
                    "episode": {"t": 0.0, **self.kernel.episode_summary(int(index))},
                }
            observation[finished] = self.kernel.restart(done)
        return observation, (self.reward_scale * result.reward).astype(np.float32), done, infos

    def get_state(self) -> dict[str, Any]:
        """The kernel's whole state, for checkpoints."""
        return self.kernel.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_state` gave."""
        self.kernel.set_state(state)

    def close(self) -> None:
        """Nothing is held open."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the kernel, once for each of the episodes."""
        value = None if attr_name == "render_mode" else getattr(self.kernel, attr_name)
        return [value for _ in self._indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the kernel, for all episodes alike."""
        setattr(self.kernel, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the kernel once; its answer for each of the episodes."""
        answer = getattr(self.kernel, method_name)(*method_args, **method_kwargs)
        return [answer for _ in self._indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """No episode is wrapped."""
        return [False for _ in self._indices(indices)]

    def _indices(self, indices: Any) -> Iterable[int]:
        if indices is None:
            return range(self.num_envs)
        return [indices] if isinstance(indices, int) else indices
