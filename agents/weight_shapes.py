"""Names and shapes of a policy's weights, known from its architecture before any is allocated."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from agents.architecture import LstmArchitecture, MlpArchitecture

Shape = tuple[int, ...]


def expected_shapes(architecture: LstmArchitecture | MlpArchitecture) -> dict[str, Shape]:
    """Names and shapes of the weights, without allocating any of them."""
    if isinstance(architecture, MlpArchitecture):
        inputs = len(architecture.observation_low)
        shapes = _layer_shapes("mlp_extractor.layers", [inputs, *architecture.net_arch])
        last_actor = last_critic = [inputs, *architecture.net_arch][-1]
    else:
        shapes, last_actor, last_critic = _lstm_network(architecture)
    outputs, spread = _action_shapes(architecture)
    shapes |= spread
    shapes |= _linear_shapes("action_net", last_actor, outputs)
    return shapes | _linear_shapes("value_net", last_critic, 1)


def _action_shapes(
    architecture: LstmArchitecture | MlpArchitecture,
) -> tuple[int, dict[str, Shape]]:
    """Outputs of the actor's last layer, and the parameter that is the spread."""
    actions = len(architecture.action_low)
    match architecture.distribution:
        case "gaussian":
            return actions, {"log_std": (actions,)}
        case "dirichlet":
            return actions, {"spread": (1,)}
        case _:
            return actions - 1, {"spread": (actions - 1,)}


def _lstm_network(architecture: LstmArchitecture) -> tuple[dict[str, Shape], int, int]:
    """Shapes of all but the last layers, and the widths that those are given."""
    inputs, size = len(architecture.observation_low), architecture.lstm_hidden_size
    shapes = _lstm_shapes("lstm_actor", inputs, size, architecture.n_lstm_layers)
    if architecture.enable_critic_lstm:
        shapes |= _lstm_shapes("lstm_critic", inputs, size, architecture.n_lstm_layers)
    elif not architecture.shared_lstm:
        shapes |= _linear_shapes("critic", inputs, size)
    actor, critic = [size, *architecture.net_arch_pi], [size, *architecture.net_arch_vf]
    shapes |= _layer_shapes("mlp_extractor.policy_net", actor)
    shapes |= _layer_shapes("mlp_extractor.value_net", critic)
    return shapes, actor[-1], critic[-1]


def _layer_shapes(name: str, sizes: Sequence[int]) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for layer, (before, after) in enumerate(itertools.pairwise(sizes)):
        # An activation stands between any two layers and takes a number, too.
        shapes |= _linear_shapes(f"{name}.{2 * layer}", before, after)
    return shapes


def _lstm_shapes(name: str, inputs: int, size: int, layers: int) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for layer in range(layers):
        shapes[f"{name}.weight_ih_l{layer}"] = (4 * size, size if layer else inputs)
        shapes[f"{name}.weight_hh_l{layer}"] = (4 * size, size)
        shapes[f"{name}.bias_ih_l{layer}"] = shapes[f"{name}.bias_hh_l{layer}"] = (4 * size,)
    return shapes


def _linear_shapes(name: str, inputs: int, outputs: int) -> dict[str, Shape]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
