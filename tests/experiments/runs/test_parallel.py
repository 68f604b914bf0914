import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from experiments.runs.parallel import run_tasks


@pytest.mark.parametrize("jobs", [1, 3])
def test_results_come_in_the_order_of_the_tasks(jobs):
    def slowest_first(task):
        time.sleep(0.01 * (5 - task))
        return 10 * task

    assert run_tasks(slowest_first, range(5), jobs) == [0, 10, 20, 30, 40]


def test_no_more_than_so_many_tasks_run_at_a_time():
    lock, running, most = threading.Lock(), 0, 0

    def count(_):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1

    run_tasks(count, range(8), 2)
    assert most == 2


@pytest.mark.usefixtures("one_thread")
def test_tasks_compute_with_the_callers_number_of_torch_threads_whatever_another_thread_set():
    """The last bits of a product depend on that number, and torch keeps it by thread."""
    other = threading.Thread(target=torch.set_num_threads, args=(3,))
    other.start()
    other.join()
    assert torch.get_num_threads() == 1
    assert run_tasks(lambda _: torch.get_num_threads(), range(4), 2) == [1] * 4


def test_after_a_failure_nothing_begins_and_what_runs_is_finished():
    begun, finished = [], []

    def work(task):
        begun.append(task)
        time.sleep(0.1 if task == "slow" else 0.02)
        if task == "bad":
            raise ValueError("no")
        finished.append(task)

    with pytest.raises(ValueError, match="no") as raised:
        run_tasks(work, ["slow", "bad", "later", "last"], 2)
    assert begun == ["slow", "bad"]
    assert finished == ["slow"]
    assert raised.value.__notes__ == ["in task 2 of 4"]


def test_of_several_failures_the_earliest_task_is_named():
    def fail(task):
        time.sleep(0.05 * (2 - task))
        raise ValueError(f"task {task}")

    with pytest.raises(ValueError, match="task 0"):
        run_tasks(fail, range(2), 2)


def test_ctrl_c_does_not_wait_for_tasks_under_way():
    program = (
        "import signal, time\n"
        "from experiments.runs.parallel import run_tasks\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def wait(_):\n"
        "    print('begun', flush=True)\n"
        "    time.sleep(60)\n"
        "run_tasks(wait, range(2), 2)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().startswith("begun")
    begin = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - begin < 30
    assert "KeyboardInterrupt" in errors
