"""Tiny runs, recurrent and not, in which every part of the resume state reaches the weights."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from agents.persistence.checkpoint import (
    newest_checkpoint,
    read_checkpoint,
    restore_checkpoint,
    save_checkpoint,
)
from agents.persistence.packing import pack, unpack
from agents.persistence.resume_state import ResumeState, capture, restore
from agents.ppo.policies import MaskedMlpLstmPolicy
from agents.ppo.recurrent_ppo import SequenceRecurrentPPO
from agents.ppo.simplex_policies import SimplexLstmPolicy, SimplexPolicy
from envs.allocation.simplex import Simplex

NUM_ENVS, N_STEPS = 3, 16
ROLLOUT = NUM_ENVS * N_STEPS
TOTAL = 6 * ROLLOUT
HALF = 3 * ROLLOUT
# Of the state of every agent, those without which a resumed run ends elsewhere.
PARTS = [
    "policy",
    "optimizers",
    "observed._last_obs",
    "env",
    "random.python",
    "random.numpy",
    "random.torch",
    "counters.num_timesteps",
    "counters._n_updates",
    "counters._episode_num",
    "counters._current_progress_remaining",
    "episodes.infos",
    "episodes.successes",
    "callbacks.adapting",
]


class DriftEnv(VecEnv):
    """Hold a drifting point at zero; episodes of random length end by truncation or at the edge."""

    render_mode = None

    def __init__(self, num_envs=NUM_ENVS, seed=0):
        super().__init__(num_envs, spaces.Box(-np.inf, np.inf, (3,)), spaces.Box(-1.0, 1.0, (2,)))
        self.generator = np.random.default_rng(seed)
        self.bonus = 0.0  # set by the callback at every rollout start
        self.position = np.zeros(num_envs)
        self.age = np.zeros(num_envs, np.int64)
        self.length = np.zeros(num_envs, np.int64)
        self.total = np.zeros(num_envs)

    def get_state(self):
        names = ("position", "age", "length", "total")
        arrays = {name: getattr(self, name).copy() for name in names}
        return {**arrays, "generator": self.generator.bit_generator.state}

    def set_state(self, state):
        for name in ("position", "age", "length", "total"):
            getattr(self, name)[:] = state[name]
        self.generator.bit_generator.state = state["generator"]

    def reset(self):
        self._start(np.ones(self.num_envs, bool))
        return self._observe()

    def step_async(self, actions):
        self.actions = actions

    def step_wait(self):
        noise = self.generator.normal(size=self.num_envs)
        self.position = 0.9 * self.position + self.actions[:, 0] + 0.3 * noise
        reward = -(self.position**2) + 0.1 * random.random() + self.bonus * self.actions[:, 1]
        self.age += 1
        self.total += reward
        ruined = np.abs(self.position) > 2.0
        done = ruined | (self.age >= self.length)
        seen = self._observe()
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(done):
            infos[i] = {
                "terminal_observation": seen[i],
                "TimeLimit.truncated": bool(not ruined[i]),
                "episode": {"r": float(self.total[i]), "l": int(self.age[i]), "t": 0.0},
                "is_success": bool(self.total[i] > -5),
            }
        self._start(done)
        return self._observe(), reward.astype(np.float32), done, infos

    def _start(self, which):
        self.position[which] = self.generator.normal(size=which.sum())
        self.age[which] = 0
        self.total[which] = 0.0
        self.length[which] = self.generator.integers(7, 30, size=which.sum())

    def _observe(self):
        parts = (self.position, self.age / 10, np.sin(self.position))
        return np.stack(parts, axis=1).astype(np.float32)

    def close(self):
        pass

    def get_attr(self, attr_name, indices=None):
        return [getattr(self, attr_name)] * self.num_envs

    def set_attr(self, attr_name, value, indices=None):
        setattr(self, attr_name, value)

    def env_method(self, method_name, *args, indices=None, **kwargs):
        return [getattr(self, method_name)(*args, **kwargs)] * self.num_envs

    def env_is_wrapped(self, wrapper_class, indices=None):
        return [False] * self.num_envs


class SimplexDriftEnv(DriftEnv):
    """The same, steered by the difference of two weights and rewarded for a third."""

    def __init__(self, num_envs=NUM_ENVS, seed=0):
        super().__init__(num_envs, seed)
        self.action_space = Simplex(3)

    def step_async(self, actions):
        super().step_async(np.stack([actions[:, 0] - actions[:, 1], actions[:, 2]], axis=1))


class Adapting(BaseCallback):
    """Lets the model's counters and its own memory bend the reward, and checkpoints before that."""

    def __init__(self, folder=None, kill_at=None):
        super().__init__()
        self.folder, self.kill_at, self.memory = folder, kill_at, 0.0

    def state_dict(self):
        return {"memory": self.memory}

    def load_state_dict(self, state):
        self.memory = state["memory"]

    def _on_rollout_start(self):
        model: Any = self.model
        if self.folder is not None:
            save_checkpoint(model, {"adapting": self}, self.folder)
        returns = [info["r"] for info in model.ep_info_buffer]
        model.get_env().bonus = (
            self.memory
            + 0.1 * model._n_updates
            + 0.01 * model._episode_num
            + 0.1 * model._current_progress_remaining
            + 0.01 * sum(returns)
            + 0.1 * sum(model.ep_success_buffer)
        )

    def _on_step(self):
        self.memory = 0.9 * self.memory + 0.1 * float(self.locals["rewards"].mean())
        self.model._episode_num += int(self.locals["dones"].sum())
        if self.kill_at is not None and self.num_timesteps >= self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return True


