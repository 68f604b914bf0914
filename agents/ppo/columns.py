"""Which features of an observation a network sees, chosen by their names.

The environment shows everything; a mask belongs to the policy, which carries it wherever it goes.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from conf.errors import InputError

_SHOWN = 6


class ColumnExtractor(BaseFeaturesExtractor):
    """Hands some columns of flat observations on, in the given order. It has no weights."""

    index: torch.Tensor

    def __init__(self, observation_space: spaces.Box, columns: Sequence[int]) -> None:
        super().__init__(observation_space, features_dim=len(columns))
        self.columns = tuple(columns)
        # Not among the weights: a policy file describes the columns as part of the architecture.
        self.register_buffer("index", torch.tensor(self.columns), persistent=False)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Observations (N, D) to the columns seen (N, F)."""
        return observations.index_select(-1, self.index)


def used_columns(policy: BasePolicy) -> tuple[int, ...]:
    """The columns of an observation that a policy's networks see, in the order they see them in."""
    extractor = policy.features_extractor
    if isinstance(extractor, ColumnExtractor):
        return extractor.columns
    return tuple(range(spaces.flatdim(policy.observation_space)))


class SeesColumns(BasePolicy):
    """Mixed into a policy: what its networks see, and a device before there are weights."""

    @property
    def used_columns(self) -> tuple[int, ...]:
        """The columns of an observation that the networks see."""
        return used_columns(self)

    @property
    def device(self) -> torch.device:
        """The weights' device; before there are any torch's default, so that `meta` works too."""
        for weight in self.parameters():
            return weight.device
        return torch.get_default_device()

    def set_training_mode(self, mode: bool) -> None:
        """As SB3, which asks for it at every prediction: going through all modules takes long."""
        if mode != self.training:
            super().set_training_mode(mode)


def columns_named(patterns: Sequence[str], features: Sequence[str]) -> tuple[int, ...]:
    """The columns of all features (by their names) that any of the patterns fits, rising.

    A pattern is a name or has wildcards, as in file names: `*.moneyness`, `30D_*`. Raises
    InputError for one that fits nothing.
    """
    chosen: set[int] = set()
    for pattern in patterns:
        fitting = [i for i, name in enumerate(features) if fnmatchcase(name, pattern)]
        if not fitting:
            raise InputError(
                f"no feature of the observation is named {pattern!r}", _suggest(pattern, features)
            )
        chosen.update(fitting)
    return tuple(sorted(chosen))


def _suggest(pattern: str, features: Sequence[str]) -> str:
    close = difflib.get_close_matches(pattern, features, n=3)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    rest = len(features) - _SHOWN
    known = ", ".join(features[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
    return f"Its features: {known}; env.observation.extra_blocks adds others"
