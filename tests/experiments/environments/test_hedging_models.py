"""Every model of an index as the underlying of a hedger: trained on, simulated anew, judged."""

import numpy as np
import pytest
from stable_baselines3.common.utils import set_random_seed

from agents.baselines.hedging import hedging_costs
from agents.factory import PathwiseAgentSettings, build_agent
from agents.pathwise.trainer import PathwiseTrainer, make_twin
from conf.settings import build_settings
from envs.kernels import open_kernel
from envs.sb3_vec_env import KernelVecEnv
from experiments.environments.hedging import HedgingSetup
from experiments.environments.opening import market_settings, open_market
from experiments.statistics.hedging_verdict import compare_hedges
from experiments.statistics.verdict import Outcome
from tests.experiments.test_hedging_runs import config_of

LIFE, PATHS = 6, 2000
MODELS = ("gbm", "heston", "sabr", "garch", "regime", "bootstrap")
OF_ITS_OWN = ("garch", "regime", "bootstrap")  # volatility at the first close differs by path


def setup_of(model, **env):
    data = {"source": "synthetic", "model": model, "paths": 300, "sessions": 130}
    config = config_of()
    setup = open_market(market_settings({**config, "data": data, "env": {**config["env"], **env}}))
    assert isinstance(setup, HedgingSetup)
    return setup


def trained(setup, policy="MlpPolicy", updates=40):
    """The policy after so many updates on the training paths."""
    agent = build_settings(
        PathwiseAgentSettings,
        {
            **{"kind": "pathwise", "policy": policy, "net_arch": [16], "lstm_hidden_size": 8},
            **{"cost_multiple": 1.0, "updates": updates, "stretches": 512, "sessions": LIFE},
            **{"unscored": 0, "learning_rate": 0.02, "activation": "silu"},
            "objective": {"kind": "mean_deviation", "multiple": 1.5},
        },
        "agent",
    )
    env, window = setup.settings.env, setup.training_window
    set_random_seed(0)
    model = build_agent(agent, KernelVecEnv(open_kernel(setup.market, env, window, 2)), 0, "cpu")
    trainer = PathwiseTrainer(model.policy, [make_twin(setup.market, env)], [window], agent, 0)
    while not trainer.finished:
        trainer.update()
    return model.policy


@pytest.mark.parametrize("model", MODELS)
def test_what_is_learned_on_a_model_beats_delta_on_its_unseen_paths(model):
    setup = setup_of(model)
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
