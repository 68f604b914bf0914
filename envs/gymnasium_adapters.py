"""A kernel as a gymnasium `Env` and as a gymnasium `VectorEnv`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from conf.errors import InputError
from conf.types import ObsArray
from envs.core.batch import BatchKernel
from envs.core.kernel import BookKernel
from envs.rendering import RENDER_FPS, book_picture, book_table


class KernelEnv(gym.Env[ObsArray, ObsArray]):
    """A kernel of one episode as a gymnasium environment.

    `info` is empty but for the last step of an episode, where `info["episode"]` sums it up.
    `render_mode="ansi"` gives the book as a table, `"rgb_array"` draws it (400, 640, 3).
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": RENDER_FPS}  # noqa: RUF012

    def __init__(self, kernel: BookKernel, render_mode: str | None = None) -> None:
        if kernel.num_envs != 1:
            raise InputError(
                f"a kernel of {kernel.num_envs} episodes is no single environment",
                "Use gymnasium.make_vec or KernelVecEnv",
            )
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise InputError(
                f"render_mode is {render_mode!r}",
                f"Choose from {', '.join(self.metadata['render_modes'])}, or leave it out",
            )
        self.kernel, self.render_mode = kernel, render_mode
        self.observation_space = kernel.observation_space
        self.action_space = kernel.action_space
        self._equity: list[float] = []  # at each close of the episode, where it is drawn

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ObsArray, dict[str, Any]]:
        """Begin an episode; a seed makes the draw of its start reproducible."""
        super().reset(seed=seed)
        self.kernel.rng = self.np_random
        observation = self.kernel.reset()[0]
        self._equity.clear()
        self._note_equity()
        return observation, {}

    def step(self, action: ObsArray) -> tuple[ObsArray, float, bool, bool, dict[str, Any]]:
        """Act, and settle at the next close."""
        result = self.kernel.step(np.asarray(action)[None])
        self._note_equity()
        terminated, truncated = bool(result.terminated[0]), bool(result.truncated[0])
        info = {"episode": self.kernel.episode_summary(0)} if terminated or truncated else {}
        return result.observation[0], float(result.reward[0]), terminated, truncated, info

    def render(self) -> str | NDArray[np.uint8] | None:
        """The book at this close in the `render_mode` that was chosen; None without one."""
        if self.render_mode == "ansi":
            return book_table(self.kernel)
        return None if self.render_mode is None else book_picture(self.kernel, self._equity)

    def _note_equity(self) -> None:
        if self.render_mode == "rgb_array":
            self._equity.append(float(self.kernel.ledger.equity[0]))


class KernelVectorEnv(gym.vector.VectorEnv[ObsArray, ObsArray, NDArray[Any]]):
    """A kernel as a gymnasium vector environment with same-step reset.

    At the end of an episode the observation returned is the next one's first; the last one stands
    in `infos["final_obs"]`, as gymnasium's own same-step environments do it.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, kernel: BatchKernel) -> None:
        self.kernel = kernel
        self.num_envs = kernel.num_envs
        self.single_observation_space = kernel.observation_space
        self.single_action_space = kernel.action_space
        self.observation_space = batch_space(kernel.observation_space, kernel.num_envs)
        self.action_space = batch_space(kernel.action_space, kernel.num_envs)

    def reset(
        self,
        *,
        seed: int | list[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[ObsArray, dict[str, Any]]:
        """Begin all episodes. One seed serves all of them: they share one generator."""
        if isinstance(seed, Sequence):
            seed = seed[0]
        super().reset(seed=seed)
        self.kernel.rng = self.np_random
        return self.kernel.reset(), {}

    def step(
        self, actions: ObsArray
    ) -> tuple[ObsArray, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Act in every episode; finished ones begin anew in the same step."""
        result = self.kernel.step(np.asarray(actions))
        done = result.terminated | result.truncated
        infos: dict[str, Any] = {}
        observation = result.observation
        if done.any():
            finished = np.nonzero(done)[0]
            for index, last in zip(finished, observation[finished], strict=True):
                final = {"episode": self.kernel.episode_summary(int(index))}
                ended = {"final_obs": last, "final_info": final}
                infos = self._add_info(infos, ended, int(index))
            observation[finished] = self.kernel.restart(done)
        return observation, result.reward, result.terminated, result.truncated, infos
