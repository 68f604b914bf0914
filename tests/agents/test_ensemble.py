"""Merged policies act as the average of their members; what cannot be merged is averaged."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from sb3_contrib.ppo_recurrent.policies import MlpLstmPolicy

from agents.ensemble import AveragingPolicy, merge_policies
from agents.persistence.policy_file import load_policy, save_policy
from agents.ppo.basis_policies import BasisLstmPolicy
from agents.ppo.columns import ColumnExtractor
from agents.ppo.policies import MaskedMlpLstmPolicy
from agents.ppo.simplex_policies import SharedMlpPolicy, SimplexLstmPolicy, SimplexPolicy
from conf.errors import InputError
from envs.allocation.simplex import Simplex

OBS, ACTION = spaces.Box(-np.inf, np.inf, (7,)), spaces.Box(-1e3, 1e3, (3,))
SOME = {
    "features_extractor_class": ColumnExtractor,
    "features_extractor_kwargs": {"columns": (1, 4, 6)},
}
BOOKS = {"basis": [[-1.0, 0.0, -1.0], [0.5, 1.0, 0.0]]}
KINDS: dict[str, tuple[type, dict[str, Any]]] = {
    "two layers, own critic": (MaskedMlpLstmPolicy, {}),
    "three layers": (MaskedMlpLstmPolicy, {"n_lstm_layers": 3, "net_arch": [6, 5, 4]}),
    "a linear critic": (MaskedMlpLstmPolicy, {"enable_critic_lstm": False}),
    "a shared LSTM": (MaskedMlpLstmPolicy, {"enable_critic_lstm": False, "shared_lstm": True}),
    "no hidden layers": (MaskedMlpLstmPolicy, {"net_arch": {"pi": [], "vf": [5]}}),
    "stock": (MlpLstmPolicy, {}),
    "some columns": (MaskedMlpLstmPolicy, SOME),
    "books": (BasisLstmPolicy, BOOKS | SOME),
}


def make(policy, seed, action=ACTION, **options):
    torch.manual_seed(seed)
    sizes = {"lstm_hidden_size": 8, "n_lstm_layers": 2, "net_arch": [6]}
    sizes = sizes if issubclass(policy, MlpLstmPolicy) else {"net_arch": [6]}
    made = policy(OBS, action, lambda _: 1e-3, **(sizes | options))
    with torch.no_grad():
        for weight in made.parameters():
            weight += 0.6 * torch.randn_like(weight)
    return made


def walk(policy, steps=20, paths=4):
    """Deterministic actions (steps, paths, A), the state carried and at times begun anew."""
    rng, state, actions = np.random.default_rng(0), None, []
    for step in range(steps):
        observation = rng.normal(size=(paths, 7)).astype(np.float32)
        starts = np.full(paths, step == 0) | (rng.random(paths) < 0.1)
        action, state = policy.predict(observation, state, starts, deterministic=True)
        actions.append(action)
    return np.stack(actions)


def value(policy, observation, starts):
    size = policy.lstm_actor.hidden_size
    state = torch.zeros(policy.lstm_actor.num_layers, len(starts), size)
    return policy(observation, RNNStates((state, state), (state, state)), starts)[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_policy_acts_as_the_average_at_every_step(tmp_path, kind):
    policy, options = KINDS[kind]
    members = [make(policy, seed, **options) for seed in range(3)]
    merged = merge_policies(members)
    assert isinstance(merged, MlpLstmPolicy)
    assert merged.lstm_actor.hidden_size == 24
    averages = np.mean([walk(member) for member in members], axis=0)
    assert averages.std(axis=0).min() > 0.02
    np.testing.assert_allclose(walk(merged), averages, atol=1e-6)
    np.testing.assert_allclose(walk(AveragingPolicy(members)), averages, atol=1e-6)
    observation, starts = torch.randn(4, 7), torch.ones(4)
    values = torch.stack([value(member, observation, starts) for member in members])
    torch.testing.assert_close(
        value(merged, observation, starts), values.mean(0), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        merged.log_std, torch.stack([member.log_std for member in members]).mean(0)
    )
    loaded = load_policy(save_policy(merged, tmp_path, {})).policy
    assert np.array_equal(walk(loaded), walk(merged))


def test_a_merged_policy_can_be_merged_again():
    pairs = [[make(MaskedMlpLstmPolicy, seed) for seed in seeds] for seeds in ((0, 1), (2, 3))]
    merged = merge_policies([merge_policies(pair) for pair in pairs])
    averages = np.mean([walk(member) for pair in pairs for member in pair], axis=0)
    np.testing.assert_allclose(walk(merged), averages, atol=1e-6)


OTHERS = {
    "lstm_hidden_size": lambda: make(MaskedMlpLstmPolicy, 1, lstm_hidden_size=9),
    "columns": lambda: make(MaskedMlpLstmPolicy, 1, **SOME),
    "basis": lambda: make(BasisLstmPolicy, 1, **BOOKS),
    "action_high, action_low": lambda: make(MaskedMlpLstmPolicy, 1, spaces.Box(-1.0, 1.0, (3,))),
    "kind, ": lambda: make(SharedMlpPolicy, 1),
}


@pytest.mark.parametrize("name", OTHERS)
def test_policies_of_different_architectures_are_averaged_and_not_merged(name):
    members = [make(MaskedMlpLstmPolicy, 0), OTHERS[name]()]
    with pytest.raises(InputError, match=f"policy 2 differs from the first in .*{name}"):
        merge_policies(members)
    averages = np.mean([walk(member) for member in members], axis=0)
    np.testing.assert_allclose(walk(AveragingPolicy(members)), averages, atol=1e-6)


@pytest.mark.parametrize("kind", [SimplexLstmPolicy, SimplexPolicy, SharedMlpPolicy])
def test_no_average_of_heads_is_one_of_weights(kind):
    action = ACTION if kind is SharedMlpPolicy else Simplex(3)
    members = [make(kind, seed, action) for seed in range(2)]
    with pytest.raises(InputError, match="are not merged exactly"):
        merge_policies(members)
    weights = walk(AveragingPolicy(members), steps=3)
    if kind is not SharedMlpPolicy:
        np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-6)


def test_too_many_members_and_none_are_refused():
    with pytest.raises(InputError, match="lstm_hidden_size"):
        merge_policies([make(MaskedMlpLstmPolicy, 0)] * 513)
    for empty in (merge_policies, AveragingPolicy):
        with pytest.raises(InputError, match="no policies"):
            empty([])
