"""Hedging as a run: trained, evaluated on unseen paths, judged; and what is refused."""

import json
import re
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from agents.baselines.hedging import delta_hedge
from agents.persistence.policy_file import load_policy
from conf.errors import InputError
from envs.core.batch import Window
from experiments import evaluate, train
from experiments.backtests.backtest import run_backtest
from experiments.backtests.plain_ledger import replay
from experiments.backtests.trade_log import build_trade_log, read_trade_log, write_trade_log
from experiments.certificates.ledger_replay import certificate_of, run_replays
from experiments.certificates.look_ahead import compare_futures, run_configurations
from experiments.certificates.martingale import fair_gains, fair_markets
from experiments.certificates.small_environments import RUN_PATHS
from experiments.environments import hedging as hedging_environment
from experiments.environments.hedging import HedgingSetup
from experiments.environments.opening import market_settings, open_market
from experiments.evaluation import hedging as hedging_evaluation
from experiments.evaluation.open_run import open_run
from experiments.reporting.hedging_page import build_hedging_report
from experiments.statistics.hedging_verdict import compare_hedges

RUN = "outputs/hedging/day/run"
# Liabilities of six sessions on a few hundred paths.
TINY = (
    *("+exp=hedging", f"hydra.run.dir={RUN}", "callbacks.progress_bar=false"),
    *("env.episode.sessions=6", "data.sessions=130", "data.paths=300"),
)
PATHWISE = ("agent.updates=40", "agent.stretches=512")
SP500 = (
    *("+exp=hedging_sp500", "hydra.run.dir=outputs/hedging/day/run", "env.episode.sessions=6"),
    *("callbacks.progress_bar=false", "agent.updates=4", "agent.stretches=64"),
    *(f"data.worlds.{x}" for x in ("markets=4", "paths=2", "sessions=130", "draws=2")),
    *("data.worlds.shares.garch=0", "env.hedges=[{sessions: 12}]"),
)
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


def assert_judged_by_its_objective(run, *, ppo):
    """The log and TensorBoard speak of it, and the policy that is kept is the best by it."""
    log = (run / "train.log").read_text()
    assert "Sharpe" not in log
    assert ("% of the price" in log.partition("last update's objective was ")[2]) is not ppo
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert not [tag for tag in tags if "sharpe" in tag and not tag.startswith("reward/")]
    scores = {e.step: e.value for e in events.Scalars("validation/cost_objective_percent")}
    kept = json.loads((run / "best" / "validation.json").read_text())
    assert len(scores) == (2 if ppo else 1)
    assert kept["step"] == min(scores, key=scores.__getitem__)
    objective = kept["metrics"]["cost_objective_percent"]
    assert f"best validation mean + 1.5 SD {objective:.1f} % of the price" in log
    if not ppo:
        stage = EventAccumulator(str(run / "tensorboard" / "pathwise"))
        stage.Reload()
        updates = [event.value for event in stage.Scalars("pathwise/objective")]
        assert updates[0] > updates[-1] == pytest.approx(objective, rel=0.1)  # percent, a cost
        assert 30.0 < stage.Scalars("pathwise/cost")[-1].value < updates[-1]
    gap = events.Scalars("validation/gap")[-1].value
    train_split = events.Scalars("train_split/cost_objective_percent")[-1].value
    assert gap == pytest.approx(list(scores.values())[-1] - train_split, abs=1e-3)
    layout = events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    for category in layout_pb2.Layout.FromString(layout).category if ppo else ():
        for chart in category.chart:
            assert any(re.search(chart.multiline.tag[0], tag) for tag in tags), chart.title


def assert_certified(run):
    tested = open_run(str(run), "best")
    (configuration,) = run_configurations(tested)
    assert list(compare_futures(configuration, 1, seed=0).values()) == [None]
    replays = dict(run_replays(tested))
    assert len(replays) == 2 * RUN_PATHS
    assert certificate_of("ledger.run", replays).passed
    (fair,) = [market for market in fair_markets(tested, ("expiry",), 0) if market.name == "hedges"]
    gains = fair_gains(fair, 300, 300, seed=0)
    assert abs(gains["policy"].standard_errors) < 3.0


