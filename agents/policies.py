"""The recurrent policy that is trained: stock sb3-contrib networks, one LSTM call a minibatch."""

from __future__ import annotations

from typing import Any

import torch
from sb3_contrib.ppo_recurrent.policies import MlpLstmPolicy
from torch import nn

LstmState = tuple[torch.Tensor, torch.Tensor]  # hidden and cell, each (layers, sequences, size)


class MaskedMlpLstmPolicy(MlpLstmPolicy):
    """`MlpLstmPolicy` that computes the same function without a Python loop over time.

    The recurrent rollout buffer cuts its sequences at every episode start, so a start can stand
    only in the first step of a sequence: forgetting then means masking the initial state, and the
    LSTM runs once over the whole sequence. Starts anywhere else (hand-made input) take the stock
    loop, which resets the state step by step.
    """

    @staticmethod
    def _process_sequence(  # type: ignore[override]  # the stock annotation is wrong
        features: torch.Tensor,  # (sequences * steps, features)
        lstm_states: LstmState,
        episode_starts: torch.Tensor,  # (sequences * steps,) 1 where an episode begins
        lstm: nn.LSTM,
    ) -> tuple[torch.Tensor, LstmState]:
        """LSTM outputs (sequences * steps, size) and the state after the last step."""
        sequences = lstm_states[0].shape[1]
        starts = episode_starts.reshape(sequences, -1)
        if starts.shape[1] > 1 and bool(torch.any(starts[:, 1:] != 0.0)):
            stock: Any = MlpLstmPolicy._process_sequence(
                features, lstm_states, episode_starts, lstm
            )
            output, final = stock
            return output, final
        remember = (1.0 - starts[:, 0]).view(1, sequences, 1)
        steps_first = features.reshape(sequences, -1, lstm.input_size).swapaxes(0, 1)
        initial = (remember * lstm_states[0], remember * lstm_states[1])
        output, final = lstm(steps_first, initial)
        return output.transpose(0, 1).flatten(0, 1), final
