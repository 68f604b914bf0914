"""Policy files of agents of other kinds than recurrent ones on a box, and of earlier formats."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.off_policy.policies import SquashedPolicy
from agents.persistence.architecture import (
    describe_architecture,
    expected_shapes,
    read_architecture,
)
from agents.persistence.policy_file import DESCRIPTION, _checksum, load_policy, save_policy
from agents.ppo.basis_policies import BasisLstmPolicy, BasisMlpPolicy, StockBasisLstmPolicy
from agents.ppo.columns import ColumnExtractor, used_columns
from agents.ppo.policies import MaskedMlpLstmPolicy
from agents.ppo.simplex_policies import (
    SeparateMlpPolicy,
    SharedMlpPolicy,
    SimplexLstmPolicy,
    SimplexPolicy,
    StockSimplexLstmPolicy,
)
from conf.errors import InputError
from envs.allocation.simplex import Simplex

OBS = spaces.Box(-np.inf, np.inf, (5,))
BOX = spaces.Box(-1.0, 1.0, (3,))
BOOKS = [[-1.0, 0.0, -1.0], [0.5, 1.0, 0.0]]
SOME = {
    "features_extractor_class": ColumnExtractor,
    "features_extractor_kwargs": {"columns": (1, 4)},
}
LSTM = {"lstm_hidden_size": 6, "n_lstm_layers": 2}
POLICIES = {
    "shared layers on a box": lambda: make(SharedMlpPolicy, spaces.Box(-1.0, 1.0, (2,))),
    "a critic of its own": lambda: make(
        SeparateMlpPolicy, BOX, net_arch={"pi": [4, 3], "vf": [6]}, activation_fn=torch.nn.SiLU
    ),
    "a critic of its own, some columns": lambda: make(
        SeparateMlpPolicy, BOX, net_arch={"pi": [], "vf": [2]}, **SOME
    ),
    "dirichlet": lambda: make(SimplexPolicy, distribution="dirichlet"),
    "softmax_gaussian": lambda: make(SimplexPolicy, distribution="softmax_gaussian"),
    "no hidden layer": lambda: make(SimplexPolicy, net_arch=[]),
    "recurrent, dirichlet": lambda: make(SimplexLstmPolicy, distribution="dirichlet", **LSTM),
    "recurrent, softmax_gaussian": lambda: make(SimplexLstmPolicy, **LSTM),
    "recurrent, stock": lambda: make(StockSimplexLstmPolicy, distribution="dirichlet", **LSTM),
    "recurrent, some columns": lambda: make(MaskedMlpLstmPolicy, BOX, **SOME, **LSTM),
    "some columns, softmax_gaussian": lambda: make(SimplexPolicy, **SOME),
    "books": lambda: make(BasisMlpPolicy, BOX, basis=BOOKS),
    "recurrent, books, some columns": lambda: make(
        BasisLstmPolicy, BOX, basis=BOOKS, **SOME, **LSTM
    ),
    "squashed": lambda: make(SquashedPolicy, BOX).actor,
    "squashed, books, some columns": lambda: (
        make(SquashedPolicy, BOX, basis=BOOKS, net_arch=[], **SOME).actor
    ),
    "recurrent, books, stock": lambda: make(StockBasisLstmPolicy, BOX, basis=BOOKS, **LSTM),
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
    assert loaded.used_columns == used_columns(policy)
    assert getattr(loaded, "basis", None) == getattr(policy, "basis", None)
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


def test_a_file_of_the_second_format_still_acts_as_it_did():
    loaded = load_policy(Path(__file__).parent / "format_2")
    assert loaded.metadata == {"features": ["spot", "vol"]}
    expected = [[-0.3960145, 0.3328220], [0.0493295, 0.2219534], [-0.1344308, -0.0177281]]
    np.testing.assert_allclose(act(loaded.policy)[-1], expected, atol=1e-6)


def test_a_file_of_the_third_format_still_acts_as_it_did():
    loaded = load_policy(Path(__file__).parent / "format_3")
    assert isinstance(loaded.policy, BasisMlpPolicy)
    assert (loaded.policy.used_columns, loaded.policy.basis[1]) == ((1, 4), (0.5, 1.0, 0.0))
    expected = [[-0.0456296, -0.2974917, 0.1031163], [-0.0557784, -0.1442472, 0.0163452]]
    np.testing.assert_allclose(act(loaded.policy)[-1][:2], expected, atol=1e-6)


def test_a_file_of_the_fourth_format_is_read_as_it_stands(tmp_path):
    policy = POLICIES["squashed"]()
    description = json.loads((save_policy(policy, tmp_path, {}) / DESCRIPTION).read_text())
    description["format"] = 4
    description["checksum"] = _checksum(description)
    (tmp_path / DESCRIPTION).write_text(json.dumps(description))
    assert np.array_equal(act(load_policy(tmp_path).policy), act(policy))


def test_critics_are_not_kept(tmp_path):
    policy = make(SquashedPolicy, BOX)
    loaded = load_policy(save_policy(policy, tmp_path, {})).policy
    assert loaded.state_dict().keys() == policy.actor.state_dict().keys()
    np.testing.assert_array_equal(act(loaded), act(policy))


@pytest.mark.parametrize("changes", [{"action_low": [None] * 3}, {"distribution": "dirichlet"}])
def test_squashed_actions_are_of_a_bounded_box(tmp_path, changes):
    save_policy(make(SquashedPolicy, BOX), tmp_path, {})
    redescribe(tmp_path, changes)
    with pytest.raises(InputError, match=r"bounded box|two or more"):
        load_policy(tmp_path)


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
    "columns beyond the observation": {"columns": [0, 1, 2, 3, 5]},
    "a column twice": {"columns": [0, 1, 1, 3, 4]},
    "a column below the first": {"columns": [-1, 1, 2, 3, 4]},
    "no columns": {"columns": []},
    "fewer columns": {"columns": [0, 1]},
    "books on the simplex": {"basis": [[1.0, 0.0, 0.0]]},
}
FORGED_BOOKS = {
    "another number of slots": [[1.0, 0.0], [0.0, 1.0]],
    "books of different lengths": [[1.0, 0.0, 0.0], [0.0, 1.0]],
    "the same book twice": [[1.0, 2.0, 0.0], [2.0, 4.0, 0.0]],
    "more books": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    "an endless book": [[1e300, 0.0, 0.0], [0.0, 1.0, 0.0]],
    "no books": [],
    "no basis": None,
    "numbers for books": [1.0, 2.0],
}


@pytest.mark.parametrize("name", FORGERIES)
def test_an_impossible_description_is_one_error(tmp_path, name):
    save_policy(POLICIES["dirichlet"](), tmp_path, {})
    redescribe(tmp_path, FORGERIES[name])
    with pytest.raises(InputError) as refusal:
        load_policy(tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", FORGED_BOOKS)
def test_an_impossible_basis_is_one_error(tmp_path, name):
    save_policy(POLICIES["books"](), tmp_path, {})
    redescribe(tmp_path, {"basis": FORGED_BOOKS[name]})
    with pytest.raises(InputError) as refusal:
        load_policy(tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("file_format", "key"), [(1, "kind"), (1, "basis"), (2, "columns")])
def test_a_later_format_cannot_pass_for_an_earlier_one(tmp_path, file_format, key):
    folder = shutil.copytree(Path(__file__).parent / f"format_{file_format}", tmp_path / "copy")
    redescribe(folder, {key: None})
    with pytest.raises(InputError, match=f"format {file_format} has no .*{key}"):
        load_policy(folder)


def redescribe(folder, changes):
    description = json.loads((folder / DESCRIPTION).read_text())
    description["architecture"] |= changes
    description["checksum"] = _checksum(description)
    (folder / DESCRIPTION).write_text(json.dumps(description))
