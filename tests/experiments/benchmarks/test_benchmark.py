"""The benchmark's arithmetic and form. Nothing here looks at how long anything takes."""

import json
import math
import time
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from agents.factory import RecurrentPPOSettings, build_agent
from conf.errors import InputError
from experiments import benchmark
from experiments.benchmarks.rows import Row, at_least, at_most, shown
from experiments.benchmarks.startup import seconds_to_first_step
from experiments.benchmarks.timing import calls_per_second, in_turn, matmul_rate
from experiments.benchmarks.training import Learning, speed_rows, update_flops
from tests.agents.toy_run import DriftEnv

AGENT = (
    "agent.rollout_steps=64",
    "agent.batch_size=32",
    "agent.n_epochs=2",
    "agent.lstm_hidden_size=8",
    "agent.n_lstm_layers=1",
    "agent.net_arch=[8]",
)
MARKET = ("data=synthetic", "data.sessions=1300", "env.episode.sessions=40")
EPISODE = "env.episode.sessions=4"
SMALL = (
    *MARKET,
    *AGENT,
    "repeats=1",
    "seconds=0.001",
    "threads=1",
    "num_envs=4",
    "matrix_size=16",
    "batches=[2,3]",
    "contracts=100",
    "tape_years=1",
    "paths=3",
    "learning_seconds=0.01",
    "skill_paths=2",
    "hedging_effort=0.001",
    "hedging_paths=500",
    f"hedging_arguments={json.dumps(['data.paths=60', 'data.sessions=130', EPISODE])}",
    f"train_arguments={json.dumps([*MARKET, *AGENT, 'num_envs=4', 'threads=1'])}",
)
ROWS = {
    "training.speedup": 15,
    "training.ours": None,
    "training.stock_1": None,
    "training.stock_4": None,
    "training.production": 15,
    "training.flop_utilisation": None,
    "learning.pathwise": None,
    "learning.ours": None,
    "learning.stock": None,
    **{f"hedging.{name}": None for name in ("pathwise", "pathwise_to_band", "ppo", "ppo_to_band")},
    "hedging.pathwise_objective": 115,
    "hedging.ppo_objective": 117,
    "environment.gymnasium_1": 10_000,
    "environment.vec_env_2": None,
    "environment.vec_env_3": None,
    "pricing.greeks": 5e6,
    "tape.build": 2,
    "tape.market": None,
    "monte_carlo.seconds": 15,
    "startup.first_step": 10,
}


def result(folder):
    (path,) = folder.glob("outputs/benchmark/*/*/benchmark.json")
    return json.loads(path.read_text())


@pytest.mark.slow
def test_every_row_is_measured_printed_and_written(command, tmp_path):
    code, out, err = command(benchmark, *SMALL)
    assert (code, err) == (0, "")
    written = result(tmp_path)
    rows = {row["name"]: row for row in written["rows"]}
    assert {n: row["budget"] and row["budget"]["bound"] for n, row in rows.items()} == ROWS
    for row in rows.values():
        assert row.keys() == {"name", "what", "value", "unit", "budget", "met", "details"}
        assert (row["met"] is None) == (row["budget"] is None)
        assert 0 < row["value"] < math.inf
    assert rows["training.stock_1"]["details"]["epochs_run"] == 1
    assert rows["training.stock_1"]["details"]["epochs_counted"] == 2
    assert "1 of 2 epochs run" in rows["training.stock_1"]["what"]
    assert rows["training.ours"]["details"]["epochs_run"] == 2
    assert written["machine"]["cores"] >= 1
    assert written["threads"] == 1
    assert written["packages"]["torch"] == torch.__version__
    assert written["settings"]["agent"]["lstm_hidden_size"] == 8
    for words in ("pricing with all Greeks", "environment, N = 3", "benchmark.json"):
        assert words in out


def test_a_part_of_the_rows_and_more_repeats(command, tmp_path):
    assert command(benchmark, *SMALL, "rows=[pricing,environment]", "repeats=2")[0] == 0
    rows = result(tmp_path)["rows"]
    assert {row["name"].partition(".")[0] for row in rows} == {"environment", "pricing"}
    assert len(rows[0]["details"]["each_repeat"]) == 2


def missed(_):
    return [Row("pricing.greeks", "pricing", 1.0, "contracts/s", at_least(2.0))]


@pytest.mark.parametrize(("gate", "code"), [("false", 0), ("true", 1)])
def test_a_missed_budget_fails_only_where_it_is_to_gate(command, tmp_path, monkeypatch, gate, code):
    monkeypatch.setattr(benchmark, "PARTS", {"pricing": missed})
    left, _, err = command(benchmark, *SMALL, f"gate={gate}")
    assert left == code
    assert ("pricing.greeks" in err) == (code == 1)
    assert result(tmp_path)["rows"][0]["met"] is False


BAD = {
    "rows=[trainig]": "setting rows",
    "rows=[]": "setting rows",
    "repeats=0": "setting repeats",
    "device=tpu": "setting device",
    "+speed=1": "unknown setting speed",
    "agent=recurrent_ppo_stock": "Leave agent=recurrent_ppo",
    "data=synthetc": "Did you mean data=synthetic?",
    "num_envs=7": "does not divide",
}


