"""The recurrent policy that is trained: sb3-contrib's networks with few LSTM calls."""

from __future__ import annotations

from itertools import pairwise

import torch
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from sb3_contrib.ppo_recurrent.policies import MlpLstmPolicy
from torch import nn

from agents.ppo.columns import SeesColumns
from agents.ppo.parallel import torch_threads
from agents.ppo.short_lstm import LstmState, is_plain, run_short

# A step of so few episodes is too little work for a second thread: waiting for it takes longer,
# much longer where other programs keep the cores busy.
_FEW_EPISODES = 64


class MaskedMlpLstmPolicy(SeesColumns, MlpLstmPolicy):
    """`MlpLstmPolicy` that computes the same function without a Python loop over time.

    The state is masked before a step that begins an episode: the LSTM runs over all sequences at
    once from one step at which any of them begins an episode to the next. `run_short` takes short
    sequences in one call.
    """

    def forward(  # type: ignore[override]  # as in sb3-contrib
        self,
        obs: torch.Tensor,
        lstm_states: RNNStates,
        episode_starts: torch.Tensor,
        deterministic: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, RNNStates]:
        """Actions, values, log-probabilities and the next states, for a rollout."""
        few = len(episode_starts) <= _FEW_EPISODES
        with torch_threads(1 if few else torch.get_num_threads()):
            return super().forward(obs, lstm_states, episode_starts, deterministic)

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
        steps_first = features.reshape(sequences, -1, lstm.input_size).swapaxes(0, 1)
        if _is_short(starts, lstm):
            output, state = run_short(lstm, steps_first, lstm_states, starts)
            return output.transpose(0, 1).flatten(0, 1), state
        outputs, state = [], lstm_states
        for first, end in pairwise(_cuts(starts)):
            remember = (1.0 - starts[:, first]).view(1, sequences, 1)
            masked = (remember * state[0], remember * state[1])
            output, state = _run(lstm, steps_first[first:end], masked)
            outputs.append(output)
        joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        return joined.transpose(0, 1).flatten(0, 1), state


def _is_short(starts: torch.Tensor, lstm: nn.LSTM) -> bool:
    """Whether `run_short` is faster than the LSTM's own call: measured on a CPU, with gradients."""
    sequences, steps = starts.shape
    on_cpu = starts.device.type == "cpu"
    return on_cpu and torch.is_grad_enabled() and 1 < steps <= sequences and is_plain(lstm)


def _cuts(starts: torch.Tensor) -> list[int]:
    """The first step, every later step at which any sequence begins an episode, and the end."""
    steps = starts.shape[1]
    if steps == 1:  # on a GPU `nonzero` would wait for it
        return [0, 1]
    inner = torch.nonzero((starts[:, 1:] != 0.0).any(dim=0)).flatten() + 1
    return [0, *inner.tolist(), steps]


def _run(lstm: nn.LSTM, inputs: torch.Tensor, state: LstmState) -> tuple[torch.Tensor, LstmState]:
    """`lstm(inputs, state)` for inputs (steps, sequences, features)."""
    # On the CPU each call of the LSTM first reorders all weights, which for the one step of an
    # acting policy takes longer than the step.
    if len(inputs) > 1 or inputs.is_cuda or torch.is_grad_enabled() or not is_plain(lstm):
        output, last = lstm(inputs, state)
        return output, last
    hidden, hiddens, cells = inputs[0], [], []
    for layer, layer_weights in enumerate(lstm.all_weights):
        before = (state[0][layer], state[1][layer])
        hidden, cell = torch.lstm_cell(hidden, before, *layer_weights)
        hiddens.append(hidden)
        cells.append(cell)
    return hidden.unsqueeze(0), (torch.stack(hiddens), torch.stack(cells))
