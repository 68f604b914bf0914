"""The steps of a retraining: what each does, and what it leaves in the account's store.

Each can be done again: a process that dies in one is followed by one that goes on with the same.
"""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from agents.persistence.policy_file import WEIGHTS
from conf.errors import InputError
from conf.settings import build_settings, settings, settings_to_json
from envs.core.batch import Window
from experiments.accounts.account import APPROVED, RETRAINING, Account
from experiments.accounts.events import Event
from experiments.accounts.policies import (
    Appointed,
    appoint,
    appointed,
    challenger_name,
    copy_policy,
    policy_names,
    sha256,
)
from experiments.backtests.backtest import Backtest, run_backtests
from experiments.certificates.certificate import Part
from experiments.evaluation.open_run import check_policy_fits, load_chosen
from experiments.evaluation.results import plain
from experiments.monitoring.checks import CheckSettings
from experiments.retraining.challenger import certify_run, training_config
from experiments.runs.folder import MANIFEST, resolve_run, shown_path
from experiments.runs.record import load_manifest, load_run_config
from experiments.runs.training import train_in
from experiments.statistics.verdict import Outcome, compare
from risk.metrics import max_drawdown, simple_returns

# Where a retraining stands; the last four end it.
REQUESTED, PAUSED, TRAINED, CERTIFIED = "requested", "paused", "trained", "certified"
VALIDATED, SHADOWING, SHADOWED, HANDING_OVER = "validated", "shadowing", "shadowed", "handing over"
DONE, ROLLED_BACK, REFUSED, CANCELLED = "done", "rolled back", "refused", "cancelled"
ENDS = (DONE, ROLLED_BACK, REFUSED, CANCELLED)

APPROVED_STEP = "hand over"  # what a person has to approve
REDUCE = "reduce"
HELD_BACK = "retraining: nothing is opened"

Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Count = Annotated[int, Field(ge=1)]
Content = Mapping[str, Any]
Work = Callable[[], Content]
Due = Content | Work | None


@settings
class RetrainSettings:
    """How an account is retrained; those of the request hold until it has ended."""

    backup: str = REDUCE  # nothing is opened meanwhile; or a run whose best policy takes over
    selection_sessions: Annotated[int, Field(ge=21)] = 126  # on which the new run chooses its best
    validation_sessions: Annotated[int, Field(ge=31)] = 252  # after them, up to the newest
    certificates: Annotated[tuple[Part, ...], Field(min_length=1)] = ("all",)
    resamples: Annotated[int, Field(ge=100)] = 2000
    shadow_sessions: Count = 10
    shadow_drawdown: Share = 0.1
    shares: Annotated[tuple[Annotated[float, Field(gt=0.0, le=1.0)], ...], Field(min_length=1)] = (
        *(0.25, 0.5, 0.75, 1.0),
    )
    step_sessions: Count = 5
    rollback_drawdown: Share = 0.1
    needs_approval: bool = True
    checks: CheckSettings = Field(default_factory=CheckSettings)  # of the triggers

    def __post_init__(self) -> None:
        if list(self.shares) != sorted(set(self.shares)) or self.shares[-1] != 1.0:
            raise InputError(f"shares is {list(self.shares)}", "Let them rise and end with 1.0")


