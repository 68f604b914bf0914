"""Curiosity by random network distillation (Burda et al., 2018), as a wrapper of the environment.

A network learns to give what a random one gives for the states that are reached; where it still
fails, a state is unlike the earlier ones, and training is paid for it. Of the observation both see
the book's own features: what a market does next is new every day, whatever the agent does.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnvWrapper
from torch import nn

from agents.ppo.columns import columns_named
from conf.settings import settings
from conf.types import BoolArray, FloatArray, ObsArray
from envs.core.features import Feature
from envs.sb3_vec_env import KernelVecEnv

OWN_BLOCK = "portfolio"  # of the features that an agent's decisions change
_WIDEST = 5.0  # standard deviations that whitened inputs and targets are cut to
_MOMENTS = ("mean", "var", "count")


@settings
class CuriositySettings:
    """What newness is worth, and how fast it wears off."""

    weight: Annotated[float, Field(ge=0.0)] = 0.1  # of the bonus, beside the reward's terms
    # Names or patterns of what is looked at; null: the book's own features.
    features: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    hidden: Annotated[int, Field(ge=1, le=4096)] = 64
    outputs: Annotated[int, Field(ge=1, le=4096)] = 16
    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-3


def looked_at(features: Sequence[Feature], patterns: Sequence[str] | None) -> tuple[int, ...]:
    """The columns of the features that the patterns name; of the book's own without patterns."""
    if patterns is not None:
        return columns_named(patterns, [feature.name for feature in features])
    return tuple(i for i, feature in enumerate(features) if feature.block == OWN_BLOCK)


class Foresight:
    """A network that learns targets (N, K) from inputs (N, F), one minibatch after another.

    Both are whitened by their running moments: the error begins near 1 and is the share of the
    targets' variance that is not foreseen.
    """

    def __init__(self, inputs: int, outputs: int, options: CuriositySettings) -> None:
        self.network = _layers(inputs, outputs, options.hidden)
        self._optimizer = torch.optim.Adam(
            self.network.parameters(), options.learning_rate, fused=True
        )
        self._moments = {
            "inputs": RunningMeanStd(shape=(inputs,)),
            "targets": RunningMeanStd(shape=(outputs,)),
        }

    def whitened(self, kind: str, values: NDArray[Any]) -> torch.Tensor:
        """Inputs or targets by their moments, which take them in before."""
        moments = self._moments[kind]
        moments.update(values.astype(np.float64))
        scaled = (values - moments.mean) / np.sqrt(moments.var + 1e-8)
        return torch.from_numpy(np.clip(scaled, -_WIDEST, _WIDEST).astype(np.float32))

    def error(self, inputs: torch.Tensor, targets: NDArray[Any]) -> FloatArray:
        """Mean squared error (N,) for whitened inputs, which are learned from afterwards."""
        error = (self.network(inputs) - self.whitened("targets", targets)).square().mean(dim=1)
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(error.mean())
        self._optimizer.step()
        found: FloatArray = error.detach().numpy().astype(np.float64)
        return found

    def get_state(self) -> dict[str, Any]:
        """Weights, optimiser and moments, as plain data."""
        optimizer = self._optimizer.state_dict()["state"]
        return {
            "network": list(self.network.state_dict().values()),
            "optimizer": {str(index): entry for index, entry in optimizer.items()},
            "moments": {
                kind: {name: getattr(moments, name) for name in _MOMENTS}
                for kind, moments in self._moments.items()
            },
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_state` gave, its tensors as arrays."""
        _load(self.network, state["network"])
        entries = {
            int(index): {name: torch.from_numpy(value) for name, value in entry.items()}
            for index, entry in state["optimizer"].items()
        }
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": entries, "param_groups": groups})
        for kind, saved in state["moments"].items():
            for name in _MOMENTS:
                setattr(self._moments[kind], name, saved[name])


class Distillation:
    """A fixed random network of F inputs, and one that learns to give the same."""

    def __init__(self, inputs: int, options: CuriositySettings, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._target = _layers(inputs, options.outputs, options.hidden)
            self._learner = Foresight(inputs, options.outputs, options)

    def surprise(self, states: ObsArray) -> FloatArray:
        """The error (N,) for states (N, F), which are learned from afterwards."""
        whitened = self._learner.whitened("inputs", states)
        with torch.no_grad():
            targets = self._target(whitened).numpy()
        return self._learner.error(whitened, targets)

    def get_state(self) -> dict[str, Any]:
        """Both networks and all that was learned, as plain data."""
        target = list(self._target.state_dict().values())
        return {"target": target, "learner": self._learner.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_state` gave, its tensors as arrays."""
        _load(self._target, state["target"])
        self._learner.set_state(state["learner"])


def _layers(inputs: int, outputs: int, hidden: int) -> nn.Sequential:
    widths = (inputs, hidden, hidden, outputs)
    linear = [nn.Linear(*pair) for pair in pairwise(widths)]
    return nn.Sequential(linear[0], nn.ReLU(), linear[1], nn.ReLU(), linear[2])


def _load(network: nn.Module, saved: Sequence[NDArray[Any]]) -> None:
    arrays = map(torch.from_numpy, saved)
    network.load_state_dict(dict(zip(network.state_dict(), arrays, strict=True)))


class CuriousVecEnv(VecEnvWrapper):
    """Adds `weight` times the surprise at the state that was reached to every reward.

    Infos keep the rewards as they are, and `bonus` (N,) is what was added to the last ones. It is
    scaled as the environment scales its rewards.
    """

    def __init__(self, venv: KernelVecEnv, options: CuriositySettings, seed: int) -> None:
        super().__init__(venv)
        market: Any = venv.kernel
        self._columns = list(looked_at(market.market.features, options.features))
        self._distillation = Distillation(len(self._columns), options, seed)
        self._weight = options.weight * venv.reward_scale
        self.bonus: NDArray[np.float32] = np.zeros(venv.num_envs, np.float32)

    def reset(self) -> Any:
        """Begin all episodes."""
        return self.venv.reset()

    def step_wait(self) -> tuple[Any, NDArray[Any], BoolArray, list[dict[str, Any]]]:
        """As in the environment, and the bonus is added."""
        observation, reward, done, infos = self.venv.step_wait()
        reached = np.array(observation)
        for index in np.nonzero(done)[0]:
            reached[index] = infos[index]["terminal_observation"]
        surprise = self._distillation.surprise(reached[:, self._columns])
        self.bonus = (self._weight * surprise).astype(np.float32)
        return observation, reward + self.bonus, done, infos

    def get_state(self) -> dict[str, Any]:
        """What the bonus depends on; the environment has its own state."""
        return self._distillation.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_state` gave."""
        self._distillation.set_state(state)
