"""What the tests before a deployment share: a trained run opened, and books for its policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.policy import Policy
from agents.policy_file import LoadedPolicy
from envs.batch import Window
from envs.book_market import BookMarket, BookOptions
from experiments.backtest import Backtest, run_backtests
from experiments.evaluate import changes, check_policy_fits, load_chosen, replaced_sections
from experiments.evaluation import AGENT
from experiments.run_config import config_hash
from experiments.run_folder import resolve_run
from experiments.runinfo import load_run_config
from experiments.session import Session, open_session
from experiments.settings import market_settings, surface_kind
from risk.errors import InputError
from risk.overlay import RiskSettings

MANAGED, CASH = "managed", "cash"


@dataclass(frozen=True)
class Trained:
    """A run, the policy chosen from it, and the market that it is to be tested in."""

    run: Path
    loaded: LoadedPolicy
    session: Session
    changed: Mapping[str, Any]  # sections that are not those of the run

    @property
    def policy(self) -> Policy:
        """What decides."""
        return self.loaded.policy

    def folder(self, name: str) -> Path:
        """Where results go: one folder for the run's own market, one for each other."""
        suffix = f"_{config_hash(self.changed)[:6]}" if self.changed else ""
        return self.run / f"{name}{suffix}"

    def header(self, which: str) -> dict[str, Any]:
        """What was tested where, for the head of a result."""
        history, wanted = self.session.loaded.history, self.session.settings
        return {
            "run": "/".join(self.run.parts[-3:]),
            "policy": which,
            "policy_step": self.loaded.metadata.get("step"),
            "data": history.name,
            "data_fingerprint": history.fingerprint,
            "surface": surface_kind(wanted),
            "costs": wanted.env.costs.kind,
            "risk_module": wanted.risk.enabled,
            "notices": list(self.session.loaded.notices),
        }


def open_trained(plain: Mapping[str, Any], run: str, which: str) -> Trained:
    """The run, with the sections that `plain` puts in the place of its own."""
    folder = resolve_run(run)
    own = load_run_config(folder)
    given = replaced_sections(plain, own)
    session_settings = market_settings({**own, **given})
    loaded = load_chosen(folder, which)
    session = open_session(session_settings)
    check_policy_fits(loaded, session.market)
    # The realistic costs are the rule, whatever was trained with: no suffix for them.
    changed = {
        name: value
        for name, value in changes(own, given).items()
        if not (name == "costs" and value.get("kind") == "realistic")
    }
    return Trained(folder, loaded, session, changed)


def run_beside(
    policy: Policy,
    others: Mapping[str, Policy],
    market: BookMarket,
    options: BookOptions,
    window: Window,
    risk: RiskSettings,
) -> dict[str, Backtest]:
    """The policy as it wants and, where the risk module is on, under it; the others without it."""
    done = run_backtests({AGENT: policy, **others}, market, options, window)
    if risk.enabled:
        managed = run_backtests({AGENT: policy}, market, options, window, risk)
        done = {AGENT: done.pop(AGENT), MANAGED: managed[AGENT], **done}
    return done


def pick(names: Sequence[str], known: Mapping[str, Policy]) -> dict[str, Policy]:
    """The named ones; InputError for a name that is none of them."""
    missing = [name for name in names if name not in known]
    if missing:
        raise InputError(f"there is no baseline {missing[0]!r}", f"Known: {', '.join(known)}")
    return {name: known[name] for name in names}


def titled(name: str) -> str:
    """A book's name as tables write it."""
    return name.replace("_", " ")
