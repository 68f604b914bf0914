"""Hedging as a run: trained, evaluated on unseen paths, judged; and what is refused."""

import json

import numpy as np
import pytest

from agents.baselines.hedging import delta_hedge
from agents.persistence.policy_file import load_policy
from conf.errors import InputError
from envs.core.batch import Window
from experiments import evaluate, train
from experiments.backtests.backtest import run_backtest
from experiments.environments.hedging import HedgingSetup
from experiments.environments.opening import market_settings, open_market
from experiments.evaluation import hedging as hedging_evaluation

RUN = "outputs/hedging/day/run"
# Liabilities of six sessions on a few hundred paths.
TINY = (
    *("+exp=hedging", f"hydra.run.dir={RUN}", "callbacks.progress_bar=false"),
    *("env.episode.sessions=6", "data.sessions=130", "data.paths=300"),
)
PATHWISE = ("agent.updates=40", "agent.stretches=512")
PPO = (
    *("agent=episode_ppo", "num_envs=256", "total_timesteps=30720", "agent.batch_size=512"),
    *("callbacks.validate_every=15360", "callbacks.checkpoint_every=15360"),
)


def config_of(**changes):
    return {
        "data": {
            **{"source": "synthetic", "paths": 20, "sessions": 200, "rate": 0.03},
            **changes.pop("data", {}),
        },
        "surface": {"kind": "none"},
        "env": {"kind": "hedging", "episode": {"sessions": 6, "ruin_share": 0.0}},
        "costs": {"kind": "flat", "rate_bps": 100.0},
        "reward": {
            "weights": dict.fromkeys(("sharpe", "drawdown", "cost", "diversity"), 0.0)
            | {"portfolio_return": 1.0, "concentration": 0.0}
        },
        "risk": {"enabled": False},
        **changes,
    }


@pytest.mark.parametrize("agent", [PATHWISE, PPO])
def test_a_trained_hedge_is_judged_on_unseen_paths(command, tmp_path, monkeypatch, agent):
    monkeypatch.setattr(hedging_evaluation, "UNSEEN_PATHS", 3000)
    code, _, err = command(train, *TINY, *agent)
    assert code == 0, err
    code, out, err = command(evaluate, "run=outputs/hedging/day/run", "resamples=100")
    assert code == 0, err
    folder = tmp_path / "outputs/hedging/day/run/evaluation"
    numbers = json.loads((folder / "metrics.json").read_text())
    assert numbers["paths"] == 3000
    assert numbers["unseen"] == "newly simulated"
    by_name = {row["name"]: row for row in numbers["hedges"]}
    assert len(by_name) == 7
    assert by_name["policy"]["objective"] < by_name["delta"]["objective"]
    assert numbers["verdict"]["outcome"] in out
    page = (folder / "report.html").read_text()
    assert "Where nothing is traded" in page
    assert by_name["delta"]["mean"] == pytest.approx(by_name["delta"]["paid"], abs=0.05)


@pytest.mark.parametrize("agent", [PATHWISE, ("agent=episode_ppo_recurrent", *PPO[1:])])
def test_memory_is_trained_and_judged_where_volatility_is_hidden(
    command, tmp_path, monkeypatch, agent
):
    monkeypatch.setattr(hedging_evaluation, "UNSEEN_PATHS", 2000)
    dear = ("+exp=hedging_recurrent", *TINY[1:], "costs.rate_bps=100", *agent)
    code, _, err = command(train, *dear)
    assert code == 0, err
    assert load_policy(tmp_path / RUN / "best").policy.lstm_actor.hidden_size == 32
    code, _, err = command(evaluate, f"run={RUN}", "resamples=100")
    assert code == 0, err
    numbers = json.loads((tmp_path / RUN / "evaluation/metrics.json").read_text())
    objective = {row["name"]: row["objective"] for row in numbers["hedges"]}
    assert objective["policy"] < objective["delta"]
    assert "Where nothing is traded" in (tmp_path / RUN / "evaluation/report.html").read_text()


def test_where_there_is_nothing_to_gain_nothing_is_found(command, tmp_path, monkeypatch):
    monkeypatch.setattr(hedging_evaluation, "UNSEEN_PATHS", 5000)
    fair = ("costs.rate_bps=0", "data.drift=0.0")
    assert command(train, *TINY, *PATHWISE, *fair)[0] == 0
    code, _, err = command(evaluate, "run=outputs/hedging/day/run", "resamples=100", "report=false")
    assert code == 0, err
    metrics = tmp_path / "outputs/hedging/day/run/evaluation/metrics.json"
    numbers = json.loads(metrics.read_text())
    assert numbers["verdict"]["outcome"] != "OUTPERFORMS"
    error = {row["name"]: row["deviation"] for row in numbers["hedges"]}
    assert error["policy"] == pytest.approx(error["delta"], rel=0.03)


def test_causes_of_profit_add_up_and_costs_are_among_them():
    setup = open_market(market_settings(config_of()))
    assert isinstance(setup, HedgingSetup)
    backtest = run_backtest(
        delta_hedge(setup.market), setup.market, setup.settings.env, Window(0, 60)
    )
    causes = setup.attribute(backtest)
    total = sum(causes.terms.values())
    np.testing.assert_allclose(total, causes.pnl, atol=1e-9)
    np.testing.assert_allclose(causes.terms["residual"], 0.0, atol=1e-7)
    assert (causes.terms["cost"].sum(axis=1) < 0.0).all()
    assert setup.holdings(backtest)["mean_distance_from_delta"] == pytest.approx(0.0, abs=1e-9)


def test_unseen_paths_are_others_than_those_of_the_data_and_the_same_each_time():
    setup = open_market(market_settings(config_of()))
    one, two = (next(iter(setup.unseen(50)))[0] for _ in range(2))
    np.testing.assert_array_equal(one.history.close, two.history.close)
    assert one.history.close.shape == (50, 7)
    assert not np.isin(one.history.close[:, 1], setup.history.close[:, 1]).any()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"surface": {"kind": "flat"}}, "surface=flat is for an option book"),
        ({"costs": {"kind": "realistic"}}, "costs=realistic"),
        ({"risk": {"enabled": True}}, "risk module has nothing to limit"),
        ({"data": {"source": "panel_simulated"}}, "options are on one index"),
        ({"reward": {}}, "has no meaning here"),
    ],
)
def test_sections_of_other_environments_are_refused(changes, complaint):
    with pytest.raises(InputError, match=complaint):
        market_settings(config_of(**changes))
