import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from conf.errors import InputError
from experiments import ablate, monte_carlo, sweep, walk_forward
from experiments.runs.parallel import Workers, open_workers, parallel_settings, run_tasks
from tests.experiments.conftest import TINY
from tests.experiments.runs.tasks import drawn, killed_once


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_the_order_of_the_tasks(jobs):
    def slowest_first(task):
        time.sleep(0.01 * (5 - task))
        return 10 * task

    assert run_tasks(slowest_first, range(5), Workers(jobs)) == [0, 10, 20, 30, 40]


def test_one_job_is_done_in_this_process_and_several_in_others():
    assert set(run_tasks(lambda _: os.getpid(), range(3), Workers(1))) == {os.getpid()}
    assert os.getpid() not in run_tasks(lambda _: os.getpid(), range(4), Workers(2))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("threads", [1, 3])
def test_workers_have_the_callers_torch_threads_and_directory(tmp_path, monkeypatch, threads):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(threads)
    found = run_tasks(lambda _: (torch.get_num_threads(), os.getcwd()), range(4), Workers(2))
    assert set(found) == {(threads, str(tmp_path))}


@pytest.mark.parametrize("jobs", [1, 2])
def test_after_a_failure_nothing_is_handed_out_and_what_runs_is_finished(tmp_path, jobs):
    def work(task):
        (tmp_path / f"begun_{task}").touch()
        time.sleep(0.5 if task == 0 else 0.2)
        if task == 1:
            raise ValueError("no")
        (tmp_path / f"finished_{task}").touch()

    with pytest.raises(ValueError, match="no") as raised:
        run_tasks(work, range(9), Workers(jobs))
    assert "in task 2 of 9" in raised.value.__notes__
    begun = {path.name for path in tmp_path.glob("begun_*")}
    finished = {path.name.replace("finished", "begun") for path in tmp_path.glob("finished_*")}
    assert begun == finished | {"begun_1"}
    assert len(begun) <= 2 * jobs


def test_of_several_failures_the_earliest_task_is_named_with_where_it_happened():
    def fail(task):
        time.sleep(0.05 * (2 - task))
        raise ValueError(f"task {task}")

    with pytest.raises(ValueError, match="task 0") as raised:
        run_tasks(fail, range(2), Workers(2))
    assert "in fail" in "".join(raised.value.__notes__)


def test_what_a_killed_worker_held_is_done_again_and_gives_the_same(tmp_path):
    tasks = [(seed, str(tmp_path / "killed") if seed == 2 else "") for seed in range(6)]
    done = []
    results = run_tasks(killed_once, tasks, Workers(2), on_done=lambda: done.append(1))
    assert (tmp_path / "killed").exists()
    assert len(done) == 6
    for seed, result in enumerate(results):
        assert result.tobytes() == drawn(seed).tobytes()


@pytest.mark.slow
def test_a_task_that_kills_every_worker_ends_in_one_line():
    with pytest.raises(InputError, match="3 workers in a row died"):
        run_tasks(lambda _: os.kill(os.getpid(), signal.SIGKILL), range(2), Workers(2))


PROGRAM = """
import os, signal, sys, time
from experiments.runs.parallel import Workers, run_tasks
signal.signal(signal.SIGINT, signal.default_int_handler)
def wait(_):
    print(os.getpid(), os.getppid(), flush=True)
    time.sleep(60)
run_tasks(wait, range(1), Workers(2))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_caller(how):
    """Also the one that never had a task."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    busy, caller = map(int, process.stdout.readline().split())
    assert caller == process.pid
    workers = children_of(caller)
    assert busy in workers
    assert len(workers) == 2
    process.send_signal(how)
    deadline = time.monotonic() + 30
    while any(os.path.exists(f"/proc/{worker}") for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    _, errors = process.communicate(timeout=30)
    assert ("KeyboardInterrupt" in errors) == (how == signal.SIGINT)


def children_of(process: int) -> set[int]:
    """The workers of a process."""
    found = subprocess.check_output(["pgrep", "-P", str(process), "-f", "LokyProcess"], text=True)
    return set(map(int, found.split()))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"backend": "dask"}, "backend=dask needs the address of its scheduler; give address=tcp"),
        ({"address": "tcp://host:8786"}, "backend=loky are processes of this machine; give"),
        ({"backend": "spark"}, "parallel.backend = 'spark' is not valid"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(given, words):
    with pytest.raises(InputError, match=words):
        parallel_settings({"parallel": given})


def opened(backend, address=None):
    where = parallel_settings({"parallel": {"backend": backend, "address": address}})
    return open_workers(where, 2)


def test_missing_packages_and_an_address_where_nobody_answers_are_said(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("experiments.runs.parallel._WAIT_FOR_ANSWER", 0.2)
    for address, why in (("tcp://127.0.0.1:9", "Timed out"), ("nowhere", "missing port number")):
        words = f"no dask cluster answers at parallel.address={address}: {why}.* Start one"
        with pytest.raises(InputError, match=words), opened("dask", address):
            pass
    # Ray itself is not asked where nobody listens.
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False))
    for address in ("127.0.0.1:9", "nowhere:ray"):
        words = rf"no ray cluster answers at parallel.address={address}.*\(ray start --head\)"
        with pytest.raises(InputError, match=words), opened("ray", address):
            pass
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'polyhedgerl\[ray\]'"), opened("ray"):
        pass
    pytest.importorskip("dask_jobqueue")
    with pytest.raises(InputError, match=r"SLURM for workers: .*cores"), opened("dask", "slurm"):
        pass


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (sweep, TINY),
        (ablate, (*TINY, "techniques=[larger_batch]")),
        (walk_forward, (*TINY, "data.sessions=1400")),
        (monte_carlo, ("run=nowhere",)),
    ],
)
def test_a_cluster_is_reached_before_anything_is_written(command, tmp_path, module, arguments):
    where = ("parallel.backend=dask", "parallel.address=nowhere")
    code, _, err = command(module, *arguments, *where)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(("error: no dask cluster answers", "error: parallel.backend=dask needs"))
    assert not list(tmp_path.glob("outputs/*"))


@pytest.fixture
def dask_address(tmp_path):
    """A scheduler and two workers in processes of their own."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=tmp_path
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def ray_address():
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield None
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_a_cluster_gives_the_bytes_of_one_process_also_where_a_worker_is_killed(
    tmp_path, backend, request
):
    tasks = [(seed, str(tmp_path / "killed") if seed == 3 else "") for seed in range(8)]
    with opened(backend, request.getfixturevalue(f"{backend}_address")) as workers:
        assert not workers.is_this_process
        results = run_tasks(killed_once, tasks, workers)
    assert (tmp_path / "killed").exists()
    expected = run_tasks(killed_once, [(seed, "") for seed in range(8)], Workers(1))
    assert [result.tobytes() for result in results] == [result.tobytes() for result in expected]
