"""What an account is opened with and keeps, and when it decides: by the exchange's sessions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import Field, model_validator

from conf.errors import InputError
from conf.settings import settings
from envs.core.market import EquityUsd, MarketSettings
from envs.market.exchange_calendar import closing_times
from experiments.brokers.listed import with_contracts
from experiments.brokers.settings import BrokerSettings
from experiments.environments.opening import market_settings
from experiments.evaluation.open_run import REPLACEABLE
from experiments.runs.config import leaves

# When is decided: at the close itself, as a backtest does, some minutes before it, or after it.
AT_CLOSE: Final = "close"
BEFORE_CLOSE: Final = "before_close"
AFTER_CLOSE: Final = "after_close"

# Keys, and groups of them, that an account is opened with; of them, what goes on with the calendar.
OPENING = ("run", "policy", "start", "decide", "equity_usd", "broker", *REPLACEABLE)
_MOVING = ("data.end", "data.as_it_stands")
_SEARCHED = dt.timedelta(days=15)  # longer than the exchange was ever closed but in 1914

AccountName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


@settings
class AccountSettings:
    """What an account is opened with and keeps."""

    name: AccountName
    decide: Literal["close", "before_close", "after_close"] = AT_CLOSE
    equity_usd: EquityUsd | None = None  # to begin with; None: what the agent was trained with
    broker: BrokerSettings = Field(default_factory=BrokerSettings)

    @model_validator(mode="after")
    def _check(self) -> AccountSettings:
        if self.decide == AFTER_CLOSE and self.broker.kind == "model":
            raise ValueError("decide=after_close needs a broker: broker.kind=simulated")
        if self.broker.backup and self.broker.kind != "simulated":
            raise ValueError("broker.backup needs a broker: broker.kind=simulated")
        return self

    def market(self, config: Mapping[str, Any]) -> MarketSettings:
        """The run's market, with this equity and in these contracts."""
        env = dict(config["env"])
        if self.equity_usd is not None:
            env["initial_equity_usd"] = self.equity_usd
        options = market_settings({**config, "env": env})
        return with_contracts(options, self.broker.root)


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


def opening_keys(overrides: Iterable[str]) -> list[str]:
    """The keys of a command line that say what an account is opened with."""
    keys = (override.partition("=")[0].lstrip("+~") for override in overrides)
    return [key for key in keys if key.partition(".")[0] in OPENING]


def check_as_opened(
    name: str, was: Mapping[str, Any], now: Mapping[str, Any], given: Iterable[str]
) -> None:
    """InputError where a given key asks for something else than the account was opened with."""
    for key in given:
        for path, value in leaves({key: _at(now, key)}):
            before, is_unset = _at(was, path), value is None and path == key
            if before != value and not is_unset and path not in _MOVING:
                raise InputError(
                    f"{path} is {value}, and account {name} was opened with {before}, which it "
                    "keeps",
                    f"Leave {key} out, or open another account under a new name",
                )


def _at(plain: Any, path: str) -> Any:
    for key in path.split("."):
        plain = plain.get(key) if isinstance(plain, Mapping) else None
    return plain


def _due(close: dt.datetime, decide: str, minutes: int) -> dt.datetime:
    wait = dt.timedelta(minutes=minutes)
    return close - wait if decide == BEFORE_CLOSE else close + wait
