"""Pathwise training: the gradient of a utility through the book and the recurrent actor.

Profit is linear in the quantities held, so what stretches of the market would have earned can be
differentiated in the actor's weights: no exploration, no critic, no credit to assign. H. Buehler,
L. Gonon, J. Teichmann and B. Wood, Deep hedging (2019), doi:10.1080/14697688.2019.1571683.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from pydantic import Field, model_validator
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from agents.pathwise.allocation import AllocationTwin
from agents.pathwise.hedging import HedgingTwin
from agents.pathwise.objectives import MeanVariance, Objective
from agents.pathwise.option_book import OptionTwin
from agents.pathwise.twin import Books, Days, Earned, Twin
from agents.ppo.columns import used_columns
from agents.ppo.short_lstm import LstmState
from conf.errors import Diverged, InputError
from conf.settings import settings
from conf.types import IntArray
from envs.allocation.market import AllocationSettings, PanelMarket
from envs.core.batch import Window
from envs.core.market import BookMarket, BookOptions
from envs.hedging.market import HedgingMarket, HedgingSettings
from envs.option_portfolio.market import OptionMarket, OptionPortfolioSettings

Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]


@settings
class PathwiseSettings:
    """What is maximised, over which stretches, and how often the weights move."""

    objective: Objective = Field(default_factory=MeanVariance)
    cost_multiple: Annotated[float, Field(ge=0.0, le=100.0)] = 2.0  # of the environment's costs
    # Train with the environment's no-trade band or threshold. Inside it nothing has a gradient, and
    # a new actor asks for so little that it would never leave it.
    no_trade_band: bool = False
    updates: Count = 545
    stretches: Count = 64  # an update
    sessions: Annotated[int, Field(ge=2)] = 126  # a stretch
    unscored: Annotated[int, Field(ge=0)] = 21  # first of these: the memory fills, the book opens
    learning_rate: Positive = 3e-3
    learning_rate_end: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05  # share of it, by a cosine
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    max_grad_norm: Positive = 1.0

    @model_validator(mode="after")
    def _check_stretch(self) -> PathwiseSettings:
        if self.unscored >= self.sessions:
            raise ValueError(
                f"unscored = {self.unscored} leaves nothing of sessions = {self.sessions}"
            )
        return self


class Update(NamedTuple):
    """What one update did."""

    objective: float  # as `Twin.reported` says: a year, or percent of a liability's price
    grad_norm: float  # before it is clipped
    learning_rate: float
    cost: float  # likewise, of what trading cost


def make_twin(
    market: BookMarket, options: BookOptions, cost_multiple: float = 1.0, *, band: bool = True
) -> Twin:
    """The twin of the environment that the market is for; InputError where there is none.

    Without `band` every change of position is traded, however small.
    """
    if isinstance(market, OptionMarket) and isinstance(options, OptionPortfolioSettings):
        if not band:
            options = replace(options, sizing=replace(options.sizing, no_trade_band=0.0))
        return OptionTwin(market, options, cost_multiple)
    if isinstance(market, PanelMarket) and isinstance(options, AllocationSettings):
        if not band:
            options = replace(options, rebalance_threshold=0.0)
        return AllocationTwin(market, options, cost_multiple)
    if isinstance(market, HedgingMarket) and isinstance(options, HedgingSettings):
        return HedgingTwin(market, options, cost_multiple)
    raise InputError(
        f"a {type(market).__name__} with {type(options).__name__} has no differentiable twin",
        "Train by PPO",
    )


class PathwiseTrainer:
    """Trains a policy's actor on stretches drawn at random from windows of one or more markets.

    Where the actor looks at nothing that depends on the book, all days of a stretch go through it
    at once, otherwise one after another. Everything random comes from one generator, so that equal
    seeds give equal weights, and so does a trainer that was given another's state.
    """

    def __init__(
        self,
        policy: ActorCriticPolicy,
        twins: Sequence[Twin],
        windows: Sequence[Window],
        options: PathwiseSettings,
        seed: int,
    ) -> None:
        self.policy, self.options = policy, options
        self.updates_done = 0
        self._rng = np.random.default_rng(seed)
        self.learn_in(twins, windows)
        self._optimizer = torch.optim.AdamW(
            policy.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
        )

    def learn_in(self, twins: Sequence[Twin], windows: Sequence[Window]) -> None:
        """From the next update on draw from these; InputError where they do not go together."""
        self.twins, self._days = tuple(twins), _lasting(twins, windows, self.options)
        starts = [
            twin.starts(window, self._days) for twin, window in zip(twins, windows, strict=True)
        ]
        self._starts, self._number = np.concatenate(starts), np.array([len(own) for own in starts])
        self._paths = np.array([twin.num_paths for twin in twins])
        self._annual = twins[0].market.history.sessions_per_year

    @property
    def finished(self) -> bool:
        """Whether all updates were made."""
        return self.updates_done >= self.options.updates

    @property
    def days_per_update(self) -> int:
        """Days that are differentiated in one update."""
        return self._days * self.options.stretches

    def update(self) -> Update:
        """Draw stretches, follow the gradient one step; Diverged if it is not finite."""
        rate = self._set_rate()
        days = self.draw()
        earned = roll_out(self.policy, self.twins[0], days)
        scored = slice(min(self.options.unscored, self._days - 1), None)
        objective = self.options.objective(earned.excess[scored], days.cash[scored])
        annual = self._annual * objective
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(-annual)
        norm = clip_grad_norm_(self.policy.parameters(), self.options.max_grad_norm)
        factor, _ = self.twins[0].reported
        cost = abs(factor) * float(earned.cost.mean())
        result = Update(factor * float(objective.detach()), float(norm), rate, cost)
        for name in ("objective", "grad_norm"):
            if not math.isfinite(getattr(result, name)):
                what = {"grad_norm": "a gradient"}.get(name, "the objective")
                raise Diverged(
                    f"pathwise training diverged after update {self.updates_done}: {what} is not "
                    "finite",
                    "Lower its learning_rate or max_grad_norm and start again",
                )
        self._optimizer.step()
        self.updates_done += 1
        return result

    def draw(self) -> Days:
        """Stretches of the markets, drawn in proportion to their paths."""
        market, path, session = self.draw_places()
        device = self.policy.device
        parts = []
        for number in np.unique(market):
            own = market == number
            parts.append(
                self.twins[number].days(path[own], session[own], self._days, device=device)
            )
        days: Days = parts[0] if len(parts) == 1 else type(parts[0]).join(parts)
        return days

    def draw_places(self) -> tuple[IntArray, IntArray, IntArray]:
        """Market, path and first session of each stretch."""
        any_path = self._rng.integers(0, self._paths.sum(), self.options.stretches)
        ends = np.cumsum(self._paths)
        market = np.searchsorted(ends, any_path, side="right")
        path = any_path - (ends - self._paths)[market]
        before = np.cumsum(self._number) - self._number
        drawn = self._rng.integers(0, self._number[market])
        return market, path, self._starts[before[market] + drawn]

    def _set_rate(self) -> float:
        options = self.options
        progress = self.updates_done / options.updates
        end = options.learning_rate_end
        share = end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * progress))
        for group in self._optimizer.param_groups:
            group["lr"] = share * options.learning_rate
        return share * options.learning_rate

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimiser, generator and number of updates, as plain data and arrays."""
        optimizer = self._optimizer.state_dict()
        return {
            "policy": dict(self.policy.state_dict()),
            "optimizer": {
                "state": {str(index): entry for index, entry in optimizer["state"].items()},
                "groups": optimizer["param_groups"],
            },
            "generator": self._rng.bit_generator.state,
            "updates": self.updates_done,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was called; a state of another network is refused."""
        tensors = {name: torch.as_tensor(value) for name, value in state["policy"].items()}
        self.policy.load_state_dict(tensors, strict=True)
        entries = {
            int(index): {name: torch.as_tensor(value) for name, value in entry.items()}
            for index, entry in state["optimizer"]["state"].items()
        }
        self._optimizer.load_state_dict(
            {"state": entries, "param_groups": state["optimizer"]["groups"]}
        )
        self._rng.bit_generator.state = state["generator"]
        self.updates_done = state["updates"]


def _lasting(twins: Sequence[Twin], windows: Sequence[Window], options: PathwiseSettings) -> int:
    """Days of a stretch; InputError for markets that do not go together or are too short."""
    if not twins or len(twins) != len(windows):
        raise InputError(f"{len(twins)} markets have {len(windows)} windows", "Give each its own")
    if any(twin.rules != twins[0].rules for twin in twins):
        raise InputError(
            "the markets differ in what is traded, at which sizing or costs",
            "Give markets of one environment",
        )
    for twin, window in zip(twins, windows, strict=True):
        history, first = twin.market.history, twin.market.first_usable
        if window.start < first or window.stop > history.num_sessions:
            raise InputError(
                f"{history.name}: sessions {window.start} to {window.stop - 1} were requested, but "
                f"only {first} to {history.num_sessions - 1} can be used",
                "Give a longer history",
            )
        if window.stop - window.start < options.sessions + 1:
            raise InputError(
                f"{history.name}: a stretch of {options.sessions} sessions does not fit into the "
                f"{window.stop - window.start} of the window",
                "Set sessions of the pathwise training lower or widen the split",
            )
    return options.sessions


def roll_out(policy: ActorCriticPolicy, twin: Twin, days: Days) -> Earned:
    """What books earn that the policy's deterministic actions steer through the days."""
    if not twin.own[list(used_columns(policy))].any():
        action, _ = _act(policy, days.observed, None)
        return twin.earn(twin.wanted(action, days), days)
    state: LstmState | None = None

    def wants(_t: int, books: Books, day: Days) -> Tensor:
        nonlocal state
        action, state = _act(policy, twin.observe(books, day)[None], state)
        return twin.wanted(action[0], day)

    return twin.steer(days, wants)


def _act(
    policy: ActorCriticPolicy, seen: Tensor, state: LstmState | None
) -> tuple[Tensor, LstmState | None]:
    """Deterministic actions (L, B, A) on observations (L, B, D), and the state after the last.

    No state begins an episode.
    """
    steps, books = seen.shape[:2]
    by_book, starts = seen.transpose(0, 1).flatten(0, 1), seen.new_zeros(steps * books)
    if isinstance(policy, RecurrentActorCriticPolicy):
        lstm = policy.lstm_actor
        if state is None:
            zeros = seen.new_zeros(lstm.num_layers, books, lstm.hidden_size)
            state = (zeros, zeros)
        distribution, (hidden, cell) = policy.get_distribution(by_book, state, starts)
        state = (hidden, cell)
    else:
        distribution = policy.get_distribution(by_book)
    action = distribution.get_actions(deterministic=True)
    return action.reshape(books, steps, -1).transpose(0, 1), state
