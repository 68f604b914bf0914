"""A portfolio manager in one object: trains an agent, allocates by it, sizes positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from agents.factory import PPOSettings
from agents.pathwise.trainer import PathwiseSettings
from agents.portfolio_manager.conditions import (
    Conditions,
    MarketConditions,
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
from agents.portfolio_manager.training import (
    PATHWISE,
    UTILITY,
    TrainingPlan,
    default_data,
    learn,
)
from conf.errors import InputError
from envs.allocation.market import AllocationSettings, PanelMarket, build_panel_market
from envs.allocation.rebalance import edges, normalised, weights_inside
from envs.market.sources.panel import PanelSettings, PanelSimulatedData, load_panel
from risk.manager import CASH
from risk.sizing import kelly_fraction, volatility_leverage

# What is decided today matters for today's utility; longer credit would be noise. A day's utilities
# are thousandths, which a critic learns better a hundred times as large.
AGENT = PPOSettings(gamma=0.5, gae_lambda=0.9, learning_rate=1e-4, ent_coef=0.0, reward_scale=100.0)

_NETWORK = ("net_arch", "activation", "distribution", "features")


class RLPortfolioManager:
    """Trains PPO to allocate between `asset_count` assets and cash, and gives its weights.

    model_path: the folder to save the model in and, if there is a model, to load it from; a suffix
    like `.pt` is dropped, since nothing is ever pickled (`models/ppo_agent.pt` becomes
    `models/ppo_agent/`); None saves nothing. assets: their names in the agent's order; None: those
    of the training data or, in a simulated market, any names, in alphabetical order. data, env and
    agent: the settings of training; None: the loaded model's, or the defaults, a simulated market
    of calm and stress in which all assets are alike. pathwise: how a new agent is trained before
    PPO by the gradient of a utility; None: not at all. num_envs: parallel episodes. leverage_range
    and target_volatility (annual): for `compute_leverage`.

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
        pathwise: PathwiseSettings | None = PATHWISE,
        target_volatility: float = 0.30,
        num_envs: int = 8,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        if not isinstance(asset_count, int) or isinstance(asset_count, bool) or asset_count < 1:
            raise InputError(f"asset_count is {asset_count!r}", "Give a whole number, 1 or more")
        self.asset_count = asset_count
        self.leverage_range, self.target_volatility = leverage_range, target_volatility
        self.compute_leverage(target_volatility)  # refuses an impossible range
        self.folder = None if model_path is None else folder_of(model_path)
        self.assets = None if assets is None else _checked_names(assets, asset_count)
        self._num_envs, self._seed, self._device = num_envs, seed, device
        self._model = None if self.folder is None else load_model(self.folder, device)
        saved = None if self._model is None else self._model.metadata
        if saved is not None:
            self._refuse_other_model(saved, agent)
            self.assets = self.assets or saved.assets
        self.agent = agent or (saved.agent if saved else AGENT)
        self.env = env or (saved.env if saved else AllocationSettings(reward=UTILITY))
        self.pathwise = saved.pathwise if saved else pathwise
        self.data: PanelSettings = data or (saved.data if saved else default_data(asset_count))

    @property
    def is_trained(self) -> bool:
        """Whether there is a trained agent."""
        return self._model is not None

    @property
    def episodes(self) -> int:
        """Trained so far, over all calls of `train`."""
        return 0 if self._model is None else self._model.metadata.episodes

    def train(self, episodes: int = 1000, update_interval: int = 20) -> list[float]:
        """Train further, and return the reward sum of each episode, in the order they finish.

        Up to `num_envs` episodes run in parallel, and each takes `update_interval` steps
        (sessions) between two updates: a rollout has update_interval x num_envs steps. The model
        is saved every 50 episodes and at the end. A second call continues the first with other
        random numbers. Raises InputError for numbers that are too small and for a market without
        `asset_count` assets.
        """
        seed, before = self._seed, self.episodes
        if before:
            seed = int(np.random.SeedSequence([seed, before]).generate_state(1)[0])
        plan = TrainingPlan(
            episodes,
            update_interval,
            self._num_envs,
            seed,
            self._device,
            self.agent,
            self.pathwise,
        )
        market, data = self._market()

        def save(weights: TrainedWeights, finished: int) -> None:
            metadata = ModelMetadata(
                asset_count=self.asset_count,
                assets=self.assets,
                features=market.features,
                episodes=before + finished,
                update_interval=update_interval,
                agent=self.agent,
                env=self.env,
                data=data,
                pathwise=self.pathwise,
            )
            self._model = Model(weights, metadata)
            if self.folder is not None:
                save_model(self._model, self.folder)

        weights = None if self._model is None else self._model.weights
        return learn(plan, market, self.env, weights, save)

    def rebalance(
        self, portfolio: Mapping[str, float], market_conditions: Conditions
    ) -> dict[str, float]:
        """The agent's weights for the portfolio, by asset and of `cash`; they sum to 1.

        portfolio: the value of each position, in one currency; `cash` may be among them.
        market_conditions: those of `MarketConditions`, trend or returns and volatility or
        volatilities among them; `cash_ratio` is by default that of the portfolio's `cash`, or 0.
        Raises InputError before training, for unknown assets or conditions, a wrong number of
        them, and for values that are not finite or impossible.
        """
        if self._model is None:
            raise InputError(
                "there is no trained agent" + (f" in {self.folder}" if self.folder else ""),
                "Call train(...), or give the model_path of a trained one",
            )
        positions = read_positions(portfolio, self.asset_count, self.assets)
        observation = observe(positions, market_conditions, self._model.metadata.features)
        action, _ = self._model.weights.policy.predict(observation[None], deterministic=True)
        asked = normalised(np.maximum(np.asarray(action, np.float64), 0.0), self.asset_count)[0]
        if self._model.metadata.env.action == "band":
            held = np.asarray(observation[: self.asset_count], np.float64)
            inside = weights_inside(*edges(asked), held)
            asked = np.append(inside, 1.0 - inside.sum())
        shares = asked.tolist()
        return dict(zip((*positions.assets, CASH), shares, strict=True))

    def __call__(
        self, market_state: Mapping[str, float], positions: Mapping[str, float]
    ) -> dict[str, float]:
        """`rebalance` for a risk manager, whose market state may have more than the agent uses."""
        names = {field.name for field in fields(MarketConditions)} & market_state.keys()
        return self.rebalance(positions, {name: market_state[name] for name in names})

    def compute_leverage(self, volatility: float) -> float:
        """Leverage that brings an annual volatility to its target, inside `leverage_range`."""
        return volatility_leverage(volatility, self.leverage_range, self.target_volatility)

    def apply_kelly_criterion(self, win_rate: float, avg_win: float, avg_loss: float) -> float:
        """Half-Kelly fraction of capital to risk, 1 to 25 %, or 0 without an edge."""
        return kelly_fraction(win_rate, avg_win, avg_loss)

    def _market(self) -> tuple[PanelMarket, PanelSettings]:
        """The market to train in, and the settings of the data that was really loaded."""
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

    def _refuse_other_model(self, saved: ModelMetadata, agent: PPOSettings | None) -> None:
        """InputError unless the loaded model has the assets and the network of the request."""
        pairs = {
            "asset_count": (saved.asset_count, self.asset_count),
            "assets": (saved.assets, self.assets),
        }
        for name in _NETWORK:
            pairs[f"agent.{name}"] = getattr(saved.agent, name), getattr(agent, name, None)
        for name, (own, requested) in pairs.items():
            if requested is not None and own not in (None, requested):
                raise InputError(
                    f"the model in {self.folder} has {name} = {own!r}, not {requested!r}",
                    "Request what it has, or choose another model_path",
                )


def _checked_names(assets: Sequence[str], count: int) -> tuple[str, ...]:
    names = tuple(assets)
    if len(names) != count or len(set(names)) != count or CASH in names or not all(names):
        raise InputError(
            f"assets are {list(names)}, asset_count is {count}",
            f"Give each of the {count} a name of its own, other than {CASH!r}",
        )
    return names


def _scales(source: PanelMarket | ModelMetadata) -> list[tuple[float, ...]]:
    return [(item.scale, item.low, item.high, item.center) for item in source.features]
