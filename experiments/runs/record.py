"""The files that describe a run in its folder: `config.json` and `manifest.json`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

import conf
from agents.persistence.strict_json import read_json
from conf.errors import InputError
from conf.files import new_folder, without_places, write_json
from envs.market.clock import CALENDAR
from experiments.runs.config import check_plain, config_hash, refuse_evaluated
from experiments.runs.folder import MANIFEST, trial_folder
from experiments.runs.provenance import gather_provenance
from experiments.runs.trial_ledger import NOTED, sealed_rows

CONFIG = "config.json"
RUN_FORMAT = 1
MERGED_FROM = "merged_from"  # in the manifest of an ensemble

Status = Literal["running", "finished", "failed", "interrupted"]
_COMPOSITION = ".hydra"
_FORMER_SMILE = Path(conf.__file__).parent / "surface" / "vix_monthly.yaml"
_LARGEST = 10**15  # of any number in a manifest
_KINDS: dict[str, Any] = {
    "data": dict,
    "created": str,
    "seed": int,
    "steps": int,
    "attempts": int,
    "wall_seconds": int | float,
}


class RunRecord:
    """Writes a run's configuration and keeps its manifest up to date while the block runs.

    On entry it writes `config.json` and a manifest with status "running"; on exit the manifest
    says "finished", "interrupted" (Ctrl-C) or "failed", with wall time and speed. `progress`
    updates the manifest, so that a killed run's shows how far it came. On a resumed run the date of
    creation is kept and wall times add up; InputError if its configuration was another one.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        *,
        seed: int,
        data: Mapping[str, Any] | None = None,
        replaced: Mapping[str, Any] | None = None,
        merged_from: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """`config` is plain data (see `plain_config`); `data` says what was trained on.

        replaced: the former values of settings that a resumed run goes on with otherwise.
        merged_from: the runs whose policies were merged, where nothing is trained.
        """
        self.folder = folder
        self._replaced = dict(replaced or {})
        self._config: dict[str, Any] = check_plain(config)
        self._seed = seed
        self._data = check_plain(data or {}, "data")
        self._merged_from = check_plain(merged_from, "merged_from")
        self._steps = 0
        self._before: dict[str, Any] = {}
        self._changes: list[dict[str, Any]] = []
        self._facts: dict[str, Any] = {}
        self._clock = self._cpu_clock = 0.0
        self._first_steps = 0

    def __enter__(self) -> RunRecord:
        if (self.folder / MANIFEST).exists():
            self._before = load_manifest(self.folder)
            if self._before.get("config_hash") != config_hash(self._config | self._replaced):
                raise InputError(
                    f"the configuration differs from the one that {self.folder} was started with",
                    "Resume with the same settings, or start a new run",
                )
        self._before.setdefault("created", _now())
        self._data = self._before.get("data", self._data)
        self._steps = self._first_steps = int(self._before.get("steps", 0))
        self._clock, self._cpu_clock = time.monotonic(), time.process_time()
        self._facts = gather_provenance()
        self._changes = list(self._before.get("changes", []))
        if self._replaced:
            new = {name: self._config[name] for name in self._replaced}
            self._changes.append(
                {
                    "at_step": self._steps,
                    "from": self._replaced,
                    "to": new,
                    "inexact_because": "unknown",
                }
            )
            # First: with the changes in it, the manifest describes the former file too.
            self._write("running")
        write_json(self.folder / CONFIG, self._config)
        self._write("running")
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        early: Status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        self._write("finished" if error is None else early)

    def describe_changes(self, steps: int, inexact_because: str | None) -> None:
        """Where the settings changed, and why the run is not one that always had the new ones.

        None: it is, bit for bit.
        """
        if self._replaced:
            self._changes[-1] |= {"at_step": steps, "inexact_because": inexact_because}

    def start_at(self, steps: int) -> None:
        """Set where a resumed run goes on, so that its speed counts only the new steps."""
        self._first_steps = self._steps = steps

    def progress(self, steps: int) -> None:
        """Record the number of environment steps in all."""
        self._steps = steps
        self._write("running")

    def _write(self, status: Status) -> None:
        elapsed, cpu = time.monotonic() - self._clock, time.process_time() - self._cpu_clock
        new_steps = self._steps - self._first_steps
        speed = self._before.get("steps_per_second")
        if new_steps:
            speed = round(new_steps / max(elapsed, 1e-9), 1)
        rows = sealed_rows(trial_folder(self.folder))
        write_json(
            self.folder / MANIFEST,
            {
                "format": RUN_FORMAT,
                "status": status,
                "created": self._before["created"],
                "updated": _now(),
                "seed": self._seed,
                "data": self._data,
                "config_hash": config_hash(self._config),
                "steps": self._steps,
                "wall_seconds": round(self._before.get("wall_seconds", 0.0) + elapsed, 3),
                "cpu_seconds": round(self._before.get("cpu_seconds", 0.0) + cpu, 3),
                "steps_per_second": speed,
                "attempts": self._before.get("attempts", 0) + 1,
                **({"changes": self._changes} if self._changes else {}),
                **({MERGED_FROM: self._merged_from} if self._merged_from else {}),
                **({NOTED: rows} if rows else {}),
                **self._facts,
            },
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def load_run_config(run: Path) -> dict[str, Any]:
    """The configuration of a run as plain data.

    Raises InputError if it is missing, damaged or changed since the run, or if it holds anything
    that a configuration library would evaluate (an interpolation, a `_target_`).
    """
    config, manifest = read_json(run / CONFIG), load_manifest(run)
    if manifest.get("changes") and manifest.get("config_hash") != config_hash(config):
        # Killed between writing the changes and the configuration.
        config |= manifest["changes"][-1]["to"]
    refuse_evaluated(config, str(run / CONFIG))
    if manifest.get("config_hash") != config_hash(config):
        raise InputError(
            f"{run / CONFIG} is not the configuration that the manifest describes",
            "Put back the original file, or start a new run with the new settings",
        )
    return config


def as_it_was_trained(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a run from before the business clock, with the market that it met.

    That was calendar time and the smile of `surface=vix_monthly`. Later ones are as they are.
    """
    surface, data = config.get("surface"), config.get("data")
    if not isinstance(surface, Mapping) or not isinstance(data, Mapping):
        return config
    if surface.get("kind", "none") == "none" or "closed_day_weight" in data:
        return config
    if surface["kind"] == "vix":
        former: Any = OmegaConf.to_container(OmegaConf.load(_FORMER_SMILE))
        surface = {**former, **surface}
    return {**config, "data": {**data, "closed_day_weight": CALENDAR}, "surface": surface}


def load_manifest(run: Path) -> dict[str, Any]:
    """The manifest of a run; InputError if it is missing, damaged or of a newer format."""
    manifest = read_json(run / MANIFEST)
    if manifest.get("format") != RUN_FORMAT:
        raise InputError(
            f"{run / MANIFEST} has format {manifest.get('format')!r}, this version reads "
            f"{RUN_FORMAT}",
            "Use the version of this package that wrote it",
        )
    for key, kind in _KINDS.items():
        value = manifest.get(key)
        valid = isinstance(value, kind) and not isinstance(value, bool)
        if not valid or (isinstance(value, int | float) and not 0 <= value <= _LARGEST):
            raise InputError(f"{run / MANIFEST}: {key} is {value!r}", "Put back the original file")
    changes = manifest.get("changes", [])
    if not isinstance(changes, list) or not all(
        isinstance(change, dict) and isinstance(change.get("to"), dict) for change in changes
    ):
        raise InputError(f"{run / MANIFEST}: changes are not valid", "Put back the original file")
    return manifest


def finished_runs(folder: Path) -> int:
    """How many of the run folders in `folder` came to their end."""
    manifests = [load_manifest(path.parent) for path in folder.glob(f"*/{MANIFEST}")]
    return sum(manifest.get("status") == "finished" for manifest in manifests)


def write_composition(folder: Path, config: DictConfig) -> None:
    """`.hydra/`: the configuration before it was resolved, and the overrides, once a run.

    Hydra would write them before the folder is locked, and with absolute paths.
    """
    if (folder / _COMPOSITION).exists():
        return
    overrides = HydraConfig.get().overrides.task
    with new_folder(folder / _COMPOSITION) as temporary:
        for name, content in (("config", config), ("overrides", overrides)):
            text = without_places(OmegaConf.to_yaml(content))
            (temporary / f"{name}.yaml").write_text(text, encoding="utf-8")
