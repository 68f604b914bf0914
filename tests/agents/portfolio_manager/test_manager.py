"""The portfolio manager as it is used, what it keeps, and what it refuses."""

import asyncio
import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from agents.factory import PPOSettings
from agents.persistence.policy_file import load_policy
from agents.portfolio_manager import RLPortfolioManager
from agents.portfolio_manager.files import save_model
from agents.portfolio_manager.training import PATHWISE, TrainingPlan, default_data
from conf.errors import InputError
from envs.allocation.market import AllocationSettings
from envs.core.market import EpisodeSettings
from envs.market.models.panel import PanelModel, RegimeModel
from envs.market.sources.panel import PanelFileData, PanelSimulatedData
from envs.market.sources.panel_file import load_panel_file
from risk.hedging import HedgingStrategy, PaperExchange
from risk.manager import AdvancedRiskManager
from risk.sizing import PositionSizer

SHORT = AllocationSettings(episode=EpisodeSettings(sessions=10))
SMALL = PPOSettings(net_arch=(8,))
TOY = PanelSimulatedData(assets=3, sessions=80)
CONDITIONS = {"volatility": 0.3, "trend": 0.05, "cash_ratio": 0.1, "portfolio_value_ratio": 1.05}
POSITIONS = {"btc": 300.0, "eth": 500.0, "sol": 100.0}


