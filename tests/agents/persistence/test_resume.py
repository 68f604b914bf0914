import signal

import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from agents.persistence.checkpoint import (
    newest_checkpoint,
    restore_checkpoint,
    save_checkpoint,
)
from agents.persistence.resume_state import capture
from conf.errors import InputError
from tests.agents.toy_run import (
    HALF,
    PARTS,
    ROLLOUT,
    TOTAL,
    Adapting,
    DriftEnv,
    build,
    halfway,
    part_names,
    run_process,
    same_weights,
    unpacked,
    weights,
    weights_without,
)

pytestmark = pytest.mark.usefixtures("one_thread")

RECURRENT_PARTS = [*PARTS, "lstm.pi", "lstm.vf", "observed._last_episode_starts"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Final weights of a run left alone, and the folder of its checkpoints."""
    folder = tmp_path_factory.mktemp("whole")
    model = build()
    model.learn(TOTAL, Adapting(folder))
    return weights(model), folder


def test_a_resumed_run_ends_with_the_same_weights_bit_for_bit(uninterrupted):
    expected, folder = uninterrupted
    model, callback = build(), Adapting()
    restore_checkpoint(model, {"adapting": callback}, halfway(folder))
    model.learn(TOTAL - model.num_timesteps, callback, reset_num_timesteps=False)
    assert model.num_timesteps == TOTAL
    assert same_weights(weights(model), expected)


def test_saving_again_right_after_a_resume_writes_nothing(uninterrupted, tmp_path):
    _, folder = uninterrupted
    model, callback = build(), Adapting()
    restore_checkpoint(model, {"adapting": callback}, halfway(folder))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert save_checkpoint(model, {"adapting": callback}, folder) == halfway(folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize("part", RECURRENT_PARTS)
def test_leaving_out_any_one_part_changes_the_weights(uninterrupted, part):
    expected, folder = uninterrupted
    assert not same_weights(weights_without(part, folder, build), expected)


def test_the_ablation_covers_every_part(uninterrupted):
    """A new part must be added to RECURRENT_PARTS, or below with the reason."""
    _, folder = uninterrupted
    no_influence = {
        "fingerprint",  # compared, not restored
        "observed._last_original_obs",  # only VecNormalize has one, which is refused
        "random.cuda",  # none on this device
    }
    split = {"lstm", "observed", "random", "counters", "episodes", "callbacks"}
    assert part_names(folder, split) == set(RECURRENT_PARTS) | no_influence


@pytest.mark.slow
def test_killed_processes_resume_to_the_same_weights(uninterrupted, tmp_path):
    expected, _ = uninterrupted
    for kill_at in (ROLLOUT + 7, HALF + 3 * 5, TOTAL - 3):
        process = run_process(tmp_path, kill_at)
        assert process.returncode == -signal.SIGKILL, process.stderr
    process = run_process(tmp_path, 0)
    assert process.returncode == 0, process.stderr
    with np.load(tmp_path / "weights.npz") as final:
        assert same_weights(dict(final), expected)


def test_a_different_number_of_environments_is_always_refused(uninterrupted):
    _, folder = uninterrupted
    model = build(DriftEnv(num_envs=4))
    for inexact in (False, True):
        with pytest.raises(InputError, match=r"3 parallel environments.*has 4.*num_envs=3"):
            restore_checkpoint(model, {"adapting": Adapting()}, halfway(folder), inexact)


def test_each_difference_is_named_and_can_be_accepted(uninterrupted):
    _, folder = uninterrupted
    model = build(n_epochs=3, gamma=0.9)
    with pytest.raises(InputError, match="allow_inexact_resume=true") as refusal:
        restore_checkpoint(model, {"adapting": Adapting()}, halfway(folder))
    assert "gamma: 0.99 -> 0.9;" in str(refusal.value)
    assert "n_epochs: 2 -> 3" in str(refusal.value)
    restore_checkpoint(model, {"adapting": Adapting()}, halfway(folder), allow_inexact=True)
    assert model.num_timesteps == HALF


def test_another_length_of_sequences_is_refused(uninterrupted):
    _, folder = uninterrupted
    with pytest.raises(InputError, match="sequence_length: 4 -> 2"):
        restore_checkpoint(build(sequence_length=2), {"adapting": Adapting()}, halfway(folder))


@pytest.mark.parametrize(
    "changes", [{}, {"sequence_length": None}, {"sequence_length": 2}], ids=str
)
def test_it_resumes_bit_for_bit_with_actor_and_critic_in_parallel(tmp_path, changes):
    torch.set_num_threads(2)
    try:
        whole, again, callback = build(**changes), build(**changes), Adapting()
        whole.learn(2 * ROLLOUT, Adapting(tmp_path))
        restore_checkpoint(again, {"adapting": callback}, tmp_path / f"step_{ROLLOUT:09d}")
        again.learn(ROLLOUT, callback, reset_num_timesteps=False)
    finally:
        torch.set_num_threads(1)
    assert same_weights(weights(again), weights(whole))


def test_another_number_of_threads_is_refused(uninterrupted):
    _, folder = uninterrupted
    torch.set_num_threads(2)
    try:
        with pytest.raises(InputError, match="threads: 1 -> 2"):
            restore_checkpoint(build(), {"adapting": Adapting()}, halfway(folder))
    finally:
        torch.set_num_threads(1)


def test_another_network_is_refused_and_leaves_the_model_alone(uninterrupted):
    _, folder = uninterrupted
    model = build(policy_kwargs={"lstm_hidden_size": 9, "net_arch": [8]})
    before = weights(model)
    with pytest.raises(InputError, match="network differs in"):
        restore_checkpoint(model, {"adapting": Adapting()}, halfway(folder), allow_inexact=True)
    assert same_weights(weights(model), before)


def test_other_callbacks_are_refused_unless_inexact(uninterrupted):
    _, folder = uninterrupted
    with pytest.raises(InputError, match="callbacks"):
        restore_checkpoint(build(), {}, halfway(folder))
    restore_checkpoint(build(), {}, halfway(folder), allow_inexact=True)


def test_what_cannot_be_resumed_is_refused_when_saving(tmp_path):
    cases = [
        (build(VecNormalize(DriftEnv())), "VecNormalize"),
        (build(use_sde=True), "use_sde"),
    ]
    for model, complaint in cases:
        model._setup_learn(TOTAL)
        with pytest.raises(InputError, match=complaint):
            save_checkpoint(model, {}, tmp_path)
    with pytest.raises(InputError, match="not begun"):
        save_checkpoint(build(), {}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_environment_without_state_methods_is_refused(tmp_path):
    class Forgetful(DriftEnv):
        get_state = None  # type: ignore[assignment]

    model = build(Forgetful())
    model._setup_learn(TOTAL)
    with pytest.raises(InputError, match=r"Forgetful.*get_state"):
        save_checkpoint(model, {}, tmp_path)


def test_a_monitored_environment_resumes_too(tmp_path):
    model, callback = build(VecMonitor(DriftEnv())), Adapting(tmp_path)
    model.learn(2 * ROLLOUT + 1, callback)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    again = build(VecMonitor(DriftEnv()))
    restore_checkpoint(again, {"adapting": Adapting()}, newest)
    saved = unpacked(capture(again, {"adapting": Adapting()}))
    assert saved["env"][0]["episode_count"] > 0
    assert np.any(saved["env"][0]["episode_lengths"] > 0)