class Retraining:
    """An account's newest retraining, and what is due of it."""

    def __init__(self, account: Account) -> None:
        self.account, self.store = account, account.store
        events = self.store.of(RETRAINING)
        asked = [event for event in events if event.content["step"] == REQUESTED][-1]
        self.events = [event for event in events if event.number >= asked.number]
        self.now: Event = self.events[-1]
        self.number, self.champion = asked.content["retraining"], asked.content["champion"]
        self.challenger = challenger_name(self.number)
        self.folder = run_folder(account, self.number)
        self._weights = self.folder / "best" / WEIGHTS
        self.options: RetrainSettings = build_settings(
            RetrainSettings, asked.content["settings"], "retraining"
        )
        self.sessions = [event.content["session"] for event in account.sessions]

    def due(self) -> Due:
        """The content of the next event, long work that gives it, or None: it waits."""
        steps: Mapping[str, Callable[[], Due]] = {
            REQUESTED: self._pause,
            PAUSED: self._train,
            TRAINED: lambda: partial(_certified, self.folder, self.options.certificates),
            CERTIFIED: self._validate,
            VALIDATED: self._shadow,
            SHADOWING: self._shadow,
            SHADOWED: self._begin,
            HANDING_OVER: self._hand_over,
        }
        return steps[self.now.content["step"]]()

    def appoint(self, chosen: Appointed, why: str, files: Mapping[str, str] = {}) -> None:
        """Let these decide from the next decision on."""
        why = f"retraining {self.number}: {why}"
        appoint(self.store, self.sessions[-1], chosen, why, files)

    def _pause(self) -> Content:
        if self.options.backup == REDUCE:
            self.appoint(Appointed({self.champion: 1.0}, HELD_BACK), PAUSED)
            return _step(PAUSED, "nothing is opened")
        name, run = f"backup-{self.number}", resolve_run(self.options.backup)
        files = copy_policy(run / "best", self.account.folder, name)
        self.appoint(Appointed({name: 1.0}), PAUSED, files)
        return _step(PAUSED, f"the best policy of {shown_path(run)} decides")

    def _train(self) -> Work:
        asked = self._of(REQUESTED)["session"]
        config, _ = _config(self.account, self.folder, self.options, asked)
        return partial(_trained, self.folder, config)

    def _validate(self) -> Content:
        books = self._books()
        champion, challenger = books[self.champion], books[self.challenger]
        if challenger.ruined.any():
            return _refused("the challenger was ruined on the validation days")
        found = compare(
            simple_returns(challenger.equity[0]),
            {"champion": simple_returns(champion.equity[0])},
            challenger.risk_free,
            reps=self.options.resamples,
            sessions_per_year=challenger.sessions_per_year,
        ).differences[0]
        text = (
            f"Sharpe ratio {found.sharpe_agent:.2f}, the champion's {found.sharpe_opponent:.2f} on "
            f"the same {len(challenger.risk_free)} days: {found.difference:+.2f} "
            f"({found.low:+.2f} to {found.high:+.2f})"
        )
        worse = found.outcome is Outcome.UNDERPERFORMS
        content = _refused(f"shown to be worse: {text}") if worse else _step(VALIDATED, text)
        return {**content, "comparison": plain(found), "weights": sha256(self._weights)}

    def _shadow(self) -> Content | None:
        """Once a session: both beside the account, on what it recorded since the validation."""
        played = len(self.sessions) - 1 - self.sessions.index(self._of(VALIDATED)["session"])
        if played == 0 or self.now.content["session"] == self.sessions[-1]:
            return None
        equity = {name: book.equity[0, -played - 1 :] for name, book in self._books().items()}
        fall = {name: float(max_drawdown(curve)) for name, curve in equity.items()}
        earned = {name: float(curve[-1] / curve[0] - 1.0) for name, curve in equity.items()}
        text = ", ".join(
            f"{title} {100 * earned[name]:+.2f} %, drawdown {100 * fall[name]:.2f} %"
            for title, name in (("challenger", self.challenger), ("champion", self.champion))
        )
        text = f"{played} of {self.options.shadow_sessions} sessions: {text}"
        if fall[self.challenger] > self.options.shadow_drawdown:
            return _refused(f"in the shadow {text}")
        step = SHADOWED if played >= self.options.shadow_sessions else SHADOWING
        return {**_step(step, text), "drawdown": fall, "earned": earned}

    def _begin(self) -> Content | None:
        """Hand the first share over, once a person has approved it."""
        if self._went_back():
            return _step(ROLLED_BACK, "the champion decides again, see the alert")
        approved = any(
            event.number > self.now.number and event.content["what"] == APPROVED_STEP
            for event in self.store.of(APPROVED)
        )
        if self.options.needs_approval and not approved:
            return None
        if sha256(self._weights) != self._of(VALIDATED)["weights"]:
            raise InputError(
                f"{shown_path(self._weights)} is not what was validated",
                "Put it back from a copy, or end this retraining: action=cancel",
            )
        if others := self._other_settings():
            raise InputError(
                f"{shown_path(self.folder)} is not the run that was asked for: it has another "
                f"{', '.join(others)}",
                "Put it back from a copy, or end this retraining: action=cancel",
            )
        files = copy_policy(self.folder / "best", self.account.folder, self.challenger)
        return self._give(0, self.sessions[-1], files)

    def _other_settings(self) -> list[str]:
        """Sections of the run's configuration that are not those of the request."""
        run, asked = load_run_config(self.folder), self.account.opened["config"]
        others = sorted(key for key in {*run, *asked} - {"data"} if run.get(key) != asked.get(key))
        request, history = self._of(REQUESTED), self.account.market().history
        known = int(np.searchsorted(history.dates, np.datetime64(request["session"]), "right"))
        data = load_manifest(self.folder)["data"]
        found = data["fingerprint"], data["splits"]["test"][0]
        if found != (history.sessions(0, known).fingerprint, request["compared_from"]):
            others.append("data")
        return others

    def _hand_over(self) -> Content | None:
        """The next share where it is time, or the end; the account itself goes back."""
        now = self.now.content
        if self._went_back():
            return _step(ROLLED_BACK, "the champion decides again, see the alert")
        waited = len(self.sessions) - 1 - self.sessions.index(now["session"])
        if waited < self.options.step_sessions:
            return None
        if now["share"] == 1.0:
            self.appoint(Appointed({self.challenger: 1.0}), DONE)
            return _step(DONE, f"{self.challenger} decides alone")
        return self._give(self.options.shares.index(now["share"]) + 1, now["since"])

    def _went_back(self) -> bool:
        """Whether the account went back by itself after the challenger had a share."""
        alone = appointed(self.store).shares == {self.champion: 1.0}
        return alone and self.challenger in policy_names(self.store)

    def _of(self, step: str) -> Content:
        """What was recorded at a step."""
        return next(e.content for e in self.events if e.content["step"] == step)

    def _give(self, place: int, since: str, files: Mapping[str, str] = {}) -> Content:
        share = self.options.shares[place]
        parts = {self.champion: 1.0 - share, self.challenger: share}
        shares = {name: part for name, part in parts.items() if part > 0.0}
        limit = self.options.rollback_drawdown
        chosen = Appointed(shares, since=since, max_drawdown=limit, back_to=self.champion)
        self.appoint(chosen, HANDING_OVER, files)
        text = f"{100 * share:g} % to {self.challenger}"
        return {**_step(HANDING_OVER, text), "share": share, "since": since}

    def _books(self) -> dict[str, Backtest]:
        """Champion and challenger on the same days: from the first of validation to the newest."""
        options, history = self.account.market_settings, self.account.history()
        first = np.datetime64(self._of(REQUESTED)["compared_from"])
        policies = {
            self.champion: self.account.policies[self.champion].policy,
            self.challenger: load_chosen(self.folder, "best").policy,
        }
        window = Window(int(np.searchsorted(history.dates, first)), history.num_sessions)
        risk = options.risk if options.risk.enabled else None
        return run_backtests(policies, options.build(history), options.env, window, risk)


