"""Every model of an index as the underlying of a hedger: trained on, simulated anew, judged."""

from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.utils import set_random_seed

from agents.baselines.hedging import hedging_costs
from agents.factory import PathwiseAgentSettings, build_agent
from agents.pathwise import trainer
from agents.pathwise.trainer import PathwiseTrainer, make_twin
from conf.settings import build_settings
from envs.kernels import open_kernel
from envs.sb3_vec_env import KernelVecEnv
from experiments.environments.hedging import HedgingSetup
from experiments.environments.opening import market_settings, open_market
from experiments.statistics.hedging_verdict import compare_hedges
from experiments.statistics.verdict import Outcome
from tests.experiments.test_hedging_runs import config_of

pytestmark = pytest.mark.usefixtures("one_thread")

LIFE, PATHS = 6, 2000
MODELS = ("gbm", "heston", "sabr", "garch", "regime", "bootstrap")
OF_ITS_OWN = ("garch", "regime", "bootstrap")  # volatility at the first close differs by path


def setup_of(data, env=None, rate_bps=100.0):
    config = config_of()
    setup = open_market(
        market_settings(
            {
                **config,
                "data": {"source": "synthetic", **data},
                "env": {**config["env"], **(env or {})},
                "costs": {"kind": "flat", "rate_bps": rate_bps},
            }
        )
    )
    assert isinstance(setup, HedgingSetup)
    return setup


def trained(setup, **changes):
    """The policy after a few updates on the training paths."""
    env, window = setup.settings.env, setup.training_window
    given = {
        **{"kind": "pathwise", "policy": "MlpPolicy", "net_arch": [16], "activation": "silu"},
        **{"cost_multiple": 1.0, "updates": 40, "stretches": 512, "learning_rate": 0.02},
        **{"sessions": env.episode.sessions, "unscored": 0, "weight_decay": 0.0},
        **{"objective": {"kind": "mean_deviation", "multiple": 1.5}, **changes},
    }
    agent = build_settings(PathwiseAgentSettings, given, "agent")
    set_random_seed(0)
    model = build_agent(agent, KernelVecEnv(open_kernel(setup.market, env, window, 2)), 0, "cpu")
    training = PathwiseTrainer(model.policy, [make_twin(setup.market, env)], [window], agent, 0)
    while not training.finished:
        training.update()
    return model.policy


@pytest.mark.parametrize("model", MODELS)
def test_what_is_learned_on_a_model_beats_delta_on_its_unseen_paths(model):
    setup = setup_of({"model": model, "paths": 300, "sessions": 130})
    policy = trained(setup)
    market, window = next(iter(setup.unseen(PATHS)))
    again = next(iter(setup.unseen(PATHS)))[0]
    np.testing.assert_array_equal(market.history.close, again.history.close)
    assert market.history.close.shape == (PATHS, LIFE + 1)
    assert (np.ptp(market.history.implied_vol[:, 0]) > 0.0) == (model in OF_ITS_OWN)
    traders = {"policy": policy} | {h.name: h.policy for h in setup.hedges_on(market)}
    lost = {
        name: hedging_costs(trader, market, setup.settings.env, window)
        for name, trader in traders.items()
    }
    objective = setup.settings.env.objective
    verdict = compare_hedges(lost.pop("policy"), lost, objective, reps=100)
    assert verdict.paths == PATHS
    assert verdict.differences[0].benchmark == "delta"
    assert verdict.differences[0].outcome is Outcome.OUTPERFORMS, verdict.reason


class Forgetful:
    """A policy whose memory is emptied before every session."""

    def __init__(self, policy):
        self.policy = policy

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        begins = np.ones(len(observation), np.bool_)
        return self.policy.predict(observation, None, begins, deterministic)[0], None


@pytest.mark.slow
def test_memory_pays_where_volatility_is_hidden(monkeypatch):
    setup = setup_of(
        {
            **{"model": "heston", "heston": {"initial_variance": None}, "drift": 0.05},
            **{"paths": 30_000, "sessions": 210, "initial_price": 100.0},
            **{"rate": 0.0, "dividend_yield": 0.0, "closed_day_weight": 0.0},
        },
        {
            **{"episode": {"sessions": 20, "ruin_share": 0.0}, "volatility": 0.2},
            "extra_blocks": ["last_return"],
        },
        rate_bps=10.0,
    )
    network = {
        **{"policy": "MlpLstmPolicy", "net_arch": [32, 32], "lstm_hidden_size": 32},
        **{"updates": 600, "stretches": 2048, "learning_rate": 5e-3},
    }
    policies = {"memory": trained(setup, **network)}
    act = trainer._act
    monkeypatch.setattr(trainer, "_act", lambda policy, seen, state: act(policy, seen, None))
    policies["none"] = Forgetful(trained(setup, **network))
    lost: dict[str, list[Any]] = {"memory": [], "none": []}
    for market, window in setup.unseen(100_000):
        for name, policy in policies.items():
            lost[name].append(hedging_costs(policy, market, setup.settings.env, window))
    whole = {name: np.concatenate(parts, axis=1) for name, parts in lost.items()}
    verdict = compare_hedges(whole.pop("memory"), whole, setup.settings.env.objective)
    assert verdict.outcome is Outcome.OUTPERFORMS, verdict.reason
