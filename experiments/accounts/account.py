"""A paper account: its folder, what it was opened with, and its book at the newest session.

`outputs/accounts/<name>/` holds the store of events, the market as it was known at the opening
(`history.safetensors`), a copy of the policy, and with a simulated broker that one's own books.
Nothing else is kept: positions, cash and the risk module's memory follow from the events, by taking
the kernel that the agent was trained in through the sessions anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agents.persistence.policy_file import LoadedPolicy, load_policy
from conf.errors import InputError
from conf.settings import build_settings, settings_to_json
from conf.types import FloatArray, ObsArray
from envs.core.batch import StepRecord, Window
from envs.core.kernel import BookKernel
from envs.core.market import BookHistory, BookMarket
from envs.kernels import open_kernel
from envs.market.history import MarketHistory
from experiments.accounts.deliveries import SHARES, Beside, beside_the_book, days_beside
from experiments.accounts.events import STORE, Event, EventStore, decoded
from experiments.accounts.halts import release_guard, resumed_sessions
from experiments.accounts.policies import (
    POLICIES,
    challenger_name,
    copy_policy,
    policy_names,
    sha256,
)
from experiments.accounts.recorded import load_history, save_history, session_row, with_sessions
from experiments.accounts.settings import AFTER_CLOSE, AccountName, AccountSettings
from experiments.brokers.orders import Execution, total_cost
from experiments.evaluation.open_run import TestedRun
from experiments.runs.folder import shown_path

ACCOUNT_FORMAT = 3
ACCOUNTS = Path("outputs") / "accounts"
HISTORY = "history.safetensors"

# Kinds of events.
OPENED, SESSION, DECISION, ORDER, EXECUTED, ENDED, CLOSED, ALERT = (
    *("opened", "session", "decision", "order", "execution", "ended", "closed", "alert"),
)
RETRAINING, APPROVED = "retraining", "approved"


@dataclass(frozen=True)
class Day:
    """A session of the account: what was asked for, and what was done."""

    session: str
    requested: FloatArray | None  # (1, M) units; None: nothing was decided, the book was kept
    executions: Sequence[Execution] | None  # None: as the kernel planned it
    places: Mapping[str, int]  # order -> instrument
    resumed: bool = False  # a person let it trade again after this session
    beside: Beside = field(default_factory=Beside)

    def quantity_done(self, held: FloatArray) -> FloatArray:
        """Units (1, M) after what was done, from what was held before."""
        quantity = held.copy()
        for execution in self.executions or ():
            quantity[0, self.places[execution.order]] += execution.quantity
        for place, units in self.beside.assigned:
            quantity[0, place] += units
        return quantity


class Account:
    """An account and everything that was recorded of it."""

    def __init__(self, folder: Path, store: EventStore) -> None:
        self.folder, self.store = folder, store
        opened = store.events[0] if store.events else None
        if opened is None or opened.kind != OPENED:
            raise InputError(
                f"there is no account {folder.name}", "Open it: give run=<run folder> too"
            )
        if opened.content.get("format") != ACCOUNT_FORMAT:
            raise InputError(
                f"account {folder.name} has format {opened.content.get('format')}",
                "Use the version that opened it",
            )
        self.opened: Mapping[str, Any] = opened.content
        self.settings: AccountSettings = build_settings(
            AccountSettings, dict(self.opened["account"]), "account"
        )
        self.root = self.settings.broker.root
        self.market_settings = self.settings.market(self.opened["config"])
        self._policies: dict[str, LoadedPolicy] = {}
        self._market: BookMarket | None = None
        self._check_files()

    @property
    def name(self) -> str:
        """What it is called."""
        return self.settings.name

    @property
    def policies(self) -> Mapping[str, LoadedPolicy]:
        """All that have ever decided, by the name of their folder, the first one first."""
        for name in policy_names(self.store):
            if name not in self._policies:
                self._policies[name] = load_policy(self.folder / name)
        return self._policies

    def retrained(self, policy: str) -> str | None:
        """Up to which session a policy was retrained; None where it came in otherwise."""
        for event in self.store.of(RETRAINING):
            number = event.content.get("retraining")  # of a request alone
            if number is not None and challenger_name(number) == policy:
                return str(event.content["session"])
        return None

    @property
    def sessions(self) -> list[Event]:
        """The sessions that the account has seen, the opening one included."""
        return self.store.of(SESSION)

    @property
    def newest(self) -> str:
        """The day of the newest session."""
        return str(self.sessions[-1].content["session"])

    @property
    def opened_with(self) -> dict[str, Any]:
        """The settings of the command that opened it; as `start` its first session."""
        about = {key: self.opened[key] for key in ("run", "policy")}
        about["start"] = self.sessions[0].content["session"]
        return {**self.opened["config"], **self.opened["account"], **about}

    @property
    def provisional(self) -> set[str]:
        """Days that had not ended when recorded: their prices are from before the close."""
        return {e.content["session"] for e in self.sessions if not e.content["final"]}

    def opening(self) -> BookHistory:
        """The market before the account's first session."""
        return load_history(self.folder / HISTORY)

    def history(self) -> BookHistory:
        """The market up to the newest session, as it was recorded."""
        return with_sessions(self.opening(), [e.content["row"] for e in self.sessions])

    def market(self) -> BookMarket:
        """The market up to the newest session, as it was recorded; built once for each."""
        if self._market is None or str(self._market.history.dates[-1]) != self.newest:
            self._market = self.market_settings.build(self.history())
        return self._market

    def days(self, before: int | None = None) -> list[Day]:
        """Every session, oldest first, with what was reported before an event of that number."""
        decisions = {e.content["session"]: e.content for e in self.store.of(DECISION)}
        orders: dict[str, dict[str, int]] = {}
        for event in self.store.of(ORDER):
            orders.setdefault(event.content["session"], {})[event.content["id"]] = event.content[
                "place"
            ]
        done: dict[str, dict[str, Execution]] = {}
        for event in self.store.of(EXECUTED):
            if before is not None and event.number > before:
                break
            own = done.setdefault(event.content["order"], {})
            own[event.content["id"]] = Execution(**event.content)
        model, resumed = self.settings.broker.kind == "model", resumed_sessions(self.store)
        sessions = [event.content["session"] for event in self.sessions]
        besides = days_beside(self.store, sessions, self.root, orders, done, before)
        days = []
        for session, beside in zip(sessions, besides, strict=True):
            decision, places = decisions.get(session), orders.get(session, {})
            requested = None if decision is None else decoded(decision["requested"])
            executions = [
                each
                for order, place in places.items()
                for each in done.get(order, {}).values()
                if place != SHARES
            ]
            done_of_it = None if model else executions
            days.append(Day(session, requested, done_of_it, places, session in resumed, beside))
        return days

    def kernel_at_opening(
        self, history: BookHistory | None = None
    ) -> tuple[BookKernel, ObsArray, BookMarket]:
        """A fresh kernel at the account's first session, and what is observed there (1, D).

        history: another market up to the newest session than the recorded one.
        """
        options = self.market_settings
        market = self.market() if history is None else options.build(history)
        last = market.history.num_sessions - 1
        window = Window(last - 1, last + 1)
        kernel = open_kernel(market, options.env, window, random_start=False, risk=options.risk)
        first = last - len(self.sessions) + 1
        start, path, end = (np.array([value]) for value in (first, 0, last + 1))
        return kernel, kernel.place(start, path, end), market

    def book(self) -> Book:
        """The book at the newest session, before it trades."""
        kernel, observation, market = self.kernel_at_opening()
        observed = [observation, *(taken_through(kernel, day) for day in self.days()[:-1])]
        return Book(market, kernel, observed)

    def _check_files(self) -> None:
        given: dict[str, str] = dict(self.opened["sha256"])
        for event in self.store.of(POLICIES):
            given |= event.content["sha256"]
        for name, digest in given.items():
            path = self.folder / name
            if not path.is_file() or sha256(path) != digest:
                raise InputError(
                    f"{shown_path(path)} is not what the account was given",
                    "Put the account's folder back from a copy",
                )


