import builtins
import hashlib
import io
import itertools
import json
import os
import pickle
import shutil
import struct
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from gymnasium import spaces
from sb3_contrib.ppo_recurrent.policies import MlpLstmPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from agents.persistence.architecture import build_policy, expected_shapes, read_architecture
from agents.persistence.policy_file import DESCRIPTION, WEIGHTS, _checksum, load_policy, save_policy
from agents.ppo.policies import MaskedMlpLstmPolicy
from conf.errors import InputError

OBS, ACTION = spaces.Box(-np.inf, np.inf, (5,)), spaces.Box(-1.0, 1.0, (2,))
METADATA = {"features": ["spot", "vol"], "sharpe": 0.25, "run": {"seed": 1}}


def make(**changes):
    arguments = {"lstm_hidden_size": 6, "n_lstm_layers": 2, "net_arch": [4, 3], **changes}
    torch.manual_seed(1)
    return MaskedMlpLstmPolicy(
        OBS, ACTION, lambda _: 1e-3, activation_fn=torch.nn.ReLU, **arguments
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_policy(make(), tmp_path_factory.mktemp("policy"), METADATA)


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def redescribe(folder, change):
    """Alter the description as its maker could: with a right checksum."""
    description = json.loads((folder / DESCRIPTION).read_text())
    change(description)
    description["checksum"] = _checksum(description)
    (folder / DESCRIPTION).write_text(json.dumps(description))


def act(policy):
    rng = np.random.default_rng(0)
    state, actions = None, []
    for _ in range(4):
        observation = rng.normal(size=(3, 5)).astype(np.float32)
        action, state = policy.predict(observation, state, deterministic=True)
        actions.append(action)
    return np.stack(actions)


CRITICS = [
    {},
    {"enable_critic_lstm": False},
    {"enable_critic_lstm": False, "shared_lstm": True},
    {"net_arch": {"pi": [], "vf": [7]}},
    {"n_lstm_layers": 1, "net_arch": None},
]


@pytest.mark.parametrize("changes", CRITICS)
def test_a_loaded_policy_acts_as_the_saved_one_bit_for_bit(tmp_path, changes):
    policy = make(**changes)
    loaded = load_policy(save_policy(policy, tmp_path / "new" / "folder", METADATA))
    assert loaded.metadata == METADATA
    assert np.array_equal(act(loaded.policy), act(policy))
    for name, tensor in policy.state_dict().items():
        assert torch.equal(loaded.policy.state_dict()[name], tensor)
    assert loaded.policy.action_space == ACTION
    assert loaded.policy.observation_space == OBS


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("critic", [(True, False), (False, False), (False, True)])
def test_the_expected_shapes_are_those_of_the_network(layers, critic):
    for pi, vf in itertools.product([[], [4], [4, 3, 2]], repeat=2):
        architecture = read_architecture(
            {
                "kind": "lstm",
                "distribution": "gaussian",
                "observation_low": [None] * 5,
                "observation_high": [None] * 5,
                "action_low": [-1.0] * 2,
                "action_high": [1.0] * 2,
                "lstm_hidden_size": 6,
                "n_lstm_layers": layers,
                "enable_critic_lstm": critic[0],
                "shared_lstm": critic[1],
                "net_arch_pi": pi,
                "net_arch_vf": vf,
                "activation": "tanh",
            },
            "test",
        )
        real = build_policy(architecture).state_dict()
        assert expected_shapes(architecture) == {n: tuple(t.shape) for n, t in real.items()}


class LargestTensor(TorchDispatchMode):
    """Records the most numbers that any tensor holds which is not on the meta device."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and not leaf.is_meta:
                self.numel = max(self.numel, leaf.numel())
        return result


def test_the_largest_network_is_refused_before_it_is_allocated(copy):
    def enlarge(description):
        description["architecture"] |= {"lstm_hidden_size": 4096, "n_lstm_layers": 8}

    redescribe(copy, enlarge)
    with LargestTensor() as largest, pytest.raises(InputError, match="these weights"):
        load_policy(copy)
    assert 0 < largest.numel < 1000
    with LargestTensor() as largest:
        make(lstm_hidden_size=64)
    assert largest.numel == 4 * 64 * 64


def test_loading_leaves_the_random_stream_alone(saved):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    load_policy(saved)
    assert torch.equal(torch.get_rng_state(), before)


def test_links_to_the_files_are_followed(saved, tmp_path):
    for name in (WEIGHTS, DESCRIPTION):
        (tmp_path / name).symlink_to(saved / name)
    assert load_policy(tmp_path).metadata == METADATA


@pytest.mark.parametrize(
    ("policy", "complaint"),
    [
        (lambda: ActorCriticPolicy(OBS, ACTION, lambda _: 1e-3), "ActorCriticPolicy"),
        (lambda: make(squash_output=True, use_sde=True), "state-dependent"),
        (lambda: make(lstm_kwargs={"dropout": 0.1}), "lstm_kwargs"),
        (lambda: make(n_lstm_layers=9), "n_lstm_layers"),
    ],
)
def test_what_the_format_cannot_describe_is_refused_and_leaves_nothing(tmp_path, policy, complaint):
    with pytest.raises(InputError, match=complaint):
        save_policy(policy(), tmp_path, {})
    assert list(tmp_path.iterdir()) == []


def test_the_stock_policy_is_saved_too_and_acts_alike(tmp_path):
    stock = MlpLstmPolicy(OBS, ACTION, lambda _: 1e-3)
    loaded = load_policy(save_policy(stock, tmp_path, {})).policy
    obs = np.stack([OBS.sample() for _ in range(3)])
    # Ours takes another route through the same sums.
    np.testing.assert_allclose(
        stock.predict(obs, deterministic=True)[0],
        loaded.predict(obs, deterministic=True)[0],
        atol=1e-6,
    )


def test_weights_and_metadata_must_be_finite_and_plain(tmp_path):
    policy = make()
    for bad in ({"x": float("nan")}, {"x": object()}, {"x": {1, 2}}, {"x": "y" * 2**21}):
        with pytest.raises(InputError, match="metadata"):
            save_policy(policy, tmp_path, bad)
    with torch.no_grad():
        policy.log_std[0] = torch.nan
    with pytest.raises(InputError, match=r"not finite: log_std"):
        save_policy(policy, tmp_path, {})
    assert list(tmp_path.iterdir()) == []


def set_architecture(key, value):
    return lambda description: description["architecture"].__setitem__(key, value)


DESCRIPTIONS = {
    "huge lstm": set_architecture("lstm_hidden_size", 10**9),
    "text for a number": set_architecture("lstm_hidden_size", "6"),
    "number for a flag": set_architecture("shared_lstm", 0),
    "float for an integer": set_architecture("n_lstm_layers", 2.0),
    "flag for an integer": set_architecture("n_lstm_layers", True),
    "another size": set_architecture("lstm_hidden_size", 7),
    "other layers": set_architecture("net_arch_pi", [4]),
    "endless layers": set_architecture("net_arch_vf", [4] * 1000),
    "a dotted name for the activation": set_architecture("activation", "os.system"),
    "an unknown activation": set_architecture("activation", "softmax"),
    "bounds of another length": set_architecture("action_low", [-1.0]),
    "swapped bounds": set_architecture("action_low", [2.0, 2.0]),
    "no bounds": set_architecture("observation_low", []),
    "another kind": set_architecture("kind", "mlp"),
    "an unknown kind": set_architecture("kind", "agents.ppo.policies.MaskedMlpLstmPolicy"),
    "a list for the kind": set_architecture("kind", ["lstm"]),
    "an unknown distribution": set_architecture("distribution", "torch.distributions.Normal"),
    "a simplex out of bounds": set_architecture("distribution", "dirichlet"),
    "an unknown setting": set_architecture("_target_", "os.system"),
    "both critics": set_architecture("shared_lstm", True),
    "no architecture": lambda d: d.__setitem__("architecture", None),
    "a list of metadata": lambda d: d.__setitem__("metadata", []),
    "a missing key": lambda d: d.pop("metadata"),
    "another format": lambda d: d.__setitem__("format", 99),
    "the first format with keys of the second": lambda d: d.__setitem__("format", 1),
    "true for the format": lambda d: d.__setitem__("format", True),
    "a number for the checksum": lambda d: d.__setitem__("weights_sha256", 1),
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_an_impossible_description_is_one_error(copy, name):
    redescribe(copy, DESCRIPTIONS[name])
    with pytest.raises(InputError):
        load_policy(copy)


TEXTS = {
    "empty": b"",
    "not JSON": b"{",
    "a list": b"[]",
    "twice the same key": b'{"format": 1, "format": 1}',
    "not a number": b'{"format": NaN}',
    "infinite": b'{"format": 1e999}',
    "deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "long integer": b'{"format": ' + b"9" * 5000 + b"}",
    "not UTF-8": b'{"format": "\xff"}',
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_description_that_is_not_strict_json_is_one_error(copy, name):
    (copy / DESCRIPTION).write_bytes(TEXTS[name])
    with pytest.raises(InputError):
        load_policy(copy)


def reweigh(folder, weights=None, content=None):
    """Replace the weights and, as an attacker would, their checksums."""
    content = safetensors.torch.save(weights) if content is None else content
    (folder / WEIGHTS).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    redescribe(folder, lambda d: d.__setitem__("weights_sha256", digest))


def _header(content):
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _with_header(header, data):
    text = json.dumps(header).encode() if isinstance(header, dict) else header
    return struct.pack("<Q", len(text)) + text + data


def _weights_cases(weights, content):
    header, data = _header(content)
    first = next(name for name in header if name != "__metadata__")
    overlapping = json.loads(json.dumps(header))
    for entry in overlapping.values():
        if isinstance(entry, dict) and "data_offsets" in entry:
            start, end = entry["data_offsets"]
            entry["data_offsets"] = [0, end - start]
    beyond = json.loads(json.dumps(header))
    beyond[first]["data_offsets"] = [10**15, 10**15 + 4]
    overflowing, half_bytes = json.loads(json.dumps(header)), json.loads(json.dumps(header))
    overflowing["x"] = {"dtype": "F32", "shape": [0, 2**62, 2**62], "data_offsets": [len(data)] * 2}
    half_bytes[first]["dtype"] = "F4"
    infinite = {n: t.clone() for n, t in weights.items()} | {"log_std": torch.full((2,), torch.inf)}
    return {
        "a missing weight": {n: t for n, t in weights.items() if n != "log_std"},
        "a weight too many": weights | {"backdoor": torch.zeros(3)},
        "another shape": weights | {"log_std": torch.zeros(3)},
        "double precision": weights | {"log_std": torch.zeros(2, dtype=torch.float64)},
        "integers": weights | {"log_std": torch.zeros(2, dtype=torch.int32)},
        "not finite": infinite,
        "nothing": {},
        "overlapping weights": _with_header(overlapping, data),
        "weights beyond the file": _with_header(beyond, data),
        "an empty weight of overflowing shape": _with_header(overflowing, data),
        "half bytes": _with_header(half_bytes, data),
        "a header beyond the file": struct.pack("<Q", 2**63) + content[8:],
        "a huge header": _with_header(b"{" + b" " * (2**20 + 9) + b"}", data),
        "an empty file": b"",
        "half a file": content[: len(content) // 2],
        "one byte less": content[:-1],
        "one byte more": content + b"\0",
        "a far too large file": content + bytes(2 * 2**20),
    }


CASES = sorted(_weights_cases({"x": torch.zeros(1)}, safetensors.torch.save({"x": torch.zeros(1)})))


@pytest.mark.parametrize("name", CASES)
def test_weights_that_do_not_fit_are_one_error_even_with_right_checksums(copy, name):
    content = (copy / WEIGHTS).read_bytes()
    case = _weights_cases(safetensors.torch.load(content), content)[name]
    reweigh(copy, **({"weights": case} if isinstance(case, dict) else {"content": case}))
    with pytest.raises(InputError):
        load_policy(copy)


@pytest.mark.parametrize("missing", [WEIGHTS, DESCRIPTION])
def test_a_missing_file_or_a_folder_in_its_place_is_one_error(copy, missing):
    (copy / missing).unlink()
    with pytest.raises(InputError, match=missing):
        load_policy(copy)
    (copy / missing).mkdir()
    with pytest.raises(InputError, match=missing):
        load_policy(copy)


class _Payload:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def payloads(sentinel):
    """Files that create `sentinel` when something unpickles them."""
    command = f"touch {sentinel}"
    calls = {
        "os.system": _Payload(os.system, command),
        "exec": _Payload(builtins.exec, f"open({str(sentinel)!r}, 'w')"),
        "eval": _Payload(builtins.eval, f"open({str(sentinel)!r}, 'w')"),
        "open": _Payload(builtins.open, str(sentinel), "w"),
    }
    files = {}
    for name, call in calls.items():
        for protocol in (0, 2, 5):
            files[f"{name}, protocol {protocol}"] = pickle.dumps(call, protocol)
        buffer = io.BytesIO()
        torch.save({"log_std": call}, buffer)
        files[f"{name}, torch.save"] = buffer.getvalue()
        buffer = io.BytesIO()
        torch.save({"log_std": call}, buffer, _use_new_zipfile_serialization=False)
        files[f"{name}, old torch.save"] = buffer.getvalue()
        buffer = io.BytesIO()
        np.save(buffer, np.array([call], dtype=object), allow_pickle=True)
        files[f"{name}, npy"] = buffer.getvalue()
        buffer = io.BytesIO()
        np.savez(buffer, log_std=np.array([call], dtype=object))
        files[f"{name}, npz"] = buffer.getvalue()
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("data.pkl", pickle.dumps(call))
            archive.writestr("data", json.dumps({":serialized:": "gASV"}))
        files[f"{name}, zip"] = buffer.getvalue()
    return files


def test_the_payloads_are_live(tmp_path):
    sentinel = tmp_path / "touched"
    for name, content in payloads(sentinel).items():
        if "protocol" in name:
            pickle.loads(content)
            assert sentinel.exists()
            sentinel.unlink()


@pytest.mark.parametrize("place", [WEIGHTS, DESCRIPTION])
def test_a_pickle_in_place_of_either_file_never_runs(saved, tmp_path, place):
    sentinel = tmp_path / "touched"
    for number, content in enumerate(payloads(sentinel).values()):
        folder = shutil.copytree(saved, tmp_path / str(number))
        (folder / place).write_bytes(content)
        with pytest.raises(InputError):
            load_policy(folder)
        if place == WEIGHTS:
            reweigh(folder, content=content)
            with pytest.raises(InputError):
                load_policy(folder)
    assert not sentinel.exists()


def test_a_pickle_inside_the_header_or_the_metadata_is_only_text(copy, tmp_path):
    sentinel = tmp_path / "touched"
    text = pickle.dumps(_Payload(os.system, f"touch {sentinel}"), 0).decode()
    content = (copy / WEIGHTS).read_bytes()
    header, data = _header(content)
    reweigh(copy, content=_with_header(header | {"__metadata__": {"note": text}}, data))
    redescribe(copy, lambda d: d.__setitem__("metadata", {"_target_": "os.system", "x": text}))
    assert load_policy(copy).metadata["x"] == text
    assert not sentinel.exists()


def mutate(content, rng):
    """A few random bytes changed, cut out, put in or moved."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(content)))
        match rng.integers(5):
            case 0:
                content[at] ^= 1 << int(rng.integers(8))
            case 1:
                content[at : at + int(rng.integers(1, 40))] = b""
            case 2:
                content[at:at] = rng.bytes(int(rng.integers(1, 40)))
            case 3:
                del content[at:]
            case _:
                other = int(rng.integers(len(content)))
                content[at : at + 8] = content[other : other + 8]
        if not content:
            break
    return bytes(content)


STRANGE = [
    None,
    True,
    -1,
    0,
    3,
    10**30,
    0.5,
    "",
    "6",
    "os.system",
    [],
    [None],
    {},
    {"_target_": "x"},
]


def replace_one(description, rng):
    """Put a strange value somewhere in the description."""
    place = description
    while True:
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = keys[int(rng.integers(len(keys)))]
        if not isinstance(place[key], dict | list) or not place[key] or rng.random() < 0.2:
            place[key] = STRANGE[int(rng.integers(len(STRANGE)))]
            return
        place = place[key]


@pytest.mark.parametrize("place", [WEIGHTS, DESCRIPTION])
@pytest.mark.parametrize("resign", [False, True], ids=["as it fell", "with a right checksum"])
def test_a_mutated_file_loads_identically_or_is_one_error(saved, copy, place, resign):
    rng = np.random.default_rng(11)
    expected = act(load_policy(saved).policy)
    original = {name: (saved / name).read_bytes() for name in (WEIGHTS, DESCRIPTION)}
    refused = []
    for _ in range(75):
        for name, content in original.items():
            (copy / name).write_bytes(content)
        if not resign:
            (copy / place).write_bytes(mutate(original[place], rng))
        elif place == WEIGHTS:
            reweigh(copy, content=mutate(original[place], rng))
        else:
            redescribe(copy, lambda description: replace_one(description, rng))
        try:
            loaded = load_policy(copy)
        except InputError as error:
            refused.append(str(error))
            continue
        if not resign:
            assert loaded.metadata == METADATA
            assert np.array_equal(act(loaded.policy), expected)
    assert len(refused) > 20
    assert not any("\n" in message for message in refused)
