"""Self-imitation (Oh et al., 2018): PPO learns again from the best of its own episodes.

Whole episodes are kept, with the discounted returns R of their steps. After each update of PPO some
minibatches of them are learned with

    -log pi(a | s) max(R - V(s), 0) + beta / 2 max(R - V(s), 0)²,

so that only what turned out better than the critic expects is imitated. A recurrent policy goes
through each episode from its start, so no states of earlier networks are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, cast

import numpy as np
import torch
from pydantic import Field
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.callbacks import BaseCallback
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence

from conf.settings import settings
from conf.types import FloatArray, ObsArray

Count = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0.0)]


@settings
class SelfImitationSettings:
    """What is kept, and how much is learned from it."""

    weight: Weight = 0.1  # of the loss; 0: nothing is kept or learned
    value_weight: Weight = 0.01  # beta
    episodes: Count = 32  # kept: those with the best returns
    updates: Count = 4  # minibatches after each update of PPO
    batch_episodes: Count = 8  # of a minibatch


@dataclass(frozen=True)
class Episode:
    """L steps of an episode, or of its beginning."""

    observations: ObsArray  # (L, D)
    actions: ObsArray  # (L, A) before they were cut to their bounds
    rewards: ObsArray  # (L,) the last of one that was cut off with the value of what it led to

    def and_then(self, later: Episode) -> Episode:
        """Followed by later steps."""
        own, more = vars(self), vars(later)
        return Episode(**{name: np.concatenate([own[name], more[name]]) for name in own})

    def returns(self, gamma: float) -> FloatArray:
        """Discounted sum of the rewards from each step on, (L,)."""
        found, ahead = np.empty(len(self.rewards)), 0.0
        for step in range(len(found) - 1, -1, -1):
            found[step] = ahead = float(self.rewards[step]) + gamma * ahead
        return found


def imitation_loss(
    log_prob: torch.Tensor, values: torch.Tensor, returns: torch.Tensor, value_weight: float
) -> torch.Tensor:
    """The mean over steps (all (S,)) of the loss above; no gradient of V through the first part."""
    better = torch.clamp(returns - values, min=0.0)
    return (-log_prob * better.detach() + 0.5 * value_weight * better.square()).mean()


class SelfImitation(BaseCallback):
    """Keeps good episodes at the end of each rollout and learns from them after PPO's update.

    Episodes are ranked by the mean of their steps' discounted returns: with a small `gamma` that of
    the first step would look at its first days alone. Call it before callbacks that score the
    policy or write checkpoints.
    """

    def __init__(self, options: SelfImitationSettings) -> None:
        super().__init__()
        self._options = options
        self.kept: list[Episode] = []  # the best first
        self._running: list[Episode] = []  # of each parallel episode what was played so far
        self._answered = 0  # PPO's updates after which was learned

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        model: Any = self.model
        buffer, steps = model.rollout_buffer, model.n_steps
        ends = np.concatenate([buffer.episode_starts[1:], [model._last_episode_starts]])
        running: list[Episode | None] = [*self._running] or [None] * model.n_envs
        self._running = []
        for env, earlier in enumerate(running):
            cuts = np.flatnonzero(ends[:, env]) + 1
            *finished, last = np.split(np.arange(steps), cuts)
            played = earlier
            for rows in finished:
                self._keep(_continued(played, buffer, rows, env))
                played = None
            self._running.append(_continued(played, buffer, last, env))

    def _keep(self, episode: Episode) -> None:
        ranked = sorted([*self.kept, episode], key=self._score, reverse=True)
        self.kept = ranked[: self._options.episodes]

    def _score(self, episode: Episode) -> float:
        return float(episode.returns(self._gamma).mean())

    @property
    def _gamma(self) -> float:
        model: Any = self.model
        return float(model.gamma)

    def _on_rollout_start(self) -> None:
        # On resume this is called again at the step that was saved.
        model: Any = self.model
        if model._n_updates == self._answered:
            return
        self._answered = model._n_updates
        if not self.kept:
            return
        losses = [self._learn() for _ in range(self._options.updates)]
        self.logger.record("train/self_imitation_loss", float(np.mean(losses)))
        self.logger.record("train/self_imitation_worst_kept", self._score(self.kept[-1]))

    def _on_training_end(self) -> None:
        self._on_rollout_start()  # for PPO's last update

    def _learn(self) -> float:
        """One minibatch; its loss."""
        options, model = self._options, cast(Any, self.model)
        policy = model.policy
        count = min(options.batch_episodes, len(self.kept))
        chosen = [self.kept[i] for i in np.random.choice(len(self.kept), count, replace=False)]
        policy.set_training_mode(True)
        log_prob, values = _evaluate(policy, chosen)
        returns = np.concatenate([episode.returns(self._gamma) for episode in chosen])
        loss = imitation_loss(
            log_prob, values, torch.as_tensor(returns).to(values), options.value_weight
        )
        policy.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(options.weight * loss)
        clip_grad_norm_(list(policy.parameters()), model.max_grad_norm, foreach=True)
        policy.optimizer.step()
        return float(loss.detach())

    def state_dict(self) -> dict[str, Any]:
        """The episodes that are kept and those under way, and whether PPO's update was answered."""
        return {
            "kept": [asdict(episode) for episode in self.kept],
            "running": [asdict(episode) for episode in self._running],
            "answered": self._answered,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.kept = [Episode(**episode) for episode in state["kept"]]
        self._running = [Episode(**episode) for episode in state["running"]]
        self._answered = state["answered"]


def _continued(earlier: Episode | None, buffer: Any, rows: Any, env: int) -> Episode:
    """What was played of an episode, with those rows of the rollout after it."""
    played = Episode(
        *(getattr(buffer, name)[rows, env] for name in ("observations", "actions", "rewards"))
    )
    return played if earlier is None else earlier.and_then(played)


def _evaluate(policy: Any, episodes: Sequence[Episode]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and values of all steps, one episode after another, (S,) each."""
    device = policy.device
    observations = [torch.from_numpy(episode.observations).to(device) for episode in episodes]
    actions = [torch.from_numpy(episode.actions).to(device) for episode in episodes]
    if not isinstance(policy, RecurrentActorCriticPolicy):
        values, log_prob, _ = policy.evaluate_actions(torch.cat(observations), torch.cat(actions))
        return log_prob, values.flatten()
    # Shorter ones are filled up behind their end, where nothing is counted.
    lengths = torch.tensor([len(steps) for steps in actions], device=device)
    count, longest = len(episodes), int(lengths.max())
    starts = torch.zeros(count, longest, device=device)
    starts[:, 0] = 1.0
    lstm = policy.lstm_actor
    zeros = torch.zeros(lstm.num_layers, count, lstm.hidden_size, device=device)
    values, log_prob, _ = policy.evaluate_actions(
        pad_sequence(observations, batch_first=True).flatten(0, 1),
        pad_sequence(actions, batch_first=True).flatten(0, 1),
        RNNStates((zeros, zeros), (zeros, zeros)),
        starts.flatten(),
    )
    played = (torch.arange(longest, device=device) < lengths[:, None]).flatten()
    return log_prob[played], values.flatten()[played]
