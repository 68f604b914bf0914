"""Trade on paper.

An account is opened once with run=; from then on `account=mine` is enough. Each call brings it to
the newest session and decides there, once: called again it does nothing, called after days off it
says what was missed. every=session goes on for ever, by the exchange's calendar. It trades through
the kernel that the agent was trained in. action=verify plays the whole account again and compares
it with what was recorded; action=difference says why it is not the backtest; action=judge says what
its record proves, and recommends; action=contracts says what its slots buy in listed contracts, and
with run= opens nothing; action=status shows it.

Examples:
    python -m experiments.paper account=mine run=<run> feed=replay
    python -m experiments.paper account=mine
    python -m experiments.paper account=mine action=verify
"""

from __future__ import annotations

import datetime as dt
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from pydantic import Field
from rich.console import Console
from rich.table import Table

from conf.errors import InputError, Unavailable
from conf.settings import build_settings, settings, settings_to_json
from envs.core.market import BookHistory, EquityUsd
from envs.market.splits import Day
from experiments.accounts.account import (
    ALERT,
    CLOSED,
    Account,
    account_folder,
    check_opening,
    existing_account,
    open_account,
)
from experiments.accounts.brokers import check_broker
from experiments.accounts.contract_tables import contract_lines, listings
from experiments.accounts.data_checks import check_is_new, check_opens_by
from experiments.accounts.difference import difference
from experiments.accounts.events import STORE, open_store
from experiments.accounts.halts import halt_on_signal
from experiments.accounts.recorded import at_recorded_level
from experiments.accounts.settings import (
    AT_CLOSE,
    AccountSettings,
    Moment,
    as_of,
    check_as_opened,
    moment_at,
    next_decision,
    opening_keys,
)
from experiments.accounts.trading_day import DayReport, replayed, run_session
from experiments.accounts.verification import verify
from experiments.brokers.settings import BrokerSettings
from experiments.environments.opening import market_settings
from experiments.evaluation.open_run import REPLACEABLE, open_run
from experiments.monitoring.judging import (
    Ramp,
    StageName,
    judge,
    judgement_lines,
    record_judgement,
)
from experiments.monitoring.watch import show_decision
from experiments.reporting.terminal import terminal_table
from experiments.runs.cli import GateFailed, launch
from experiments.runs.config import plain_config
from experiments.runs.folder import resolve_run, run_lock, shown_path
from experiments.runs.record import load_run_config

_TABLE_COLUMNS = 110  # characters: no symbol of a contract is cut
# After which a session that could not be decided is tried again: twice as long each time.
_SHORTEST_PAUSE, _LONGEST_PAUSE = dt.timedelta(minutes=1), dt.timedelta(minutes=15)


@settings
class PaperSettings:
    """What one call does."""

    account: Annotated[str, Field(min_length=1)]
    action: Literal["decide", "verify", "difference", "judge", "contracts", "status"] = "decide"
    run: str | None = None  # to open the account with
    policy: Literal["best", "last"] = "best"
    feed: Literal["newest", "replay"] = "newest"  # all that the source has, or session by session
    start: Day | None = None  # of the first decision; null: the test split's first, or the newest
    until: Day | None = None  # of a replay: all sessions up to it; null: the next one alone
    decide: Literal["close", "before_close", "after_close"] = AT_CLOSE  # chosen at the opening
    minutes: Annotated[int, Field(ge=1, le=180)] = 15  # before the close, or after it
    every: Literal["session"] | None = None  # keeps running and decides at every session
    equity_usd: EquityUsd | None = None  # to open with; null: what the agent was trained with
    broker: BrokerSettings = Field(default_factory=BrokerSettings)
    stage: StageName | None = None  # that it is judged at; null: as before, at first paper
    stages: Ramp


def trade(config: DictConfig) -> None:
    """Open the account where run= is given, and decide at its newest session."""
    torch.set_num_threads(1)
    plain = plain_config(config)
    own = {name: value for name, value in plain.items() if name not in REPLACEABLE}
    request: PaperSettings = build_settings(PaperSettings, own)
    folder, only_lists = account_folder(request.account), request.action == "contracts"
    if request.every is not None and request.feed == "replay":
        raise InputError("a replay has no sessions to wait for", "Leave out every=session")
    if request.run is None:
        existing_account(request.account, "Open it: give run=<run folder> too")
    is_open = not (only_lists and request.run) and _is_open_so(folder, request, plain)
    if request.run is not None and not is_open:
        _open(folder, request, plain)
        if only_lists:
            return
    with halt_on_signal(folder):  # also while it waits for the next session
        if request.every is not None and request.action == "decide":
            _keep_deciding(folder, request)
        with run_lock(folder), open_store(folder) as store:
            account = Account(folder, store)
            if request.action != "status":
                _ACTIONS[request.action](account, request)
            _show(account)