def request(account: Account, why: str, options: RetrainSettings) -> Content:
    """The content of a request; InputError where it could not be carried out."""
    number = 1 + sum(e.content["step"] == REQUESTED for e in account.store.of(RETRAINING))
    session, shares = account.newest, appointed(account.store).shares
    if options.backup != REDUCE:
        loaded = load_chosen(resolve_run(options.backup), "best")
        check_policy_fits(loaded, account.market_settings.build(account.history()))
    folder = run_folder(account, number)
    if (folder / MANIFEST).exists():
        raise InputError(f"{shown_path(folder)} holds a run already", "Move it away")
    try:
        _, compared_from = _config(account, folder, options, session)
    except InputError:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # where earlier ones lie there
            folder.parent.rmdir()
        raise
    return {
        **_step(REQUESTED, why),
        "retraining": number,
        "champion": max(shares, key=lambda name: shares[name]),
        "settings": settings_to_json(options),
        "compared_from": compared_from,
    }


def run_folder(account: Account, number: int) -> Path:
    """The run folder of the account's retraining of that number."""
    return account.folder.parents[1] / f"{account.name}-retrained" / str(number)


def stamped(content: Content, session: str) -> dict[str, Any]:
    """The content of an event with its session and the time of day."""
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    return {**content, "session": session, "at": now}


def _step(step: str, text: str) -> Content:
    return {"step": step, "text": text}


def _refused(why: str) -> Content:
    return _step(REFUSED, why)


def _config(
    account: Account, folder: Path, options: RetrainSettings, session: str
) -> tuple[dict[str, Any], str]:
    stretches = options.selection_sessions, options.validation_sessions
    return training_config(account, folder, session, *stretches)


def _trained(folder: Path, config: Mapping[str, Any]) -> Content:
    score = train_in(folder, config)
    if score is None:
        return _refused("no policy of the new run had a finite validation score")
    return _step(TRAINED, f"{shown_path(folder)}, validation score {score:.3f}")


def _certified(folder: Path, parts: tuple[Part, ...]) -> Content:
    certificates = certify_run(folder, parts)
    failed = [f"{item.name} ({item.what})" for item in certificates if not item.passed]
    if failed:
        return _refused(f"certificates failed: {', '.join(failed)}")
    return _step(CERTIFIED, f"{len(certificates)} certificates passed")
