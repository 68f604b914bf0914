"""Independent tasks at the same time: the one place where work is handed to other processes.

joblib does it, with a backend by name: `loky` for processes of this machine, `dask` and `ray` for
the workers of a cluster. Whatever the backend, results are those of one process after another: a
task knows nothing but itself, computes with as many torch threads as its caller, and has its worker
to itself. What a worker held when it died is submitted again.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import torch
from joblib import Parallel, delayed, parallel_config
from pydantic import model_validator

from conf.errors import InputError
from conf.settings import build_settings, settings
from experiments.environments.opening import section

log = logging.getLogger(__name__)

Task = TypeVar("Task")
Result = TypeVar("Result")

SLURM = "slurm"  # as the address: dask-jobqueue asks for the workers as its own files say
_DEATHS = 3  # of workers in a row, with nothing finished in between
_WATCH_SECONDS = 1.0
_WAIT_FOR_WORKERS = 600  # seconds
_WAIT_FOR_ANSWER = 10  # seconds

# Two trainings in one process would share torch's generators.
_alone = threading.Lock()


@settings
class ParallelSettings:
    """Where tasks run that can be done at the same time; it changes no number."""

    backend: Literal["loky", "dask", "ray"] = "loky"
    # Of the Dask scheduler (tcp://host:8786, or slurm) or the Ray cluster; null: Ray begins one.
    address: str | None = None

    @model_validator(mode="after")
    def _check_address(self) -> ParallelSettings:
        if self.backend == "loky" and self.address is not None:
            raise ValueError(
                f"address={self.address} is that of a cluster, and backend=loky are processes of "
                "this machine; give backend=dask or backend=ray, or leave the address away"
            )
        if self.backend == "dask" and self.address is None:
            raise ValueError(
                "backend=dask needs the address of its scheduler; give "
                f"address=tcp://<host>:8786, or address={SLURM}"
            )
        return self


PARALLEL_KEYS = ("parallel.backend", "parallel.address")


def parallel_settings(plain: Mapping[str, Any]) -> ParallelSettings:
    """The section `parallel` of a plain configuration."""
    checked: ParallelSettings = build_settings(
        ParallelSettings, section(plain, "parallel"), "parallel"
    )
    return checked


def _of_this_machine() -> dict[str, Any]:
    return {"initializer": _end_with, "initargs": (os.getpid(),)}


@dataclass(frozen=True)
class Workers:
    """Where tasks are done, and how many at a time: by default on this machine, one by one.

    Those of a cluster are opened by `open_workers`.
    """

    jobs: int = 1
    backend: str = "loky"
    options: Mapping[str, Any] = field(default_factory=_of_this_machine)  # joblib's
    lost: tuple[type[Exception], ...] = (BrokenExecutor,)  # the errors that say a worker died

    @property
    def is_this_process(self) -> bool:
        """Whether tasks are done one after another in this process."""
        return self.backend == "loky" and self.jobs == 1


def run_tasks(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    workers: Workers,
    on_done: Callable[[], object] = lambda: None,
) -> list[Result]:
    """`function(task)` for every task, in the order of the tasks, as many at a time as `workers`.

    `loky` with one job runs them in this process; `dask` uses all workers that the scheduler has.
    Function, tasks and results are pickled; workers go to the working directory of the caller,
    which has to be there. `on_done` is called here after each task. Once a failure is known no
    further task is handed out and those that were, up to twice `jobs`, are waited for; then it is
    raised, of several that of the earliest task, with a note that says which one it was. Raises
    InputError where workers die one after another, and where none comes.
    """
    results: dict[int, Result] = {}
    failures: dict[int, Exception] = {}
    deaths = 0
    # Asked here: torch keeps the number by thread, and joblib hands tasks out from others.
    circumstances = (torch.get_num_threads(), os.getcwd(), os.getpid())
    # Ray gives no result before the last one is there.
    kind = "list" if workers.backend == "ray" else "generator_unordered"
    with parallel_config(workers.backend, **workers.options):
        while len(results) < len(tasks) and not failures:
            before = len(results)
            missing = [number for number in range(len(tasks)) if number not in results]
            calls = (
                delayed(_Call(function, number, tasks[number], *circumstances))()
                for number in missing
                if not failures
            )
            parallel = Parallel(workers.jobs, batch_size=1, pre_dispatch="n_jobs", return_as=kind)
            try:
                for number, result, failure in parallel(calls):
                    if failure is None:
                        results[number] = result
                        on_done()
                        continue
                    failure.add_note(f"in task {number + 1} of {len(tasks)}")
                    failures[number] = failure
            except workers.lost as death:
                deaths = 1 if len(results) > before else deaths + 1
                _report_death(death, len(tasks) - len(results), deaths)
            except TimeoutError:  # of tasks none is raised here
                raise InputError(
                    f"no worker came to the scheduler within {_WAIT_FOR_WORKERS} s",
                    "Start some (dask worker <address>), then go on with resume=",
                ) from None
    if failures:
        raise failures[min(failures)]
    return [results[number] for number in range(len(tasks))]


def _report_death(death: Exception, missing: int, deaths: int) -> None:
    if deaths >= _DEATHS:
        raise InputError(
            f"{deaths} workers in a row died with nothing finished in between "
            f"({type(death).__name__})",
            "Look for what ended them, as for want of memory: fewer at a time may do",
        )
    log.warning("a worker died: what it held is submitted again (%d tasks are left)", missing)


class _Call(Generic[Task, Result]):
    """A task on its way to a worker; called there, it gives its number, result and failure."""

    def __init__(
        self,
        function: Callable[[Task], Result],
        number: int,
        task: Task,
        threads: int,
        directory: str,
        caller: int,
    ) -> None:
        self._function, self._number, self._task = function, number, task
        self._threads, self._directory, self._caller = threads, directory, caller

    def __call__(self) -> tuple[int, Result | None, Exception | None]:
        with _alone:
            if os.getcwd() != self._directory:
                os.chdir(self._directory)
            torch.set_num_threads(self._threads)
            try:
                return self._number, self._function(self._task), None
            except Exception as error:
                if os.getpid() != self._caller and not isinstance(error, InputError):
                    error.add_note(traceback.format_exc())  # it does not travel with the error
                return self._number, None, error


def _end_with(caller: int) -> None:
    """End this worker once its caller is gone: killed, it could not tell its workers.

    Called as the worker begins, since one that never gets a task would wait for minutes.
    """

    def watch() -> None:
        while os.getppid() == caller:
            time.sleep(_WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def open_workers(where: ParallelSettings, jobs: int) -> Iterator[Workers]:
    """The workers of a backend, reached before anything is written, while the block runs.

    Raises InputError where packages are missing and where the address is that of no cluster.
    """
    with ExitStack() as stack:
        if where.backend == "dask":
            distributed = _extra("distributed", "dask")
            address: Any = where.address
            if address == SLURM:
                address = stack.enter_context(_slurm())
                address.scale(jobs)
            else:
                _find_scheduler(distributed, address)
            client = stack.enter_context(distributed.Client(address, set_as_default=False))
            waiting = {"wait_for_workers_timeout": _WAIT_FOR_WORKERS}
            options = {"client": client, "pure": False, **waiting}
            yield Workers(jobs, "dask", options, (distributed.KilledWorker,))
        elif where.backend == "ray":
            ray = _extra("ray", "ray")
            if not ray.is_initialized():
                _begin_ray(ray, where.address)
            _extra("ray.util.joblib", "ray").register_ray()
            yield Workers(jobs, "ray", {}, (ray.exceptions.RayError,))
        else:
            yield Workers(jobs)


def _find_scheduler(distributed: Any, address: str) -> None:
    """InputError where none answers. A client that fails would complain again as it is deleted."""

    async def connect() -> None:
        options = distributed.Security().get_connection_args("client")
        comm = await distributed.comm.connect(address, timeout=_WAIT_FOR_ANSWER, **options)
        await comm.close()

    try:
        asyncio.run(connect())
    except Exception as error:  # of another service's answer anything may be made
        raise _unreachable("dask", address, error) from None


def _begin_ray(ray: Any, address: str | None) -> None:
    """Until this process ends: to begin takes Ray some seconds. InputError where none answers."""
    host, colon, port = (address or "").rpartition("://")[2].rpartition(":")
    try:
        if colon:  # where nobody listens Ray itself would try for minutes
            socket.create_connection((host, int(port)), _WAIT_FOR_ANSWER).close()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreachable("ray", address, error) from None


def _unreachable(backend: str, address: str | None, error: Exception) -> InputError:
    reason = str(error).partition("\n")[0] or type(error).__name__
    remedy = {
        "dask": f"Start one (dask scheduler), or give its address: tcp://<host>:8786, or {SLURM}",
        "ray": "Start one (ray start --head), or give its address: <host>:6379",
    }[backend]
    return InputError(
        f"no {backend} cluster answers at parallel.address={address}: {reason}", remedy
    )


def _slurm() -> Any:
    try:
        return _extra("dask_jobqueue", "dask").SLURMCluster()
    except ValueError as error:
        raise InputError(
            f"dask-jobqueue cannot ask SLURM for workers: {error}",
            "Describe the jobs in ~/.config/dask/jobqueue.yaml: cores, processes, memory, queue",
        ) from None


def _extra(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(
            f"parallel.backend={extra} needs packages that are not installed",
            f"Install them: pip install 'polyhedgerl[{extra}]'",
        ) from None