def _is_open_so(folder: Path, request: PaperSettings, plain: dict[str, Any]) -> bool:
    """Whether the account is open; InputError where it was opened with something else."""
    given = opening_keys(HydraConfig.get().overrides.task)
    if not given or not (folder / STORE).is_file():
        return (folder / STORE).is_file()
    with run_lock(folder, wait=True), open_store(folder) as store:
        if not store.events:  # the process that opened it died
            return False
        account = Account(folder, store)
        was = account.opened_with
        now = {**plain, **settings_to_json(request)}
        if request.run is not None:
            now["run"] = "/".join(Path(request.run).resolve().parts[-3:])
        before = str(account.opening().dates[-1])
        if request.start is not None and before < now["start"] <= was["start"]:
            now["start"] = was["start"]
        check_as_opened(account.name, was, now, given)
    return True


def _open(folder: Path, request: PaperSettings, plain: dict[str, Any]) -> None:
    own = {"name": request.account} | {k: plain[k] for k in ("decide", "equity_usd", "broker")}
    chosen: AccountSettings = build_settings(AccountSettings, own)
    moment = _moment(request, chosen.decide)
    if moment is not None:
        data = plain["data"] or load_run_config(resolve_run(str(request.run)))["data"]
        plain = {**plain, "data": as_of(data, moment)}
    tested = open_run(str(request.run), request.policy, plain)
    dates, final = tested.setup.history.dates, True
    if request.start is not None:
        first = int(np.searchsorted(dates, np.datetime64(request.start)))
    elif moment is None:
        first = tested.setup.window("test").start
    else:
        first = int(np.searchsorted(dates, np.datetime64(moment.session), "right")) - 1
        check_is_new(tested.setup.history, moment.session)
    check_opening(chosen, tested, first)
    if moment is not None:
        opening = dates[first].item()
        check_opens_by(opening, moment.session)
        final = moment.final or opening < moment.session
    if request.action == "contracts" or chosen.broker.root is not None:
        found = listings(chosen, tested.config, tested.setup.history.sessions(0, first + 1))
        _print(contract_lines(chosen, found))
        if chosen.broker.contracts != "model":
            found[chosen.broker.contracts].check()
    if request.action == "contracts":
        return
    check_broker(chosen, chosen.market(tested.config).env.initial_equity_usd)
    folder.mkdir(parents=True, exist_ok=True)
    with run_lock(folder), open_store(folder) as store:
        open_account(folder, store, chosen, tested, first, final)


def _moment(request: PaperSettings, decide: str) -> Moment | None:
    """What is to be decided now by the exchange's calendar; None in a replay."""
    if request.feed == "replay":
        return None
    return moment_at(_now(), decide, request.minutes)


def _keep_deciding(folder: Path, request: PaperSettings) -> NoReturn:
    """Decide at every session; what source or broker kept from it is tried again until the next."""
    pause = _SHORTEST_PAUSE
    while True:
        with run_lock(folder, wait=True), open_store(folder) as store:
            account = Account(folder, store)
            why = _undecided(account, request)
        until = deadline = next_decision(_now(), account.settings.decide, request.minutes)
        if why:
            until = min(_now() + pause, deadline)
            Console().print(f"not decided: {why}", soft_wrap=True)
        pause = _SHORTEST_PAUSE if until == deadline else min(2 * pause, _LONGEST_PAUSE)
        _wait(until)


def _undecided(account: Account, request: PaperSettings) -> str:
    """Decide; why the session that is due could not be decided, empty where it was."""
    why, store = "", account.store
    try:
        _decide(account, request)
    except Unavailable as error:
        why = str(error)
    due = str(moment_at(_now(), account.settings.decide, request.minutes).session)
    if any(event.content["session"] == due for event in store.of(CLOSED)):
        _show(account)
        return ""
    known = {(event.content["session"], event.content["kind"]) for event in store.of(ALERT)}
    if why and (due, "unavailable") not in known:
        store.append(ALERT, {"session": due, "kind": "unavailable", "text": why})
    return why or f"the source has no {due} yet"


