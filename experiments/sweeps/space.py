"""What a sweep searches, and the configuration of each of its points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import Field, model_validator

from conf.errors import InputError
from conf.settings import build_settings, in_one_message, settings
from experiments.runs.cli import compose_settings
from experiments.runs.config import plain_config
from experiments.runs.settings import run_settings
from experiments.runs.training import INVOCATION_KEYS

Value = bool | int | float | str | None


@settings
class Range:
    """A number from `low` to `high`, whole or not, on a logarithmic scale if so wanted."""

    kind: Literal["float", "integer"]
    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"on a logarithmic scale low {self.low:g} must be above 0")
        if self.kind == "integer" and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError("low and high of an integer must be whole numbers")
        return self

    @property
    def distribution(self) -> BaseDistribution:
        """As Optuna names it."""
        if self.kind == "integer":
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    @property
    def ends(self) -> tuple[Value, ...]:
        """Values that have to be possible."""
        return tuple(int(x) if self.kind == "integer" else x for x in (self.low, self.high))


@settings
class Choice:
    """One of some values; a list is written as text, as on the command line: "[64,64]"."""

    kind: Literal["choice"]
    values: Annotated[
        tuple[Annotated[Value, in_one_message('a number, true, false, null or "text"')], ...],
        Field(min_length=2),
    ]

    @model_validator(mode="after")
    def _different(self) -> Choice:
        if len({str(value) for value in self.values}) < len(self.values):
            raise ValueError("values must be different")
        return self

    @property
    def distribution(self) -> BaseDistribution:
        """As Optuna names it."""
        return CategoricalDistribution(self.values)

    @property
    def ends(self) -> tuple[Value, ...]:
        """Values that have to be possible."""
        return self.values


Dimension = Annotated[Range | Choice, Field(discriminator="kind")]
_KINDS = ("float", "integer", "choice")
_EXAMPLE = "agent.learning_rate={kind: float, low: 1e-5, high: 1e-3, log: true}"


@settings
class SweepSettings:
    """A search: how many trials, with which seeds, and the space by the settings' dotted names."""

    trials: Annotated[int, Field(ge=1, le=100_000)] = 20
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0, 1, 2)  # runs of each trial
    together: Annotated[int, Field(ge=1)] = 4  # trials asked for at once; the search depends on it
    random_trials: Annotated[int, Field(ge=1)] = 8  # before the sampler has something to learn from
    # Below the median of the first seed's scores of earlier trials, the other seeds are spared.
    prune: bool = True
    sampler_seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    space: Annotated[dict[str, Dimension], Field(min_length=1)]

    @model_validator(mode="after")
    def _no_seed_twice(self) -> SweepSettings:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed is named twice")
        if "seed" in self.space:
            raise ValueError("seed is no dimension: a trial has all of sweep.seeds")
        return self


def sweep_settings(values: Mapping[str, Any]) -> SweepSettings:
    """The section `sweep`, checked; its space may be nested as the settings are."""
    space = values.get("space") or {}
    flat = dict(_flattened(space, "")) if isinstance(space, Mapping) else {"": space}
    if not flat:
        raise InputError("sweep.space is empty", f"Say what is searched: +sweep.space.{_EXAMPLE}")
    for name, value in flat.items():
        if not isinstance(value, Mapping) or value["kind"] not in _KINDS:
            path = ".".join(filter(None, ("sweep.space", name)))
            raise InputError(
                f"{path} = {value!r} is no dimension of a search",
                f"Write {_EXAMPLE}, kind: integer, or {{kind: choice, values: [a, b]}}",
            )
    checked: SweepSettings = build_settings(SweepSettings, {**values, "space": flat}, "sweep")
    return checked


def _flattened(space: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in space.items():
        if isinstance(value, Mapping) and not isinstance(value.get("kind"), str):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def overrides_of(base: Sequence[str], point: Mapping[str, Value], seed: int) -> list[str]:
    """What `experiments.train` would be given for a run of this point."""
    chosen = [f"{name}={'null' if value is None else value}" for name, value in point.items()]
    return [*base, *chosen, f"seed={seed}", "callbacks.progress_bar=false"]


def configuration(overrides: Sequence[str]) -> dict[str, Any]:
    """The run's configuration, plain; InputError where it cannot be composed."""
    plain = plain_config(compose_settings(overrides))
    return {name: value for name, value in plain.items() if name not in INVOCATION_KEYS}


def check_space(base: Sequence[str], sweep: SweepSettings) -> None:
    """InputError unless every end of every dimension gives a run that can be built.

    Each with the first values of the other dimensions.
    """
    for point in _corners(sweep):
        try:
            run_settings(configuration(overrides_of(base, point, sweep.seeds[0])))
        except InputError as error:
            shown = ", ".join(f"{name}={value}" for name, value in point.items())
            problem = f"a point of the space ({shown}): {error.problem}"
            raise InputError(problem, error.remedy) from None


def _corners(sweep: SweepSettings) -> Iterator[dict[str, Value]]:
    first = {name: dimension.ends[0] for name, dimension in sweep.space.items()}
    yield first
    for name, dimension in sweep.space.items():
        for value in dimension.ends[1:]:
            yield {**first, name: value}
