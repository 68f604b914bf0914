"""The shell side of every command: Hydra's command line, exit codes, and one-line errors.

`launch` runs a command's task on the configuration that Hydra composes. A mistake of the user, in a
file, a setting or the command line, becomes one line on stderr and exit code 2; anything else is a
defect and keeps its traceback.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra import compose
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import (
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from conf.errors import InputError
from conf.files import without_places
from experiments import SHADOWING
from experiments.runs.folder import (
    ABLATION,
    MULTIRUN,
    SWEEP,
    is_walk,
    remove_if_untouched,
    shown_path,
)
from experiments.runs.help import help_text
from experiments.runs.mistakes import explain_composition, explain_value, first_line
from experiments.runs.signals import Terminated, orderly_interrupts

EXIT_DONE, EXIT_GATE_FAILED, EXIT_BAD_INPUT = 0, 1, 2
EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143  # as shells show SIGINT and SIGTERM

_LONGEST_WORD, _LONGEST_LINE = 240, 2000  # characters of a message

# Settings whose values are paths; they are quoted for Hydra, whose grammar reads plain characters.
PATH_KEYS = (
    "run",
    "resume",
    "backup",
    "storage",
    "data.path",
    "data.cache_dir",
    "hydra.run.dir",
    "hydra.sweep.dir",
)

Task = Callable[[DictConfig], Any]


class GateFailed(Exception):
    """The verdict that the caller gated on was negative: exit code 1, one line, no traceback.

    The command has done its work and written its result.
    """


def launch(
    task: Task,
    config_name: str,
    config_package: str = "conf",
    prepare: Callable[[Sequence[str]], list[str]] = list,
) -> int:
    """Run `task(config)` as a command: `sys.exit(launch(train, "config"))` under `__main__`.

    Hydra composes `config_name` of `config_package` with the overrides in `sys.argv`; `-m` and
    `--cfg job` work as in Hydra, `--help` shows the docstring of the task's module and what can be
    chosen. `prepare` completes the arguments before Hydra makes
    a folder. Returns the exit code: 0 done, 1 a gate failed, 2 bad input, 130 interrupted, 143
    terminated, the latter four with one line on stderr for each failure. In a sweep the other jobs
    still run and the highest code counts. Any other exception is a defect and is raised.
    """
    for name, place in SHADOWING.items():
        note = f"note: {shown_path(place)} is not used: it has the name of this project's {name}"
        print(_shortened(note), file=sys.stderr)
    job = _Job(task)
    with orderly_interrupts():
        try:
            return _launch(job, config_name, config_package, prepare)
        except KeyboardInterrupt as stop:
            return job.interrupted(
                EXIT_TERMINATED if isinstance(stop, Terminated) else EXIT_INTERRUPTED
            )


def _launch(
    job: _Job,
    config_name: str,
    config_package: str,
    prepare: Callable[[Sequence[str]], list[str]],
) -> int:
    arguments: Any = None
    try:
        _refuse_empty_folders(sys.argv[1:])
        sys.argv[1:] = [_with_quoted_path(argument) for argument in prepare(sys.argv[1:])]
        arguments = _parse_arguments()
        name = arguments.config_name or config_name
        _help_if_asked(arguments, job.__wrapped__, config_package, name)
        with _hydra_raises(), _other_jobs_run() as dropped:
            hydra.main(f"pkg://{config_package}", config_name, version_base="1.3")(job)()
        for error, prefix in dropped:
            explained = explain_composition(
                error, config_package, name, arguments.overrides, multirun=arguments.multirun
            )
            if explained is not None:
                job.exit_code = max(job.exit_code, _complain(explained, prefix))
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else EXIT_DONE
    except (InputError, GateFailed) as failure:
        return _complain(failure)
    except Exception as error:
        if any(error is defect for defect in job.defects):
            raise
        if arguments is None:
            if not isinstance(error, OSError):
                raise
            return _complain(_refused_by_the_system(error))
        explained = explain_composition(
            error, config_package, name, arguments.overrides, multirun=arguments.multirun
        )
        if explained is None and (job.has_begun or arguments.multirun):
            raise
        # Hydra stumbles over some values of groups without an error of its own.
        return _complain(
            explained or InputError(f"the settings cannot be put together: {first_line(error)}")
        )
    return job.exit_code


class _Job:
    """The task as Hydra calls it: once, or once for each point of a sweep."""

    def __init__(self, task: Task) -> None:
        self.__wrapped__ = task  # Hydra names the job, and its log, after the wrapped function
        self.exit_code = EXIT_DONE
        self.defects: list[Exception] = []
        self._folder: Path | None = None
        self._resumable = False
        self._started = time.time()
        self._process = os.getpid()

    def __call__(self, config: DictConfig) -> Any:
        context = HydraConfig.get()
        self._folder = Path(context.runtime.output_dir)
        self._resumable = "resume" in config
        failure: InputError | GateFailed
        try:
            return self.__wrapped__(config)
        except (InputError, GateFailed) as error:
            failure = error
        except (MissingMandatoryValue, InterpolationResolutionError) as error:
            failure = explain_value(error)
        except OSError as error:
            failure = _refused_by_the_system(error)
        except Exception as defect:
            self.defects.append(defect)
            raise
        if isinstance(failure, InputError):
            remove_if_untouched(self._folder, self._started)
        if os.getpid() != self._process:
            raise failure  # a launcher's worker: the process that started it prints the error
        prefix = ""
        if context.mode == RunMode.MULTIRUN:
            overrides = " ".join(str(text) for text in context.overrides.task)
            prefix = f"job {context.job.num} ({overrides}): "
        self.exit_code = max(self.exit_code, _complain(failure, prefix))
        return None

    @property
    def has_begun(self) -> bool:
        """Whether Hydra has called the task."""
        return self._folder is not None

    def interrupted(self, code: int) -> int:
        """Say how to resume where that is possible, and remove the folder if nothing is in it."""
        folder, hint = self._folder, ""
        if folder is not None:
            remove_if_untouched(folder, self._started)
        for command, mark in (("sweep", SWEEP), ("ablate", ABLATION)):
            if folder is not None and (folder / mark).is_file():
                hint = _resume_hint(command, folder)
        walks = [] if folder is None else [p for p in (folder, folder.parent) if is_walk(p)]
        if walks:
            hint = _resume_hint("walk_forward", walks[0])
        elif folder is not None and any(folder.glob("checkpoints/step_*")):
            hint = _resume_hint("train", folder)
        elif self._resumable and not hint:
            hint = ". No checkpoint was written yet"
        how = "terminated" if code == EXIT_TERMINATED else "interrupted"
        print(f"{how}{hint}", file=sys.stderr)
        return code


def _resume_hint(command: str, folder: Path) -> str:
    shown = shlex.quote(shown_path(folder))
    return f". Go on with: python -m experiments.{command} resume={shown}"


def _complain(failure: InputError | GateFailed, prefix: str = "") -> int:
    """Print one line about a failure; returns its exit code."""
    is_input = isinstance(failure, InputError)
    label, code = ("error", EXIT_BAD_INPUT) if is_input else ("failed", EXIT_GATE_FAILED)
    print(_shortened(f"{label}: {prefix}{' '.join(str(failure).split())}"), file=sys.stderr)
    return code


def _shortened(line: str) -> str:
    """The line with the middle of endless words, and of an endless line, left out."""
    line = re.sub(
        rf"\S{{{_LONGEST_WORD},}}",
        lambda word: f"{word[0][:60]}...{word[0][-20:]} ({len(word[0])} characters)",
        line,
    )
    return line if len(line) <= _LONGEST_LINE else f"{line[:1000]} ... {line[-400:]}"


def _refused_by_the_system(error: OSError) -> InputError:
    where = f" ({error.filename})" if error.filename else ""
    return InputError(
        f"the system refused: {error.strerror or error}{where}",
        "Check that the place exists, can be written to and has space left",
    )


def _refuse_empty_folders(arguments: Sequence[str]) -> None:
    """Hydra takes the working directory for an empty folder."""
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key in ("hydra.run.dir", "hydra.sweep.dir") and equals and not value.strip("'\" "):
            raise InputError(f"{key} is empty", "Name a folder, or leave it out")


def quoted(path: str | Path) -> str:
    """A path in quotes that Hydra's grammar can read, whatever characters it holds."""
    text = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


