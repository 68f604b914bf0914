"""A trainer repeats, resumes, refuses and finds what can be calculated."""

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from omegaconf import OmegaConf

from agents.factory import PathwiseAgentSettings
from agents.pathwise.objectives import MeanVariance
from agents.pathwise.trainer import PathwiseSettings, PathwiseTrainer, make_twin, roll_out
from agents.ppo.columns import ColumnExtractor
from agents.ppo.policies import MaskedMlpLstmPolicy
from agents.ppo.simplex_policies import SimplexLstmPolicy, SimplexPolicy
from conf.errors import InputError
from conf.settings import build_settings
from envs.allocation.market import AllocationSettings, build_panel_market
from envs.allocation.simplex import Simplex
from envs.core.batch import Window
from envs.core.costs import FlatCosts
from envs.core.goal import GoalSettings
from envs.kernels import open_kernel
from envs.option_portfolio.observation import ObservationSettings
from experiments.runs.settings import PathwisePretraining
from tests.agents.pathwise.test_twin import allocation_case, option_case
from tests.panels import panel_of

CONF = Path(__file__).parents[3] / "conf"
SHORT = PathwiseSettings(updates=6, stretches=8, sessions=20, unscored=4, learning_rate=1e-2)


def box(market):
    low, high = (
        np.array([getattr(f, n) for f in market.features], np.float32) for n in ("low", "high")
    )
    return spaces.Box(low, high)


def extractor(market, sees_book):
    """Policy options for all features, or all that do not depend on the book."""
    own = [item.block == "portfolio" for item in market.features]
    columns = [i for i, is_own in enumerate(own) if sees_book or not is_own]
    return {
        "features_extractor_class": ColumnExtractor,
        "features_extractor_kwargs": {"columns": columns},
    }


def lstm_policy(market, sees_book=False, seed=0):
    torch.manual_seed(seed)
    actions = spaces.Box(-1.0, 1.0, (len(market.instruments),), np.float32)
    network: dict[str, Any] = {"lstm_hidden_size": 8, "net_arch": {"pi": [8], "vf": [8]}}
    network |= extractor(market, sees_book)
    return MaskedMlpLstmPolicy(box(market), actions, lambda _: 0.0, **network)


def simplex_policy(market, kind=SimplexLstmPolicy, sees_book=False):
    torch.manual_seed(0)
    size = {"net_arch": [8]} if kind is SimplexPolicy else {"lstm_hidden_size": 8, "net_arch": [8]}
    simplex = Simplex(len(market.instruments) + 1)
    return kind(box(market), simplex, lambda _: 0.0, **size, **extractor(market, sees_book))


def whole(market):
    return Window(market.first_usable, market.history.num_sessions)


@pytest.fixture(scope="module")
def option_market():
    return option_case("notional")[:2]


def trainer_of(market, options, policy, seed=0, settings=SHORT):
    twin = make_twin(market, options, 2.0, band=False)
    return PathwiseTrainer(policy, [twin], [whole(market)], settings, seed)


def weights(trainer):
    return {name: value.clone() for name, value in trainer.policy.state_dict().items()}


