"""How many floating-point operations the networks need, counted from their sizes."""

from __future__ import annotations

from itertools import pairwise

from agents.factory import RecurrentPPOSettings


def forward_flops(agent: RecurrentPPOSettings, observations: int, actions: int) -> float:
    """Operations of one observation through actor and critic: 2 for each weight of a matrix."""
    return 2.0 * _matrix_weights(agent, observations, actions)


def update_flops(agent: RecurrentPPOSettings, observations: int, actions: int) -> float:
    """Operations that learning from one observation needs, forward and backward.

    The backward pass multiplies with each matrix twice, for its own gradient and for that of its
    input; the observation needs none, nor does the state that a sequence starts from.
    Element-wise work and the optimiser are not counted, nor is anything that an implementation
    does beyond this (padding, calculating twice).
    """
    weights = _matrix_weights(agent, observations, actions)
    starts = 0.0 if agent.sequence_length is None else 1.0 / agent.sequence_length
    no_need = _input_weights(agent, observations) + starts * _recurrent_weights(agent)
    return 6.0 * weights - 2.0 * no_need


def _recurrent_weights(agent: RecurrentPPOSettings) -> int:
    """Weights that meet the state of the step before, of actor and critic together."""
    return 2 * agent.n_lstm_layers * 4 * agent.lstm_hidden_size**2


def _input_weights(agent: RecurrentPPOSettings, observations: int) -> int:
    """Weights that meet the observation itself, of actor and critic together."""
    return 2 * 4 * agent.lstm_hidden_size * observations


def _matrix_weights(agent: RecurrentPPOSettings, observations: int, actions: int) -> int:
    hidden = agent.lstm_hidden_size
    between = (agent.n_lstm_layers - 1) * 4 * hidden * hidden
    widths = (hidden, *agent.net_arch)
    layers = sum(a * b for a, b in pairwise(widths))
    heads = widths[-1] * (actions + 1)
    to_lstm = _input_weights(agent, observations) + _recurrent_weights(agent)
    return to_lstm + 2 * (between + layers) + heads
