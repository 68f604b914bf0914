"""Numbers of PPO that change over a training: linear in its steps, or in stairs.

In a configuration such a number is written as one of

    0.01                                     # constant
    {start: 0.01, end: 0.001}                # linear over the whole training
    [[0, 0.01], [100000, 0.005]]             # from that step on, until the next

A value is a function of the steps made and nothing else, so there is no state to resume.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import FloatSchedule

from conf.settings import in_one_message, settings, settings_to_json

NonNegative = Annotated[float, Field(ge=0.0)]
Step = Annotated[int, Field(ge=0)]
BatchSize = Annotated[int, Field(ge=2)]

# Settings that may change, under their names in Stable-Baselines3 too.
SCHEDULED = ("learning_rate", "clip_range", "ent_coef", "batch_size")
_FUNCTIONS = {"learning_rate": "lr_schedule", "clip_range": "clip_range"}


@settings
class Linear:
    """From `start` to `end` over the whole training."""

    start: NonNegative
    end: NonNegative


def _rising(stairs: tuple[tuple[int, float], ...]) -> tuple[tuple[int, float], ...]:
    steps = [step for step, _ in stairs]
    if not steps or steps[0] != 0 or sorted(set(steps)) != steps:
        raise ValueError(f"the steps {steps} do not rise from 0")
    return stairs


def _positive(value: Any) -> Any:
    if not min(values_of(value)) > 0.0:
        raise ValueError("0 is not above 0")
    return value


Stairs = Annotated[tuple[tuple[Step, NonNegative], ...], AfterValidator(_rising)]
BatchStairs = Annotated[tuple[tuple[Step, BatchSize], ...], AfterValidator(_rising)]
_AS = "{start: a, end: b}, or [[0, a], [step, b], ...] with rising steps"
ScheduledNumber = Annotated[
    NonNegative | Linear | Stairs, in_one_message(f"a number of at least 0, {_AS}")
]
ScheduledPositive = Annotated[
    NonNegative | Linear | Stairs,
    AfterValidator(_positive),
    in_one_message(f"a number above 0, {_AS}"),
]
ScheduledBatch = Annotated[
    BatchSize | BatchStairs,
    in_one_message(
        "a whole number of at least 2, or [[0, a], [step, b], ...] with rising steps",
    ),
]
Scheduled = float | Linear | tuple[tuple[int, float], ...]


def values_of(setting: Scheduled) -> tuple[float, ...]:
    """The values that it takes; of a linear one its ends."""
    if isinstance(setting, Linear):
        return (setting.start, setting.end)
    return tuple(value for _, value in setting) if isinstance(setting, tuple) else (setting,)


def value_at(setting: Scheduled, step: int, total: int) -> float:
    """The value after `step` of `total` steps; beyond the total a linear one stays at its end."""
    if isinstance(setting, Linear):
        return setting.start + (setting.end - setting.start) * min(step / total, 1.0)
    if isinstance(setting, tuple):
        return setting[bisect.bisect_right([at for at, _ in setting], step) - 1][1]
    return setting


def schedules_of(options: object) -> dict[str, Scheduled]:
    """Those of an agent's settings that change, by name."""
    found = {name: getattr(options, name, 0.0) for name in SCHEDULED}
    return {name: value for name, value in found.items() if not isinstance(value, int | float)}


def plain_schedules(schedules: Mapping[str, Scheduled]) -> dict[str, Any] | None:
    """The same as JSON holds it; None for none."""
    return {
        name: settings_to_json(value) if isinstance(value, Linear) else [list(at) for at in value]
        for name, value in schedules.items()
        if not isinstance(value, int | float)
    } or None


class Schedules(BaseCallback):
    """Sets the numbers that change before each update, to their values after its rollout.

    schedules: by name, of SCHEDULED; total: steps of the whole training.
    """

    def __init__(self, schedules: Mapping[str, Scheduled], total: int) -> None:
        super().__init__()
        self._schedules, self._total = dict(schedules), total

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        for name, schedule in self._schedules.items():
            value = value_at(schedule, self.model.num_timesteps, self._total)
            if name in _FUNCTIONS:  # which PPO logs itself
                setattr(self.model, _FUNCTIONS[name], FloatSchedule(value))
                continue
            setattr(self.model, name, value)
            self.logger.record(f"train/{name}", value)
