"""Policy files of agents without memory and on the simplex, and files of the first format."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.persistence.architecture import (
    describe_architecture,
    expected_shapes,
    read_architecture,
)
from agents.persistence.policy_file import DESCRIPTION, _checksum, load_policy, save_policy
from agents.ppo.simplex_policies import (
    SharedMlpPolicy,
    SimplexLstmPolicy,
    SimplexPolicy,
    StockSimplexLstmPolicy,
)
from conf.errors import InputError
from envs.allocation.simplex import Simplex

OBS = spaces.Box(-np.inf, np.inf, (5,))
LSTM = {"lstm_hidden_size": 6, "n_lstm_layers": 2}
POLICIES = {
    "shared layers on a box": lambda: make(SharedMlpPolicy, spaces.Box(-1.0, 1.0, (2,))),
    "dirichlet": lambda: make(SimplexPolicy, distribution="dirichlet"),
    "softmax_gaussian": lambda: make(SimplexPolicy, distribution="softmax_gaussian"),
    "no hidden layer": lambda: make(SimplexPolicy, net_arch=[]),
    "recurrent, dirichlet": lambda: make(SimplexLstmPolicy, distribution="dirichlet", **LSTM),
    "recurrent, softmax_gaussian": lambda: make(SimplexLstmPolicy, **LSTM),
    "recurrent, stock": lambda: make(StockSimplexLstmPolicy, distribution="dirichlet", **LSTM),
}


def make(policy, action=None, **options):
    torch.manual_seed(1)
    options = {"net_arch": [4, 3], "activation_fn": torch.nn.ReLU, **options}
    return policy(OBS, action or Simplex(3), lambda _: 1e-3, **options)


def act(policy, deterministic=True):
    rng = np.random.default_rng(0)
    torch.manual_seed(2)
    state, actions = None, []
    for _ in range(4):
        observation = rng.normal(size=(3, 5)).astype(np.float32)
        action, state = policy.predict(observation, state, deterministic=deterministic)
        actions.append(action)
    return np.stack(actions)


@pytest.mark.parametrize("name", POLICIES)
def test_a_loaded_policy_acts_as_the_saved_one(tmp_path, name):
    policy = POLICIES[name]()
    with torch.no_grad():
        for weight in policy.parameters():
            weight += 0.1 * torch.randn_like(weight)
    loaded = load_policy(save_policy(policy, tmp_path, {"note": name})).policy
    assert loaded.action_space == policy.action_space
    assert type(loaded.action_space) is type(policy.action_space)
    for name_of_weight, tensor in policy.state_dict().items():
        assert torch.equal(loaded.state_dict()[name_of_weight], tensor)
    for deterministic in (True, False):
        actions, expected = act(loaded, deterministic), act(policy, deterministic)
        # The stock recurrent network takes another route through the same sums.
        np.testing.assert_allclose(actions, expected, atol=1e-6 if "stock" in name else 0.0)
    again = save_policy(loaded, tmp_path / "again", {"note": name})
    assert (again / DESCRIPTION).read_bytes() == (tmp_path / DESCRIPTION).read_bytes()


@pytest.mark.parametrize("name", POLICIES)
def test_the_expected_shapes_are_those_of_the_network(name):
    policy = POLICIES[name]()
    architecture = read_architecture(describe_architecture(policy), "test")
    real = {name: tuple(tensor.shape) for name, tensor in policy.state_dict().items()}
    assert expected_shapes(architecture) == real


def test_loading_leaves_the_random_stream_alone(tmp_path):
    save_policy(POLICIES["dirichlet"](), tmp_path, {})
    torch.manual_seed(3)
    before = torch.get_rng_state()
    load_policy(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_file_of_the_first_format_still_acts_as_it_did():
    """Written by the version that knew no other, with these actions in the fourth session."""
    loaded = load_policy(Path(__file__).parent / "format_1")
    assert loaded.metadata == {"features": ["spot", "vol"]}
    expected = [[0.5210198, -0.1419655], [0.52084434, -0.14139324], [0.5218851, -0.1447877]]
    np.testing.assert_allclose(act(loaded.policy)[-1], expected, atol=1e-6)


FORGERIES = {
    "another kind": {"kind": "lstm"},
    "an unknown kind": {"kind": "agents.ppo.simplex_policies.SimplexPolicy"},
    "no kind": {"kind": None},
    "another distribution": {"distribution": "softmax_gaussian"},
    "no simplex": {"distribution": "gaussian"},
    "a class for a distribution": {"distribution": "os.system"},
    "other bounds": {"action_high": [1.0, 1.0, 2.0]},
    "no bounds": {"action_low": [None, None, None]},
    "a single weight": {"action_low": [0.0], "action_high": [1.0]},
    "another width": {"net_arch": [4, 4]},
    "a huge width": {"net_arch": [10**9]},
    "a memory that is none": {"lstm_hidden_size": 6},
}


@pytest.mark.parametrize("name", FORGERIES)
def test_an_impossible_description_is_one_error(tmp_path, name):
    save_policy(POLICIES["dirichlet"](), tmp_path, {})
    description = json.loads((tmp_path / DESCRIPTION).read_text())
    description["architecture"] |= FORGERIES[name]
    description["checksum"] = _checksum(description)
    (tmp_path / DESCRIPTION).write_text(json.dumps(description))
    with pytest.raises(InputError) as refusal:
        load_policy(tmp_path)
    assert "\n" not in str(refusal.value)


def test_a_later_format_cannot_pass_for_the_first(tmp_path):
    folder = shutil.copytree(Path(__file__).parent / "format_1", tmp_path / "copy")
    description = json.loads((folder / DESCRIPTION).read_text())
    description["architecture"] |= {"kind": "mlp"}
    description["checksum"] = _checksum(description)
    (folder / DESCRIPTION).write_text(json.dumps(description))
    with pytest.raises(InputError, match="format 1 has no kind"):
        load_policy(folder)