def _with_quoted_path(argument: str) -> str:
    key, equals, value = argument.partition("=")
    plain = not value or value in ("null", "???") or "$" in value or value[0] in "'\""
    return argument if key not in PATH_KEYS or plain else f"{key}{equals}{quoted(value)}"


def _parse_arguments() -> Any:
    """The command line as Hydra's parser gives it; InputError where it cannot be read."""
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        remedy = "See --hydra-help for flags; settings are given as key=value"
        if "=" in message:
            remedy = "Put flags such as -m before all settings or behind them"
        raise InputError(message, remedy)

    parser.error = refuse  # type: ignore[method-assign]
    arguments = parser.parse_args()
    if arguments.experimental_rerun is not None:
        raise InputError(
            "--experimental-rerun is not supported: it unpickles a file, which may run code",
            "Give the overrides of that run again (.hydra/overrides.yaml in its folder)",
        )
    return arguments


def _help_if_asked(arguments: Any, task: Task, package: str, name: str) -> None:
    if arguments.help:
        print(help_text(sys.modules[task.__module__].__doc__, package, name))
        raise SystemExit(EXIT_DONE)


@contextmanager
def _hydra_raises() -> Iterator[None]:
    """Let Hydra raise its errors instead of printing them and leaving with code 1."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


@contextmanager
def _other_jobs_run() -> Iterator[list[tuple[Exception, str]]]:
    """Let a sweep run its other jobs where some cannot be composed; gives those, with the error.

    Where no job can be composed, the error of the first is raised, as Hydra does.
    """
    original = Sweeper.validate_batch_is_legal
    dropped: list[tuple[Exception, str]] = []

    def keep_the_good(sweeper: Any, batch: Any) -> None:
        good = []
        for overrides in batch:
            try:
                original(sweeper, [overrides])
                good.append(overrides)
            except (HydraException, OmegaConfBaseException) as error:
                dropped.append((error, f"job ({' '.join(overrides)}): "))
        if not good:
            raise dropped[0][0]
        batch[:] = good
        recorded = Path(sweeper.config.hydra.sweep.dir) / MULTIRUN
        if recorded.is_file():
            recorded.write_text(without_places(recorded.read_text()))

    Sweeper.validate_batch_is_legal = keep_the_good  # type: ignore[method-assign, assignment]
    try:
        yield dropped
    finally:
        Sweeper.validate_batch_is_legal = original  # type: ignore[method-assign]


def compose_settings(overrides: Sequence[str], name: str = "config") -> DictConfig:
    """The configuration that a command with these overrides would be given.

    Within a command, of whose package it is. Raises InputError for what cannot be composed.
    """
    try:
        return compose(name, list(overrides))
    except Exception as error:
        explained = explain_composition(error, "conf", name, overrides)
        if explained is None:
            raise
        raise explained from None
