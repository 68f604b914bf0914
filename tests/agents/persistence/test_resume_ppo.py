"""Agents without memory, and those on the simplex, go on from a checkpoint bit for bit."""

import signal
from functools import partial

import pytest

from agents.persistence.checkpoint import read_checkpoint, restore_checkpoint
from agents.persistence.resume_state import capture, restore
from conf.errors import InputError
from tests.agents.toy_run import (
    BUILDERS,
    HALF,
    PARTS,
    ROLLOUT,
    TOTAL,
    Adapting,
    SimplexDriftEnv,
    build,
    build_ppo,
    build_simplex_lstm,
    halfway,
    packed,
    part_names,
    run_process,
    same_weights,
    unpacked,
    weights,
    weights_without,
)

pytestmark = pytest.mark.usefixtures("one_thread")

AGENTS = {
    "softmax_gaussian": build_ppo,
    "dirichlet": partial(build_ppo, distribution="dirichlet"),
    "recurrent on the simplex": build_simplex_lstm,
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Final weights of a run of `build_ppo` left alone, and the folder of its checkpoints."""
    folder = tmp_path_factory.mktemp("whole")
    model = build_ppo()
    model.learn(TOTAL, Adapting(folder))
    return weights(model), folder


def go_on(model, state, callback):
    restore(state, model, {"adapting": callback})
    model.learn(TOTAL - model.num_timesteps, callback, reset_num_timesteps=False)
    return weights(model)


@pytest.mark.parametrize("make", AGENTS.values(), ids=AGENTS)
def test_a_resumed_run_ends_with_the_same_weights_bit_for_bit(make, tmp_path):
    whole, again, callback = make(), make(), Adapting()
    whole.learn(3 * ROLLOUT, Adapting(tmp_path))
    restore_checkpoint(again, {"adapting": callback}, tmp_path / f"step_{ROLLOUT:09d}")
    again.learn(2 * ROLLOUT, callback, reset_num_timesteps=False)
    assert same_weights(weights(again), weights(whole))
    assert not same_weights(weights(whole), weights(make()))


@pytest.mark.parametrize("part", PARTS)
def test_leaving_out_any_one_part_changes_the_weights(uninterrupted, part):
    expected, folder = uninterrupted
    assert not same_weights(weights_without(part, folder, build_ppo), expected)


def test_the_ablation_covers_every_part(uninterrupted):
    """A new part must be added to PARTS, or below with the reason."""
    _, folder = uninterrupted
    no_influence = {
        "fingerprint",  # compared, not restored
        "lstm",  # none
        "observed._last_episode_starts",  # advantages ask only whether a later step begins one
        "observed._last_original_obs",  # only VecNormalize has one, which is refused
        "random.cuda",  # none on this device
    }
    split = {"observed", "random", "counters", "episodes", "callbacks"}
    assert part_names(folder, split) == set(PARTS) | no_influence


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ppo", "simplex_lstm"])
def test_killed_processes_resume_to_the_same_weights(kind, tmp_path):
    whole = BUILDERS[kind]()
    whole.learn(TOTAL, Adapting(tmp_path / "whole"))
    for kill_at in (ROLLOUT + 7, HALF + 3 * 5):
        process = run_process(tmp_path / "killed", kill_at, kind)
        assert process.returncode == -signal.SIGKILL, process.stderr
    model, callback = BUILDERS[kind](), Adapting()
    state = read_checkpoint(tmp_path / "killed" / f"step_{HALF:09d}")
    assert same_weights(go_on(model, state, callback), weights(whole))


def test_a_checkpoint_without_a_distribution_still_resumes(tmp_path):
    whole, again, callback = build(), build(), Adapting()
    whole.learn(TOTAL, Adapting(tmp_path))
    state = read_checkpoint(halfway(tmp_path))
    assert state.values["fingerprint"].pop("distribution") is None
    assert same_weights(go_on(again, state, callback), weights(whole))


def test_another_distribution_is_refused(uninterrupted):
    _, folder = uninterrupted
    other = build_ppo(distribution="dirichlet")
    with pytest.raises(InputError, match="distribution: softmax_gaussian -> dirichlet"):
        restore_checkpoint(other, {"adapting": Adapting()}, halfway(folder))
    with pytest.raises(InputError, match=r"network differs in action_net"):
        restore_checkpoint(other, {"adapting": Adapting()}, halfway(folder), allow_inexact=True)


def test_a_recurrent_checkpoint_does_not_fit_an_agent_without_memory_nor_the_reverse(tmp_path):
    plain, recurrent = build_ppo(), build_simplex_lstm(SimplexDriftEnv())
    for model in (plain, recurrent):
        model._setup_learn(TOTAL)
    states = [unpacked(capture(model, {})) for model in (plain, recurrent)]
    assert states[0]["lstm"] is None
    for model, own, other in ((plain, *states), (recurrent, *states[::-1])):
        mixed = packed(own | {"lstm": other["lstm"]})
        with pytest.raises(InputError, match="recurrent agent"):
            restore(mixed, model, {}, allow_inexact=True)
