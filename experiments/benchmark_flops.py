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
    input; the observation needs none. Element-wise work and the optimiser are not counted, nor
    is anything that an implementation does beyond this (padding, calculating twice).
    """
    weights = _matrix_weights(agent, observations, actions)
    return 6.0 * weights - 2.0 * _input_weights(agent, observations)


def _input_weights(agent: RecurrentPPOSettings, observations: int) -> int:
    """Weights that meet the observation itself, of actor and critic together."""
    return 2 * 4 * agent.lstm_hidden_size * observations


def _matrix_weights(agent: RecurrentPPOSettings, observations: int, actions: int) -> int:
    hidden = agent.lstm_hidden_size
    recurrent = agent.n_lstm_layers * 4 * hidden * hidden
    between = (agent.n_lstm_layers - 1) * 4 * hidden * hidden
    widths = (hidden, *agent.net_arch)
    layers = sum(a * b for a, b in pairwise(widths))
    heads = widths[-1] * (actions + 1)
    return _input_weights(agent, observations) + 2 * (recurrent + between + layers) + heads