@pytest.mark.parametrize("argument", BAD)
def test_a_mistake_is_one_line_and_code_2(command, tmp_path, argument):
    code, _, err = command(benchmark, *SMALL, "rows=[training]", argument)
    assert code == 2
    assert BAD[argument] in err
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("**/benchmark.json"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(command):
    code, _, err = command(benchmark, *SMALL, "device=cuda")
    assert code == 2
    assert "torch sees no GPU" in err


def test_a_training_run_that_cannot_start_is_an_input_error():
    with pytest.raises(InputError, match=r"before its first step.*data=cvs|data=csv"):
        seconds_to_first_step(["data=cvs"])


# --- arithmetic ----------------------------------------------------------------------------------


def test_an_iteration_is_the_rollout_and_all_epochs():
    assert Learning(rollout=3.0, update=4.0, epochs=2).iteration(20) == 3.0 + 40.0
    assert Learning(rollout=3.0, update=4.0, epochs=2).iteration(2) == 7.0


def test_the_speedup_is_against_the_better_stock_agent_of_the_same_run():
    agent = RecurrentPPOSettings(rollout_steps=2000, n_epochs=20)
    taken = {
        "ours": [Learning(0.5, 1.5, 20), Learning(0.5, 3.5, 20)],
        "stock_1": [Learning(10.0, 2.0, 1), Learning(10.0, 4.5, 1)],  # 50 and 100 s
        "stock_16": [Learning(4.0, 4.8, 1), Learning(2.0, 4.9, 1)],  # 100 and 100 s
    }
    rows = {row.name: row for row in speed_rows(agent, taken)}
    assert rows["training.ours"].value == 2000 / 2.0
    assert rows["training.stock_1"].value == 2000 / 50.0
    assert rows["training.stock_16"].value == pytest.approx(2000 / 100.0)
    speedup = rows["training.speedup"]
    assert speedup.value == pytest.approx(50.0 / 2.0)
    assert speedup.details["better_stock"] == "stock_1"
    assert speedup.details["ratio_of_each_repeat"] == pytest.approx([25.0, 25.0])
    assert rows["training.production"].value == pytest.approx(300_000 / 1000 / 60)


def matrix_weights(agent: RecurrentPPOSettings, observations: int, actions: int) -> int:
    """Weights of all matrices of actor and critic, counted by hand."""
    hidden, layers = agent.lstm_hidden_size, agent.n_lstm_layers
    lstm = 4 * hidden * (observations + hidden) + (layers - 1) * 4 * hidden * 2 * hidden
    widths = (hidden, *agent.net_arch)
    heads = sum(a * b for a, b in pairwise(widths))
    return 2 * (lstm + heads) + widths[-1] * (actions + 1)


@pytest.mark.parametrize(
    "sizes",
    [
        {"lstm_hidden_size": 6, "n_lstm_layers": 1, "net_arch": (5, 4)},
        {"lstm_hidden_size": 6, "n_lstm_layers": 3, "net_arch": (5, 4)},
        {},  # of production
    ],
)
def test_an_update_multiplies_three_times_with_each_weight_that_needs_a_gradient(sizes):
    """Forward, and backward for the matrix and for its input: not for observations and states."""
    agent = RecurrentPPOSettings(rollout_steps=48, batch_size=48, **sizes)
    hidden, layers, steps = agent.lstm_hidden_size, agent.n_lstm_layers, 8
    policy = build_agent(agent, DriftEnv(), 0, "cpu").policy
    no_gradient = 2 * 4 * hidden * 3 + 2 * layers * 4 * hidden**2 / steps
    expected = 6 * matrix_weights(agent, 3, 2) - 2 * no_gradient
    assert update_flops(policy, steps) == expected


def test_calls_take_turns_and_the_first_round_warms_up():
    order = []

    def call(name):
        order.append(name)
        return float(len(order))

    taken = in_turn({"a": lambda: call("a"), "b": lambda: call("b")}, 2)
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert taken == {"a": [3.0, 5.0], "b": [4.0, 6.0]}


def test_calls_are_counted_until_the_time_is_up():
    assert 0 < calls_per_second(lambda: time.sleep(0.01), 0.05) <= 100
    assert matmul_rate("cpu", 16, 0.001) > 0


def test_budgets():
    assert at_least(2.0).met_by(2.0)
    assert not at_least(2.0).met_by(1.9)
    assert at_most(2.0).met_by(2.0)
    assert not at_most(2.0).met_by(2.1)
    assert (str(at_least(5e6)), str(at_most(15))) == ("≥ 5,000,000", "≤ 15")
    assert Row("a", "b", 1.0, "s").met is None
    assert replace(Row("a", "b", 1.0, "s"), budget=at_most(2.0)).met is True
    assert (shown(0.12345), shown(12.345), shown(1234.5)) == ("0.123", "12.3", "1,234")
