"""Self-imitation and curiosity in runs: killed and resumed they end with equal weights."""

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks.performance import PerformanceCallback
from experiments import train
from tests.experiments.conftest import TINY

ONE_SCORE = ("total_timesteps=256", "callbacks.validate_every=1000")
BOTH = ("agent.self_imitation={weight:0.3,updates:2}", "agent.curiosity={weight:0.3}")


@pytest.fixture
def trained(command, tmp_path):
    """Train a run of these settings in a folder of that name; its last weights."""

    def train_run(name, *arguments):
        folder = f"outputs/tiny/day/{name}"
        assert command(train, *TINY, *arguments, f"hydra.run.dir={folder}")[0] == 0
        return (tmp_path / folder / "policy.safetensors").read_bytes()

    return train_run


def test_a_stopped_run_made_longer_ends_with_the_weights_of_one_longer_from_the_start(
    trained, command, stopped_and_resumed
):
    """PPO's last update was answered by both, too."""
    folder = "outputs/tiny/day/stopped"
    stopped = stopped_and_resumed(folder, (*TINY, *BOTH), PerformanceCallback)
    assert command(train, f"resume={folder}", "total_timesteps=640")[0] == 0
    longer = trained("longer", *BOTH, "total_timesteps=640")
    assert (stopped / "policy.safetensors").read_bytes() == longer
    scores = [
        scalars(stopped.with_name(name), "validation/sharpe") for name in ("stopped", "longer")
    ]
    assert scores[0] == scores[1]
    assert len(scores[0]) == 3


def test_each_changes_the_run_and_a_weight_of_0_changes_nothing(trained):
    """Self-imitation from the second rollout on, after the first episodes have ended."""
    off = ("agent.self_imitation={weight:0}", "agent.curiosity=null")
    short = (*ONE_SCORE, "env.episode.sessions=21")
    named = {"plain": (), "off": off, "imitation": BOTH[:1], "curiosity": BOTH[1:]}
    runs = {name: trained(name, *short, *technique) for name, technique in named.items()}
    assert runs.pop("off") == runs["plain"]
    assert len(set(runs.values())) == 3


def test_validation_and_the_dashboard_do_not_see_the_bonus(trained, tmp_path):
    """With nothing learned, whatever is paid, what is scored is the same."""
    for name, more in (("paid", BOTH[1:]), ("not", ())):
        trained(name, "agent.learning_rate=1e-30", *ONE_SCORE, *more)
    scores, rewards = [], []
    for name in ("paid", "not"):
        run = tmp_path / "outputs" / "tiny" / "day" / name
        scores.append(json.loads((run / "best" / "validation.json").read_text()))
        rewards.append(scalars(run, "reward/total"))
    assert scores[0] == scores[1]
    assert rewards[0] == pytest.approx(rewards[1], abs=1e-5)
    assert min(scalars(tmp_path / "outputs/tiny/day/paid", "curiosity/bonus")) > 0.0


def scalars(run, name):
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return [event.value for event in events.Scalars(name)]
