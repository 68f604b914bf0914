"""What is wrong with the data of a session: where something is, nothing is opened there."""

from __future__ import annotations

import datetime as dt
from collections.abc import Set
from typing import NamedTuple

import numpy as np

from conf.errors import InputError
from conf.types import DateArray
from envs.core.market import BookHistory
from envs.market.exchange_calendar import exchange_sessions
from experiments.accounts.recorded import changed_columns

REVISED = "revised"  # a kind of event: values that held a session back, which they do once
LARGEST_MOVE = 0.25  # of a price from one session to the next, that a person need not look at
_OLD = dt.timedelta(days=7)  # data that end so long ago are no newest ones
_REVISED_AT_ONCE = 20  # values; more are another series
_COMPARED = 60  # sessions that have to be the exchange's, and most of them, for gaps to be found


class Doubt(NamedTuple):
    """A reason to open nothing."""

    kind: str
    text: str
    values: tuple[str, ...] = ()  # that were revised, few enough to go on without them


def doubts(
    recorded: BookHistory,
    fresh: BookHistory,
    provisional: Set[str],
    since: str,
    today: dt.date | None,
    known: Set[str] = frozenset(),
) -> list[Doubt]:
    """What speaks against deciding on `fresh`, of which `recorded` was seen before.

    provisional: recorded sessions that had not ended when they were seen: the source may say
    otherwise now. today: the exchange's newest session; None where it is not known, as in a replay.
    known: values of which an earlier session found that the source says otherwise.
    """
    found = []
    changed = [
        text for text in changed_columns(recorded, fresh) if text.split()[-1] not in provisional
    ]
    reach = (recorded.dates >= fresh.dates[0]) & (recorded.dates <= fresh.dates[-1])
    changed += [f"no {day}" for day in np.setdiff1d(recorded.dates[reach], fresh.dates)]
    changed = [text for text in changed if text not in known]
    if changed:
        text = f"the source now says otherwise: {_few(changed)}"
        few = tuple(changed) if len(changed) <= _REVISED_AT_ONCE else ()
        found.append(Doubt("contradiction", text, few))
    missing = _missing(recorded.dates[recorded.dates <= np.datetime64(since)], fresh.dates)
    if missing:
        found.append(Doubt("gap", f"the source has no {_few(missing)}"))
    newest = fresh.dates[-1]
    if today is not None and newest < np.datetime64(today):
        found.append(Doubt("stale", f"the source ends on {newest}, and it is {today}"))
    close = fresh.close[0]
    change = float(np.max(np.abs(close[-1] / close[-2] - 1.0)))
    if change > LARGEST_MOVE:
        text = f"a price moved by {100 * change:.0f} % since the session before"
        found.append(Doubt("jump", text))
    return found


def check_is_new(history: BookHistory, today: dt.date) -> None:
    """InputError where the data ended long ago, and today cannot be decided on them."""
    if today - history.dates[-1].item() > _OLD:
        raise InputError(
            f"{history.name} ends on {history.dates[-1]}, and it is {today}",
            "Choose data=yahoo or a file that grows, or replay what there is: feed=replay",
        )


def check_opens_by(opening: dt.date, today: dt.date) -> None:
    """InputError where the account would open after the newest session that may be decided."""
    if opening > today:
        raise InputError(
            f"the account would open on {opening}, and {today} is the newest session to be decided",
            "Choose an earlier start=, wait, or replay: feed=replay",
        )


def _missing(decided: DateArray, fresh: DateArray) -> list[str]:
    """Sessions of the exchange after the last one decided that the source lacks.

    Nothing where the sessions up to there are not the exchange's either, as with coins, or are less
    than half of them, as by the week.
    """
    known = decided[-_COMPARED:]
    calendar = exchange_sessions(known[0].item(), max(fresh[-1], known[-1]).item())
    up_to = int(np.searchsorted(calendar, known[-1], "right"))
    if np.setdiff1d(known, calendar).size or 2 * known.size < up_to:
        return []
    return [str(day) for day in np.setdiff1d(calendar[up_to:], fresh)]


def _few(texts: list[str]) -> str:
    more = f" and {len(texts) - 5} more" if len(texts) > 5 else ""
    return ", ".join(texts[:5]) + more
