"""When an account decides: by the exchange's sessions, shortened days included."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, NamedTuple

from envs.market.exchange_calendar import closing_times
from experiments.accounts.settings import BEFORE_CLOSE

_SEARCHED = dt.timedelta(days=15)  # longer than the exchange was ever closed but in 1914


class Moment(NamedTuple):
    """The exchange's newest session that is to be decided, and whether it has ended."""

    session: dt.date
    final: bool


def moment_at(now: dt.datetime, decide: str, minutes: int) -> Moment:
    """What is to be decided at `now` (aware), `minutes` before the close or after it."""
    closings = closing_times(now.date() - _SEARCHED, now.date())
    session = max(day for day, close in closings.items() if _due(close, decide, minutes) <= now)
    return Moment(session, closings[session] <= now)


def next_decision(now: dt.datetime, decide: str, minutes: int) -> dt.datetime:
    """The next time after `now` at which a session is to be decided, UTC."""
    closings = closing_times(now.date() - dt.timedelta(days=1), now.date() + _SEARCHED)
    due = (_due(close, decide, minutes) for close in closings.values())
    return min(time for time in due if time > now)


def as_of(data: Mapping[str, Any], moment: Moment) -> dict[str, Any]:
    """The data section of a configuration, up to that session; a file has what it has."""
    if data.get("source") not in ("yahoo", "panel_yahoo"):
        return dict(data)
    is_today = moment.session >= dt.date.today()
    return {**data, "end": moment.session.isoformat(), "as_it_stands": is_today}


def _due(close: dt.datetime, decide: str, minutes: int) -> dt.datetime:
    wait = dt.timedelta(minutes=minutes)
    return close - wait if decide == BEFORE_CLOSE else close + wait