def test_the_numbers_behind_the_page(command, tmp_path, monkeypatch):
    monkeypatch.setattr(hedging_environment, "PATHS_AT_ONCE", 500)
    weekly = ("env.rebalance_every=2", "env.liability=straddle")
    assert command(train, *TINY, *PATHWISE, "agent.updates=5", *weekly)[0] == 0
    tested = open_run(str(tmp_path / "outputs/hedging/day/run"), "best")
    # In three markets.
    result = hedging_evaluation.evaluate_hedging(tested, "test", resamples=100, paths=1050)
    costs = result.costs["policy"]
    assert len(costs) == 1050
    expected = [costs.max(), np.quantile(costs, 0.95), np.median(costs), costs.min()]
    assert [path.cost for path in result.examples] == pytest.approx(expected, abs=0.02)
    for path in result.examples:
        paid = result.paid["policy"][np.abs(costs - path.cost).argmin()]
        assert path.paid == pytest.approx(paid)
        assert path.band is not None
        assert np.isnan(path.band).tolist() == [[False, True] * 3] * 2
        low, high = (edge[::2] for edge in path.band)
        assert ((path.holding[::2] >= low - 1e-9) & (path.holding[::2] <= high + 1e-9)).all()
        assert (path.holding[1::2] == path.holding[::2]).all()
    assert [region.sessions_left for region in result.regions] == [4, 2]
    agent, delta = (next(r for r in result.rows if r.name == name) for name in ("policy", "delta"))
    assert agent.error == pytest.approx((costs - result.paid["policy"]).std())
    assert delta.error < delta.deviation
    for region in result.regions:
        middle = len(region.delta) // 2
        assert region.spot_over_start[middle] == pytest.approx(1.0)
        assert abs(region.delta[middle]) < 0.1  # of a straddle at the money
        assert (np.diff(region.delta) >= 0.0).all()
        widths = [edges[1] - edges[0] for edges in (region.learned, region.whalley_wilmott)]
        assert (np.array(widths) > 0.0).all()
    page = build_hedging_report(result)
    assert [chart.key for chart in page.charts] == [
        *("hedge_differences", "hedge_costs", "no_trade_region", "hedged_paths")
    ]


@pytest.mark.parametrize("agent", [PATHWISE, pytest.param(PPO, marks=pytest.mark.slow)])
def test_a_trained_hedge_is_judged_on_unseen_paths(command, tmp_path, monkeypatch, agent):
    monkeypatch.setattr(hedging_evaluation, "UNSEEN_PATHS", 3000)
    code, _, err = command(train, *TINY, *agent)
    assert code == 0, err
    assert_certified(tmp_path / "outputs/hedging/day/run")
    assert_judged_by_its_objective(tmp_path / "outputs/hedging/day/run", ppo=agent is PPO)
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


@pytest.mark.parametrize(
    "agent",
    [
        PATHWISE,
        pytest.param(("agent=episode_ppo_recurrent", *PPO[1:]), marks=pytest.mark.slow),
    ],
)
def test_memory_is_trained_and_judged_where_volatility_is_hidden(
    command, tmp_path, monkeypatch, agent
):
    monkeypatch.setattr(hedging_evaluation, "UNSEEN_PATHS", 2000)
    dear = ("+exp=hedging_recurrent", *TINY[1:], "costs.rate_bps=100", *agent)
    code, _, err = command(train, *dear)
    assert code == 0, err
    policy: Any = load_policy(tmp_path / RUN / "best").policy
    assert policy.lstm_actor.hidden_size == 32
    code, _, err = command(evaluate, f"run={RUN}", "resamples=100", "report=false")
    assert code == 0, err
    numbers = json.loads((tmp_path / RUN / "evaluation/metrics.json").read_text())
    objective = {row["name"]: row["objective"] for row in numbers["hedges"]}
    assert objective["policy"] < objective["delta"]


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