def _decide(account: Account, request: PaperSettings) -> None:
    check_broker(account.settings)
    console, moment = Console(), _moment(request, account.settings.decide)
    config = dict(account.opened["config"])
    if moment is not None:
        config["data"] = as_of(config["data"], moment)
    source = _history_of(config)
    if moment is None:
        before = len(account.store.events)
        for fresh in replayed(account, source, request.until):
            console.print(_line(run_session(account, fresh)))
        if len(account.store.events) == before:
            at, last = account.newest, source.dates[-1]
            bound = f"until={request.until}" if request.until else f"the data end on {last}"
            console.print(f"nothing to do: account {account.name} is at {at}, and {bound}")
        show_decision(account, replayed=True)
        return
    # A session that has begun and is not to be decided yet is none.
    stop = int(np.searchsorted(source.dates, np.datetime64(moment.session), "right"))
    fresh = source.sessions(0, stop)
    if fresh.dates[-1] > np.datetime64(account.newest):
        check_is_new(fresh, moment.session)  # or else all its sessions would be missed, for good
    report = run_session(account, fresh, moment.session, moment.final)
    if report.decided or request.every is None:
        console.print(_line(report))
    show_decision(account, replayed=False)


def _history_of(config: dict[str, Any]) -> BookHistory:
    """What the account's source has; it was read at the opening, so no setting can be wrong."""
    options = market_settings(config)
    try:
        history: BookHistory = options.load().history
        return history
    except InputError as error:
        raise Unavailable(error.problem, error.remedy) from None


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _wait(until: dt.datetime) -> None:
    Console().print(f"next decision at {until:%Y-%m-%d %H:%M} UTC")
    while (left := (until - _now()).total_seconds()) > 0:
        time.sleep(min(left, 60.0))  # a machine that slept wakes up late, not never


def _line(report: DayReport) -> str:
    if not report.decided:
        return f"{report.session}: decided before, nothing to do"
    missed = f", {len(report.missed)} sessions missed" if report.missed else ""
    return f"{report.session}: equity ${report.equity_usd:,.2f}, {report.traded}{missed}"


def _verify(account: Account, _: PaperSettings) -> None:
    result = verify(account)
    console = Console()
    for text in result.differences[:20]:
        console.print(text)
    if not result.holds:
        raise GateFailed(f"account {account.name} is not what its events make of it")
    console.print(
        f"verified: {result.sessions} sessions, {result.decisions} decisions to the last bit, "
        f"{result.backtest_sessions} sessions as in a backtest"
    )


def _show_difference(account: Account, _: PaperSettings) -> None:
    newest = dt.date.fromisoformat(account.newest)
    config = dict(account.opened["config"])
    config["data"] = as_of(config["data"], Moment(newest, final=True))
    source = market_settings(config).load().history
    result = difference(account, at_recorded_level(account.history(), source, account.provisional))
    rows = [["backtest", f"{result.backtest_usd:,.2f}"]]
    rows += [[cause, f"{dollars:+,.2f}"] for cause, dollars in result.causes_usd.items()]
    rows += [["account", f"{result.account_usd:,.2f}"]]
    Console().print(terminal_table(f"equity on {newest}, before its trades", ("", "$"), rows))


def _judge(account: Account, request: PaperSettings) -> None:
    judgement = judge(account, request.stages, request.stage)
    record_judgement(account, judgement)
    console = Console()
    for line in judgement_lines(judgement, request.stages):
        console.print(line)


def _contracts(account: Account, _: PaperSettings) -> None:
    closed = account.store.of(CLOSED)
    equity = float(closed[-1].content["equity_usd"]) if closed else None
    found = listings(account.settings, account.opened["config"], account.history(), equity)
    _print(contract_lines(account.settings, found))


def _print(lines: Iterable[Table | str]) -> None:
    console = Console(width=max(Console().width, _TABLE_COLUMNS))
    for line in lines:
        console.print(line)


def _show(account: Account) -> None:
    closed = account.store.of(CLOSED)
    rows = [
        [e.content["session"], f"{e.content['equity_usd']:,.2f}", f"{e.content['cash_usd']:,.2f}"]
        for e in closed[-5:]
    ]
    console = Console()
    title = f"account {account.name}, {len(account.sessions)} sessions"
    console.print(terminal_table(title, ("session", "equity $", "cash $"), rows))
    for event in account.store.of(ALERT)[-5:]:
        console.print(
            f"{event.content['session']} {event.content['kind']}: {event.content['text']}"
        )
    console.print(f"in {shown_path(account.folder)}")


_ACTIONS = {
    "decide": _decide,
    "verify": _verify,
    "difference": _show_difference,
    "judge": _judge,
    "contracts": _contracts,
}


def main() -> int:
    """Entry point of the command."""
    return launch(trade, "paper")


if __name__ == "__main__":
    sys.exit(main())
