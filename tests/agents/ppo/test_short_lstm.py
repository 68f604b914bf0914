import threading

import pytest
import torch
from torch import nn

from agents.ppo import policies
from agents.ppo.policies import MaskedMlpLstmPolicy
from agents.ppo.short_lstm import _Layer, is_plain, run_short

pytestmark = pytest.mark.usefixtures("one_thread")

PROCESS = MaskedMlpLstmPolicy._process_sequence


def case(layers=2, steps=5, sequences=7, inputs=4, size=6, share=0.3, dtype=torch.float64):
    torch.manual_seed(3)
    lstm = nn.LSTM(inputs, size, layers).to(dtype)
    features = torch.randn(steps, sequences, inputs, dtype=dtype, requires_grad=True)
    state = tuple(torch.randn(layers, sequences, size, dtype=dtype) for _ in range(2))
    starts = (torch.rand(sequences, steps) < share).to(dtype)
    return lstm, features, state, starts


def step_by_step(lstm, features, state, starts):
    """As sb3-contrib does it: the LSTM's own call for each step, after masking the state."""
    outputs = []
    for step, start in zip(features, starts.t(), strict=True):
        keep = (1.0 - start)[None, :, None]
        output, state = lstm(step[None], tuple(keep * part for part in state))
        outputs.append(output)
    return torch.cat(outputs), state


def results(run, lstm, features, state, starts):
    """Outputs, the last state, and gradients of inputs and weights."""
    output, last = run(lstm, features, state, starts)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(4))
    loss = (output * weights).sum()
    return [output.detach(), *last, *torch.autograd.grad(loss, [features, *lstm.parameters()])]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(("steps", "sequences"), [(1, 3), (2, 2), (5, 7), (9, 1)])
def test_it_is_the_lstm_and_its_gradients(layers, steps, sequences, share):
    given = case(layers, steps, sequences, share=share)
    pairs = zip(results(run_short, *given), results(step_by_step, *given), strict=True)
    for own, expected in pairs:
        torch.testing.assert_close(own, expected, rtol=1e-10, atol=1e-12)


def test_in_single_precision_it_errs_no_more_than_the_lstms_own_call():
    exact = case(size=32, inputs=20)
    truth = results(step_by_step, *exact)
    lstm, features, state, starts = exact
    single = (
        lstm.float(),
        features.detach().float().requires_grad_(),
        tuple(part.float() for part in state),
        starts.float(),
    )
    errors = [
        [
            float((one - true).detach().abs().max())
            for one, true in zip(results_of_run, truth, strict=True)
        ]
        for results_of_run in (results(run_short, *single), results(step_by_step, *single))
    ]
    assert max(errors[0]) < 1e-5
    assert sum(errors[0]) < 2.0 * sum(errors[1])


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_its_gradients_are_those_of_finite_differences(share):
    lstm, features, state, starts = case(1, 4, 3, 2, 3, share)
    remember = (1.0 - starts.t())[:, None]
    forgets = (remember != 1.0).flatten(1).any(dim=1).tolist()
    before = [part[0].t() for part in state]

    def outputs(rows, *weights):
        return _Layer.apply(rows, *before, remember, forgets, *weights)[0]

    rows = features.detach().transpose(1, 2).requires_grad_()
    assert torch.autograd.gradcheck(outputs, (rows, *lstm.parameters()))


def test_results_repeat_bit_for_bit_from_the_first_call_and_in_parallel():
    """TorchScript rewrites what it has seen a few times; a resumed run begins anew with it."""
    given = case(size=16, inputs=11, sequences=13, dtype=torch.float32)
    repeats = [results(run_short, *given) for _ in range(6)]
    start = threading.Barrier(2, timeout=30)

    def repeat():
        torch.set_num_threads(1)  # by thread: a new one's first products may use every core
        start.wait()
        for _ in range(5):
            repeats.append(results(run_short, *given))

    other = threading.Thread(target=repeat)
    other.start()
    repeat()
    other.join()
    assert len(repeats) == 16
    for one in repeats:
        assert all(torch.equal(a, b) for a, b in zip(one, repeats[0], strict=True))


def test_it_runs_under_deterministic_algorithms():
    given = case(dtype=torch.float32)
    usual = results(run_short, *given)
    torch.use_deterministic_algorithms(True)
    try:
        again = results(run_short, *given)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(usual, again, strict=True))


@pytest.mark.parametrize(
    "changes",
    [
        {"bias": False},
        {"bidirectional": True},
        {"proj_size": 3},
        {"dropout": 0.1},
        {"batch_first": True},
    ],
    ids=str,
)
def test_only_plain_lstms_count_as_plain(changes):
    assert is_plain(nn.LSTM(4, 6, 2))
    assert not is_plain(nn.LSTM(4, 6, 2, **changes))


def taken(monkeypatch, lstm, features, state, starts):
    """Whether the policy takes the path for short sequences; it must agree with the other."""
    flat = features.transpose(0, 1).flatten(0, 1)
    ran = []

    def noted(*arguments):
        ran.append(1)
        return run_short(*arguments)

    monkeypatch.setattr(policies, "run_short", noted)
    own = PROCESS(flat, state, starts.flatten(), lstm)
    monkeypatch.setattr(policies, "_is_short", lambda *_: False)
    expected = PROCESS(flat, state, starts.flatten(), lstm)
    monkeypatch.undo()
    torch.testing.assert_close(own, expected, rtol=1e-10, atol=1e-12)
    return bool(ran)


def test_the_policy_uses_it_only_for_short_sequences_with_gradients(monkeypatch):
    assert taken(monkeypatch, *case(steps=7, sequences=7))
    assert not taken(monkeypatch, *case(steps=8, sequences=7))
    assert not taken(monkeypatch, *case(steps=1, sequences=7))
    with torch.no_grad():
        assert not taken(monkeypatch, *case(steps=2, sequences=7))
    lstm, *rest = case(steps=2, sequences=7)
    lstm.dropout = 0.5
    assert not taken(monkeypatch, lstm.eval(), *rest)