def small(model_path=None, **changes):
    options = {
        "asset_count": 3,
        "env": SHORT,
        "agent": SMALL,
        "num_envs": 2,
        "data": TOY,
        "pathwise": None,
        **changes,
    }
    return RLPortfolioManager(model_path=model_path, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    manager = small(tmp_path_factory.mktemp("models") / "agent.pt")
    manager.train(episodes=4, update_interval=5)
    return manager


def test_the_documented_usage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    current_positions = {f"asset {k}": 100.0 * (k + 1) for k in range(10)}
    manager = RLPortfolioManager(
        asset_count=10,
        leverage_range=(1, 10),
        model_path="models/ppo_agent.pt",
        pathwise=None,  # which takes seconds
    )
    episode_rewards = manager.train(episodes=2, update_interval=20)
    new_weights = manager.rebalance(
        portfolio=current_positions,
        market_conditions={
            "volatility": 0.3,
            "trend": 0.05,
            "cash_ratio": 0.1,
            "portfolio_value_ratio": 1.05,
        },
    )
    leverage = manager.compute_leverage(volatility=0.3)
    kelly_fraction = manager.apply_kelly_criterion(win_rate=0.6, avg_win=2.0, avg_loss=1.0)

    assert len(episode_rewards) == 2
    assert all(math.isfinite(reward) for reward in episode_rewards)
    assert set(new_weights) == {*current_positions, "cash"}
    assert min(new_weights.values()) >= 0.0
    assert math.fsum(new_weights.values()) == pytest.approx(1.0, abs=1e-12)
    assert leverage == 1.0
    assert kelly_fraction == pytest.approx(0.2)  # half of 0.6 - 0.4 / 2
    kept = sorted(path.name for path in (tmp_path / "models" / "ppo_agent").iterdir())
    assert kept == ["optimizer.safetensors", "policy.json", "policy.safetensors"]

    again = RLPortfolioManager(asset_count=10, model_path="models/ppo_agent.pt")
    conditions = {**CONDITIONS}
    assert again.rebalance(current_positions, conditions) == new_weights


def check_cash_grows(manager):
    positions = {f"asset {k}": 100.0 for k in range(manager.asset_count)} | {"cash": 100.0}
    cash = [
        manager.rebalance(positions, {"volatility": volatility, "trend": 0.05})["cash"]
        for volatility in (0.10, 0.15, 0.20, 0.30, 0.40)
    ]
    assert cash == sorted(cash)
    assert cash[0] < 0.3
    assert cash[-1] > 0.7


def test_cash_grows_with_volatility():
    calm = PanelModel(drift=0.4, vol_annual=0.1, correlation=0.25)
    stress = PanelModel(drift=-0.6, vol_annual=0.4, correlation=0.6)
    states = RegimeModel(states=(calm, stress))
    stark = replace(default_data(2), paths=16, sessions=400, regime_switching=states)
    quick = replace(PATHWISE, updates=60, stretches=64, sessions=4)
    manager = RLPortfolioManager(asset_count=2, data=stark, pathwise=quick)
    manager.train(episodes=1, update_interval=20)
    check_cash_grows(manager)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_cash_grows_with_volatility_in_the_default_market_whatever_the_seed(seed):
    """Calm earns 9.5 % over cash at a volatility of 15 %, stress loses 17.5 % at one of 40 %."""
    manager = RLPortfolioManager(asset_count=10, seed=seed)
    manager.train(episodes=200, update_interval=20)
    check_cash_grows(manager)


def test_within_bands_little_is_traded():
    bands = replace(SHORT, action="band")
    manager = small(env=bands)
    manager.train(episodes=1, update_interval=5)
    near = {"a": 25.1, "b": 24.9, "c": 24.0, "cash": 26.0}
    weights = manager.rebalance(near, CONDITIONS | {"cash_ratio": 0.26})
    assert [weights[name] for name in "abc"] == pytest.approx([0.251, 0.249, 0.24], abs=1e-6)
    far = manager.rebalance({"a": 90.0, "b": 10.0, "c": 0.0}, CONDITIONS | {"cash_ratio": 0.0})
    assert 0.25 < far["a"] < 0.3
    assert math.fsum(far.values()) == pytest.approx(1.0)


def test_a_new_agent_is_trained_pathwise_and_one_that_goes_on_is_not(tmp_path):
    options = replace(PATHWISE, updates=2, stretches=4)
    still = replace(SMALL, learning_rate=1e-12)
    manager = small(tmp_path / "agent", agent=still, pathwise=options)
    manager.train(episodes=2, update_interval=5)
    untrained = small(agent=still)
    untrained.train(episodes=2, update_interval=5)
    before = {name: tensor.clone() for name, tensor in loaded_state(manager).items()}
    name = "action_net.weight"
    assert not torch.allclose(before[name], loaded_state(untrained)[name])
    loaded = small(tmp_path / "agent", agent=still)
    assert loaded.pathwise == options
    loaded.train(episodes=2, update_interval=5)
    for name, tensor in loaded_state(loaded).items():
        torch.testing.assert_close(tensor, before[name], rtol=0.0, atol=1e-7)


def test_the_risk_manager_allocates_by_it(trained):
    risk_manager = AdvancedRiskManager(allocator=trained)
    market_state = {"volatility": 0.3, "trend": 0.05, "hedge_price": 2.0}
    portfolio = {**POSITIONS, "cash": 100.0, "current_drawdown": 0.08}

    async def decide():
        return await risk_manager.manage_risk(market_state, portfolio)

    decisions = asyncio.run(decide())
    assert decisions["rebalance_weights"] == trained.rebalance(
        {**POSITIONS, "cash": 100.0}, {"volatility": 0.3, "trend": 0.05}
    )
    assert decisions["leverage"] == 1.0
    assert decisions["hedge"].hedged
    assert decisions["hedge"].amount == pytest.approx(0.6 * 900.0 / 2.0)


def test_hedging_and_sizing_alone():
    exchange = PaperExchange()
    hedger = HedgingStrategy(max_drawdown_threshold=0.05)
    hedge_result = hedger.execute_hedge(position_size=1000, drawdown=0.08, exchange_client=exchange)
    assert hedge_result.amount == pytest.approx(600.0)
    assert [order["side"] for order in exchange.orders] == ["sell"]
    position_size = PositionSizer().calculate_size(
        account_balance=10000, atr=2.0, entry_price=100, stop_loss_points=5
    )
    assert position_size == pytest.approx(40.0)  # 2 % of the account over a stop 5 away


def test_leverage_stays_in_its_range():
    manager = RLPortfolioManager(leverage_range=(1, 10))
    assert [manager.compute_leverage(v) for v in (0.02, 0.06, 0.9)] == [10.0, 5.0, 1.0]


def test_the_order_of_a_portfolio_does_not_matter(trained):
    backwards = dict(reversed(POSITIONS.items()))
    assert trained.rebalance(POSITIONS, CONDITIONS) == trained.rebalance(backwards, CONDITIONS)


def test_named_assets_keep_their_place_and_may_be_missing():
    manager = small(assets=("sol", "btc", "eth"))
    manager.train(episodes=1, update_interval=5)
    weights = manager.rebalance({"eth": 500.0}, CONDITIONS)
    assert list(weights) == ["sol", "btc", "eth", "cash"]
    assert weights == manager.rebalance({"sol": 0.0, "eth": 500.0}, CONDITIONS)


def test_unknown_assets_are_refused_if_assets_have_names():
    manager = small(assets=("sol", "btc", "eth"))
    manager.train(episodes=1, update_interval=5)
    with pytest.raises(InputError, match=r"portfolio has 'bct', .* 'btc'"):
        manager.rebalance({"bct": 1.0}, CONDITIONS)


# --- training -------------------------------------------------------------------------------------


def test_rewards_are_those_of_the_episodes():
    # One episode, no update before its end: what the first policy earns by itself.
    manager = small(num_envs=1, seed=3)
    (reward,) = manager.train(episodes=1, update_interval=10)
    assert math.isfinite(reward)
    twin = small(num_envs=1, seed=3)
    assert twin.train(episodes=1, update_interval=10) == [reward]
    other = small(num_envs=1, seed=4)
    assert other.train(episodes=1, update_interval=10) != [reward]


def test_it_updates_every_update_interval_steps(monkeypatch):
    updates = []
    from stable_baselines3 import PPO

    original = PPO.train

    def train(self):
        updates.append(self.num_timesteps)
        original(self)

    monkeypatch.setattr(PPO, "train", train)
    small(num_envs=2).train(episodes=4, update_interval=5)
    assert updates == [10, 20, 30, 40]


def test_more_and_fewer_episodes_than_parallel_ones():
    assert len(small(num_envs=2).train(episodes=5, update_interval=4)) == 5
    assert len(small(num_envs=8).train(episodes=3, update_interval=4)) == 3


@pytest.mark.parametrize(("steps", "batch"), [(5, 10), (19, 38), (64, 128), (640, 128), (131, 131)])
def test_minibatches_divide_the_rollout(steps, batch):
    plan = TrainingPlan(2, steps, 2, 0, "cpu", PPOSettings(), None)
    assert plan.ppo_settings.rollout_steps == 2 * steps
    assert plan.ppo_settings.batch_size == batch


def test_training_continues_from_the_loaded_model(tmp_path):
    manager = small(tmp_path / "agent")
    first = manager.train(episodes=2, update_interval=5)
    loaded = RLPortfolioManager(asset_count=3, model_path=tmp_path / "agent", num_envs=2)
    assert loaded.episodes == manager.episodes == 2
    assert (loaded.env, loaded.agent, loaded.data) == (SHORT, SMALL, manager.data)
    # The same from the file as from memory: weights and Adam's moments are the whole state.
    again = loaded.train(episodes=2, update_interval=5)
    assert again == manager.train(episodes=2, update_interval=5)
    assert again != first
    assert loaded.episodes == 4
    ours, theirs = (load_policy(tmp_path / "agent").policy.state_dict(), loaded_state(manager))
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def test_training_starts_from_the_saved_weights(tmp_path):
    small(tmp_path / "agent").train(episodes=2, update_interval=5)
    before = load_policy(tmp_path / "agent").policy.state_dict()
    still = small(tmp_path / "agent", agent=replace(SMALL, learning_rate=1e-12))
    still.train(episodes=2, update_interval=5)
    for name, tensor in loaded_state(still).items():
        torch.testing.assert_close(tensor, before[name], rtol=0.0, atol=1e-7)


def loaded_state(manager):
    return manager._model.weights.policy.state_dict()


def test_adams_moments_influence_further_training(tmp_path):
    manager = small(tmp_path / "agent")
    manager.train(episodes=2, update_interval=5)
    with_moments = small(tmp_path / "agent")
    shutil.copytree(tmp_path / "agent", tmp_path / "copy")
    without = small(tmp_path / "copy")
    without._model = replace(without._model, weights=replace(without._model.weights, moments={}))
    for each in (with_moments, without):
        each.train(episodes=2, update_interval=5)
    same = [
        torch.equal(tensor, loaded_state(without)[name])
        for name, tensor in loaded_state(with_moments).items()
    ]
    assert not all(same)


def test_it_is_saved_every_fifty_episodes(tmp_path, monkeypatch):
    from agents.portfolio_manager import manager as portfolio_manager

    saved = []

    def save(model, folder):
        saved.append(model.metadata.episodes)
        save_model(model, folder)

    monkeypatch.setattr(portfolio_manager, "save_model", save)
    quick = replace(SHORT, episode=EpisodeSettings(sessions=2))
    manager = small(tmp_path / "agent", env=quick, num_envs=10)
    manager.train(episodes=120, update_interval=2)
    assert saved == [50, 100, 120]
    assert small(tmp_path / "agent", env=quick).episodes == 120


def test_assets_are_named_by_the_data(tmp_path):
    rng = np.random.default_rng(0)
    rows = ["date,AA,BB,CC"]
    days = np.busday_offset("2020-01-01", np.arange(80), roll="forward")
    for day, close in zip(
        days, 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (80, 3)), 0)), strict=True
    ):
        rows.append(f"{day}," + ",".join(f"{price:.4f}" for price in close))
    (tmp_path / "prices.csv").write_text("\n".join(rows))
    data = PanelFileData(path=str(tmp_path / "prices.csv"))
    assert load_panel_file(tmp_path / "prices.csv", 0.0, None, "error")[0].assets == (
        "AA",
        "BB",
        "CC",
    )
    manager = small(tmp_path / "agent", data=data)
    manager.train(episodes=1, update_interval=5)
    assert list(manager.rebalance({"BB": 1.0}, CONDITIONS)) == ["AA", "BB", "CC", "cash"]
    loaded = small(tmp_path / "agent", data=None)
    assert loaded.data == data
    assert loaded.assets == ("AA", "BB", "CC")
    with pytest.raises(InputError, match="assets are X, Y, Z, but"):
        small(assets=("X", "Y", "Z"), data=data).train(episodes=1, update_interval=5)
    with pytest.raises(InputError, match="has 3 assets, asset_count is 2"):
        small(asset_count=2, data=data).train(episodes=1, update_interval=5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episodes": 0}, "episodes is 0"),
        ({"episodes": 2.5}, "episodes is 2.5"),
        ({"update_interval": 1}, "update_interval is 1"),
    ],
)
def test_numbers_that_are_too_small_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        small().train(**{"episodes": 2, "update_interval": 5, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"asset_count": 0}, "asset_count is 0"),
        ({"leverage_range": (5, 1)}, "leverage_range"),
        ({"assets": ("a", "b")}, "asset_count is 3"),
        ({"assets": ("a", "b", "cash")}, "other than 'cash'"),
        ({"assets": ("a", "b", "b")}, "a name of its own"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        small(**changes)


# --- what it keeps --------------------------------------------------------------------------------


def test_an_untrained_agent_gives_no_weights(tmp_path):
    manager = small(tmp_path / "none.pt")
    assert not manager.is_trained
    with pytest.raises(InputError, match=r"no trained agent in .*none"):
        manager.rebalance(POSITIONS, CONDITIONS)


def test_pickles_and_other_folders_are_left_alone(tmp_path):
    (tmp_path / "old.pt").write_bytes(b"\x80\x04")
    with pytest.raises(InputError, match=r"old\.pt is a file.*pickles are never loaded"):
        small(tmp_path / "old.pt")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds other things than a model: notes\.txt"):
        small(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "old.pt"]


@pytest.fixture
def copy(trained, tmp_path):
    shutil.copytree(trained.folder, tmp_path / "agent")
    return tmp_path / "agent"


@pytest.mark.parametrize("name", ["optimizer.safetensors", "policy.safetensors", "policy.json"])
def test_damaged_files_are_refused(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(InputError):
        small(copy)
    (copy / name).unlink()
    with pytest.raises(InputError, match="was not found"):
        small(copy)


def test_a_model_of_other_assets_or_another_network_is_refused(copy, trained):
    with pytest.raises(InputError, match="has asset_count = 3, not 4"):
        small(copy, asset_count=4)
    with pytest.raises(InputError, match=r"has agent\.net_arch = \(8,\), not \(16,\)"):
        small(copy, agent=PPOSettings(net_arch=(16,)))
    assert small(copy, agent=replace(SMALL, learning_rate=1e-4)).agent.learning_rate == 1e-4


def test_another_kind_of_policy_is_refused(copy, trained):
    from agents.persistence.policy_file import save_policy

    save_policy(trained._model.weights.policy, copy, {"asset_count": 3})
    with pytest.raises(InputError, match="not a portfolio manager's"):
        small(copy)


def test_the_metadata_describe_the_training(trained):
    metadata = json.loads((trained.folder / "policy.json").read_text())["metadata"]
    assert metadata["kind"] == "portfolio_manager"
    assert (metadata["asset_count"], metadata["episodes"], metadata["update_interval"]) == (3, 4, 5)
    assert metadata["agent"]["net_arch"] == [8]
    assert metadata["env"]["episode"]["sessions"] == 10
    assert metadata["data"]["sessions"] == 80
    assert [item["name"] for item in metadata["features"]][:2] == [
        "weight.asset_01",
        "weight.asset_02",
    ]
