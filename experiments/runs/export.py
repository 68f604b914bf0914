"""Export of a trained model to a zip of Stable-Baselines3, for other tools."""

from __future__ import annotations

import io
from pathlib import Path

from sb3_contrib.ppo_recurrent.policies import MlpLstmPolicy
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from agents.ppo.policies import MaskedMlpLstmPolicy
from conf.files import write_atomically

_EXPORTABLE = (MaskedMlpLstmPolicy, MlpLstmPolicy)


def export_sb3_zip(model: OnPolicyAlgorithm, path: Path) -> None:
    """Write an SB3 zip that `sb3_contrib.RecurrentPPO.load` reads without this package.

    The zip names the stock policy, which the weights fit; nothing is written for other policies.
    This package itself never reads the file: loading such a zip can run code.
    """
    own = model.policy_class
    if own not in _EXPORTABLE:
        return
    content = io.BytesIO()
    model.policy_class = MlpLstmPolicy
    try:
        model.save(content, exclude=["_logger"])
    finally:
        model.policy_class = own
    write_atomically(path, content.getvalue())
