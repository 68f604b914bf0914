"""Which evaluated days the agent has met before: decided by content and dates, not by names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from conf.errors import InputError
from conf.types import DateArray
from envs.market.history import PricePaths
from experiments.environments.opening import market_settings
from experiments.evaluation.open_run import TestedRun
from experiments.runs.record import as_it_was_trained, load_run_config

_SAME_RETURN = 1e-4  # of a day: vendors round prices differently
_SAME_SHARE = 0.9  # of the days in common

LEARNED = "The agent learned on these days: they say nothing about others."
CHOSEN = "The policy was chosen by its result on these days, which flatters it."


def caution(tested: TestedRun, dates: DateArray, *, same_prices: bool) -> str:
    """What has to be said with a result on these days, of the prices of training or of others."""
    if not same_prices:
        return ""
    stretches = tested.loaded.metadata.get("splits")
    sentences = (("train", LEARNED), ("validation", CHOSEN))
    return " ".join(text for name, text in sentences if _contains(stretches, name, dates))


def has_training_prices(tested: TestedRun) -> bool:
    """Whether the run is tested on what it was trained on, or on days of the same prices.

    Where the training data cannot be read any more, days in common count as the same.
    """
    history: Any = tested.setup.history
    if tested.loaded.metadata.get("fingerprint") == history.fingerprint:
        return True
    try:
        own = market_settings(as_it_was_trained(load_run_config(tested.run))).load().history
    except InputError:
        return True
    return same_prices(own, history)


def same_prices(one: PricePaths, two: PricePaths) -> bool:
    """Whether two histories move alike on the days that both have; False without such days."""
    _, first, second = np.intersect1d(one.dates, two.dates, return_indices=True)
    closes = one.close[:, first], two.close[:, second]
    if len(first) < 2 or closes[0].shape != closes[1].shape:
        return False
    moves = [close[:, 1:] / close[:, :-1] for close in closes]
    return bool((np.abs(moves[0] - moves[1]) < _SAME_RETURN).mean() > _SAME_SHARE)


def _contains(stretches: Any, name: str, dates: DateArray) -> bool:
    """Whether one of the days lies in the stretch; False where it is not known."""
    if not isinstance(stretches, Mapping):
        return False
    try:
        first, last = (np.datetime64(day, "D") for day in stretches[name])
    except (KeyError, TypeError, ValueError):
        return False
    return bool(((dates >= first) & (dates <= last)).any())
