"""The folder of a walk-forward: its settings, and a run folder for each window.

`walk_forward.json` holds all settings and never changes. A window's folder (`2005/`) is an
ordinary run folder, whose settings are those of the whole with boundaries of its own: it can be
evaluated and watched like any other. `walk_forward/` holds the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from agents.persistence.policy_file import DESCRIPTION
from agents.persistence.strict_json import read_json
from conf.errors import InputError
from conf.files import write_json
from conf.settings import build_settings
from envs.market.sources.index import with_clock
from experiments.environments.opening import open_market
from experiments.environments.setup import MarketSetup
from experiments.runs.config import config_hash, recorded_data, refuse_evaluated
from experiments.runs.folder import MANIFEST, WALK, is_walk, resolve_folder, shown_path
from experiments.runs.record import load_manifest
from experiments.runs.settings import RunSettings, run_settings
from experiments.runs.training import build_model, configure_torch
from experiments.windows.windows import WalkForwardSettings, YearWindow, find_window, plan_windows

RESULT = "walk_forward"
WALK_FORMAT = 1
FINE_TUNE_SHARE = 4  # a fine-tuned window trains for a quarter of the steps by default


@dataclass(frozen=True)
class WalkForwardRun:
    """A walk-forward: the settings of its runs, the market of all years, and the windows."""

    folder: Path
    config: Mapping[str, Any]  # plain; as a run's, with the data settings that were really used
    request: WalkForwardSettings
    setup: MarketSetup  # its splits are no window's
    windows: tuple[YearWindow, ...]
    notices: tuple[str, ...]  # about the data, for the reader

    def run_folder(self, window: YearWindow) -> Path:
        """Where the window's run lives."""
        return self.folder / window.name

    def previous(self, window: YearWindow) -> YearWindow | None:
        """The window whose policy this one starts from; None where it starts from fresh weights."""
        place = self.windows.index(window)
        return self.windows[place - 1] if place and self.request.retrain == "fine_tune" else None

    def config_of(self, window: YearWindow) -> dict[str, Any]:
        """The configuration of the window's run."""
        data = replace(self.setup.loaded.settings, splits=window.dates)
        config = {**self.config, "data": recorded_data(data)}
        if self.previous(window) is not None:
            share = max(int(config["total_timesteps"]) // FINE_TUNE_SHARE, 1)
            config["total_timesteps"] = self.request.fine_tune_timesteps or share
        return config

    def settings_of(self, window: YearWindow) -> RunSettings:
        """The same, checked."""
        return run_settings(self.config_of(window))

    def setup_of(self, window: YearWindow) -> MarketSetup:
        """The market, cut at the window's boundaries."""
        settings: Any = self.settings_of(window).market
        setup: Any = self.setup
        loaded: Any = replace(setup.loaded, settings=settings.data)
        if getattr(settings.data, "closed_day_weight", None) == "fitted":
            # By the window's own training years: what the walk was opened with knows later ones.
            loaded = with_clock(loaded)
            setup = replace(setup, market=settings.build(loaded.history))
        opened: MarketSetup = replace(setup, loaded=loaded, settings=settings)
        return opened

    def is_finished(self, window: YearWindow) -> bool:
        """Whether the window's run came to its end; InputError if the folder holds another run."""
        folder = self.run_folder(window)
        if not (folder / MANIFEST).is_file():
            return False
        manifest = load_manifest(folder)
        if manifest.get("config_hash") != config_hash(self.config_of(window)):
            raise InputError(
                f"{shown_path(folder)} holds a run with other settings",
                "Move it away, or start a new walk-forward",
            )
        return manifest.get("status") == "finished"

    @property
    def unfinished(self) -> tuple[YearWindow, ...]:
        """Windows still to be trained."""
        return tuple(window for window in self.windows if not self.is_finished(window))

    def chosen_policy(self, window: YearWindow) -> Path:
        """The folder of the window's best policy, or of its last where no score was finite."""
        run = self.run_folder(window)
        best = run / "best"
        return best if (best / DESCRIPTION).is_file() else run


def open_walk(
    config: Mapping[str, Any], request: Mapping[str, Any], folder: Path, year: int | None = None
) -> WalkForwardRun:
    """The walk-forward of these settings in `folder`: a new one, or the one that is already there.

    config: a run's configuration, request: the section `walk_forward`, both plain; year: a window
    that it has to have. Everything is checked before anything is written. Raises InputError where
    the folder holds a walk-forward with other settings.
    """
    settings: WalkForwardSettings = build_settings(WalkForwardSettings, request, "walk_forward")
    identity = config_hash({"config": dict(config), "walk_forward": asdict(settings)})
    if not is_walk(folder):
        walk = _prepare(config, settings, folder)
        first = walk.windows[0] if year is None else find_window(walk.windows, year)
        # Whatever cannot be built is refused here, with nothing written yet.
        build_model(walk.setup_of(first), walk.settings_of(first))
        if not is_walk(folder):
            _write(walk, identity)
        # Another process may have been faster, and have loaded other data.
        if _read(folder)["config"] == walk.config:
            return walk
    if _read(folder)["asked"] != identity:
        raise InputError(
            f"{shown_path(folder)} holds a walk-forward with other settings",
            f"Go on with resume={shown_path(folder)}, or choose another folder",
        )
    return reopen_walk(folder)


def reopen_walk(folder: Path) -> WalkForwardRun:
    """The walk-forward in `folder`; InputError if it is damaged or its data has changed."""
    record = _read(folder)
    request: WalkForwardSettings = build_settings(
        WalkForwardSettings, record["walk_forward"], "walk_forward"
    )
    walk = _prepare(record["config"], request, folder)
    if walk.setup.loaded.history.fingerprint != record["data"].get("fingerprint"):
        raise InputError(
            f"the data of {shown_path(folder)} has changed since it began",
            "Put the original data back, or start a new walk-forward",
        )
    return replace(walk, notices=tuple(str(line) for line in record["data"].get("notices", ())))


def resolve_walk(text: str, root: Path = Path("outputs")) -> Path:
    """The folder of a walk-forward, given as a path or below `root`; absolute."""
    return resolve_folder(text, WALK, "a walk-forward", "walk_forward", root)


def _read(folder: Path) -> dict[str, Any]:
    path = folder / WALK
    record = read_json(path)
    refuse_evaluated(record, str(path))
    if record.get("format") != WALK_FORMAT:
        raise InputError(
            f"{path} has format {record.get('format')!r}, this version reads {WALK_FORMAT}",
            "Use the version that wrote it",
        )
    for key, kind in (("asked", str), ("config", dict), ("walk_forward", dict), ("data", dict)):
        if not isinstance(record.get(key), kind):
            raise InputError(f"{path}: {key} is {record.get(key)!r}", "Put back the original file")
    return record


def _prepare(
    config: Mapping[str, Any], request: WalkForwardSettings, folder: Path
) -> WalkForwardRun:
    settings = run_settings(config)
    configure_torch(settings.top)
    setup = open_market(settings.market)
    loaded = setup.loaded
    windows = plan_windows(
        loaded.history.dates,
        request,
        embargo_days=loaded.embargo_days,
        warmup_sessions=loaded.warmup_sessions,
    )
    used = {**config, "data": recorded_data(loaded.settings)}
    return WalkForwardRun(folder, used, request, setup, windows, loaded.notices)


def _write(walk: WalkForwardRun, identity: str) -> None:
    data = {name: x for name, x in walk.setup.describe_data().items() if name != "splits"}
    write_json(
        walk.folder / WALK,
        {
            "format": WALK_FORMAT,
            "asked": identity,
            "walk_forward": asdict(walk.request),
            "data": data,
            "windows": [window.name for window in walk.windows],
            "config": dict(walk.config),
        },
    )