@dataclass(frozen=True)
class Book:
    """The kernel's book at a session, and what the policy sees there."""

    market: BookMarket
    kernel: BookKernel
    observed: Sequence[ObsArray]  # (1, D) at every session of the account, this one the last

    @property
    def observation(self) -> ObsArray:
        """What the policy sees at this session, (1, D)."""
        return self.observed[-1]

    @property
    def session(self) -> int:
        """Which session of the market it is: its last."""
        return self.market.history.num_sessions - 1

    @property
    def day(self) -> str:
        """The day of the session."""
        return str(self.market.history.dates[self.session])


def taken_through(kernel: BookKernel, day: Day) -> ObsArray:
    """Trade as it was done on that day and settle; what is observed then, (1, D)."""
    return settled(kernel, executed(kernel, day), day)


def executed(kernel: BookKernel, day: Day) -> StepRecord:
    """Trade as it was done on that day."""
    held = kernel.ledger.quantity
    return as_done(kernel, kernel.plan(held if day.requested is None else day.requested), day)


def settled(kernel: BookKernel, record: StepRecord, day: Day) -> ObsArray:
    """Settle what was done on that day; what is observed then, (1, D)."""
    observation = kernel.settle(record).observation
    if day.resumed:
        release_guard(kernel)
    return observation


