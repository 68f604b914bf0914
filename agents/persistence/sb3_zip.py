"""A recurrent policy as the zip of Stable-Baselines3, for other tools.

This package itself never reads such a file: loading it can run code.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from sb3_contrib.ppo_recurrent.policies import MlpLstmPolicy
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.ppo.basis_policies import BasisHead
from agents.ppo.columns import used_columns
from agents.ppo.simplex_policies import SimplexHead
from conf.files import write_atomically

# Options of a policy that the stock one does not have.
_OWN_OPTIONS = ("features_extractor_class", "features_extractor_kwargs", "basis")
_LEAST_LOG_STD = -20.0  # of slots that no book holds
# The weights that take the features.
_FIRST_LAYERS = ("lstm_actor.weight_ih_l0", "lstm_critic.weight_ih_l0", "critic.weight")


def export_sb3_zip(model: BaseAlgorithm, path: Path) -> None:
    """Write an SB3 zip that `sb3_contrib.RecurrentPPO.load` reads without this package.

    The zip names the stock policy, which the weights fit; nothing is written for policies that it
    cannot express. A feature mask and a basis are multiplied into the weights: the stock policy
    gives the same mean actions, with an optimiser that begins anew.
    """
    policy: Any = model.policy
    if not isinstance(policy, MlpLstmPolicy) or isinstance(policy, SimplexHead):
        return
    own = {name: getattr(model, name) for name in ("policy", "policy_class", "policy_kwargs")}
    content = io.BytesIO()
    try:
        model.policy_class = MlpLstmPolicy
        options = {k: v for k, v in model.policy_kwargs.items() if k not in _OWN_OPTIONS}
        if len(options) < len(model.policy_kwargs):
            model.policy, model.policy_kwargs = _stock(policy, options, model), options
        model.save(content, exclude=["_logger"])
    finally:
        for name, value in own.items():
            setattr(model, name, value)
    write_atomically(path, content.getvalue())


def _stock(policy: MlpLstmPolicy, options: dict[str, Any], model: BaseAlgorithm) -> MlpLstmPolicy:
    """The stock policy that takes all columns and gives the slots, with the same function."""
    weights = {name: weight.detach().cpu() for name, weight in policy.state_dict().items()}
    columns = list(used_columns(policy))
    with torch.random.fork_rng(devices=[]):
        stock = MlpLstmPolicy(
            policy.observation_space, policy.action_space, model.lr_schedule, **options
        )
    for name in (name for name in _FIRST_LAYERS if name in weights):
        seen, weights[name] = weights[name], torch.zeros(stock.state_dict()[name].shape)
        weights[name][:, columns] = seen
    if isinstance(policy, BasisHead):
        books = torch.tensor(policy.basis)
        weights["action_net.weight"] = books.T @ weights.pop("action_net.amounts.weight")
        weights["action_net.bias"] = weights.pop("action_net.amounts.bias") @ books
        # Each slot's own: the stock Gaussian cannot say that the legs of a book move together.
        variance = weights["log_std"].exp().square() @ books.square()
        weights["log_std"] = (0.5 * variance.log()).clamp_min(_LEAST_LOG_STD)
    stock.load_state_dict(weights)
    return stock
