"""Actions through books: the map, its density, and textbook books on a chain."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from torch.distributions import Normal

from agents.basis import BOOKS, BookName, basis_of
from agents.factory import PPOSettings, RecurrentPPOSettings, build_agent
from agents.persistence.sb3_zip import export_sb3_zip
from agents.ppo.basis_policies import BasisLstmPolicy, BasisMlpPolicy, BookGaussian, BookLayer
from conf.errors import InputError
from conf.settings import build_settings
from envs.options.chain import ChainSettings, slots
from envs.sb3_vec_env import KernelVecEnv
from tests.markets import kernel_of, options_of, random_walk

OBS, ACTION = spaces.Box(-np.inf, np.inf, (5,)), spaces.Box(-1.0, 1.0, (4,))
MATRIX = [[-1.0, -1.0, 0.0, 0.0], [1.0, 0.0, 0.5, 0.0]]
LSTM = {"lstm_hidden_size": 6, "n_lstm_layers": 2, "net_arch": [5]}
NAMES: tuple[BookName, ...] = ("short_straddle", "short_strangle", "long_wings")
SMALL: dict[str, Any] = {
    **{"rollout_steps": 16, "batch_size": 8, "n_epochs": 2},
    **{"net_arch": (5,), "basis": NAMES},
}
AGENTS: dict[str, PPOSettings | RecurrentPPOSettings] = {
    "ppo": PPOSettings(**SMALL),
    "recurrent": RecurrentPPOSettings(**SMALL, lstm_hidden_size=6),
    "stock": RecurrentPPOSettings(**SMALL, kind="recurrent_ppo_stock", lstm_hidden_size=6),
    "masked": RecurrentPPOSettings(
        **SMALL, lstm_hidden_size=6, features=("*.moneyness", "volatility_20d")
    ),
}


def episodes(**env):
    sizing = {"unit": "notional", "no_trade_band": 0.01}
    options = options_of(sizing=sizing, episode={"sessions": 20}, **env)
    return KernelVecEnv(kernel_of(random_walk(400), 2, options, random_start=True))


def test_the_action_layer_gives_slots_and_the_noise_stays_in_the_books():
    torch.manual_seed(0)
    policy = BasisMlpPolicy(OBS, ACTION, lambda _: 1e-3, basis=MATRIX, net_arch=[8])
    obs, books = torch.randn(300, 5), torch.tensor(MATRIX)
    latent = policy.mlp_extractor.forward_actor(obs)
    mean = policy.action_net(latent)
    assert isinstance(policy.action_net, BookLayer)
    amounts = policy.action_net.amounts(latent)
    assert torch.equal(mean, amounts @ books)
    assert torch.equal(policy(obs, deterministic=True)[0], mean)
    drawn, _, log_prob = policy(obs)
    noise = drawn - mean
    assert not noise[:, 3].any()
    back = noise @ torch.linalg.pinv(books)
    torch.testing.assert_close(back @ books, noise, atol=1e-5, rtol=0)
    assert 0.7 < float(back.detach().std()) < 1.3
    expected = Normal(amounts, policy.log_std.exp()).log_prob(amounts + back).sum(-1)
    torch.testing.assert_close(log_prob, expected, atol=1e-4, rtol=0)
    _, again, entropy = policy.evaluate_actions(obs, drawn)
    torch.testing.assert_close(again, log_prob, atol=1e-5, rtol=0)
    assert entropy is not None
    assert float(entropy[0].detach()) == pytest.approx(2 * 0.5 * np.log(2 * np.pi * np.e), rel=1e-5)


def test_books_that_are_the_slots_give_the_gaussian_of_free_slots():
    dist = BookGaussian(np.eye(3))
    dist.proba_distribution_net(4)
    mean, log_std, actions = torch.randn(6, 3), torch.tensor([-1.0, 0.0, 0.5]), torch.randn(6, 3)
    dist.proba_distribution(mean, log_std)
    expected = Normal(mean, log_std.exp()).log_prob(actions).sum(-1)
    torch.testing.assert_close(dist.log_prob(actions), expected)
    assert torch.equal(dist.mode(), mean)


@pytest.mark.parametrize(
    ("books", "message"),
    [
        ([[1.0, 0.0]], "books of 2 slots"),
        ([[1.0, 0.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0]], "not independent"),
        ([[np.nan, 0.0, 0.0, 0.0]], "not independent"),
        ([], "not independent"),
    ],
)
def test_books_that_cannot_be_told_apart_are_refused(books, message):
    with pytest.raises(InputError, match=message):
        BasisLstmPolicy(OBS, ACTION, lambda _: 1e-3, basis=books, **LSTM)


def test_textbook_books_by_hand():
    chain = slots(ChainSettings())
    books = basis_of(NAMES, chain)
    assert books.shape == (6, 20)
    held = [{chain[slot].name: float(book[slot]) for slot in np.nonzero(book)[0]} for book in books]
    assert held[0] == {"30D_Call_1.00": -1.0, "30D_Put_1.00": -1.0}
    assert held[1] == {"60D_Call_1.00": -1.0, "60D_Put_1.00": -1.0}
    assert held[2] == {"30D_Call_1.05": -1.0, "30D_Put_0.95": -1.0}
    assert held[5] == {"60D_Call_1.10": 1.0, "60D_Put_0.90": 1.0}
    assert np.linalg.matrix_rank(books) == 6
    assert set(BOOKS) == set(NAMES)


def test_a_book_whose_strikes_the_chain_lacks_is_one_line():
    narrow = slots(ChainSettings(moneyness=(0.95, 1.0, 1.05), maturities_days=(30,)))
    assert basis_of(NAMES[:2], narrow).shape == (2, 6)
    with pytest.raises(InputError, match=r"long_wings needs a strike of 0\.9 .* 0\.95, 1, 1\.05"):
        basis_of(NAMES, narrow)


@pytest.mark.parametrize("kind", AGENTS)
def test_an_agent_with_a_basis_learns_and_trades_pairs(kind):
    env = episodes()
    model = build_agent(AGENTS[kind], env, 0, "cpu")
    assert model.policy.log_std.shape == (6,)
    before = [weight.detach().clone() for weight in model.policy.parameters()]
    model.learn(32)
    moved = [not torch.equal(w, b) for w, b in zip(model.policy.parameters(), before, strict=True)]
    assert all(moved)
    names, held = env.kernel.market.instruments, env.kernel.held_quantity
    assert np.abs(held).sum() > 0
    pairs = {"Call_1.00": "Put_1.00", "Call_1.05": "Put_0.95", "Call_1.10": "Put_0.90"}
    for call, put in pairs.items():
        for days in ("30D_", "60D_"):
            one, two = (held[:, names.index(days + leg)] for leg in (call, put))
            both = (one != 0) & (two != 0)  # a wing below the tick is not bought
            np.testing.assert_allclose(one[both], two[both], rtol=1e-5)
    legs = {*pairs, *pairs.values()}
    outside = [i for i, name in enumerate(names) if name.partition("_")[2] not in legs]
    assert len(outside) == 8
    assert not held[:, outside].any()


@pytest.mark.parametrize("kind", ["recurrent", "masked", "stock"])
def test_the_zip_acts_alike_in_stock_sb3_contrib(tmp_path, kind):
    env = episodes()
    model = build_agent(AGENTS[kind], env, 0, "cpu")
    model.learn(32)
    own = model.policy
    export_sb3_zip(model, tmp_path / "model.zip")
    assert model.policy is own
    stock = RecurrentPPO.load(tmp_path / "model.zip", env=env, device="cpu")
    assert type(stock.policy).__module__.startswith("sb3_contrib")
    rng = np.random.default_rng(0)
    states: list[Any] = [None, None]
    for _ in range(5):
        obs = rng.normal(size=(3, env.observation_space.shape[0])).astype(np.float32)
        actions = []
        for i, policy in enumerate((own, stock.policy)):
            action, states[i] = policy.predict(obs, states[i], deterministic=True)
            actions.append(action)
        np.testing.assert_allclose(actions[0], actions[1], atol=1e-6)
    names = env.kernel.market.instruments
    spread = dict(zip(names, stock.policy.log_std.detach().exp().tolist(), strict=True))
    assert spread["30D_Call_1.00"] == pytest.approx(np.exp(-4.0), rel=0.05)
    assert spread["30D_Call_0.90"] < 1e-8
    stock.learn(16)


def test_a_basis_is_named_as_it_should_be():
    for basis, message in (
        (["straddle"], "short_straddle"),
        (["slots", "long_wings"], "name slots, or different books"),
        (["long_wings", "long_wings"], "name slots, or different books"),
        ([], "basis"),
    ):
        with pytest.raises(InputError, match=message) as refusal:
            build_settings(PPOSettings, {"basis": basis}, "agent")
        assert "\n" not in str(refusal.value)
    assert build_settings(PPOSettings, {"basis": "long_wings"}, "agent").basis == ("long_wings",)