def done_of(kernel: BookKernel, planned: StepRecord, day: Day) -> StepRecord:
    """What was planned at the newest session, as far as it was done and before it is executed."""
    held, record = kernel.ledger.quantity, planned
    if day.requested is None:
        record = planned._replace(quantity=day.quantity_done(held), cost=np.zeros(1))
    elif day.executions is not None:
        cost = np.array([total_cost(day.executions, planned.price[0], day.places)])
        record = planned._replace(quantity=day.quantity_done(held), cost=cost)
    if day.beside == Beside():
        return record
    return record._replace(cost=record.cost + beside_the_book(record, day.beside, kernel.market))


def as_done(kernel: BookKernel, planned: StepRecord, day: Day) -> StepRecord:
    """Execute what was planned at the newest session as far as it was done."""
    record = done_of(kernel, planned, day)
    done = kernel.execute(record)
    if kernel.overlay is not None and record is not planned:
        kernel.overlay.correct_trade(done.traded)
    return done


def account_folder(name: str) -> Path:
    """Where an account of that name lives; InputError where it is no name for a folder."""
    build_settings(dict[str, AccountName], {"account": name})
    return ACCOUNTS / name


def existing_account(name: str, remedy: str = "Open it with experiments.paper") -> Path:
    """The folder of an account; InputError where there is none of that name."""
    folder = account_folder(name)
    if not (folder / STORE).is_file():
        known = sorted(path.parent.name for path in ACCOUNTS.glob(f"*/{STORE}"))
        there = f"; there are {', '.join(known)}" if known else ""
        raise InputError(f"there is no account {folder.name}{there}", remedy)
    return folder


def check_opening(chosen: AccountSettings, tested: TestedRun, first: int) -> None:
    """InputError where the market has more than one path, too little before that session, or no
    opens to trade at.
    """
    history = tested.setup.history
    if history.num_paths != 1:
        raise InputError(
            f"{history.name} has {history.num_paths} paths, and an account lives on one",
            "Choose data=sp500, yahoo, csv or a panel of real assets",
        )
    if not tested.setup.market.first_usable < first < history.num_sessions:
        raise InputError(
            f"the account would begin at session {first} of {history.num_sessions}, and the "
            f"features need {tested.setup.market.first_usable + 1} before it",
            "Choose another start=",
        )
    env = tested.config["env"]
    rolls = env["kind"] == "options" and env["chain"]["roll"] == "daily"
    if chosen.broker.kind != "model" and (rolls or env["kind"] == "hedging"):
        raise InputError(
            "no broker trades contracts that are replaced by others every day"
            if rolls
            else "no broker trades the liabilities of env=hedging and what hedges them",
            "Choose broker.kind=model",
        )
    if chosen.decide == AFTER_CLOSE and not isinstance(history, MarketHistory):
        raise InputError(f"{history.name} has no opening prices to trade at", "Choose decide=close")


def open_account(
    folder: Path,
    store: EventStore,
    chosen: AccountSettings,
    tested: TestedRun,
    first: int,
    final: bool = True,
) -> Account:
    """Open an account at a session of the run's market; its first decision is made there.

    `final` is False where that session has not ended yet. InputError where it cannot be opened.
    """
    check_opening(chosen, tested, first)
    history = tested.setup.history
    if store.events:
        raise InputError(f"account {folder.name} is open already", "Leave out run=")
    source = tested.run / "best" if tested.which == "best" else tested.run
    digests = copy_policy(source, folder)
    save_history(history.sessions(0, first), folder / HISTORY)
    opened = {
        "format": ACCOUNT_FORMAT,
        "account": settings_to_json(chosen),
        "run": "/".join(tested.run.parts[-3:]),
        "policy": tested.which,
        "policy_step": tested.step,
        "config": dict(tested.config),
        "sha256": {**digests, HISTORY: sha256(folder / HISTORY)},
    }
    # Together: an account without a session could neither go on nor be opened again.
    store.append_together((OPENED, opened), (SESSION, _session(history, first, final)))
    return Account(folder, store)


def record_session(
    store: EventStore, history: BookHistory, session: int, final: bool = True
) -> None:
    """Record what a session brought, or has brought so far where it is not `final`."""
    store.append(SESSION, _session(history, session, final))


def _session(history: BookHistory, session: int, final: bool) -> dict[str, Any]:
    row = session_row(history, session)
    return {"session": str(history.dates[session]), "row": row, "final": final}
