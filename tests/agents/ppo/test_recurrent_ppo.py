import dataclasses
import threading
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from sb3_contrib.ppo_recurrent.policies import MlpLstmPolicy
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from agents.factory import RecurrentPPOSettings, build_agent
from agents.ppo import policies
from agents.ppo.parallel import parallel_pairs
from agents.ppo.policies import MaskedMlpLstmPolicy
from agents.ppo.recurrent_ppo import RolloutSequences, SequenceRecurrentPPO
from agents.ppo.short_lstm import run_short
from conf.errors import InputError
from conf.settings import build_settings
from tests.agents.toy_run import N_STEPS, NUM_ENVS, ROLLOUT, DriftEnv, same_weights, weights

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS: dict[str, Any] = {
    "n_steps": N_STEPS,
    "batch_size": ROLLOUT,
    "n_epochs": 1,
    "learning_rate": 1e-3,
    "ent_coef": 0.01,
    "seed": 3,
    "device": "cpu",
}
NETWORK = {"lstm_hidden_size": 8, "n_lstm_layers": 2, "net_arch": [8]}
CRITICS = {
    "two lstms": {},
    "feedforward critic": {"enable_critic_lstm": False},
    "shared lstm": {"enable_critic_lstm": False, "shared_lstm": True},
}


def stock(network=None, env=None, **changes):
    network = {**NETWORK, **(network or {})}
    options = {**OPTIONS, **changes}
    return RecurrentPPO(MlpLstmPolicy, env or DriftEnv(), policy_kwargs=network, **options)


def ours(network=None, env=None, **changes):
    network = {**NETWORK, **(network or {})}
    options = {**OPTIONS, "sequence_length": N_STEPS, **changes}
    policy = "MlpLstmPolicy"
    return SequenceRecurrentPPO(policy, env or DriftEnv(), policy_kwargs=network, **options)


class Silent(BaseCallback):
    def _on_step(self):
        return True


def fill(model, seed, starts):
    """A rollout buffer of random numbers with episodes that start where `starts` (N, E) says."""
    rng = np.random.default_rng(seed)
    model.set_logger(Logger(None, []))
    buffer = model.rollout_buffer
    buffer.reset()
    for name in ("observations", "actions", "rewards", "values", "log_probs", "advantages"):
        array = getattr(buffer, name)
        array[:] = 0.3 * rng.normal(size=array.shape)
    for name in ("hidden_states_pi", "cell_states_pi", "hidden_states_vf", "cell_states_vf"):
        array = getattr(buffer, name)
        array[:] = rng.normal(size=array.shape)
    if model.policy.shared_lstm:  # one LSTM has one state, as in real rollouts
        buffer.hidden_states_vf, buffer.cell_states_vf = (
            buffer.hidden_states_pi.copy(),
            buffer.cell_states_pi.copy(),
        )
    buffer.log_probs -= 2.5
    buffer.returns = buffer.values + buffer.advantages
    buffer.episode_starts[:] = starts
    buffer.pos, buffer.full = buffer.buffer_size, True


@contextmanager
def two_threads():
    """Side by side. Only for ours: stock would gain nothing from them but time."""
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


THREADS = {"one thread": nullcontext, "two threads": two_threads}


def gradients_of_an_update(model, monkeypatch):
    """Logged values and the gradients that reach the optimiser in an update of one minibatch."""
    steps = []
    monkeypatch.setattr(
        model.policy.optimizer,
        "step",
        lambda: steps.append([p.grad for p in model.policy.parameters()]),
    )
    # The stock buffer turns the rollout around at a random place, which cuts one sequence.
    monkeypatch.setattr(np.random, "randint", lambda *_: 0)
    model.train()
    (gradients,) = steps
    return dict(model.logger.name_to_value), gradients


