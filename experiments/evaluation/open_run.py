"""Opens a finished run to test its policy, in its own market or in another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.persistence.policy_file import DESCRIPTION, LoadedPolicy, load_policy, policy_step
from agents.policy import Policy, Trader
from conf.errors import InputError
from conf.settings import settings_to_json
from envs.core.batch import Window
from envs.core.costs import RealisticCosts
from envs.core.market import BookMarket, BookOptions
from experiments.backtests.backtest import Backtest, run_backtests
from experiments.environments.opening import OPTIONS, market_settings, open_market, section
from experiments.environments.setup import MarketSetup
from experiments.evaluation.split import AGENT
from experiments.runs.config import config_hash
from experiments.runs.folder import resolve_run, shown_path, writer_of
from experiments.runs.record import as_it_was_trained, load_run_config
from risk.overlay import RiskSettings

MANAGED, CASH = "managed", "cash"

# Sections that can be put in the place of the run's own, and the key that names the choice.
REPLACEABLE = {"data": "source", "surface": "kind", "costs": "kind", "risk": ""}


@dataclass(frozen=True)
class TestedRun:
    """A run, the policy chosen from it, and the market that it is tested in."""

    run: Path
    which: str  # best or last
    loaded: LoadedPolicy
    setup: MarketSetup
    config: Mapping[str, Any]  # the run's, with the sections that were put in their place
    changed: Mapping[str, Any]  # those of them that differ from the run's own

    @property
    def policy(self) -> Policy:
        """What decides."""
        return self.loaded.policy

    @property
    def step(self) -> int:
        """After how many environment steps the policy was saved."""
        return policy_step(self.loaded)

    def folder(self, name: str) -> Path:
        """Where results go: one folder for the run's own market, one for each other.

        Realistic costs are the rule, whatever was trained with: no suffix for them.
        """
        changed = dict(self.changed)
        if changed.get("costs", {}).get("kind") == "realistic":
            del changed["costs"]
        suffix = f"_{config_hash(changed)[:6]}" if changed else ""
        return self.run / f"{name}{suffix}"

    def header(self) -> dict[str, Any]:
        """What was tested where, for the head of a result."""
        history, settings = self.setup.history, self.setup.settings
        return {
            "run": "/".join(self.run.parts[-3:]),
            "policy": self.which,
            "policy_step": self.loaded.metadata.get("step"),
            "data": history.name,
            "data_fingerprint": history.fingerprint,
            "surface": settings.surface_kind,
            "costs": settings.env.costs.kind,
            "risk_module": settings.risk.enabled,
            "notices": list(self.setup.loaded.notices),
        }


def open_run(run: str, which: str, plain: Mapping[str, Any] | None = None) -> TestedRun:
    """A run's `best` or `last` policy, in the market that it was trained in.

    With `plain`, a command's configuration, its sections stand in the place of the run's own, and
    costs are realistic if it names none. InputError for what is no finished run.
    """
    folder = resolve_run(run)
    own = as_it_was_trained(load_run_config(folder))
    replaced = {} if plain is None else replaced_sections(plain, own)
    config = {**own, **replaced}
    settings = market_settings(config)
    loaded = load_chosen(folder, which)
    setup = open_market(settings)
    check_policy_fits(loaded, setup.market)
    return TestedRun(folder, which, loaded, setup, config, changes(own, replaced))


def run_beside(
    policy: Trader,
    others: Mapping[str, Trader],
    market: BookMarket,
    options: BookOptions,
    window: Window,
    risk: RiskSettings,
) -> dict[str, Backtest]:
    """The raw policy and, where the risk module is on, the managed one; the others without it."""
    backtests = run_backtests({AGENT: policy, **others}, market, options, window)
    if risk.enabled:
        managed = run_backtests({AGENT: policy}, market, options, window, risk)
        backtests = {AGENT: backtests.pop(AGENT), MANAGED: managed[AGENT], **backtests}
    return backtests


def pick(names: Sequence[str], known: Mapping[str, Trader]) -> dict[str, Trader]:
    """The named ones; InputError for an unknown name."""
    missing = [name for name in names if name not in known]
    if missing:
        raise InputError(f"there is no benchmark {missing[0]!r}", f"Known: {', '.join(known)}")
    return {name: known[name] for name in names}


def load_chosen(run: Path, which: str) -> LoadedPolicy:
    """The best or the last policy of a run; InputError if that was not written."""
    folder = run / "best" if which == "best" else run
    if not (folder / DESCRIPTION).is_file():
        writer, shown = writer_of(run), shown_path(run)
        other = "last" if which == "best" else "best"
        remedy = f"Wait until {writer} ends" if writer else f"Let the run finish (resume={shown})"
        raise InputError(
            f"{shown} has no {which} policy{f' yet: {writer} is writing it' if writer else ''}",
            f"{remedy}, or choose policy={other}",
        )
    return load_policy(folder)


def check_policy_fits(loaded: LoadedPolicy, market: BookMarket) -> None:
    """InputError where the policy was trained on other observations or other assets."""
    policy, assets = loaded.policy, loaded.metadata.get("assets")
    if assets is not None and tuple(assets) != tuple(market.instruments):
        raise InputError(
            f"the policy was trained on {_listed(assets)}, this market has "
            f"{_listed(market.instruments)}",
            "Give the same assets in the same order (data.assets=[...])",
        )
    size, trained_on = len(market.features), policy.observation_space.shape
    if trained_on != (size,):
        raise InputError(
            f"the policy was trained on observations of shape {trained_on}, this market gives "
            f"({size},)",
            "Use the run's own env settings, extra blocks included",
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def own_keys(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the command itself, without the market's sections."""
    return {name: value for name, value in plain.items() if name not in REPLACEABLE}


def replaced_sections(plain: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The sections given in the place of the run's own; costs are realistic if none are given."""
    replaced = {name: plain[name] for name in REPLACEABLE if plain.get(name) is not None}
    if "costs" not in replaced and section(own, "env").get("kind", OPTIONS) == OPTIONS:
        replaced["costs"] = settings_to_json(RealisticCosts())
    return replaced


def changes(own: Mapping[str, Any], replaced: Mapping[str, Any]) -> dict[str, Any]:
    """The replaced sections that differ from the run's own."""
    names = [name for name in REPLACEABLE if name in replaced and replaced[name] != own.get(name)]
    return {name: replaced[name] for name in names}
