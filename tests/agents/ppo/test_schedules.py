"""Learning rate, clip range, entropy coefficient and batch size that change over a training."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from agents.factory import PPOSettings, RecurrentPPOSettings, build_agent
from agents.persistence.checkpoint import restore_checkpoint
from agents.ppo.schedules import Linear, Schedules, schedules_of, value_at
from conf.errors import InputError
from conf.settings import build_settings
from tests.agents.toy_run import (
    HALF,
    ROLLOUT,
    TOTAL,
    Adapting,
    DriftEnv,
    SimplexDriftEnv,
    halfway,
    same_weights,
    weights,
)

pytestmark = pytest.mark.usefixtures("one_thread")

CHANGING = {
    "learning_rate": [[0, 1e-2], [HALF, 2e-3]],
    "clip_range": {"start": 0.3, "end": 0.1},
    "ent_coef": {"start": 0.02, "end": 0.0},
    "batch_size": [[0, 12], [2 * ROLLOUT, 24]],
    "rollout_steps": ROLLOUT,
    "n_epochs": 2,
    "net_arch": [8],
}
KINDS: dict[str, tuple[type, dict[str, Any]]] = {
    "recurrent_ppo": (
        RecurrentPPOSettings,
        {"sequence_length": 4, "lstm_hidden_size": 8, "n_lstm_layers": 1},
    ),
    "recurrent_ppo_stock": (
        RecurrentPPOSettings,
        {"kind": "recurrent_ppo_stock", "lstm_hidden_size": 8, "n_lstm_layers": 1},
    ),
    "ppo": (PPOSettings, {}),
}


def settings_of(kind, **changes):
    cls, own = KINDS[kind]
    return build_settings(cls, {**CHANGING, **own, **changes}, "agent")


class Trained(Adapting):
    """Notes what each update used."""

    def __init__(self, folder=None):
        super().__init__(folder)
        self.used = []

    def _on_rollout_start(self):
        super()._on_rollout_start()
        model: Any = self.model
        if model._n_updates:
            rate = model.policy.optimizer.param_groups[0]["lr"]
            self.used.append((rate, model.clip_range(0.5), model.ent_coef, model.batch_size))

    def _on_training_end(self):
        self._on_rollout_start()


def model_of(options, env):
    return build_agent(options, env, 5, "cpu")


@pytest.mark.parametrize(
    ("kind", "env"),
    [
        ("recurrent_ppo", DriftEnv),
        ("recurrent_ppo", SimplexDriftEnv),
        ("recurrent_ppo_stock", DriftEnv),
        ("ppo", SimplexDriftEnv),
    ],
)
def test_every_update_uses_its_values_and_a_resumed_run_ends_with_equal_weights(
    kind, env, tmp_path
):
    options = settings_of(kind)
    model, seen = model_of(options, env()), Trained(tmp_path)
    model.learn(TOTAL, [seen, Schedules(schedules_of(options), TOTAL)])
    by_hand = [
        (
            1e-2 if n < 3 else 2e-3,
            0.3 - 0.2 * n / 6,
            0.02 * (1 - n / 6),
            12 if n < 2 else 24,
        )
        for n in range(1, 7)
    ]
    assert seen.used == [pytest.approx(row) for row in by_hand]

    again, callback = model_of(options, env()), Trained()
    restore_checkpoint(again, {"adapting": callback}, halfway(tmp_path))
    again.learn(
        TOTAL - HALF,
        [callback, Schedules(schedules_of(options), TOTAL)],
        reset_num_timesteps=False,
    )
    assert same_weights(weights(again), weights(model))
    assert callback.used[-3:] == seen.used[-3:]
    # Otherwise the comparison above would hold for schedules that nothing uses.
    constant = model_of(options, env())
    constant.learn(TOTAL, Adapting())
    assert not same_weights(weights(constant), weights(model))


def test_a_checkpoint_of_another_schedule_is_refused(tmp_path):
    options = settings_of("ppo")
    model = model_of(options, SimplexDriftEnv())
    model.learn(TOTAL, [Adapting(tmp_path), Schedules(schedules_of(options), TOTAL)])
    other = settings_of("ppo", ent_coef={"start": 0.02, "end": 0.01})
    with pytest.raises(InputError, match=r"schedules: .*'end': 0.0.* -> .*'end': 0.01"):
        restore_checkpoint(
            model_of(other, SimplexDriftEnv()), {"adapting": Adapting()}, halfway(tmp_path)
        )


def test_values_by_hand():
    line = Linear(start=3e-5, end=1e-5)
    assert [value_at(line, n, 100) for n in (0, 25, 100, 103)] == pytest.approx(
        [3e-5, 2.5e-5, 1e-5, 1e-5]
    )
    stairs = ((0, 0.01), (100, 0.005), (200, 0.001))
    assert [value_at(stairs, n, 1) for n in (0, 99, 100, 199, 200, 10**9)] == [
        *(0.01, 0.01, 0.005, 0.005, 0.001, 0.001)
    ]
    assert value_at(0.3, 7, 10) == 0.3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"learning_rate": [[0, 1e-3], [0, 1e-4]]}, "rising steps"),
        ({"learning_rate": [[5, 1e-3]]}, "rising steps"),
        ({"learning_rate": []}, "rising steps"),
        ({"learning_rate": {"start": 1e-3, "end": 0.0}}, "write a number above 0"),
        ({"learning_rate": {"start": 1e-3}}, "start: a, end: b"),
        ({"learning_rate": [[0, -1e-3]]}, "write a number above 0"),
        ({"learning_rate": 0}, "write a number above 0"),
        ({"learning_rate": [[0, True]]}, "a number is expected"),
        ({"learning_rate_end": 1e-5}, "learning_rate changes already"),
        ({"ent_coef": {"start": 0.1, "end": -0.1}}, "at least 0"),
        ({"ent_coef": [[0, float("nan")]]}, "at least 0"),
        ({"ent_coef": "fast"}, "at least 0"),
        ({"clip_range": [[0, 0.2], [10.5, 0.1]]}, "rising steps"),
        ({"batch_size": [[0, 12], [10, 1]]}, "a whole number of at least 2"),
        ({"batch_size": {"start": 12, "end": 24}}, "a whole number of at least 2"),
        ({"batch_size": [[0, 12], [10, 47]]}, "a batch_size of 47"),
    ],
)
def test_nonsense_is_refused_in_one_line(kind, change, complaint):
    with pytest.raises(InputError, match=complaint) as refusal:
        settings_of(kind, **change)
    assert "\n" not in str(refusal.value)
    assert next(iter(change)) in str(refusal.value)


def test_schedules_are_kept_as_json_holds_them():
    options = settings_of("ppo")
    plain = TypeAdapter(PPOSettings).dump_python(options, mode="json")
    assert plain["ent_coef"] == CHANGING["ent_coef"]
    assert plain["batch_size"] == CHANGING["batch_size"]
    assert build_settings(PPOSettings, plain, "agent") == options