def patterns():
    rng = np.random.default_rng(11)
    none = np.zeros((N_STEPS, NUM_ENVS), bool)
    yield "none", none
    for name, where in {
        "head": [0],
        "middle": [7],
        "end": [N_STEPS - 1],
        "in a row": [4, 5, 6],
        "head and end": [0, 1, N_STEPS - 1],
    }.items():
        one, all_of_them = none.copy(), none.copy()
        one[where, 1], all_of_them[where] = True, True
        yield f"{name}, one episode", one
        yield f"{name}, all episodes", all_of_them
    for share in (0.05, 0.3, 0.9):
        yield f"random {share}", rng.random(none.shape) < share


@pytest.mark.parametrize(
    ("critic", "threads"),
    [*((critic, nullcontext) for critic in CRITICS.values()), (CRITICS["two lstms"], two_threads)],
    ids=[*CRITICS, "two threads"],
)
@pytest.mark.parametrize("starts", [p for _, p in patterns()], ids=[n for n, _ in patterns()])
def test_loss_and_gradients_equal_the_stock_ones_wherever_episodes_start(
    critic, starts, threads, monkeypatch
):
    same_update_as_stock([stock(critic), ours(critic)], starts, threads, monkeypatch)


# So many episodes that the minibatch holds more sequences than steps.
WIDE = N_STEPS + 5


@pytest.mark.parametrize(
    ("network", "threads"),
    [
        *((critic, nullcontext) for critic in CRITICS.values()),
        ({"n_lstm_layers": 1}, nullcontext),
        ({"n_lstm_layers": 3, "lstm_hidden_size": 11}, nullcontext),
        (CRITICS["two lstms"], two_threads),
    ],
    ids=[*CRITICS, "one layer", "three layers of 11", "two threads"],
)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 1.0])
def test_loss_and_gradients_equal_the_stock_ones_in_short_sequences(
    network, share, threads, monkeypatch
):
    ran = []

    def noted(*arguments):
        ran.append(1)
        return run_short(*arguments)

    monkeypatch.setattr(policies, "run_short", noted)
    wide = {"env": DriftEnv(WIDE), "batch_size": WIDE * N_STEPS}
    starts = np.random.default_rng(12).random((N_STEPS, WIDE)) < share
    models = [stock(network, **wide), ours(network, **wide)]
    same_update_as_stock(models, starts, threads, monkeypatch)
    assert ran


def test_whole_runs_equal_stock_runs_in_short_sequences(monkeypatch):
    monkeypatch.setattr(np.random, "randint", lambda *_: 0)
    runs = []
    for build in (stock, ours):
        model = build(env=DriftEnv(WIDE), batch_size=WIDE * N_STEPS)
        runs.append(weights(model.learn(3 * WIDE * N_STEPS)))
    close_weights(*runs)


def same_update_as_stock(models, starts, threads, monkeypatch):
    models[1].policy.load_state_dict(models[0].policy.state_dict())
    results = []
    for model, context in zip(models, (nullcontext, threads), strict=True):
        fill(model, 4, starts)
        with monkeypatch.context() as patch, context():
            results.append(gradients_of_an_update(model, patch))
    (logged, gradients), (own_logged, own_gradients) = results
    assert own_logged.keys() == logged.keys()
    for name, value in logged.items():
        assert own_logged[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
    assert 0 < logged["train/clip_fraction"] < 1
    same_gradients(gradients, own_gradients)


def same_gradients(gradients, own_gradients):
    assert sum(float((g**2).sum()) for g in gradients if g is not None) > 1e-6
    for expected, own in zip(gradients, own_gradients, strict=True):
        assert (expected is None) == (own is None)
        if expected is not None:
            assert float((expected - own).norm()) <= 1e-5 * float(expected.norm())


@pytest.mark.parametrize(
    "changes",
    [
        {"clip_range_vf": 0.05},
        {"normalize_advantage": False},
        {"max_grad_norm": 0.01},
        {"vf_coef": 3.0, "clip_range": 0.01},
    ],
    ids=str,
)
def test_each_term_of_the_loss_equals_the_stock_one(changes, monkeypatch):
    models = [stock(**changes), ours(**changes)]
    models[1].policy.load_state_dict(models[0].policy.state_dict())
    results = []
    for model in models:
        fill(model, 5, np.random.default_rng(1).random((N_STEPS, NUM_ENVS)) < 0.1)
        with monkeypatch.context() as patch:
            results.append(gradients_of_an_update(model, patch))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5, abs=1e-6)
    same_gradients(results[0][1], results[1][1])


