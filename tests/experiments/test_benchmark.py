"""The benchmark's arithmetic and form. Nothing here looks at how long anything takes."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from torch.utils.flop_counter import FlopCounterMode

from agents.factory import RecurrentPPOSettings, build_agent
from conf.errors import InputError
from experiments import benchmark
from experiments.benchmarks import timing as benchmark_timing
from experiments.benchmarks.flops import forward_flops, update_flops
from experiments.benchmarks.growth import ConstantPolicy
from experiments.benchmarks.rows import Row, at_least, at_most, shown
from experiments.benchmarks.startup import seconds_to_first_step
from experiments.benchmarks.timing import calls_per_second, growth_exponent, in_turn, peak_bytes
from experiments.benchmarks.training import Learning, speed_rows
from tests.agents.toy_run import DriftEnv

AGENT = (
    "agent.rollout_steps=64",
    "agent.batch_size=32",
    "agent.n_epochs=2",
    "agent.lstm_hidden_size=8",
    "agent.n_lstm_layers=1",
    "agent.net_arch=[8]",
)
MARKET = ("data=synthetic", "data.sessions=700", "env.episode.sessions=40")
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
    "growth.episodes=[1,2]",
    "growth.paths=[1,2]",
    "growth.sessions=[60,120]",
    f"train_arguments={json.dumps([*MARKET, *AGENT, 'num_envs=4', 'threads=1'])}",
)
ROWS = {
    "training.speedup": 15,
    "training.ours": None,
    "training.stock_1": None,
    "training.stock_4": None,
    "training.production": 15,
    "training.flop_utilisation": None,
    "training.arithmetic": None,
    "training.rollout_share": None,
    "training.update_share": None,
    "training.threads_1": None,
    "environment.gymnasium_1": 10_000,
    "environment.vec_env_2": None,
    "environment.kernel_2": None,
    "environment.vec_env_3": None,
    "environment.kernel_3": None,
    "pricing.greeks": 5e6,
    "tape.build": 2,
    "tape.market": None,
    "monte_carlo.seconds": 15,
    "monte_carlo.memory": None,
    "startup.first_step": 10,
    "growth.episodes.time": None,
    "growth.episodes.memory": None,
    "growth.paths.time": None,
    "growth.paths.memory": None,
    "growth.sessions.time": None,
    "growth.sessions.memory": None,
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
        if not row["name"].startswith("growth"):
            assert 0 < row["value"] < math.inf
    assert rows["training.stock_1"]["details"]["epochs_run"] == 1
    assert rows["training.stock_1"]["details"]["epochs_counted"] == 2
    assert "1 of 2 epochs run" in rows["training.stock_1"]["what"]
    assert rows["training.ours"]["details"]["epochs_run"] == 2
    shares = rows["training.rollout_share"]["value"] + rows["training.update_share"]["value"]
    assert shares == pytest.approx(1)
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
    "rows=[trainig]": "benchmark.rows",
    "rows=[]": "benchmark.rows",
    "repeats=0": "benchmark.repeats",
    "device=tpu": "benchmark.device",
    "growth.paths=[8]": "benchmark.growth.paths",
    "+speed=1": "unknown setting benchmark.speed",
    "agent=recurrent_ppo_stock": "Leave agent=recurrent_ppo",
    "data=synthetc": "Did you mean data=synthetic?",
    "num_envs=7": "does not divide",
}


@pytest.mark.parametrize("argument", BAD)
def test_a_mistake_is_one_line_and_code_2(command, tmp_path, argument):
    code, _, err = command(benchmark, *SMALL, argument)
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


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
def test_a_power_law_gives_back_its_exponent(exponent):
    sizes = [3.0, 10.0, 40.0, 500.0]
    assert growth_exponent(sizes, [7.0 * n**exponent for n in sizes]) == pytest.approx(exponent)


def test_the_exponent_is_the_least_squares_slope_on_logarithmic_scales():
    rng = np.random.default_rng(0)
    sizes, values = np.array([1.0, 5.0, 9.0, 80.0]), rng.uniform(1, 9, 4)
    slope = np.polyfit(np.log(sizes), np.log(values), 1)[0]
    assert growth_exponent(sizes, values) == pytest.approx(slope)


@pytest.mark.parametrize(
    ("sizes", "values"), [([4], [1]), ([4, 4], [1, 2]), ([1, 2], [1]), ([1, 2], [0, 1])]
)
def test_a_growth_that_is_none_is_refused(sizes, values):
    with pytest.raises(InputError):
        growth_exponent(sizes, values)


def test_an_iteration_is_the_rollout_and_all_epochs():
    assert Learning(rollout=3.0, update=4.0, epochs=2).iteration(20) == 3.0 + 40.0
    assert Learning(rollout=3.0, update=4.0, epochs=2).iteration(2) == 7.0


def test_the_speedup_is_against_the_better_stock_agent_of_the_same_run():
    agent = RecurrentPPOSettings(rollout_steps=2000, n_epochs=20)
    clipped = {
        "ours": [Learning(0.5, 1.5, 20), Learning(0.5, 3.5, 20)],
        "stock_1": [Learning(10.0, 2.0, 1), Learning(10.0, 4.5, 1)],  # 50 and 100 s
        "stock_16": [Learning(4.0, 4.8, 1), Learning(2.0, 4.9, 1)],  # 100 and 100 s
    }
    rows = {row.name: row for row in speed_rows(agent, clipped)}
    assert rows["training.ours"].value == 2000 / 2.0
    assert rows["training.stock_1"].value == 2000 / 50.0
    assert rows["training.stock_16"].value == pytest.approx(2000 / 100.0)
    speedup = rows["training.speedup"]
    assert speedup.value == pytest.approx(50.0 / 2.0)
    assert speedup.details["better_stock"] == "stock_1"
    assert speedup.details["ratio_of_each_repeat"] == pytest.approx([25.0, 25.0])
    assert rows["training.production"].value == pytest.approx(300_000 / 1000 / 60)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_flops_agree_with_torchs_own_count(layers):
    options = RecurrentPPOSettings(
        rollout_steps=48, batch_size=48, lstm_hidden_size=6, n_lstm_layers=layers, net_arch=(5, 4)
    )
    policy = build_agent(options, DriftEnv(), 0, "cpu").policy
    sequences, steps = 4, 8
    count = sequences * steps

    def evaluate():
        state = torch.zeros(layers, sequences, 6)
        states = RNNStates((state, state), (state, state))
        inputs = torch.zeros(count, 3), torch.zeros(count, 2)
        values, log_prob, _ = policy.evaluate_actions(*inputs, states, torch.zeros(count))
        return values.sum() + log_prob.sum()

    # The counter cannot look into the LSTM of oneDNN.
    with torch.backends.mkldnn.flags(enabled=False):
        with FlopCounterMode(display=False) as forward, torch.no_grad():
            evaluate()
        with FlopCounterMode(display=False) as update:
            evaluate().backward()
    assert forward_flops(options, 3, 2) * count == forward.get_total_flops()
    assert update_flops(options, 3, 2) * count == update.get_total_flops()


def test_the_production_networks_need_twelve_million_operations_a_step():
    agent = RecurrentPPOSettings()
    lstm = 4 * 256 * (213 + 256) + 4 * 256 * (256 + 256)
    heads = 256 * 128 + 128 * 64
    weights = 2 * (lstm + heads) + 64 * 20 + 64
    assert forward_flops(agent, 213, 20) == 2 * weights
    no_gradient = 2 * 4 * 256 * 213 + 2 * 2 * 4 * 256 * 256 / 8
    assert update_flops(agent, 213, 20) == 6 * weights - 2 * no_gradient


def test_calls_take_turns_and_the_first_round_warms_up():
    order = []

    def call(name):
        order.append(name)
        return float(len(order))

    clipped = in_turn({"a": lambda: call("a"), "b": lambda: call("b")}, 2)
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert clipped == {"a": [3.0, 5.0], "b": [4.0, 6.0]}


def test_calls_are_counted_until_the_time_is_up(monkeypatch):
    now = iter(np.arange(0.0, 100.0, 0.5))
    monkeypatch.setattr(benchmark_timing.time, "perf_counter", lambda: float(next(now)))
    assert calls_per_second(lambda: None, 3.0) == 2.0


def test_peak_memory_counts_what_was_held_at_once():
    def call():
        first = np.zeros(10**6)
        del first
        return np.zeros(5 * 10**5)

    assert 8e6 <= peak_bytes(call) < 8.1e6


def test_budgets():
    assert at_least(2.0).met_by(2.0)
    assert not at_least(2.0).met_by(1.9)
    assert at_most(2.0).met_by(2.0)
    assert not at_most(2.0).met_by(2.1)
    assert (str(at_least(5e6)), str(at_most(15))) == ("≥ 5,000,000", "≤ 15")
    assert Row("a", "b", 1.0, "s").met is None
    assert replace(Row("a", "b", 1.0, "s"), budget=at_most(2.0)).met is True
    assert (shown(0.12345), shown(12.345), shown(1234.5)) == ("0.123", "12.3", "1,234")


def test_the_constant_policy_asks_for_the_same_everywhere():
    actions, state = ConstantPolicy(3, 0.5).predict(np.zeros((2, 4), np.float32))
    assert (actions.tolist(), state) == ([[0.5] * 3] * 2, None)
