import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib.common.recurrent.buffers import RecurrentRolloutBuffer
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from sb3_contrib.ppo_recurrent.policies import MlpLstmPolicy

from agents.ppo.policies import MaskedMlpLstmPolicy

OBS, ACTION = spaces.Box(-np.inf, np.inf, (5,)), spaces.Box(-1.0, 1.0, (2,))
STEPS, ENVS, LAYERS, SIZE = 24, 3, 2, 8


def twins(**changes):
    """The stock policy and ours, with the same weights."""
    arguments = {"lstm_hidden_size": SIZE, "n_lstm_layers": LAYERS, "net_arch": [8], **changes}
    torch.manual_seed(0)
    stock = MlpLstmPolicy(OBS, ACTION, lambda _: 1e-3, **arguments)
    ours = MaskedMlpLstmPolicy(OBS, ACTION, lambda _: 1e-3, **arguments)
    ours.load_state_dict(stock.state_dict())
    return stock, ours


def batches(rng, start_probability):
    """What a real rollout buffer hands to the update, with random states, values and starts."""
    buffer = RecurrentRolloutBuffer(
        STEPS, OBS, ACTION, (STEPS, LAYERS, ENVS, SIZE), "cpu", n_envs=ENVS
    )

    def state():
        return tuple(torch.from_numpy(rng.normal(size=(LAYERS, ENVS, SIZE))) for _ in range(2))

    for _ in range(STEPS):
        buffer.add(
            rng.normal(size=(ENVS, 5)),
            rng.normal(size=(ENVS, 2)),
            rng.normal(size=ENVS),
            rng.random(ENVS) < start_probability,
            torch.zeros(ENVS),
            torch.zeros(ENVS),
            lstm_states=RNNStates(state(), state()),
        )
    buffer.compute_returns_and_advantage(torch.zeros(ENVS), np.zeros(ENVS))
    np.random.seed(int(rng.integers(2**31)))
    return list(buffer.get(17))


def outputs_and_gradients(policy, batch):
    policy.zero_grad()
    values, log_prob, entropy = policy.evaluate_actions(
        batch.observations, batch.actions, batch.lstm_states, batch.episode_starts
    )
    kept = batch.mask > 0.5
    loss = (values.flatten() ** 2)[kept].sum() + log_prob[kept].sum() + entropy[kept].sum()
    loss.backward()
    gradients = [p.grad.clone() for p in policy.parameters() if p.grad is not None]
    return [values.flatten()[kept], log_prob[kept], entropy[kept]], gradients


@pytest.mark.parametrize("start_probability", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize(
    "critic",
    [{}, {"enable_critic_lstm": False}, {"enable_critic_lstm": False, "shared_lstm": True}],
    ids=["two lstms", "feedforward critic", "shared lstm"],
)
def test_it_is_the_stock_function_wherever_the_buffer_can_put_a_start(critic, start_probability):
    rng = np.random.default_rng(3)
    stock, ours = twins(**critic)
    for batch in batches(rng, start_probability):
        expected, expected_gradients = outputs_and_gradients(stock, batch)
        outputs, gradients = outputs_and_gradients(ours, batch)
        assert len(gradients) == len(expected_gradients) > 0
        for one, two in zip(outputs + gradients, expected + expected_gradients, strict=True):
            scale = max(1.0, float(two.detach().abs().max()))
            assert float((one - two).detach().abs().max()) <= 1e-6 * scale


def test_the_buffer_puts_starts_only_at_the_head_of_a_sequence():
    rng = np.random.default_rng(4)
    for batch in batches(rng, 0.3):
        sequences = batch.lstm_states.pi[0].shape[1]
        assert not batch.episode_starts.reshape(sequences, -1)[:, 1:].any()


def test_the_lstm_is_called_once_although_episodes_start_inside(monkeypatch):
    _, ours = twins()
    calls = []
    ours.lstm_actor.register_forward_hook(lambda *_: calls.append(1))
    batch = next(b for b in batches(np.random.default_rng(5), 0.3) if few_and_starting(b))
    outputs_and_gradients(ours, batch)
    assert len(calls) == 1


def few_and_starting(batch):
    """It has fewer sequences than steps, and an episode begins inside one."""
    starts = batch.episode_starts.reshape(batch.lstm_states.pi[0].shape[1], -1)
    return len(starts) < starts.shape[1] and bool(starts.any())


def test_a_start_later_in_a_sequence_still_resets_the_state():
    stock, ours = twins()
    torch.manual_seed(1)
    features = torch.randn(2 * 6, 5)
    state = (torch.randn(LAYERS, 2, SIZE), torch.randn(LAYERS, 2, SIZE))
    starts = torch.zeros(12)
    starts[[0, 3, 8]] = 1.0
    expected, expected_state = stock._process_sequence(features, state, starts, stock.lstm_actor)
    output, final = ours._process_sequence(features, state, starts, ours.lstm_actor)
    assert torch.allclose(output, expected, atol=1e-6)
    for one, two in zip(final, expected_state, strict=True):
        assert torch.allclose(one, two, atol=1e-6)


@pytest.mark.parametrize("starting", [[0, 0, 0], [1, 0, 1], [1, 1, 1]])
@pytest.mark.parametrize("layers", [1, 2])
def test_acting_is_the_same_without_the_lstm_call(starting, layers):
    stock, ours = twins(n_lstm_layers=layers)
    ours.lstm_actor.register_forward_hook(lambda *_: pytest.fail("it reorders all weights"))
    rng = np.random.default_rng(6)
    observation = rng.normal(size=(3, 5)).astype(np.float32)
    state = tuple(rng.normal(size=(layers, 3, SIZE)).astype(np.float32) for _ in range(2))
    results = [
        policy.predict(observation, state, np.array(starting, bool), deterministic=True)
        for policy in (stock, ours)
    ]
    for one, two in zip(
        (results[0][0], *results[0][1]), (results[1][0], *results[1][1]), strict=True
    ):
        np.testing.assert_allclose(one, two, atol=1e-6)


@pytest.mark.parametrize(("episodes", "threads"), [(64, 1), (65, 2)])
def test_a_rollout_of_few_episodes_uses_one_thread_and_restores_the_number(episodes, threads):
    _, ours = twins()
    seen = []
    ours.value_net.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    state = tuple(torch.zeros(LAYERS, episodes, SIZE) for _ in range(2))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        ours(torch.zeros(episodes, 5), RNNStates(state, state), torch.zeros(episodes))
        after = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    assert (seen, after) == ([threads], 2)