def test_on_real_years_liabilities_overlap_and_are_drawn_in_blocks(command, tmp_path, monkeypatch):
    judged = {}

    def noted(agent, benchmarks, *given, **named):
        judged.update(benchmarks)
        return compare_hedges(agent, benchmarks, *given, **named)

    monkeypatch.setattr(hedging_evaluation, "compare_hedges", noted)
    assert command(train, *SP500)[0] == 0
    run = ("run=outputs/hedging/day/run", "resamples=100", "report=false", "split=validation")
    code, _, err = command(evaluate, *run)
    assert code == 0, err
    metrics = tmp_path / "outputs/hedging/day/run/evaluation_validation/metrics.json"
    numbers = json.loads(metrics.read_text())
    assert numbers["surface"] == "vix"
    assert numbers["paths"] == 252 - 6  # sessions of 2013
    assert numbers["verdict"]["mean_block"] == 18.0
    cost = judged["static"].sum(axis=0)  # in the order of the sales, so like the one before
    assert np.corrcoef(cost[1:], cost[:-1])[0, 1] > 0.4
    assert "246 overlapping liabilities" in numbers["verdict"]["reason"]
    assert "delta_gamma" in [row["name"] for row in numbers["hedges"]]


def test_a_slow_ledger_in_plain_python_comes_to_the_same_on_the_surface(tmp_path):
    """With a quoted spread, and listed options that are sold before they expire."""
    env = {
        **{"kind": "hedging", "episode": {"sessions": 21, "ruin_share": 0.0}},
        **{"hedges": [{"sessions": 42}, {"kind": "put", "moneyness": 0.9, "sessions": 63}]},
    }
    config = config_of(env=env, surface={"kind": "vix"}, costs={"kind": "spread"})
    setup = open_market(market_settings({**config, "data": {"source": "sp500"}}))
    backtest = run_backtest(
        Held(setup.market), setup.market, setup.settings.env, Window(2000, 2300)
    )
    table = build_trade_log(backtest, setup.market, setup.settings.env)
    assert table.event.eq("close").sum() > 30
    write_trade_log(table, tmp_path / "trades.parquet")
    entries = read_trade_log(tmp_path / "trades.parquet")
    result = replay(entries, setup.settings.env.initial_equity_usd)
    assert not result.complaints
    assert max(result.equity_gap, result.quotes.gap, result.costs.gap) < 1e-9


class Held:
    """Other amounts of everything every day."""

    def __init__(self, market):
        self._units = market.units

    def quantities(self, books):
        held = np.zeros_like(books.quantity)
        amount = np.sin(books.session[:, None] * np.array([1.0, 2.0, 3.0]))
        held[:, :3] = amount * self._units[books.path, books.session][:, None]
        return held


def test_in_the_markets_of_a_split_a_liability_is_sold_at_every_session():
    splits = {"train_end": "2001-12-31", "validation_end": "2002-12-31"}
    data = {"source": "sp500", "paths": None, "sessions": None, "rate": 0.03, "splits": splits}
    data = {name: value for name, value in data.items() if value is not None}
    setup = open_market(market_settings({**config_of(), "data": data}))
    assert isinstance(setup, HedgingSetup)
    window, sold = setup.window("validation"), []
    for market, own in setup.sold_daily("validation"):
        sold += list(market.history.dates[market.starts(own, 6)])
        assert market.history.dates[own.start] == setup.history.dates[window.start]
    assert sorted(sold) == list(setup.history.dates[window.start : window.stop - 6])


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
    setup: Any = open_market(market_settings(config_of()))
    one, two = (next(iter(setup.unseen(50)))[0] for _ in range(2))
    np.testing.assert_array_equal(one.history.close, two.history.close)
    assert one.history.close.shape == (50, 7)
    assert not np.isin(one.history.close[:, 1], setup.history.close[:, 1]).any()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"surface": {"kind": "flatt"}}, "surface"),
        ({"costs": {"kind": "realistic"}}, "costs=realistic"),
        ({"risk": {"enabled": True}}, "risk module has nothing to limit"),
        ({"data": {"source": "panel_simulated"}}, "options are on one index"),
        ({"reward": {}}, "has no meaning here"),
    ],
)
def test_sections_of_other_environments_are_refused(changes, complaint):
    with pytest.raises(InputError, match=complaint):
        market_settings(config_of(**changes))
