"""Run folders: found by name, locked for one writer, removed where a start failed."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conf.errors import InputError
from conf.files import without_places

MANIFEST = "manifest.json"
LOCK = "run.lock"
WALK = "walk_forward.json"
SWEEP = "sweep.json"
ABLATION = "ablation.json"
MULTIRUN = "multirun.yaml"  # written by Hydra into the folder of a multirun
_NO_RUNS = (WALK, SWEEP, ABLATION, "events.sqlite")  # in folders of what is locked for long
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SHOWN_RUNS = 3


def check_run_name(name: str) -> str:
    """One component of a run's path, as given; InputError unless it is a plain, short name."""
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise InputError(
            f"run name {name!r} is not allowed",
            "Use 1 to 64 letters, digits, dots, dashes and underscores",
        )
    return name


def resolve_run(run: str | Path, root: Path = Path("outputs")) -> Path:
    """The folder of a finished or unfinished run, as an absolute path.

    `run` is a folder ("outputs/production/2026-01-05/10-30-00", absolute or relative to the
    working directory) or its path below `root`. Raises InputError if the folder does not exist or
    holds no manifest, or if a path below the root leads out of it (`..` or a link).
    """
    text = str(run).strip()
    if not text:
        raise InputError("run is empty", _suggest(root))
    path = Path(text)
    if ".." in path.parts:
        raise InputError(f"run {text!r} contains '..'", "Name the folder itself")
    folder = path if path.is_absolute() or path.is_dir() else root / path
    if folder.is_relative_to(root) and not folder.resolve().is_relative_to(root.resolve()):
        raise InputError(f"run {text!r} leads out of {root}", "Give the path that it links to")
    if not folder.is_dir():
        raise InputError(f"run {text!r} was not found", _suggest(root))
    if not (folder / MANIFEST).is_file():
        is_run = not any((folder / name).exists() for name in _NO_RUNS)
        if is_run and (writer := writer_of(folder)):
            raise InputError(f"{text!r} has only just been begun by {writer}", "Wait some seconds")
        raise InputError(f"{text!r} is not a run folder: it has no {MANIFEST}", _suggest(root))
    return folder.resolve()


def resolve_folder(
    text: str, record: str, what: str, command: str, root: Path = Path("outputs")
) -> Path:
    """The folder that holds `record`, given as a path or below `root`; absolute.

    InputError where there is none: `what` it is not, and the command that begins one.
    """
    for folder in (Path(text), root / text):
        if (folder / record).is_file():
            return folder.resolve()
    raise InputError(
        f"{text!r} is not the folder of {what}: it has no {record}",
        f"Start one with python -m experiments.{command}",
    )


def is_walk(folder: Path) -> bool:
    """Whether it is the folder of a walk-forward, which holds a run for each window."""
    return (folder / WALK).is_file()


def trial_folder(run: Path) -> Path:
    """The folder of the trial that a run is part of: a window's is that of its walk-forward."""
    return run.parent if is_walk(run.parent) else run


def newest_runs(root: Path = Path("outputs"), limit: int = _SHOWN_RUNS) -> list[Path]:
    """Run folders below `root` (at most four levels deep), the newest first."""
    manifests = [path for depth in range(1, 5) for path in root.glob(f"{'*/' * depth}{MANIFEST}")]
    runs = [path for path in manifests if path.parent.parent.name != "checkpoints"]
    runs.sort(key=lambda path: (path.stat().st_mtime, path.parent), reverse=True)
    return [path.parent for path in runs[:limit]]


@contextmanager
def run_lock(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """One writer a run folder: holds `run.lock` while the block runs.

    The lock is the operating system's (`flock`) and ends with the process, however it ends; the
    file itself stays. Where another process writes into the folder it is waited for, or else
    InputError is raised.
    """
    with lock_file(folder / LOCK) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            raise InputError(
                f"{_holder(descriptor)} is writing into {folder}",
                "Wait until it ends or stop it; a run folder has one writer",
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)


def writer_of(folder: Path) -> str:
    """The process that is writing into a run folder, in words; empty where there is none."""
    if not (folder / LOCK).is_file():
        return ""
    with (folder / LOCK).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return _holder(file.fileno())
    return ""


def _holder(descriptor: int) -> str:
    number = os.read(descriptor, 64).decode(errors="replace").strip()
    return f"process {number}" if number else "another process"


@contextmanager
def lock_file(path: Path) -> Iterator[int]:
    """Open a file for `flock`, made where it is missing; closing it releases the lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def remove_if_untouched(folder: Path, since: float) -> bool:
    """Remove a run folder that holds only what Hydra itself put there; True if it did.

    That is `.hydra/`, logs and a lock, all written after `since` (seconds since the epoch). Empty
    parents below the working directory go with it. Anything else in the folder keeps it whole.
    """
    working, folder = Path.cwd().resolve(), folder.resolve()
    if not folder.is_dir() or working.is_relative_to(folder):
        return False
    if not all(_written_by_hydra(path, folder, since) for path in folder.rglob("*")):
        return False
    try:
        with run_lock(folder):
            shutil.rmtree(folder)
    except InputError:
        return False  # another process has just begun a run here
    for parent in folder.parents:
        below = parent.is_relative_to(working) and len(parent.relative_to(working).parts) > 1
        if not below or any(parent.iterdir()):
            break
        parent.rmdir()
    return True


class PortableFormatter(logging.Formatter):
    """Formats for a log that is handed on with its folder: no absolute paths."""

    def format(self, record: logging.LogRecord) -> str:
        """As any formatter, with file names in the place of absolute paths."""
        return without_places(super().format(record))


@contextmanager
def log_into(path: Path) -> Iterator[None]:
    """Write what is logged while the block runs into a file; elsewhere only warnings go.

    So it is in workers, and in this process a run of many does not fill the terminal.
    """
    handler = logging.FileHandler(path, delay=True)
    handler.setFormatter(PortableFormatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    level, levels = logging.root.level, {other: other.level for other in logging.root.handlers}
    for other in levels:
        other.setLevel(max(other.level, logging.WARNING))
    logging.root.addHandler(handler)
    logging.root.setLevel(logging.INFO)
    try:
        yield
    finally:
        for other in levels:
            other.setLevel(levels[other])
        logging.root.setLevel(level)
        logging.root.removeHandler(handler)
        handler.close()


def shown_path(path: Path) -> str:
    """The path for messages: relative where it lies below the working directory."""
    working = Path.cwd()
    return str(path.relative_to(working) if path.is_relative_to(working) else path)


def _written_by_hydra(path: Path, folder: Path, since: float) -> bool:
    is_log = path.parent == folder and (path.suffix == ".log" or path.name == LOCK)
    expected = path.relative_to(folder).parts[0] == ".hydra" or (is_log and path.is_file())
    # File systems keep coarse times: a second of slack still spares an earlier run's files.
    return expected and path.stat().st_mtime >= since - 1.0


def _suggest(root: Path) -> str:
    runs = newest_runs(root)
    if not runs:
        return f"There are no runs in {root} yet: start one with python -m experiments.train"
    return "The newest runs: " + ", ".join(str(run) for run in runs)