@pytest.mark.parametrize("threads", THREADS.values(), ids=THREADS)
def test_whole_runs_equal_stock_runs_if_the_minibatch_is_the_rollout(threads, monkeypatch):
    monkeypatch.setattr(np.random, "randint", lambda *_: 0)
    # One after the other: the environment draws from the generators that building a model seeds.
    one = weights(stock().learn(4 * ROLLOUT))
    with threads():
        two = weights(ours().learn(4 * ROLLOUT))
    close_weights(one, two)
    assert not same_weights(one, weights(stock()))


def test_whole_runs_equal_stock_runs_with_its_minibatches():
    changes = {"batch_size": 12, "n_epochs": 3}
    one = weights(stock(**changes).learn(3 * ROLLOUT))
    two = weights(ours(sequence_length=None, **changes).learn(3 * ROLLOUT))
    close_weights(one, two)


def close_weights(one, two):
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, atol=1e-5, err_msg=name)


def test_minibatches_hold_every_step_once_with_the_state_before_it():
    model = ours(batch_size=12, sequence_length=4)
    fill(model, 0, np.zeros((N_STEPS, NUM_ENVS), bool))
    buffer = model.rollout_buffer
    numbers = np.arange(ROLLOUT, dtype=np.float32).reshape(N_STEPS, NUM_ENVS)
    buffer.returns = numbers
    buffer.observations[:] = numbers[..., None]
    for offset, name in enumerate(("hidden_states_pi", "cell_states_pi", "hidden_states_vf")):
        getattr(buffer, name)[:] = numbers[:, None, :, None] + 1000 * offset
    rollout = RolloutSequences(buffer, 4, "cpu")
    np.random.seed(0)
    batches = list(rollout.minibatches(12))
    seen = torch.cat([batch.returns for batch in batches])
    assert sorted(seen.tolist()) == list(range(ROLLOUT))
    for batch in batches:
        steps = batch.returns.reshape(-1, 4)
        assert torch.equal(torch.diff(steps, dim=1), torch.full((3, 3), float(NUM_ENVS)))
        assert torch.equal(batch.observations, batch.returns[:, None].expand(-1, 3))
        for offset, state in enumerate((*batch.actor_state, batch.critic_state[0])):
            expected = (steps[:, 0] + 1000 * offset)[None, :, None].expand(2, 3, 8)
            assert torch.equal(state, expected)
    again = torch.cat([batch.returns for batch in rollout.minibatches(12)])
    assert not torch.equal(again, seen)


def test_it_stops_early_before_the_step_that_goes_too_far():
    model = ours(batch_size=12, sequence_length=4, n_epochs=50, target_kl=1e-3, learning_rate=0.02)
    steps = []
    model.policy.optimizer.register_step_post_hook(lambda *_: steps.append(1))
    model.learn(ROLLOUT)
    assert 0 < len(steps) < 4 * 50
    assert model._n_updates < 50
    assert model.logger.name_to_value["train/approx_kl"] > 0


@pytest.mark.parametrize("length", [4, None])
def test_sb3s_own_save_and_load_give_the_same_agent(tmp_path, length):
    model = ours(batch_size=12, sequence_length=length)
    model.learn(ROLLOUT)
    model.save(tmp_path / "model.zip")
    loaded = SequenceRecurrentPPO.load(tmp_path / "model.zip", env=DriftEnv(), device="cpu")
    assert type(loaded) is SequenceRecurrentPPO
    assert type(loaded.policy) is MaskedMlpLstmPolicy
    assert loaded.sequence_length == length
    observation = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    acted = [m.predict(observation, deterministic=True) for m in (model, loaded)]
    np.testing.assert_equal(acted[0], acted[1])
    assert loaded.policy.optimizer.param_groups[0]["fused"]
    loaded.learn(ROLLOUT, Silent())
    assert not same_weights(weights(model), weights(loaded))