SETTINGS: dict[str, Any] = {
    "learning_rate": lambda progress: 1e-2 * progress,
    "n_steps": N_STEPS,
    "batch_size": 12,
    "n_epochs": 2,
    "ent_coef": 0.01,
    "seed": 5,
    "device": "cpu",
}


def build(env=None, **changes):
    network = {"lstm_hidden_size": 8, "net_arch": [8]}
    settings = SETTINGS | {"sequence_length": 4, "policy_kwargs": network} | changes
    return SequenceRecurrentPPO(MaskedMlpLstmPolicy, env or DriftEnv(), **settings)


def build_simplex_lstm(env=None, **changes):
    network = {"lstm_hidden_size": 8, "net_arch": [8]}
    settings = SETTINGS | {"sequence_length": 4, "policy_kwargs": network} | changes
    return SequenceRecurrentPPO(SimplexLstmPolicy, env or SimplexDriftEnv(), **settings)


def build_ppo(env=None, distribution="softmax_gaussian", **changes):
    network = {"net_arch": [8, 8], "distribution": distribution, "concentration_init": 20.0}
    settings = SETTINGS | {"policy_kwargs": network} | changes
    return PPO(SimplexPolicy, env or SimplexDriftEnv(), **settings)


BUILDERS = {"recurrent": build, "simplex_lstm": build_simplex_lstm, "ppo": build_ppo}


def weights(model):
    return {name: tensor.numpy().copy() for name, tensor in model.policy.state_dict().items()}


def same_weights(one, two):
    return one.keys() == two.keys() and all(np.array_equal(one[n], two[n]) for n in one)


def unpacked(state):
    return {name: unpack(part, state.arrays) for name, part in state.values.items()}


def packed(parts):
    values, arrays = {}, {}
    for name, part in parts.items():
        values[name], part_arrays = pack(part, name)
        arrays.update(part_arrays)
    return ResumeState(values, arrays)


def halfway(folder):
    return folder / f"step_{HALF:09d}"


def weights_without(part, folder, build_model):
    """Final weights of a run resumed halfway in which one part is that of a new run."""
    state = unpacked(read_checkpoint(halfway(folder)))
    model, callback = build_model(), Adapting()
    model._setup_learn(TOTAL, callback)
    target, source = state, unpacked(capture(model, {"adapting": callback}))
    *parents, leaf = part.split(".")
    for name in parents:
        target, source = target[name], source[name]
    target[leaf] = source[leaf]
    restore(packed(state), model, {"adapting": callback})
    model.learn(TOTAL - HALF, callback, reset_num_timesteps=False)
    return weights(model)


def part_names(folder, split):
    """The parts of a checkpoint; those in `split` by their members."""
    state = unpacked(read_checkpoint(halfway(folder)))
    return {f"{part}.{leaf}" for part in split for leaf in state[part]} | (state.keys() - split)


def run_process(folder, kill_at, kind="recurrent"):
    """`main` in a process of its own."""
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-m", "tests.agents.toy_run", str(folder), str(kill_at), kind],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def main(folder, kill_at, kind):
    """Train to the end from the newest checkpoint in `folder`, or die on the way."""
    torch.set_num_threads(1)
    model, callback = BUILDERS[kind](), Adapting(Path(folder), int(kill_at) or None)
    newest = newest_checkpoint(Path(folder))
    if newest is not None:
        restore_checkpoint(model, {"adapting": callback}, newest)
    model.learn(TOTAL - model.num_timesteps, callback, reset_num_timesteps=newest is None)
    np.savez(Path(folder) / "weights.npz", **weights(model))


if __name__ == "__main__":
    main(*sys.argv[1:])