def same(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("sees_book", [False, True])
def test_equal_seeds_give_equal_weights_also_when_stopped_halfway(option_market, sees_book):
    market, options = option_market

    def fresh(seed, weights_seed=0):
        policy = lstm_policy(market, sees_book, weights_seed)
        settings = replace(SHORT, updates=3, sessions=10)
        return trainer_of(market, options, policy, seed, settings)

    trainers = [fresh(seed) for seed in (0, 0, 1)]
    for trainer in trainers:
        for _ in range(2):
            trainer.update()
    assert same(weights(trainers[0]), weights(trainers[1]))
    assert not same(weights(trainers[0]), weights(trainers[2]))
    resumed = fresh(seed=5, weights_seed=9)
    resumed.load_state_dict(trainers[0].state_dict())
    for trainer in (resumed, trainers[1]):
        while not trainer.finished:
            trainer.update()
    assert resumed.updates_done == 3
    assert same(weights(resumed), weights(trainers[1]))


def test_only_the_actor_moves(option_market):
    market, options = option_market
    trainer = trainer_of(market, options, lstm_policy(market))
    before = weights(trainer)
    trainer.update()
    moved = {
        name for name, value in weights(trainer).items() if not torch.equal(value, before[name])
    }
    assert moved
    assert {name.partition(".")[0] for name in moved} == {
        "lstm_actor",
        "mlp_extractor",
        "action_net",
    }
    assert not any("critic" in name or "value" in name for name in moved)


@pytest.mark.parametrize("sees_book", [False, True])
def test_an_actor_earns_in_the_twin_what_it_earns_in_the_environment(option_market, sees_book):
    """The whole loop: observations, memory, actions, sizing and ledger."""
    market, options = option_market
    twin, policy = make_twin(market, options, 1.0), lstm_policy(market, sees_book)
    with torch.no_grad():
        policy.action_net.weight.mul_(30.0)
    books, length = 4, 40
    start = np.full(books, market.first_usable + 5)
    days = twin.days(np.arange(books) % 3, start, length)
    own = roll_out(policy, twin, days).excess.detach().numpy()
    kernel = open_kernel(market, options, whole(market), books, random_start=False)
    seen, state, begins = kernel.place(start, np.arange(books) % 3, start + length), None, True
    for t in range(length):
        action, state = policy.predict(
            seen, state, episode_start=np.full(books, begins), deterministic=True
        )
        before = kernel.ledger.equity.copy()
        seen, begins = kernel.step(action).observation, False
        excess = kernel.ledger.equity / before - 1.0 - market.cash_return[start + t]
        np.testing.assert_allclose(own[t], excess, atol=1e-6)
    assert np.abs(own).max() > 1e-3


@pytest.mark.parametrize("kind", [SimplexPolicy, SimplexLstmPolicy])
def test_policies_on_the_simplex_are_trained_too(kind):
    market, options, _ = allocation_case(0.0)
    trainer = trainer_of(market, options, simplex_policy(market, kind, sees_book=True))
    before = weights(trainer)
    trainer.update()
    assert not same(before, weights(trainer))


def test_the_mean_variance_share_is_found():
    """One asset of two states: the best share is its mean / (aversion x mean square)."""
    up = np.random.default_rng(0).random((60, 300, 1)) < 0.5
    steps = np.where(up, 1.04, 0.968)
    market = build_panel_market(panel_of(100.0 * steps.cumprod(axis=1), 0.0), AllocationSettings())
    options = replace(AllocationSettings(), costs=FlatCosts(rate_bps=0.0))
    given: dict[str, Any] = {"updates": 80, "stretches": 256, "sessions": 5, "unscored": 1}
    objective = MeanVariance(risk_aversion=8.0)
    settings = PathwiseSettings(**given, objective=objective, learning_rate=1e-2)
    policy = simplex_policy(market)
    trainer = trainer_of(market, options, policy, settings=settings)
    while not trainer.finished:
        trainer.update()
    days = trainer.draw()
    with torch.no_grad():
        earned = roll_out(policy, trainer.twins[0], days)
    returns = (days.aged / days.mark - 1.0)[..., 0]
    share = float((earned.excess[-1] / returns[-1]).mean())
    sample = steps - 1.0
    best = sample.mean() / (8.0 * (sample**2).mean())
    assert share == pytest.approx(best, abs=0.06)


def test_several_markets_train_as_one(option_market):
    market, options = option_market
    twins = [make_twin(market, options, 2.0) for _ in range(3)]
    windows = [Window(market.first_usable, market.first_usable + 30)] * 2 + [whole(market)]
    trainer = PathwiseTrainer(lstm_policy(market), twins, windows, SHORT, 0)
    assert trainer.draw().mark.shape == (20, 8, 20)
    number, path, session = trainer.draw_places()
    assert set(number) == {0, 1, 2}
    assert path.max() == 2
    assert session[number < 2].max() < market.first_usable + 10
    trainer.update()


def test_stretches_stay_inside_the_window(option_market):
    market, options = option_market
    twin = make_twin(market, options, 1.0)
    window = Window(market.first_usable, market.first_usable + 21)
    trainer = PathwiseTrainer(lstm_policy(market), [twin], [window], SHORT, 0)
    assert set(trainer.draw_places()[2]) == {window.start}
    with pytest.raises(InputError, match="does not fit"):
        PathwiseTrainer(
            lstm_policy(market), [twin], [Window(window.start, window.stop - 1)], SHORT, 0
        )


def test_markets_of_other_rules_are_refused(option_market):
    market, options = option_market
    other = replace(options, costs=FlatCosts(rate_bps=7.0))
    twins = [make_twin(market, given, 1.0) for given in (options, other)]
    with pytest.raises(InputError, match="the markets differ"):
        PathwiseTrainer(lstm_policy(market), twins, [whole(market)] * 2, SHORT, 0)


def test_whole_contracts_are_refused(option_market):
    market, options = option_market
    whole_contracts = replace(options, sizing=replace(options.sizing, fractional=False))
    with pytest.raises(InputError, match="no gradient"):
        make_twin(market, whole_contracts, 1.0)


def test_goals_are_refused(option_market):
    market, options = option_market
    with_goal = replace(options, observation=ObservationSettings(goal=GoalSettings()))
    with pytest.raises(InputError, match="pathwise training knows no goals"):
        make_twin(market, with_goal, 1.0)


def test_a_gradient_that_is_not_finite_stops_the_training(option_market):
    market, options = option_market
    trainer = trainer_of(market, options, lstm_policy(market))
    trainer.update()
    before = weights(trainer)
    trainer.policy.action_net.register_full_backward_hook(
        lambda module, inputs, outputs: (inputs[0] * float("nan"),)
    )
    with pytest.raises(InputError, match="diverged after update 1: a gradient is not finite"):
        trainer.update()
    assert same(before, weights(trainer))


def test_inside_a_no_trade_band_there_is_nothing_to_learn(option_market):
    """Why training leaves the band out: a new actor asks for less than it."""
    market, options = option_market
    steps = []
    for band in (True, False):
        twin = make_twin(market, options, band=band)
        trainer = PathwiseTrainer(lstm_policy(market), [twin], [whole(market)], SHORT, 0)
        steps.append(trainer.update().grad_norm)
    assert steps[0] == 0.0
    assert steps[1] > 0.0


@pytest.mark.parametrize("group", ["agent", "pretrain"])
def test_the_files_name_every_setting_at_its_default(group):
    plain: Any = OmegaConf.to_container(OmegaConf.load(CONF / group / "pathwise.yaml"))
    kind = {"agent": PathwiseAgentSettings, "pretrain": PathwisePretraining}[group]
    assert plain.keys() == {field.name for field in dataclasses.fields(kind)}
    assert build_settings(kind, plain, group) == kind()


def test_the_first_days_of_a_stretch_are_not_scored(option_market):
    market, options = option_market
    trainer, other = (trainer_of(market, options, lstm_policy(market)) for _ in range(2))
    days = other.draw()
    excess = roll_out(other.policy, other.twins[0], days).excess.detach()[4:]
    expected = market.history.sessions_per_year * (excess - excess**2).mean()
    assert trainer.update().objective == pytest.approx(float(expected), rel=1e-9)


def test_the_learning_rate_falls_by_a_cosine(option_market):
    market, options = option_market
    trainer = trainer_of(market, options, lstm_policy(market))
    rates = [trainer.update().learning_rate for _ in range(6)]
    fall = [0.05 + 0.95 * 0.5 * (1.0 + np.cos(np.pi * update / 6)) for update in range(6)]
    np.testing.assert_allclose(rates, 1e-2 * np.array(fall))