def test_the_optimiser_is_the_stock_one_but_fused():
    group, own = (m.policy.optimizer.param_groups[0] for m in (stock(), ours()))
    assert own["fused"]
    different = {name for name in group if name != "params" and group[name] != own[name]}
    assert different == {"fused"}


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_another_optimiser_is_the_stock_one(kind):
    one, two = (build({"optimizer_class": kind}).policy.optimizer for build in (stock, ours))
    assert type(one) is type(two) is kind
    assert one.defaults == two.defaults


def test_the_callers_dictionary_is_left_alone():
    network = dict(NETWORK)
    SequenceRecurrentPPO("MlpLstmPolicy", DriftEnv(), policy_kwargs=network, **OPTIONS)
    assert network == NETWORK


def test_discrete_actions_are_learned_too():
    class Choosing(DriftEnv):
        def __init__(self):
            super().__init__()
            self.action_space = spaces.Discrete(3)

        def step_async(self, actions):
            super().step_async(np.stack([actions - 1.0, actions], axis=1))

    model = SequenceRecurrentPPO(
        "MlpLstmPolicy", Choosing(), sequence_length=4, **{**OPTIONS, "batch_size": 12}
    )
    before = weights(model)
    model.learn(ROLLOUT)
    assert not same_weights(weights(model), before)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"sequence_length": 5, "batch_size": 10}, "sequence_length = 5 does not divide the 16 s"),
        ({"sequence_length": 8, "batch_size": 12}, "sequence_length = 8 does not divide the 12 s"),
        ({"sequence_length": 32, "batch_size": 32}, "does not divide the 16 steps"),
        ({"sequence_length": 0}, "sequence_length is 0"),
    ],
)
def test_lengths_that_do_not_divide_are_refused(changes, complaint):
    with pytest.raises(InputError, match=complaint):
        ours(**changes)


@pytest.mark.parametrize("length", [0, 1, 3, 7, 256, "eight", True])
def test_settings_refuse_impossible_lengths_before_anything_is_built(length):
    with pytest.raises(InputError, match="sequence_length"):
        build_settings(RecurrentPPOSettings, {"sequence_length": length}, "agent")


@pytest.mark.parametrize("kind", ["recurrent_ppo", "recurrent_ppo_stock"])
def test_the_factory_builds_what_the_settings_say(kind):
    settings = RecurrentPPOSettings(
        kind=kind, rollout_steps=ROLLOUT, batch_size=16, lstm_hidden_size=8, n_lstm_layers=1
    )
    model = build_agent(settings, DriftEnv(), seed=0, device="cpu")
    if kind == "recurrent_ppo_stock":
        assert type(model) is RecurrentPPO
        assert type(model.policy) is MlpLstmPolicy
        assert not model.policy.optimizer.param_groups[0]["fused"]
    else:
        assert type(model) is SequenceRecurrentPPO
        assert model.sequence_length == 8
        longer = dataclasses.replace(settings, batch_size=32, sequence_length=32)
        with pytest.raises(InputError, match="sequence_length = 32 does not divide the 16"):
            build_agent(longer, DriftEnv(), seed=0, device="cpu")


@pytest.mark.parametrize("threads", THREADS.values(), ids=THREADS)
def test_an_error_in_either_calculation_is_raised_and_threads_are_restored(threads):
    for pair in ((lambda: 1 / 0, lambda: 1), (lambda: 1, lambda: 1 / 0)):
        with threads(), pytest.raises(ZeroDivisionError), parallel_pairs(True) as run_pair:
            run_pair(*pair)


def test_both_calculations_run_at_once_with_half_of_the_threads_each():
    meeting = threading.Barrier(2, timeout=30)

    def meet():
        meeting.wait()
        return torch.get_num_threads()

    with two_threads(), parallel_pairs(True) as run_pair:
        assert [int(threads) for threads in run_pair(meet, meet)] == [1, 1]
