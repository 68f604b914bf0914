"""The feature mask: names to columns, and networks that see nothing else."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.factory import PPOSettings, RecurrentPPOSettings, build_agent
from agents.persistence.checkpoint import restore_checkpoint, save_checkpoint
from agents.ppo.basis_policies import BasisLstmPolicy
from agents.ppo.columns import ColumnExtractor, columns_named, used_columns
from agents.ppo.policies import MaskedMlpLstmPolicy
from agents.ppo.recurrent_ppo import SequenceRecurrentPPO
from conf.errors import InputError
from conf.settings import build_settings
from envs.sb3_vec_env import KernelVecEnv
from tests.agents.toy_run import (
    HALF,
    SETTINGS,
    TOTAL,
    Adapting,
    DriftEnv,
    halfway,
    same_weights,
    weights,
)
from tests.markets import kernel_of, options_of, random_walk

BLOCKS = {"extra_blocks": ["volatility", "term_structure"]}
FEW = ("volatility_20d", "30D_Call_1.00.moneyness", "*D_Call_1.00.time", "vix_level", "skew")
SMALL: dict[str, Any] = {"rollout_steps": 16, "batch_size": 8, "n_epochs": 2, "net_arch": (5,)}
AGENTS: dict[str, PPOSettings | RecurrentPPOSettings] = {
    "ppo": PPOSettings(**SMALL, features=FEW),
    "recurrent": RecurrentPPOSettings(**SMALL, lstm_hidden_size=6, features=FEW),
    "stock": RecurrentPPOSettings(
        **SMALL, kind="recurrent_ppo_stock", lstm_hidden_size=6, features=FEW
    ),
}


@pytest.fixture(scope="module")
def episodes():
    options = options_of(observation=BLOCKS, episode={"sessions": 20})
    return KernelVecEnv(kernel_of(random_walk(400), 2, options, random_start=True))


def test_names_and_patterns_choose_columns_in_the_observations_order():
    names = ["spot", "30D.time", "60D.time", "vol", "30D.delta"]
    assert columns_named(("vol", "spot"), names) == (0, 3)
    assert columns_named(("*.time", "30D.*"), names) == (1, 2, 4)
    assert columns_named(("*",), names) == (0, 1, 2, 3, 4)
    with pytest.raises(InputError, match=r"is named 'vool'\. Did you mean vol\?"):
        columns_named(("spot", "vool"), names)
    with pytest.raises(InputError, match=r"'\[x\]\.\*'\. Its features: spot, 30D"):
        columns_named(("[x].*",), names)


@pytest.mark.parametrize("kind", AGENTS)
def test_the_policy_sees_the_named_features_and_no_other(episodes, kind):
    policy = build_agent(AGENTS[kind], episodes, 0, "cpu").policy
    names = [feature.name for feature in episodes.kernel.market.features]
    seen = [names[column] for column in used_columns(policy)]
    assert seen == [
        *("volatility_20d", "30D_Call_1.00.moneyness", "30D_Call_1.00.time"),
        *("60D_Call_1.00.time", "vix_level", "skew"),
    ]
    obs = np.random.default_rng(0).normal(size=(4, len(names))).astype(np.float32)
    before = policy.predict(obs, deterministic=True)[0]
    for name in names:
        changed = obs.copy()
        changed[:, names.index(name)] += 1.0
        same = np.array_equal(policy.predict(changed, deterministic=True)[0], before)
        assert same == (name not in seen), name


def test_all_features_are_no_mask(episodes):
    masked = PPOSettings(**SMALL, features=("volatility_20d", "*"))
    policies = [build_agent(o, episodes, 3, "cpu").policy for o in (masked, PPOSettings(**SMALL))]
    assert policies[0].used_columns == policies[1].used_columns == tuple(range(218))
    for one, two in zip(*(policy.parameters() for policy in policies), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("kind", AGENTS)
def test_a_masked_agent_learns(episodes, kind):
    model = build_agent(AGENTS[kind], episodes, 0, "cpu")
    before = weights(model)
    model.learn(32)
    after = weights(model)
    assert all(np.isfinite(after[name]).all() for name in after)
    assert not any(np.array_equal(before[name], after[name]) for name in after)


def test_a_mask_needs_named_features():
    with pytest.raises(InputError, match="features was given for a DriftEnv"):
        build_agent(AGENTS["ppo"], DriftEnv(num_envs=2), 0, "cpu")
    with pytest.raises(InputError, match=r"agent\.features"):
        build_settings(PPOSettings, {"features": []}, "agent")
    assert build_settings(PPOSettings, {"features": "skew"}, "agent").features == ("skew",)


def masked_toy(columns=(0, 2), books=((1.0, -0.5),)):
    network = {
        "lstm_hidden_size": 8,
        "net_arch": [8],
        "features_extractor_class": ColumnExtractor,
        "features_extractor_kwargs": {"columns": columns},
    }
    network |= {"basis": books} if books else {}
    policy = BasisLstmPolicy if books else MaskedMlpLstmPolicy
    settings = SETTINGS | {"sequence_length": 4, "policy_kwargs": network}
    return SequenceRecurrentPPO(policy, DriftEnv(), **settings)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("books", [(), ((1.0, -0.5),)])
def test_a_resumed_run_with_a_mask_and_a_basis_ends_bit_for_bit(tmp_path, books):
    whole = masked_toy(books=books)
    whole.learn(TOTAL, Adapting(tmp_path))
    model, callback = masked_toy(books=books), Adapting()
    restore_checkpoint(model, {"adapting": callback}, halfway(tmp_path))
    assert model.num_timesteps == HALF
    model.learn(TOTAL - HALF, callback, reset_num_timesteps=False)
    assert same_weights(weights(model), weights(whole))


def test_a_checkpoint_of_other_columns_or_books_is_refused(tmp_path):
    model = masked_toy()
    model._setup_learn(TOTAL)
    saved = save_checkpoint(model, {}, tmp_path)
    for other, what in (
        (masked_toy(columns=(0, 1)), "columns"),
        (masked_toy(books=((1.0, 0.5),)), "basis"),
    ):
        with pytest.raises(InputError, match=f"changed: {what}: "):
            restore_checkpoint(other, {}, saved)
    restore_checkpoint(masked_toy(), {}, saved)


def test_the_extractor_moves_no_weights():
    policy = masked_toy().policy
    assert list(policy.features_extractor.parameters()) == []
    assert not any("extractor.index" in name for name in policy.state_dict())
    extractor = ColumnExtractor(spaces.Box(-1.0, 1.0, (4,)), [1, 3])
    assert extractor(torch.arange(8.0).view(2, 4)).tolist() == [[1.0, 3.0], [5.0, 7.0]]
