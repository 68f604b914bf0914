"""A portfolio manager in one object: train an agent, ask it for weights, size positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from agents.factory import PPOSettings
from agents.portfolio_manager.conditions import (
    CONDITIONS,
    Conditions,
    observe,
    read_positions,
)
from agents.portfolio_manager.files import (
    Model,
    ModelMetadata,
    TrainedWeights,
    folder_of,
    load_model,
    save_model,
)
from agents.portfolio_manager.training import TrainingPlan, default_data, learn
from conf.errors import InputError
from envs.allocation.market import AllocationSettings, PanelMarket, build_panel_market
from envs.market.sources.panel import PanelSettings, PanelSimulatedData, load_panel
from risk.manager import CASH
from risk.sizing import kelly_fraction, volatility_leverage

# Drawdown penalties add up to tens; unscaled, the critic would leave the shared layers nothing.
REWARD_SCALE = 0.05

_NETWORK = ("net_arch", "activation", "distribution")


class RLPortfolioManager:
    """Trains PPO to allocate between `asset_count` assets and cash, and asks it for weights.

    model_path: the folder that the model is kept in and, where there is one, loaded from; an ending
    like `.pt` is dropped, for nothing is ever pickled (`models/ppo_agent.pt` stands in
    `models/ppo_agent/`); None keeps nothing. assets: their names in the agent's order; None: those
    of the data it is trained on or, in a simulated market, any, in alphabetical order. data, env
    and agent: what to train on and with; None: as the loaded model was, or the defaults, a
    simulated market of calm and stress in which all assets are alike. num_envs: episodes side by
    side. leverage_range and target_volatility (annual): for `compute_leverage`.

    It is an `Allocator` of `risk.manager.AdvancedRiskManager`. InputError for settings that do not
    go together, and for a model that is damaged or made for something else.
    """

    def __init__(
        self,
        asset_count: int = 10,
        leverage_range: tuple[float, float] = (1.0, 10.0),
        model_path: str | Path | None = None,
        *,
        assets: Sequence[str] | None = None,
        data: PanelSettings | None = None,
        env: AllocationSettings | None = None,
        agent: PPOSettings | None = None,
        target_volatility: float = 0.30,
        num_envs: int = 8,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        if not isinstance(asset_count, int) or isinstance(asset_count, bool) or asset_count < 1:
            raise InputError(f"asset_count is {asset_count!r}", "Give a whole number, 1 or more")
        self.asset_count = asset_count
        self.leverage_range, self.target_volatility = leverage_range, target_volatility
        self.compute_leverage(target_volatility)  # refuses a range that is none
        self.folder = None if model_path is None else folder_of(model_path)
        self.assets = None if assets is None else _checked_names(assets, asset_count)
        self._num_envs, self._seed, self._device = num_envs, seed, device
        self._model = None if self.folder is None else load_model(self.folder, device)
        was = None if self._model is None else self._model.metadata
        if was is not None:
            self._refuse_other_model(was, agent)
            self.assets = self.assets or was.assets
        self.agent = agent or (was.agent if was else PPOSettings(reward_scale=REWARD_SCALE))
        self.env = env or (was.env if was else AllocationSettings())
        self.data: PanelSettings = data or (was.data if was else default_data(asset_count))

    @property
    def is_trained(self) -> bool:
        """Whether there is an agent to be asked."""
        return self._model is not None

    @property
    def episodes(self) -> int:
        """Trained so far, in all."""
        return 0 if self._model is None else self._model.metadata.episodes

    def train(self, episodes: int = 1000, update_interval: int = 20) -> list[float]:
        """Train on, and return the reward sum of each episode, in the order they finish.

        Up to `num_envs` episodes run side by side, and all of them take `update_interval` steps
        (sessions) between two updates: a rollout has update_interval x num_envs steps. Every 50
        episodes and at the end the model is saved. A second call goes on from the first, with
        other draws. Raises InputError for numbers that are too small and a market that does not
        have `asset_count` assets.
        """
        seed, before = self._seed, self.episodes
        if before:
            seed = int(np.random.SeedSequence([seed, before]).generate_state(1)[0])
        plan = TrainingPlan(
            episodes, update_interval, self._num_envs, seed, self._device, self.agent
        )
        market, used = self._market()

        def keep(weights: TrainedWeights, done: int) -> None:
            metadata = ModelMetadata(
                asset_count=self.asset_count,
                assets=self.assets,
                features=market.features,
                episodes=before + done,
                update_interval=update_interval,
                agent=self.agent,
                env=self.env,
                data=used,
            )
            self._model = Model(weights, metadata)
            if self.folder is not None:
                save_model(self._model, self.folder)

        weights = None if self._model is None else self._model.weights
        return learn(plan, market, self.env, weights, keep)

    def rebalance(
        self, portfolio: Mapping[str, float], market_conditions: Conditions
    ) -> dict[str, float]:
        """Weights by asset and of `cash`, which sum to 1, that the agent would hold now.

        portfolio: what each asset held is worth, in one currency; `cash` may be among them.
        market_conditions: `volatility` (annual) and `trend` (annual: a 252nd of it stands for the
        last session's return) of all assets alike, or by asset `volatilities` (annual) and
        `returns` (simple, of the last session); `cash_ratio` (share of the portfolio; 0 unless
        given, or as the portfolio's `cash` has it) and `portfolio_value_ratio` (value over the
        initial value; 1 unless given). Raises InputError before training, for unknown assets or
        conditions, a wrong number of them, and for what is not finite or not possible.
        """
        if self._model is None:
            raise InputError(
                "there is no trained agent to ask" + (f" in {self.folder}" if self.folder else ""),
                "Call train(...), or give the model_path of a trained one",
            )
        positions = read_positions(portfolio, self.asset_count, self.assets)
        observation = observe(positions, market_conditions, self._model.metadata.features)
        action, _ = self._model.weights.policy.predict(observation[None], deterministic=True)
        weights = np.maximum(np.asarray(action[0], np.float64), 0.0)
        shares = (weights / weights.sum()).tolist()
        return dict(zip((*positions.assets, CASH), shares, strict=True))

    def __call__(
        self, market_state: Mapping[str, float], positions: Mapping[str, float]
    ) -> dict[str, float]:
        """`rebalance` for a risk manager, whose market state may say more than the agent sees."""
        known = {name: value for name, value in market_state.items() if name in CONDITIONS}
        return self.rebalance(positions, known)

    def compute_leverage(self, volatility: float) -> float:
        """Leverage that brings an annual volatility to its target, inside `leverage_range`."""
        return volatility_leverage(volatility, self.leverage_range, self.target_volatility)

    def apply_kelly_criterion(self, win_rate: float, avg_win: float, avg_loss: float) -> float:
        """Half-Kelly fraction of capital to risk, 1 to 25 %, or 0 without an edge."""
        return kelly_fraction(win_rate, avg_win, avg_loss)

    # --- what it is made of ----------------------------------------------------------------------

    def _market(self) -> tuple[PanelMarket, PanelSettings]:
        """The market to train in, and where it really comes from."""
        loaded = load_panel(self.data)
        history = loaded.history
        if history.num_assets != self.asset_count:
            raise InputError(
                f"{history.name} has {history.num_assets} assets, asset_count is "
                f"{self.asset_count}",
                "Make them the same",
            )
        if not isinstance(loaded.settings, PanelSimulatedData):
            if self.assets not in (None, history.assets):
                raise InputError(
                    f"assets are {', '.join(self.assets or ())}, but {history.name} has "
                    f"{', '.join(history.assets)}",
                    "Leave assets out, or give them as the data has them",
                )
            self.assets = history.assets
        market = build_panel_market(history, self.env)
        if self._model is not None and _scales(market) != _scales(self._model.metadata):
            raise InputError(
                "the model was trained on features of other scales",
                "Choose another model_path: features have changed since it was trained",
            )
        return market, loaded.settings

    def _refuse_other_model(self, was: ModelMetadata, agent: PPOSettings | None) -> None:
        """InputError unless the loaded model is one for what was asked for."""
        told = {"asset_count": self.asset_count, "assets": self.assets}
        told |= {f"agent.{name}": getattr(agent, name, None) for name in _NETWORK}
        found = {"asset_count": was.asset_count, "assets": was.assets}
        found |= {f"agent.{name}": getattr(was.agent, name) for name in _NETWORK}
        for name, value in told.items():
            if value is not None and found[name] not in (None, value):
                raise InputError(
                    f"the model in {self.folder} has {name} = {found[name]!r}, not {value!r}",
                    "Ask for what it has, or choose another model_path",
                )


def _checked_names(assets: Sequence[str], count: int) -> tuple[str, ...]:
    names = tuple(assets)
    if len(names) != count or len(set(names)) != count or CASH in names or not all(names):
        raise InputError(
            f"assets are {list(names)}, asset_count is {count}",
            f"Give each of the {count} a name of its own, other than {CASH!r}",
        )
    return names


def _scales(made: PanelMarket | ModelMetadata) -> list[tuple[float, ...]]:
    return [(item.scale, item.low, item.high, item.center) for item in made.features]
